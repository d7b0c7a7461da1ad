//! The engine's way to write moments (RFC 3339) as nanoseconds since 1970.

use crate::container::EngineTime;

/// Reads `2026-05-07T21:09:36.123456789Z` or with an offset; moments before 1970 (the engine's "never") are zero.
pub(super) fn moment(text: &str) -> Option<EngineTime> {
    let (date, rest) = text.split_once('T')?;
    let at = rest.find(['Z', '+', '-'])?;
    let (clock, offset) = rest.split_at(at);
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let fits =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !fits || year > 9999 {
        return None;
    }
    let seconds =
        days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - seconds_of(offset)?;
    let nanos = nanos(fraction)?;
    Some(EngineTime(u64::try_from(seconds).ok().map_or(0, |s| s.saturating_mul(1_000_000_000) + nanos)))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let digits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        if digits { part.parse().ok() } else { None }
    });
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

fn nanos(fraction: &str) -> Option<u64> {
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

fn seconds_of(offset: &str) -> Option<i64> {
    if offset == "Z" {
        return Some(0);
    }
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

/// Days in the Gregorian calendar, counted in eras of 400 years that begin in March, so that the leap day is last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        #[track_caller]
        fn check(text: &str, expect: Option<u64>) {
            assert_eq!(moment(text), expect.map(EngineTime), "{text}");
        }
        const SECOND: u64 = 1_000_000_000;
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-01T00:00:01.5Z", Some(SECOND * 3 / 2));
        check("2000-02-29T12:00:00Z", Some(951_825_600 * SECOND));
        check("2026-05-07T21:09:36.123456789Z", Some(1_778_188_176 * SECOND + 123_456_789));
        check("2026-05-07T23:09:36.123456789+02:00", Some(1_778_188_176 * SECOND + 123_456_789));
        check("2026-05-07T16:39:36-04:30", Some(1_778_188_176 * SECOND));
        check("0001-01-01T00:00:00Z", Some(0));
        check("", None);
        check("yesterday", None);
        check("2026-13-01T00:00:00Z", None);
        check("2026-05-07T21:09:36", None);
        check("2026-05-07T21:09:36.1234567890Z", None);
    }
}
