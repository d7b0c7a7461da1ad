//! Durations as Go writes them, which is how `SERVICE_CHECK_INTERVAL` and its like are written: `10s`, `1m30s`, `500ms`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form number, unit, number, unit …
    #[error("is no duration such as 10s or 1m30s")]
    Form,
    /// A number alone.
    #[error("has no unit (10s are ten seconds)")]
    Unit,
    /// Negative, nothing, or more than anybody waits.
    #[error("is out of range")]
    Range,
}

/// Reads a duration longer than nothing.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.starts_with('-') {
        return Err(DurationError::Range);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, after) = part(rest)?;
        nanos = nanos.checked_add(part).ok_or(DurationError::Range)?;
        rest = after;
    }
    u64::try_from(nanos).ok().filter(|n| *n > 0).map(Duration::from_nanos).ok_or(DurationError::Range)
}

/// Reads one number with its unit from the front; gives nanoseconds and what follows.
fn part(text: &str) -> Result<(u128, &str), DurationError> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, after) = text.split_at(digits(text));
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => after.split_at(digits(after)),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Form);
    }
    let (unit, after) =
        after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
    let scale: u128 = match unit {
        "" if whole.trim_start_matches('0').is_empty() => return Err(DurationError::Range),
        "" => return Err(DurationError::Unit),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(DurationError::Form),
    };
    // Twelve digits are less than a nanosecond of an hour, and far less than what overflows.
    let fraction = &fraction[..fraction.len().min(12)];
    let number = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<u128>() };
    let whole = number(whole).ok().filter(|n| *n <= u128::from(u64::MAX)).ok_or(DurationError::Range)?;
    let tens = (0..fraction.len()).fold(1, |tens: u128, _| tens * 10);
    let fraction = number(fraction).map_err(|_| DurationError::Form)?;
    Ok((whole * scale + fraction * scale / tens, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expect: Result<u64, DurationError>) {
            assert_eq!(parse(text), expect.map(Duration::from_millis), "{text}");
        }
        check("10s", Ok(10_000));
        check("+10s", Ok(10_000));
        check("1m30s", Ok(90_000));
        check("1.5h", Ok(5_400_000));
        check(".5s", Ok(500));
        check("1.s", Ok(1_000));
        check("2000us", Ok(2));
        check("2000µs1000000ns", Ok(3));
        check("10", Err(DurationError::Unit));
        check("1m30", Err(DurationError::Unit));
        check("", Err(DurationError::Form));
        check("soon", Err(DurationError::Form));
        check("1d", Err(DurationError::Form));
        check("1s 2s", Err(DurationError::Form));
        check(".s", Err(DurationError::Form));
        check("0", Err(DurationError::Range));
        check("0s", Err(DurationError::Range));
        check("-1s", Err(DurationError::Range));
        check("99999999999999999999999999999999999999999999h", Err(DurationError::Range));
        check("18446744073709551615h", Err(DurationError::Range));
        assert_eq!(parse("0.3333333333333333333s"), Ok(Duration::from_nanos(333_333_333)));
    }
}
