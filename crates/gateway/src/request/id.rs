//! The id that a request keeps through logs, headers and answers.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where the id travels.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken over from a client, in bytes.
const LIMIT: usize = 128;

/// Letters, digits and a few marks: safe in logs, headers and JSON as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id if it is well-formed — it only correlates, nothing is decided by it —, else a random one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER) {
            Some(id) if well_formed(id.as_bytes()) => Self(id.clone()),
            _ => Self::random(fastrand::u128(..)),
        }
    }

    fn random(dice: u128) -> Self {
        let mut text = [0_u8; 32];
        for (place, digit) in text.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(dice >> (4 * place)) as usize & 15];
        }
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none")))
    }

    pub(super) fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn well_formed(id: &[u8]) -> bool {
    let fits =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    (1..=LIMIT).contains(&id.len()) && id.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_what_is_well_formed() {
        #[track_caller]
        fn check(sent: &str, kept: bool) {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_str(sent).unwrap())]);
            let id = RequestId::of(&headers);
            assert_eq!(id.as_str() == sent, kept, "{id:?}");
            assert!(well_formed(id.as_str().as_bytes()));
        }
        check("7f000001-abc.1", true);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        check("", false);
        check("a b", false);
        check("\"}, \"evil\": {", false);
        assert_eq!(RequestId::random(0x10f).as_str(), format!("f01{}", "0".repeat(29)));
    }
}
