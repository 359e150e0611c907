//! Published vectors: every difference from them is explained here.

use std::collections::BTreeSet;

/// Numbers that are no numbers here, or others, and why.
const PHONES: [(&str, &str); 7] = [
    ("+7(495)123-45-67 доб. 123", EXTENSION),
    ("650-253-0000 x123", EXTENSION),
    ("6502530000 ext 9", EXTENSION),
    ("+1 (201) 555-0123;ext=45", EXTENSION),
    ("1-800-FLOWERS", "letters are read as a mistake, not as digits"),
    ("tel:+1-201-555-0123", "a URI is not what a person types"),
    ("\u{200e}+1 650 253 0000", "a direction mark is invisible to who types it"),
];
const EXTENSION: &str = "an extension would be lost, since E.164 has none";

/// Addresses that are judged otherwise here, and why.
const EMAILS: [(&str, &str); 12] = [
    ("test@io", "nobody has an address at a top-level domain"),
    ("test@iana.co-uk", "no top-level domain has a hyphen"),
    ("राम@मोहन.ईन\u{94d}फो", MARKS),
    ("उदाहरण.परीक\u{94d}ष@domain.with.idn.tld", MARKS),
    ("＠@fullwidth.at", "what looks like @ misleads"),
    ("11111111112222222222333333333344444444445555555555666666666677777@example.com", LONG),
    ("111111111122222222223333333333444444444455555555556666666666777777@example.com", LONG),
    ("\u{fb2c}111111122222222223333333333444444444455555555556666666666777777@example.com", LONG),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.com", LONG),
    (
        "my.s\u{323}\u{307}.address@1111111111222222222233333333334444444444555555555.6666666666777777777788888888889999999999000000000.\
         1111111111222222222233333333334444444444555555555.6666666666777777777788888888889999999999000000000.\
         1111111111222222222233333333334444.info",
        "it has 254 bytes once its marks are composed",
    ),
    (" a@example.com", "a space around it is no part of it"),
    ("a@example.com ", "a space around it is no part of it"),
];
const MARKS: &str = "the parser takes no combining marks";
const LONG: &str = "RFC 5321 allows 64 bytes before the @";

/// What stands behind a backslash.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let code = piece.strip_prefix("u{").and_then(|rest| rest.split_once('}'));
        match code {
            Some((code, rest)) => {
                plain.extend(u32::from_str_radix(code, 16).ok().and_then(char::from_u32));
                plain.push_str(rest);
            }
            // Two backslashes are one.
            None => {
                plain.push('\\');
                plain.push_str(if piece.is_empty() { pieces.next().unwrap_or_default() } else { piece });
            }
        }
    }
    plain
}

fn rows(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

fn differences(found: Vec<(String, String)>, explained: &[(&str, &str)]) {
    let inputs: BTreeSet<&str> = found.iter().map(|(input, _)| input.as_str()).collect();
    let explained: BTreeSet<&str> = explained.iter().map(|(input, _)| *input).collect();
    let news: Vec<_> = found.iter().filter(|(input, _)| !explained.contains(input.as_str())).collect();
    assert!(news.is_empty(), "{} differences that nobody has explained: {news:#?}", news.len());
    let gone: Vec<_> = explained.difference(&inputs).collect();
    assert!(gone.is_empty(), "no difference any more: {gone:?}");
}

#[test]
fn phones_are_read_as_libphonenumber_reads_them() {
    let mut found = Vec::new();
    for row in rows(include_str!("../../vectors/phones.tsv")) {
        let (region, typed, expected) = (row[0], unescaped(row[1]), row[2]);
        let read = super::phone(&typed, region).unwrap_or_default();
        if read != expected {
            found.push((typed, format!("{region}: {read:?} instead of {expected:?}")));
        }
    }
    differences(found, &PHONES);
}

#[test]
fn emails_are_judged_as_others_judge_them() {
    let mut found = Vec::new();
    for row in rows(include_str!("../../vectors/emails.tsv")) {
        let (expected, typed) = (row[0] == "yes", unescaped(row[1]));
        let read = super::email(&typed).is_ok();
        if read != expected {
            found.push((typed, format!("{read} instead of {expected}")));
        }
    }
    differences(found, &EMAILS);
}
