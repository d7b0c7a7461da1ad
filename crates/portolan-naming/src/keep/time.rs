//! A moment as people read it, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;
/// Days from 0000-03-01 to 1970-01-01: years that begin in March end with the leap day.
const TO_EPOCH: u64 = 719_468;
/// Days of 400 years.
const ERA: u64 = 146_097;

/// `2026-11-21T03:52:08Z`; a moment before 1970 is shown as its beginning.
pub(crate) fn utc(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / DAY + TO_EPOCH, seconds % DAY);
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 153 days in each five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments() {
        #[track_caller]
        fn check(seconds: u64, expect: &str) {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expect);
        }
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_767_225_599, "2025-12-31T23:59:59Z");
        check(1_795_233_128, "2026-11-21T03:52:08Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
    }
}
