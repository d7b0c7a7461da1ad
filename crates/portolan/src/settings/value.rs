//! How the text of one value is read. Messages say what is wrong and what would be right.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use portolan_naming::OpenError;
use registrator::Deregister;
use routing::Policy;

use super::config::{EMBEDDED, OnExit};
use super::table::{DEREGISTER, ON_EXIT, POLICIES};

/// The longest time any setting takes; keeps sums with a clock far from their limits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest text any setting takes.
const TEXT_LIMIT: usize = 4096;

/// A value that has a textual form.
pub(super) trait Parse: Sized {
    /// Reads `text`, or says what would be right.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Reads `text` into `slot`.
pub(super) fn put<T: Parse>(slot: &mut T, text: &str) -> Result<(), String> {
    *slot = T::parse(text)?;
    Ok(())
}

/// Reads a duration that must not be zero.
pub(super) fn positive(slot: &mut Duration, text: &str) -> Result<(), String> {
    match Duration::parse(text)? {
        Duration::ZERO => Err(format!("{text:?} is no time at all; it must be more than zero")),
        time => {
            *slot = time;
            Ok(())
        }
    }
}

/// Reads values with commas between them; an empty text is an empty list.
pub(super) fn list<T: Parse, L: FromIterator<T>>(slot: &mut L, text: &str) -> Result<(), String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    *slot = parts.map(T::parse).collect::<Result<_, _>>()?;
    Ok(())
}

/// Reads a whole number within `range`.
pub(super) fn within(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{text:?} is not a whole number from {} to {}", range.start(), range.end()))
}

/// Reads a text that must not be empty.
pub(super) fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { String::parse(text) }
}

/// Reads the URI of a registry that there is.
pub(super) fn registry(text: &str) -> Result<String, String> {
    let uri = filled(text)?;
    if uri == EMBEDDED {
        return Ok(uri);
    }
    if uri.starts_with(EMBEDDED) {
        return Err(format!("{EMBEDDED} takes no path; where its book is kept is the setting data_dir"));
    }
    // What is wrong is told without the secrets that are in it.
    portolan_naming::check(&uri).map(|()| uri).map_err(|error| match error {
        OpenError::Scheme { scheme, known } => {
            let known = known.split(", ").filter(|known| *known != "embedded");
            let known = ["embedded"].into_iter().chain(known).collect::<Vec<_>>().join(", ");
            OpenError::Scheme { scheme, known }.to_string()
        }
        error => error.to_string(),
    })
}

/// Reads an address to listen on; `off` is none.
pub(super) fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        _ => SocketAddr::parse(text).map(Some),
    }
}

/// Reads a DNS domain; empty means none.
pub(super) fn domain(text: &str) -> Result<Option<String>, String> {
    let bare = text.trim_matches('.');
    let fits = bare.len() <= 253
        && bare.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    match (text.is_empty(), fits) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(bare.to_ascii_lowercase())),
        (false, false) => {
            Err(format!("{text:?} is not a domain; write one such as localhost or example.com"))
        }
    }
}

impl Parse for String {
    fn parse(text: &str) -> Result<Self, String> {
        match text.len() {
            length if length > TEXT_LIMIT => {
                Err(format!("has {length} bytes; at most {TEXT_LIMIT} are allowed"))
            }
            // The text is not repeated: a registry URI has its token in it.
            _ => match text.chars().position(char::is_control) {
                Some(before) => Err(format!("character {} is a control character", before + 1)),
                None => Ok(text.to_owned()),
            },
        }
    }
}

impl Parse for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        filled(text).map(Self::from)
    }
}

impl Parse for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is not an address; write IP:PORT, such as 127.0.0.1:8000"))
    }
}

impl Parse for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is not an IP address"))
    }
}

impl Parse for gateway::Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: gateway::CidrError| error.to_string())
    }
}

impl Parse for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }
}

impl Parse for Policy {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            "weighted" => Ok(Self::Weighted),
            _ => Err(format!("{text:?} is not a balancing policy; there are {}", POLICIES.join(", "))),
        }
    }
}

impl Parse for OnExit {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "leave" => Ok(Self::Leave),
            "deregister" => Ok(Self::Deregister),
            _ => Err(format!("{text:?} is neither of {}", ON_EXIT.join(", "))),
        }
    }
}

impl Parse for Deregister {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "on-success" => Ok(Self::OnSuccess),
            _ => Err(format!("{text:?} is neither of {}", DEREGISTER.join(", "))),
        }
    }
}

impl Parse for Duration {
    /// A sum of whole numbers with units, largest first by habit: `90s`, `1m30s`, `500ms`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a time; write a number with a unit, such as 500ms, 10s or 1m30s");
        let mut rest = text;
        let mut sum = Some(Self::ZERO);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(millis).map(Self::from_millis);
            sum = sum.zip(part).and_then(|(sum, part)| sum.checked_add(part));
            rest = tail;
        }
        match sum {
            _ if text.is_empty() => Err(wrong()),
            Some(sum) if sum <= LONGEST => Ok(sum),
            _ => Err(format!("{text:?} is longer than a year")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expect: Result<u64, &str>) {
            let got = Duration::parse(text).map(|d| u64::try_from(d.as_millis()).unwrap());
            match expect {
                Ok(millis) => assert_eq!(got, Ok(millis)),
                Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{got:?}"),
            }
        }
        check("500ms", Ok(500));
        check("10s", Ok(10_000));
        check("1m30s", Ok(90_000));
        check("0s", Ok(0));
        check("1d", Ok(86_400_000));
        check("5", Err("number with a unit"));
        check("", Err("number with a unit"));
        check("s", Err("number with a unit"));
        check("-1s", Err("number with a unit"));
        check("1.5s", Err("number with a unit"));
        check("1s ", Err("number with a unit"));
        check("366d", Err("longer than a year"));
        check("99999999999999999d", Err("longer than a year"));
    }

    #[test]
    fn what_is_wrong_with_a_text_does_not_repeat_it() {
        let said = String::parse("consul://h?token=s3cret\n").unwrap_err();
        assert_eq!(said, "character 24 is a control character");
    }

    #[test]
    fn domains() {
        #[track_caller]
        fn check(text: &str, expect: Result<Option<&str>, ()>) {
            assert_eq!(domain(text).map_err(|_| ()), expect.map(|d| d.map(str::to_owned)));
        }
        check("localhost", Ok(Some("localhost")));
        check(".Example.com.", Ok(Some("example.com")));
        check("", Ok(None));
        check(".", Err(()));
        check("a..b", Err(()));
        check("a/b", Err(()));
    }
}
