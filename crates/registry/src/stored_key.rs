//! The form in which a kept value lies in the store: a version, the revision of its last change, its bytes. As with
//! instances, what was once written must stay readable, and every version has a golden file.

use std::sync::Arc;

use portolan_model::{Entry, Key, Revision};

use crate::stored::StoredError;

/// The version that is written.
const VERSION: u8 = 1;

/// The bytes of an entry.
pub(crate) fn write(entry: &Entry) -> Vec<u8> {
    let Entry { key: _, value, revision: Revision(revision) } = entry;
    [&[VERSION], &revision.to_be_bytes()[..], value].concat()
}

/// The entry of `key` in `bytes`.
pub(crate) fn read(key: Key, bytes: &[u8]) -> Result<Arc<Entry>, StoredError> {
    let malformed = |why: &str| StoredError::Malformed { key: format!("key/{key}"), why: why.to_owned() };
    let (version, rest) = bytes.split_first().ok_or_else(|| malformed("it is empty"))?;
    if *version != VERSION {
        return Err(StoredError::Version { key: format!("key/{key}"), found: u32::from(*version) });
    }
    let (revision, value) = rest.split_first_chunk().ok_or_else(|| malformed("it has no revision"))?;
    let revision = Revision(u64::from_be_bytes(*revision));
    Ok(Arc::new(Entry { key, value: value.into(), revision }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../tests/golden/key_v1.bin");

    fn key() -> Key {
        Key::new("routes/订单").unwrap()
    }

    #[test]
    fn version_1_is_what_it_was() {
        let revision = Revision(0x0102_0304_0506_0708);
        let entry = Entry { key: key(), value: Arc::from(*b"{\"path\":\"/\"}\0\xff"), revision };
        assert_eq!(write(&entry), GOLDEN);
        assert_eq!(*read(key(), GOLDEN).unwrap(), entry);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        #[track_caller]
        fn check(bytes: &[u8], expect: &str) {
            assert_eq!(read(key(), bytes).unwrap_err().to_string(), expect);
        }
        check(&[2, 0], "entry \"key/routes/订单\" has version 2, but this program knows versions up to 1");
        check(b"", "entry \"key/routes/订单\" is malformed: it is empty");
        check(&[1, 0, 0], "entry \"key/routes/订单\" is malformed: it has no revision");
    }
}
