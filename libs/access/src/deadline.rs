use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// The metadata in which a caller says how long it waits.
pub const TIMEOUT_HEADER: &str = "grpc-timeout";
const DAY: Duration = Duration::from_secs(86_400);

/// How long the caller waits, at most a day, or `otherwise` if it does not say; `None` when what it says is no time.
pub fn timeout(headers: &HeaderMap, otherwise: Duration) -> Option<Duration> {
    headers.get(TIMEOUT_HEADER).map_or(Some(otherwise), parse)
}

/// A time as `grpc-timeout` says it, rounded down to microseconds; above a minute and a half to milliseconds, since
/// eight digits must do.
pub fn timeout_value(timeout: Duration) -> HeaderValue {
    let text = match timeout.as_micros() {
        micros @ 0..=99_999_999 => format!("{micros}u"),
        _ => format!("{}m", timeout.min(DAY).as_millis()),
    };
    HeaderValue::try_from(text).expect("digits and a letter are ASCII")
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
    fn what_is_passed_on_is_never_more() {
        for micros in [0, 1, 999, 1_000_001, 99_999_999, 100_000_000, 3_600_000_000, 86_400_000_000] {
            let timeout = Duration::from_micros(micros);
            let said = parse(&timeout_value(timeout)).unwrap();
            assert!(said <= timeout && timeout - said < Duration::from_millis(1), "{timeout:?} became {said:?}");
        }
    }

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
