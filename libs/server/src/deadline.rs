use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// The deadline of a call that brings none.
const DEFAULT: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

/// How long the caller waits; `None` when what it says is no time.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").map_or(Some(DEFAULT), parse)
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it; at most a day.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let parse = |text| parse(&HeaderValue::from_static(text));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("99999999H"), Some(DAY));
        for wrong in ["", "m", "123456789m", "12", "-1S", "1s", "1 S", "+1S"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
