//! One form of a path, for matching and for forwarding alike, so that both always mean the same resource.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not start with `/`.
    #[error("the path does not start with /")]
    Relative,
    /// It holds an encoded NUL, which no honest client sends.
    #[error("the path holds %00")]
    Nul,
}

/// Removes dot segments (RFC 3986 section 5.2.4), also percent-encoded ones, and changes nothing else: `//`, `%2F` and
/// letter case are left to the instance. Borrows when there is nothing to remove, which is nearly always.
///
/// # Errors
/// Refuses paths that do not start with `/` or hold an encoded NUL.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::Relative);
    }
    if path.contains("%00") {
        return Err(BadPath::Nul);
    }
    if !has_dot_segment(path) {
        return Ok(Cow::Borrowed(path));
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let dots = dots(segment);
        if dots == Some(2) {
            kept.pop();
        }
        match (dots, segments.peek()) {
            (None, _) => kept.push(segment),
            (Some(_), None) => kept.push(""), // `/a/..` names the directory `/`, not `` (RFC 3986)
            (Some(_), Some(_)) => {}
        }
    }
    Ok(Cow::Owned(kept.iter().fold(String::with_capacity(path.len()), |path, s| path + "/" + s)))
}

fn has_dot_segment(path: &str) -> bool {
    // Most paths hold neither `/.` nor `/%2e`: two searches without splitting.
    let suspicious = path.as_bytes().windows(2).any(|pair| pair == b"/." || pair == b"/%");
    suspicious && path.split('/').any(|segment| dots(segment).is_some())
}

/// 1 for `.`, 2 for `..`, in any encoding; `None` for every other segment.
fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = rest
            .strip_prefix('.')
            .or_else(|| rest.strip_prefix("%2e"))
            .or_else(|| rest.strip_prefix("%2E"))?;
        count += 1;
    }
    (1..=2).contains(&count).then_some(count)
}

/// Decodes `%xx`; `None` when the result is not UTF-8 or an escape is malformed.
pub(crate) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        bytes.push((hex(*high)? << 4) | hex(*low)?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_forms() {
        #[track_caller]
        fn check(path: &str, expect: Result<&str, BadPath>) {
            assert_eq!(normalise(path).as_deref(), expect.as_ref().map(|s| *s), "{path}");
        }
        check("/", Ok("/"));
        check("/a/b", Ok("/a/b"));
        check("/a//b/", Ok("/a//b/"));
        check("/.well-known/x", Ok("/.well-known/x"));
        check("/a/...", Ok("/a/..."));
        check("/a/./b", Ok("/a/b"));
        check("/a/../b", Ok("/b"));
        check("/a/b/..", Ok("/a/"));
        check("/a/.", Ok("/a/"));
        check("/../../etc/passwd", Ok("/etc/passwd"));
        check("/a/%2e%2E/b", Ok("/b"));
        check("/a/.%2e/b", Ok("/b"));
        check("/a%2fb/%2f..", Ok("/a%2fb/%2f.."));
        check("a", Err(BadPath::Relative));
        check("", Err(BadPath::Relative));
        check("/a%00b", Err(BadPath::Nul));
    }

    #[test]
    fn decoding() {
        assert_eq!(decode("a%20b").as_deref(), Some("a b"));
        assert_eq!(decode("%E8%AE%A2").as_deref(), Some("订"));
        assert_eq!(decode("%"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%ff"), None);
    }

    proptest! {
        #[test]
        fn normal_paths_stay_and_never_climb(path in "/([a.%2eE/]{0,12})") {
            let once = normalise(&path).unwrap().into_owned();
            prop_assert!(once.starts_with('/'));
            prop_assert!(once.split('/').all(|s| dots(s).is_none()), "{once}");
            let twice = normalise(&once).unwrap();
            prop_assert_eq!(twice.as_ref(), once.as_str());
        }
    }
}
