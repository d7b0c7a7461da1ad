//! Texts as node names. ZooKeeper refuses some characters and names; those are written as `%` and hex, as in URLs.

use std::fmt::Write as _;

/// `text` as a node name.
pub(in crate::zookeeper) fn encoded(text: &str) -> String {
    // The whole name is special, so its first character is written otherwise. `zookeeper` is ZooKeeper's own below the root.
    let special = matches!(text, "." | ".." | "zookeeper");
    let mut name = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if (special && at == 0) || !fits(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a string does not fail.
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(c);
        }
    }
    name
}

/// The text that `name` stands for: only what [`encoded`] would have written is decoded, all else was meant as it is.
pub(in crate::zookeeper) fn decoded(name: &str) -> String {
    let plain = || name.to_owned();
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return plain() };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    match String::from_utf8(bytes) {
        Ok(text) if encoded(&text) == name => text,
        Ok(_) | Err(_) => plain(),
    }
}

/// What ZooKeeper allows in a name: it thinks in UTF-16 and refuses surrogates, and so all beyond the basic plane.
fn fits(c: char) -> bool {
    !matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{d7ff}'..='\u{f8ff}' | '\u{fff0}'.. | '/' | '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        #[track_caller]
        fn check(text: &str, name: &str) {
            assert_eq!((encoded(text), decoded(name)), (name.to_owned(), text.to_owned()));
        }
        check("web", "web");
        check("订单", "订单");
        check("a/b%c", "a%2Fb%25c");
        check("🦀", "%F0%9F%A6%80");
        check(".", "%2E");
        check("..", "%2E.");
        check("zookeeper", "%7Aookeeper");
        check("host:web:80", "host:web:80");
        check("\u{85}", "%C2%85");
    }

    #[test]
    fn names_that_others_wrote_are_taken_as_they_are() {
        for name in ["100%", "a%zz", "a%2fb", "%41", "%FF"] {
            assert_eq!(decoded(name), name);
        }
    }
}
