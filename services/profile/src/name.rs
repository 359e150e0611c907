//! Names in the order of their language and script, and the words by which they are found. The orders are those of
//! the Unicode CLDR's chart of person names.

use std::collections::BTreeSet;

use any_ascii::any_ascii;
use proto::profile::v1::{NameForms, PersonName};
use unicode_normalization::UnicodeNormalization;

/// Languages whose names begin with the family.
const FAMILY_FIRST: [&str; 5] = ["hu", "ja", "ko", "vi", "zh"];

/// The forms of a name; `None` when it has no part to show.
pub fn forms(name: &PersonName, language: &str) -> Option<NameForms> {
    let PersonName { prefix, given_name: given, middle_name: middle, family_name: family, suffix, preferred_name } =
        name;
    let written = [family, given, middle].map(|part| part.trim());
    if written.iter().all(|part| part.is_empty()) && preferred_name.is_empty() {
        return None;
    }
    let [family, given, middle] = written;
    let joined = [family, given, middle].concat();
    let (cjk, cyrillic) = (mostly(&joined, is_cjk), mostly(&joined, is_cyrillic));
    let family_first =
        cjk || FAMILY_FIRST.contains(&language.split('-').next().unwrap_or_default().to_lowercase().as_str());
    let latin = [family, middle, given].map(latin);
    let (display, sort, latin) = match (cjk, family_first) {
        (true, _) => (joined.clone(), joined, words([&latin[0], &latin[2], &latin[1]])),
        (_, true) => {
            let display = words([family, middle, given]);
            (display.clone(), display, words([&latin[0], &latin[1], &latin[2]]))
        }
        _ => {
            let rest = words([given, middle]);
            let comma = if family.is_empty() || rest.is_empty() { "" } else { ", " };
            let display = words([given, middle, family, suffix]);
            (display, format!("{family}{comma}{rest}"), words([&latin[2], &latin[1], &latin[0]]))
        }
    };
    let address = match () {
        () if !preferred_name.is_empty() => preferred_name.clone(),
        () if cyrillic && !given.is_empty() && !middle.is_empty() => words([given, middle]),
        () if !prefix.is_empty() && !family.is_empty() && !cjk => words([prefix, family]),
        () if given.is_empty() || cjk => display.clone(),
        () => given.to_owned(),
    };
    Some(NameForms { display, sort, address, latin })
}

/// The words of a name or of a query: in Latin letters, without marks and case, so that every script and spelling
/// of a word is the same one.
pub fn tokens<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut tokens = BTreeSet::new();
    for text in texts {
        // Han is written without spaces, so every part of a name is also one word.
        let composed: String = text.nfkc().collect();
        let spaced = any_ascii(&composed).to_ascii_lowercase();
        let letters = |word: &str| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        tokens.extend(spaced.split([' ', '-', '\t']).map(letters).filter(|word| !word.is_empty()));
    }
    tokens
}

/// The words by which a person is found.
pub fn tokens_of(name: &PersonName) -> BTreeSet<String> {
    let PersonName { given_name, middle_name, family_name, preferred_name, .. } = name;
    let mut texts = vec![given_name.as_str(), middle_name, family_name, preferred_name];
    let whole = [family_name.as_str(), given_name].concat();
    // `王小明` is one word to whoever types it.
    if mostly(&whole, is_cjk) {
        texts.push(&whole);
    }
    tokens(texts)
}

/// Whether a text that is not empty shows nothing: blanks, and signs that only steer how text is shown.
pub fn is_invisible(text: &str) -> bool {
    let unseen = |c: char| {
        c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
    };
    !text.is_empty() && text.chars().all(unseen)
}

fn words<const N: usize>(parts: [&str; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A part in Latin letters, each word with one capital.
fn latin(part: &str) -> String {
    if part.is_ascii() {
        return part.to_owned();
    }
    let ascii = any_ascii(part);
    if !mostly(part, is_cjk) {
        return ascii;
    }
    let mut letters = ascii.chars();
    letters.next().map_or_else(String::new, |first| first.to_string() + &letters.as_str().to_lowercase())
}

/// Whether the letters of a text are of one script.
fn mostly(text: &str, script: fn(char) -> bool) -> bool {
    let letters = text.chars().filter(|letter| letter.is_alphabetic());
    let (of_script, all) = letters.fold((0, 0), |(of, all), letter| (of + usize::from(script(letter)), all + 1));
    all > 0 && of_script * 2 > all
}

fn is_cjk(letter: char) -> bool {
    // Kana, Hangul, the ideographs and their later planes.
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{323af}')
}

fn is_cyrillic(letter: char) -> bool {
    matches!(letter, '\u{400}'..='\u{52f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_written_otherwise_is_found() {
        for (one, other) in [
            ("Jos\u{e9}", "Jose\u{301}"),
            ("\u{ff21}\u{ff4e}\u{ff4e}\u{ff41}", "Anna"),
            ("STRASSE", "stra\u{df}e"),
            ("Stra\u{df}e", "STRA\u{1e9e}E"),
            ("Ольга", "ОЛЬГА"),
            ("Istanbul", "istanbul"),
            ("\u{fb01}ona", "fiona"),
            ("山\u{3000}田", "山 田"),
            ("Anna  Maria", "Anna Maria"),
            ("\u{a0}Anna\u{a0}", "Anna"),
            ("\u{1c5}", "d\u{17e}"),
            ("\u{212b}", "\u{c5}"),
            ("\u{337f}", "株式会社"),
            ("Σ\u{38a}ΣΥΦΟΣ", "σίσυφος"),
            ("\u{f900}", "\u{8c48}"),
        ] {
            assert!(!tokens([one]).is_empty());
            assert_eq!(tokens([one]), tokens([other]), "{one} {other}");
        }
    }

    #[test]
    fn what_shows_nothing_is_no_name() {
        for unseen in ["   ", "\u{200b}", "\u{202e}\u{202c}"] {
            assert!(is_invisible(unseen), "{unseen:?}");
        }
        for seen in ["", "O", "test\u{200d}", "\u{202e}evil\u{202c}", "👩\u{200d}👧"] {
            assert!(!is_invisible(seen), "{seen:?}");
        }
    }

    fn name(given: &str, middle: &str, family: &str) -> PersonName {
        PersonName {
            given_name: given.into(),
            middle_name: middle.into(),
            family_name: family.into(),
            ..Default::default()
        }
    }

    #[test]
    fn names_have_the_order_of_their_language() {
        for (language, given, middle, family, display, sort, address, latin) in [
            ("en", "Ada", "", "Lovelace", "Ada Lovelace", "Lovelace, Ada", "Ada", "Ada Lovelace"),
            ("zh", "泽东", "", "毛", "毛泽东", "毛泽东", "毛泽东", "Mao Zedong"),
            ("", "娜娜", "", "欧阳", "欧阳娜娜", "欧阳娜娜", "欧阳娜娜", "Ouyang Nana"),
            ("zh-Latn", "Zedong", "", "Mao", "Mao Zedong", "Mao Zedong", "Zedong", "Mao Zedong"),
            ("ko", "민준", "", "김", "김민준", "김민준", "김민준", "Gim Minjun"),
            (
                "ru",
                "Владимир",
                "Владимирович",
                "Путин",
                "Владимир Владимирович Путин",
                "Путин, Владимир Владимирович",
                "Владимир Владимирович",
                "Vladimir Vladimirovich Putin",
            ),
            ("hu", "Sándor", "", "Petőfi", "Petőfi Sándor", "Petőfi Sándor", "Sándor", "Petofi Sandor"),
            (
                "vi",
                "Khai",
                "Thị Minh",
                "Nguyễn",
                "Nguyễn Thị Minh Khai",
                "Nguyễn Thị Minh Khai",
                "Khai",
                "Nguyen Thi Minh Khai",
            ),
            (
                "es",
                "María José",
                "",
                "García Márquez",
                "María José García Márquez",
                "García Márquez, María José",
                "María José",
                "Maria Jose Garcia Marquez",
            ),
            ("is", "Björk", "", "", "Björk", "Björk", "Björk", "Bjork"),
        ] {
            let forms = forms(&name(given, middle, family), language).unwrap();
            let expected =
                NameForms { display: display.into(), sort: sort.into(), address: address.into(), latin: latin.into() };
            assert!(
                forms == expected,
                "{display}: {} | {} | {} | {}",
                forms.display,
                forms.sort,
                forms.address,
                forms.latin
            );
        }
        assert!(forms(&PersonName::default(), "en").is_none());
    }

    #[test]
    fn people_are_addressed_as_they_wish() {
        let mut ada = name("Ada", "", "Lovelace");
        ada.prefix = "Dr.".into();
        assert_eq!(forms(&ada, "en").unwrap().address, "Dr. Lovelace");
        ada.preferred_name = "Countess".into();
        assert_eq!(forms(&ada, "en").unwrap().address, "Countess");
        ada.suffix = "Jr.".into();
        assert_eq!(forms(&ada, "en").unwrap().display, "Ada Lovelace Jr.");
    }

    #[test]
    fn a_word_is_the_same_in_every_spelling() {
        for (stored, asked) in [
            ("José", "jose"),
            ("Jose\u{301}", "José"),
            ("Ａｎｎａ", "anna"),
            ("STRASSE", "straße"),
            ("Иванов", "IVANOV"),
            ("O’Connor", "o'connor"),
            ("García-Márquez", "marquez"),
            ("ﬁona", "Fiona"),
            ("Þórarinn", "thorarinn"),
            ("司马", "sima"),
            ("Nguyễn Thị", "thi"),
        ] {
            let (stored, asked) = (tokens([stored]), tokens([asked]));
            assert!(asked.is_subset(&stored), "{stored:?} {asked:?}");
        }
        assert!(tokens_of(&name("小明", "", "王")).contains("wangxiaoming"));
        assert!(tokens(["'- ·", ""]).is_empty());
    }
}
