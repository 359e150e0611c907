//! The heart: when two ways of writing mean the same address or number. Pure; what comes out is
//! what look-ups compare.

use email_address::{EmailAddress, Options};
use proto::contact::v1::{ContactPoint, ContactPointKind, ContactPointValue, PostalAddress, SocialHandle};
use rlibphonenumber::{PhoneNumber, PhoneNumberFormat, Region};
use unicode_normalization::UnicodeNormalization;

/// A value in its normal form.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Normal {
    pub kind: ContactPointKind,
    pub key: String,
}

/// What is wrong with a value: the field and a text without the value.
pub type Broken = (&'static str, &'static str);

/// The normal form of a contact point's value, which is completed on the way: an e-mail gets its
/// canonical form, a phone its E.164 number.
pub fn contact_point(point: &mut ContactPoint) -> Result<Normal, Broken> {
    if let Some(address) = &mut point.email {
        address.canonical = email(&address.address)?;
        return Ok(Normal { kind: ContactPointKind::Email, key: address.canonical.clone() });
    }
    if let Some(number) = &mut point.phone {
        number.e164 = phone(&number.number, &number.region_code)?;
        return Ok(Normal { kind: ContactPointKind::Phone, key: number.e164.clone() });
    }
    if let Some(address) = &point.postal_address {
        return Ok(Normal { kind: ContactPointKind::PostalAddress, key: postal_address(address) });
    }
    let handle =
        point.social_handle.as_ref().ok_or(("email", "or phone, postal_address or social_handle must be given"))?;
    Ok(Normal { kind: ContactPointKind::SocialHandle, key: social_handle(handle)? })
}

/// The normal form of a value to look up.
pub fn value(value: &ContactPointValue) -> Result<Normal, Broken> {
    let (email, phone, social_handle) = (value.email.clone(), value.phone.clone(), value.social_handle.clone());
    contact_point(&mut ContactPoint { email, phone, social_handle, ..Default::default() })
}

/// RFC 5321 with internationalised addresses (RFC 6531). Case does not count, not even before the
/// `@`, where a server could tell it apart and none does. The domain is in ASCII (IDNA 2008, UTS 46).
pub fn email(typed: &str) -> Result<String, Broken> {
    const BROKEN: Broken = ("email.address", "is not an e-mail address");
    // Nobody's address is quoted or has a line's end in it, and what only looks like `@` misleads.
    if typed.starts_with('"') || typed.chars().any(|c| c.is_control() || matches!(c, '\u{ff20}' | '\u{fe6b}')) {
        return Err(BROKEN);
    }
    let typed: String = typed.trim().nfc().collect();
    let options = Options::default().without_display_text().without_domain_literal().with_required_tld();
    let address = EmailAddress::parse_with_options(&typed, options).map_err(|_| BROKEN)?;
    let domain = idna::domain_to_ascii_strict(address.domain()).map_err(|_| BROKEN)?;
    // No top-level domain has a digit or a hyphen but in its encoded form.
    let top = domain.rsplit('.').next().unwrap_or_default();
    if !top.starts_with("xn--") && !top.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(BROKEN);
    }
    let canonical = format!("{}@{domain}", address.local_part().to_lowercase());
    if canonical.len() > 254 { Err(BROKEN) } else { Ok(canonical) }
}

/// E.164, by the metadata of libphonenumber. A number that begins with `+` says its country itself,
/// and a hint would only mislead the parser.
pub fn phone(typed: &str, region_code: &str) -> Result<String, Broken> {
    const BROKEN: Broken = ("phone.number", "is not a phone number");
    // Digits and signs may be full-width.
    let typed: String = typed.trim().nfkc().collect();
    // The parser reads digits out of any text; what is not written like a number is none.
    if !typed.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '.' | '(' | ')' | '/')) {
        return Err(BROKEN);
    }
    let region = match (typed.starts_with('+'), region_code) {
        (true, _) => None,
        (false, "") => return Err(("phone.region_code", "is needed for a number that does not begin with +")),
        (false, code) => Some(code.parse::<Region>().map_err(|_| ("phone.region_code", "is not a country"))?),
    };
    let number = PhoneNumber::parse(&typed, region).map_err(|_| BROKEN)?;
    if !number.is_valid() {
        return Err(BROKEN);
    }
    Ok(number.format_as(PhoneNumberFormat::E164).into_owned())
}

/// Network and handle without `@` and case.
pub fn social_handle(handle: &SocialHandle) -> Result<String, Broken> {
    let name: String = handle.handle.trim().trim_start_matches('@').nfkc().collect();
    if name.is_empty() {
        return Err(("social_handle.handle", "is empty"));
    }
    Ok(format!("{} {}", handle.network, name.to_lowercase()))
}

/// The parts of an address in lower case without punctuation, so that the same one is added once.
fn postal_address(address: &PostalAddress) -> String {
    let PostalAddress {
        region_code,
        postal_code,
        administrative_area,
        locality,
        address_lines,
        recipient,
        organization,
        dependent_locality,
        sorting_code,
        formatted: _,
        missing_fields: _,
    } = address;
    let parts = [region_code, postal_code, administrative_area, locality, recipient, organization];
    let within = [dependent_locality, sorting_code].into_iter().filter(|part| !part.is_empty());
    let parts = parts.into_iter().chain(address_lines).chain(within);
    let words = |part: &String| {
        let text: String = part.nfkc().flat_map(char::to_lowercase).collect();
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    parts.map(words).collect::<Vec<_>>().join("\u{1f}")
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_email_is_compared_without_case_and_with_its_domain_in_ascii() {
        for (typed, canonical) in [
            ("Ada@Example.ORG", "ada@example.org"),
            (" ada@example.org ", "ada@example.org"),
            ("ada+news@example.org", "ada+news@example.org"),
            ("jürgen@müller.de", "jürgen@xn--mller-kva.de"),
            ("用户@例子.中国", "用户@xn--fsqu00a.xn--fiqs8s"),
        ] {
            assert_eq!(email(typed).as_deref(), Ok(canonical), "{typed}");
        }
        for typed in ["", "ada", "@example.org", "ada@", "ada@@example.org", "Ada <ada@example.org>", "ada@localhost"] {
            assert!(email(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_phone_is_e164_and_a_plus_needs_no_country() {
        for (typed, region, e164) in [
            ("+49 30 123456", "", "+4930123456"),
            ("030/123456", "DE", "+4930123456"),
            ("(212) 555-2368", "US", "+12125552368"),
            // Another port of the metadata calls this one invalid, or misreads it when it is given a hint.
            ("+78005553535", "RU", "+78005553535"),
            ("8 (800) 555-35-35", "RU", "+78005553535"),
            ("138 0013 8000", "CN", "+8613800138000"),
        ] {
            assert_eq!(phone(typed, region).as_deref(), Ok(e164), "{typed}");
        }
        for (typed, region) in
            [("", "DE"), ("030/123456", ""), ("+1", ""), ("call me 030 123456", "DE"), ("+999 123", ""), ("12", "XX")]
        {
            assert!(phone(typed, region).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_handle_is_compared_without_at_sign_and_case() {
        let handle = |handle: &str| SocialHandle { network: "telegram".into(), handle: handle.into() };
        assert_eq!(social_handle(&handle("@Ada")), social_handle(&handle("ada")));
        assert!(social_handle(&handle("@")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_normal_stays_as_it_is(typed in "[a-zA-Z.+]{1,20}@[a-z]{1,20}\\.(com|DE|org)") {
            if let Ok(canonical) = email(&typed) {
                prop_assert_eq!(email(&canonical), Ok(canonical.clone()));
            }
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,40}", region in "([A-Z]{2})?") {
            let _ = email(&text);
            let _ = phone(&text, &region);
            let _ = phone(&format!("+{text}"), &region);
        }

        #[test]
        fn no_digits_make_the_parser_panic(text in "[+0-9 ().-]{0,40}", region in "(DE|US|RU|CN|)") {
            if let Ok(e164) = phone(&text, region.as_str()) {
                prop_assert_eq!(phone(&e164, ""), Ok(e164.clone()));
            }
        }
    }
}
