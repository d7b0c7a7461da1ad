//! Durations as Go writes them: `300s`, `1m30s`, `60000ms`, or an integer of nanoseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A Go `time.Duration`: nanoseconds, possibly negative, at most 292 years.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub i64);

/// Why a text is not a Go duration; in Go's words, because people search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form number, unit, number, unit …
    #[error("time: invalid duration {text:?}")]
    Invalid {
        /// The whole text.
        text: String,
    },
    /// A number without a unit.
    #[error("time: missing unit in duration {text:?}")]
    MissingUnit {
        /// The whole text.
        text: String,
    },
    /// A unit Go does not know, such as days.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

impl GoDuration {
    /// The time it stands for; `None` if that is zero or less, which Consul treats as "not said".
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid { text: text.to_owned() };
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let (part, after) = one_part(rest, text)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = after;
        }
        Ok(Self(if negative { -total } else { total }))
    }
}

/// Reads one number with its unit from the front of `rest`; gives nanoseconds and what follows.
fn one_part<'t>(rest: &'t str, text: &str) -> Result<(i64, &'t str), DurationError> {
    let invalid = || DurationError::Invalid { text: text.to_owned() };
    let (whole, after) = digits(rest);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, after) = after.split_at(end);
    let scale: i64 = match unit {
        "" => return Err(DurationError::MissingUnit { text: text.to_owned() }),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        _ => return Err(DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }),
    };
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let nanos = whole.checked_mul(scale).and_then(|n| n.checked_add(part_of(fraction, scale)));
    Ok((nanos.ok_or_else(invalid)?, after))
}

const SECOND: i64 = 1_000_000_000;

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `0.<fraction>` of `scale`; digits far below a nanosecond do not count.
fn part_of(fraction: &str, scale: i64) -> i64 {
    let fraction = &fraction[..fraction.len().min(18)];
    let (mut numerator, mut denominator) = (0_i128, 1_i128);
    for digit in fraction.bytes() {
        numerator = numerator * 10 + i128::from(digit - b'0');
        denominator *= 10;
    }
    // Less than `scale`, hence an i64.
    (numerator * i128::from(scale) / denominator) as i64
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let decimal = |scale: u64| {
            let rest = nanos % scale;
            if rest == 0 {
                return String::new();
            }
            let width = scale.ilog10() as usize;
            format!(".{rest:0width$}").trim_end_matches('0').to_owned()
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}{}µs", nanos / 1_000, decimal(1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}{}ms", nanos / 1_000_000, decimal(1_000_000)),
            _ => {
                let seconds = nanos / 1_000_000_000;
                let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
                f.write_str(sign)?;
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{seconds}{}s", decimal(1_000_000_000))
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = GoDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"10s\" or an integer of nanoseconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
        if text.is_empty() { Ok(GoDuration(0)) } else { text.parse().map_err(E::custom) }
    }

    fn visit_i64<E: Error>(self, nanos: i64) -> Result<GoDuration, E> {
        Ok(GoDuration(nanos))
    }

    fn visit_u64<E: Error>(self, nanos: u64) -> Result<GoDuration, E> {
        i64::try_from(nanos)
            .map(GoDuration)
            .map_err(|_| E::custom(format_args!("{nanos} nanoseconds are too long")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_as_go_does() {
        #[track_caller]
        fn check(text: &str, expect: Result<i64, &str>) {
            let got = text.parse::<GoDuration>().map(|d| d.0).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_owned), "{text}");
        }
        check("60000ms", Ok(60 * SECOND));
        check("1m30s", Ok(90 * SECOND));
        check("10m", Ok(600 * SECOND));
        check("0", Ok(0));
        check("+5s", Ok(5 * SECOND));
        check("-1.5h", Ok(-5_400 * SECOND));
        check("1h45m", Ok(6_300 * SECOND));
        check(".5s", Ok(SECOND / 2));
        check("1.s", Ok(SECOND));
        check("0.3333333333333333333h", Ok(1_200_000_000_000 - 1));
        check("0.1m", Ok(6 * SECOND));
        check("0.000000001h", Ok(3_600));
        check("1µs2μs3us4ns", Ok(6_004));
        check("9223372036854775807ns", Ok(i64::MAX));
        check("9223372036854775808ns", Err("time: invalid duration \"9223372036854775808ns\""));
        check("3000000h", Err("time: invalid duration \"3000000h\""));
        check("", Err("time: invalid duration \"\""));
        check("-", Err("time: invalid duration \"-\""));
        check(".s", Err("time: invalid duration \".s\""));
        check("abc", Err("time: invalid duration \"abc\""));
        check("10", Err("time: missing unit in duration \"10\""));
        check("1x", Err("time: unknown unit \"x\" in duration \"1x\""));
        check("1d", Err("time: unknown unit \"d\" in duration \"1d\""));
        check("1é", Err("time: unknown unit \"é\" in duration \"1é\""));
        check("1s -2s", Err("time: unknown unit \"s -\" in duration \"1s -2s\""));
    }

    #[test]
    fn prints_as_go_does() {
        #[track_caller]
        fn check(nanos: i64, expect: &str) {
            assert_eq!(GoDuration(nanos).to_string(), expect);
        }
        check(0, "0s");
        check(1, "1ns");
        check(1_100, "1.1µs");
        check(2_200_000, "2.2ms");
        check(1_500_000_000, "1.5s");
        check(90 * SECOND, "1m30s");
        check(300 * SECOND, "5m0s");
        check(3_600 * SECOND + 1_000_000, "1h0m0.001s");
        check(-5_400 * SECOND, "-1h30m0s");
        check(i64::MAX, "2562047h47m16.854775807s");
        check(i64::MIN, "-2562047h47m16.854775808s");
    }

    #[test]
    fn what_is_printed_parses_back() {
        for nanos in [1, 999, 1_001, 59_999_999_999, 3_599_000_000_001, i64::MAX] {
            let duration = GoDuration(nanos);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }

    #[test]
    fn json_takes_text_and_nanoseconds() {
        #[track_caller]
        fn check(json: &str, expect: Option<i64>) {
            assert_eq!(serde_json::from_str::<GoDuration>(json).ok().map(|d| d.0), expect, "{json}");
        }
        check("\"10s\"", Some(10 * SECOND));
        check("10000000000", Some(10 * SECOND));
        check("-1", Some(-1));
        check("\"\"", Some(0));
        check("18446744073709551615", None);
        check("true", None);
        assert_eq!(serde_json::to_string(&GoDuration(90 * SECOND)).unwrap(), "\"1m30s\"");
    }
}
