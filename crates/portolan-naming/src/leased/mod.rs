//! Instances as keys of a store that has transactions and leases: what etcd and Consul's key-value store have in common.
//! Pure but for the handle and the answers to callers: a driver makes the calls that `state` asks for and tells it what
//! came of them.
//!
//! **What is registered** through a handle hangs on one lease that is kept alive. A process that dies is out of the book
//! when the lease ends; one that shuts down removes what it registered; one that loses its lease registers everything
//! again. **What is gone** is believed at once where somebody deleted it. Where its lease ended, its registrant may be
//! about to return, as after an outage: such an instance is kept for a grace time, see `doubt`.
//!
//! Start at `state` (what a driver knows and does), which a driver has by a `counterpart`; `decide` makes transactions of
//! commands, `book` instances of keys, by one of the `layout`s.

mod book;
mod counterpart;
mod decide;
mod doubt;
mod handle;
mod layout;
mod state;

use bytes::Bytes;

use book::Book;
#[cfg(feature = "etcd")]
pub(crate) use book::revision_of;
pub(crate) use counterpart::Counterpart;
use decide::Command;
use doubt::Doubts;
use handle::Handle;
pub(crate) use layout::Layout;
pub(crate) use state::{Call, IN_HAND, Order, State};

/// A lease: etcd's number, the UUID of a session in Consul; [`NO_LEASE`] is none.
pub(crate) type LeaseId = u128;

/// No lease: the key stays until somebody deletes it.
pub(crate) const NO_LEASE: LeaseId = 0;

/// What differs from store to store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// What to call it in messages.
    pub(crate) name: &'static str,
    /// How many transactions may be on their way at once.
    pub(crate) at_once: usize,
    /// How many instances a transaction restores or deletes.
    pub(crate) chunk: usize,
    /// How many bytes of values a transaction restores.
    pub(crate) chunk_bytes: usize,
}

/// A key with its value and what the store says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) lease: LeaseId,
}

/// What has happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Put(KeyValue),
    Delete(Bytes),
}

/// All of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// It holds only if each of these keys is at this modification; at zero, only if there is none.
    pub(crate) compare: Vec<(Bytes, i64)>,
    pub(crate) writes: Vec<Write>,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// `before` is the lease that the key hangs on as far as known.
    Put {
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
        before: LeaseId,
    },
    Delete(Bytes),
}

/// Why a transaction neither held nor failed to hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// The store does not know the lease (any more).
    #[error("the lease is gone")]
    UnknownLease,
    /// It refuses the transaction for what it is; another server or another time would not help.
    #[error("{0}")]
    Refused(String),
    /// No answer in time: it may come true.
    #[error("no answer in time")]
    Late,
    /// The connection is of no use.
    #[error("{0}")]
    Broken(String),
}
