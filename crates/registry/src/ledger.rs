//! What lies under which key of the store, and the way there and back.
//!
//! | key | value |
//! |---|---|
//! | `instance/<id>` | the instance, see [`crate::stored`] |
//! | `service/<name>` | the revision of a removal, where it may be newer than every instance the service has left |
//! | `extinction` | the revision of the newest removal of any service's last instance |
//! | `key/<key>` | a kept value and the revision of its last change, see [`crate::stored_key`] |
//! | `keys` | the revision of the newest change of any key |

use catalog::{Catalog, Event, Marks};
use portolan_model::{Key, KeyChange, KeyListing, Revision, ServiceName};
use store::{Batch, Loaded, Store};

use crate::config::{BuildError, Config};
use crate::stored::{self, StoredError};
use crate::stored_key;

const INSTANCE: &str = "instance/";
const SERVICE: &str = "service/";
const EXTINCTION: &str = "extinction";
const KEY: &str = "key/";
const KEYS: &str = "keys";

/// Where the history of keys begins: later than nothing, so that no key is as old as what was never written to.
const NO_KEYS: Revision = Revision(1);

/// What a store holds.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) keys: KeyListing,
}

/// Opens the store and reads all of it.
pub(crate) fn open(config: &Config) -> Result<Opened, BuildError> {
    let store = Store::open(&config.data_dir)?;
    let Loaded { revision, entries } = store.load()?;
    let mut instances = Vec::new();
    let mut keys = KeyListing { revision: NO_KEYS, entries: Vec::new() };
    let mut marks = Marks { revision: Revision(revision), ..Marks::default() };
    for (key, value) in entries {
        let key = String::from_utf8(key).map_err(|e| StoredError::Key(e.to_string()))?;
        if key.starts_with(INSTANCE) {
            instances.push(stored::read(&key, &value)?);
        } else if let Some(name) = key.strip_prefix(SERVICE) {
            let name = ServiceName::new(name).map_err(|e| malformed(&key, e.to_string()))?;
            marks.services.insert(name, mark(&key, &value)?);
        } else if key == EXTINCTION {
            marks.last_extinction = mark(&key, &value)?;
        } else if let Some(name) = key.strip_prefix(KEY) {
            let name = Key::new(name).map_err(|e| malformed(&key, e.to_string()))?;
            keys.entries.push(stored_key::read(name, &value)?);
        } else if key == KEYS {
            keys.revision = mark(&key, &value)?;
        } else {
            return Err(StoredError::Key(key).into());
        }
    }
    Ok(Opened { store, catalog: Catalog::restore(config.warm_up, instances, marks), keys })
}

/// Adds to `batch` what `event` changes in the store; `after` is the catalog right after the event.
pub(crate) fn record(batch: &mut Batch, event: &Event, after: &Catalog) {
    match event {
        Event::Put { instance, since } => {
            batch.put(format!("{INSTANCE}{}", instance.id()), stored::write(instance, *since));
        }
        Event::Removed { service, id, revision } => {
            batch.delete(format!("{INSTANCE}{id}"));
            let key = format!("{SERVICE}{service}");
            if after.modified(service).is_some() {
                batch.put(key, revision.to_string());
            } else {
                batch.delete(key);
                batch.put(EXTINCTION, revision.to_string());
            }
        }
    }
}

/// Adds to `batch` what `change` changes in the store.
pub(crate) fn record_key(batch: &mut Batch, change: &KeyChange) {
    match change {
        KeyChange::Upsert(entry) => batch.put(format!("{KEY}{}", entry.key), stored_key::write(entry)),
        KeyChange::Remove { key, .. } => batch.delete(format!("{KEY}{key}")),
        KeyChange::Reset(_) => return,
    }
    batch.put(KEYS, change.revision().to_string());
}

fn mark(key: &str, value: &[u8]) -> Result<Revision, StoredError> {
    let text = String::from_utf8_lossy(value);
    let number = text.parse().map_err(|_| malformed(key, format!("{text:?} is no revision")))?;
    Ok(Revision(number))
}

fn malformed(key: &str, why: String) -> StoredError {
    StoredError::Malformed { key: key.to_owned(), why }
}
