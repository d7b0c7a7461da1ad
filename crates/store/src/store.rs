//! The store itself: one file, one table of bytes, one table of counters.
//!
//! A commit is one-phase with checksums: one fsync. The engine's quick repair would cost a second fsync in every commit
//! (measured: 244 µs instead of 144 µs) to open faster after a crash (10,000 entries of 500 bytes: 5 ms instead of
//! 11 ms; 100,000: 28 ms instead of 88 ms). Writes are many and crashes few, so it is off.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::batch::Batch;
use crate::directory::{Directory, failed};
use crate::error::{OpenError, StoreError};

/// Bytes that survive. One process has a directory open at a time; methods block on the disk.
#[derive(Debug)]
pub struct Store {
    database: Database,
    /// Dropped after the database, which still writes when it closes.
    _directory: Directory,
}

/// All that a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The revision of the last commit; zero before the first.
    pub revision: u64,
    /// Every key with its value, by key.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const FORMAT: &str = "format";
const REVISION: &str = "revision";

/// The engine's page cache: everything is loaded once and then only written, so little is enough.
const CACHE_BYTES: usize = 8 << 20;

impl Store {
    /// The format this program writes, and the newest it reads.
    pub const FORMAT: u64 = 1;

    /// Opens the store in `dir`, making both if they are not there.
    ///
    /// # Errors
    /// Says what is wrong with which path; see [`OpenError`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let directory = Directory::hold(dir)?;
        let file = dir.join("store.redb");
        if !file.try_exists().map_err(failed("look for", &file))? {
            create(&directory, &file)?;
        }
        // On a file that was cut short the engine does not fail, it panics.
        let opened = catch_unwind(|| Database::builder().set_cache_size(CACHE_BYTES).open(&file));
        let opened = opened.map_err(|_| OpenError::Damaged { path: file.clone() })?;
        let database = opened.map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { dir: dir.to_owned(), holder: None },
            other => refused(&file)(other),
        })?;
        let store = Self { database, _directory: directory };
        match store.counter(FORMAT).map_err(refused(&file))? {
            found if found > Self::FORMAT => {
                Err(OpenError::FutureFormat { dir: dir.to_owned(), found, known: Self::FORMAT })
            }
            _ => Ok(store),
        }
    }

    /// Makes `batch` and `revision` durable together, with one fsync; nothing of it is there if it fails before the
    /// disk has it.
    ///
    /// # Errors
    /// See [`StoreError`] for what is known after each.
    pub fn commit(&self, batch: &Batch, revision: u64) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut counters = transaction.open_table(COUNTERS)?;
            let stored = counters.insert(REVISION, revision)?.map_or(0, |before| before.value());
            if stored > revision {
                return Err(StoreError::RevisionBack { asked: revision, stored });
            }
            let mut entries = transaction.open_table(ENTRIES)?;
            for (key, value) in batch.entries() {
                match value {
                    Some(value) => entries.insert(key, value)?,
                    None => entries.remove(key)?,
                };
            }
        }
        Ok(transaction.commit()?)
    }

    /// Everything that is there.
    ///
    /// # Errors
    /// If the engine cannot read its file.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let transaction = self.database.begin_read()?;
        let mut entries = Vec::new();
        for entry in transaction.open_table(ENTRIES)?.iter()? {
            let (key, value) = entry?;
            entries.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(Loaded { revision: self.counter(REVISION)?, entries })
    }

    fn counter(&self, name: &str) -> Result<u64, redb::Error> {
        let counters = self.database.begin_read()?.open_table(COUNTERS)?;
        Ok(counters.get(name)?.map_or(0, |value| value.value()))
    }
}

/// Builds the file under another name first: whoever is killed in between leaves no half-made store behind.
fn create(directory: &Directory, file: &Path) -> Result<(), OpenError> {
    let unfinished = file.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &unfinished)(e)),
        _ => {}
    }
    initialise(&unfinished).map_err(refused(&unfinished))?;
    fs::rename(&unfinished, file).map_err(failed("rename", &unfinished))?;
    directory.sync()
}

fn initialise(file: &Path) -> Result<(), redb::Error> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(file)?;
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(COUNTERS)?.insert(FORMAT, Store::FORMAT)?;
    Ok(transaction.commit()?)
}

fn refused<E: Into<redb::Error>>(file: &Path) -> impl FnOnce(E) -> OpenError {
    let path = file.to_owned();
    move |source| OpenError::Engine { path, source: Box::new(source.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(changes: &[(&str, Option<&str>)]) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(*key, *value),
                None => batch.delete(*key),
            }
        }
        batch
    }

    fn loaded(revision: u64, entries: &[(&str, &str)]) -> Loaded {
        let entries = entries.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()));
        Loaded { revision, entries: entries.collect() }
    }

    #[test]
    fn what_is_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        #[track_caller]
        fn check(dir: &Path, changes: &[(&str, Option<&str>)], revision: u64, expect: &[(&str, &str)]) {
            let store = Store::open(dir).unwrap();
            store.commit(&batch(changes), revision).unwrap();
            drop(store);
            assert_eq!(Store::open(dir).unwrap().load().unwrap(), loaded(revision, expect));
        }
        assert_eq!(Store::open(dir.path()).unwrap().load().unwrap(), Loaded::default());
        check(dir.path(), &[("b", Some("1")), ("a", Some("2"))], 1, &[("a", "2"), ("b", "1")]);
        check(dir.path(), &[("b", None), ("c", None), ("a", Some("3"))], 7, &[("a", "3")]);
        check(dir.path(), &[("a", Some("4")), ("a", None), ("a", Some("5"))], 8, &[("a", "5")]);
        check(dir.path(), &[], 9, &[("a", "5")]);
    }

    #[test]
    fn an_unclean_end_keeps_the_last_commit() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(dir.path()).unwrap();
        store.commit(&batch(&[("a", Some("1")), ("b", Some("1"))]), 1).unwrap();
        store.commit(&batch(&[("a", Some("2")), ("b", None)]), 2).unwrap();
        // What a killed process leaves: the file as it is while the store is open.
        fs::copy(dir.path().join("store.redb"), copy.path().join("store.redb")).unwrap();
        assert_eq!(Store::open(copy.path()).unwrap().load().unwrap(), loaded(2, &[("a", "2")]));
    }

    #[test]
    fn the_revision_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.commit(&batch(&[("a", Some("1"))]), 5).unwrap();
        let refused = store.commit(&batch(&[("a", Some("2"))]), 4).unwrap_err();
        assert_eq!(refused.to_string(), "revision 4 does not follow the stored revision 5");
        assert_eq!(store.load().unwrap(), loaded(5, &[("a", "1")]));
        store.commit(&batch(&[("a", Some("3"))]), 6).unwrap();
        assert_eq!(store.load().unwrap(), loaded(6, &[("a", "3")]));
    }

    #[test]
    fn a_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let refused = Store::open(dir.path()).unwrap_err();
        assert!(matches!(refused, OpenError::InUse { holder: Some(pid), .. } if pid == std::process::id()));
        let message = refused.to_string();
        assert!(message.contains("is in use by another process (pid "), "{message}");
        drop(store);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn a_future_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let transaction = store.database.begin_write().unwrap();
        transaction.open_table(COUNTERS).unwrap().insert(FORMAT, 9).unwrap();
        transaction.commit().unwrap();
        drop(store);
        for _ in 0..2 {
            let message = Store::open(dir.path()).unwrap_err().to_string();
            assert!(message.contains("has format 9, but this program knows formats up to 1"), "{message}");
        }
    }

    #[test]
    fn a_creation_cut_short_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("store.new"), b"half").unwrap();
        assert_eq!(Store::open(dir.path()).unwrap().load().unwrap(), Loaded::default());
    }

    #[test]
    fn a_file_cut_short_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let file = dir.path().join("store.redb");
        let whole = fs::read(&file).unwrap();
        for length in [0, 100, 4096, whole.len() / 2, whole.len() - 4096] {
            fs::write(&file, &whole[..length]).unwrap();
            let message = Store::open(dir.path()).unwrap_err().to_string();
            assert!(message.starts_with("cannot open ") && message.contains("store.redb"), "{message}");
        }
    }

    #[test]
    fn a_foreign_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("store.redb"), vec![7; 8192]).unwrap();
        let message = Store::open(dir.path()).unwrap_err().to_string();
        assert!(message.starts_with("cannot open ") && message.contains("store.redb"), "{message}");
    }
}
