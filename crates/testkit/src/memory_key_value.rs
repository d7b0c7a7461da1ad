//! The simplest `KeyValue`: in memory, at once. It shows that the battery can be passed, and is a stand-in for whoever
//! tests what is built on the seam.

use std::sync::{Arc, Mutex, PoisonError};

use portolan_model::{
    Batch, Entry, Key, KeyBook, KeyListing, KeySubscription, KeyValue, KeyValueError, Pending, Prefix,
    Revision,
};

/// See the module's head.
#[derive(Debug)]
pub struct MemoryKeyValue {
    book: KeyBook,
    /// Held while a batch is judged and done.
    turn: Mutex<()>,
}

impl Default for MemoryKeyValue {
    fn default() -> Self {
        let book = KeyBook::default();
        book.reset(Revision(1), Vec::new());
        Self { book, turn: Mutex::default() }
    }
}

impl MemoryKeyValue {
    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.book.watchers()
    }

    fn do_all(&self, batch: &Batch) -> Result<Revision, KeyValueError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = batch.plan(|key| self.book.get(key))?;
        self.book.check_room(&steps)?;
        let revision = self.book.revision().next();
        let changes: Vec<_> = steps.into_iter().filter_map(|step| step.into_change(revision)).collect();
        self.book.apply(changes);
        Ok(self.book.revision())
    }
}

impl KeyValue for MemoryKeyValue {
    fn get(&self, key: Key) -> Pending<'_, Result<Option<Arc<Entry>>, KeyValueError>> {
        Box::pin(async move { Ok(self.book.get(&key)) })
    }

    fn list(&self, prefix: Prefix) -> Pending<'_, Result<KeyListing, KeyValueError>> {
        Box::pin(async move { Ok(self.book.list(&prefix)) })
    }

    fn commit(&self, batch: Batch) -> Pending<'_, Result<Revision, KeyValueError>> {
        Box::pin(async move { self.do_all(&batch) })
    }

    fn watch(&self, prefix: Prefix) -> KeySubscription {
        self.book.watch(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_value_battery;

    #[tokio::test]
    async fn passes_the_battery() {
        let kept = Arc::new(MemoryKeyValue::default());
        key_value_battery::run(Arc::clone(&kept) as _, kept).await;
    }
}
