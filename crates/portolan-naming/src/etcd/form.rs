//! Transactions, keys and events of ours as etcd's, and back.

use super::grpc::Fault;
use super::proto::{self, EventKind, TxnRequest, delete, put, unmodified_since};
use crate::leased::{Event, Failed, KeyValue, LeaseId, Transaction, Write};

pub(super) fn transaction(ours: Transaction) -> TxnRequest {
    let Transaction { compare, writes } = ours;
    let write = |write| match write {
        Write::Put { key, value, lease, before: _ } => put(key, value, number(lease)),
        Write::Delete(key) => delete(key),
    };
    TxnRequest {
        compare: compare.into_iter().map(|(key, revision)| unmodified_since(key, revision)).collect(),
        success: writes.into_iter().map(write).collect(),
    }
}

pub(super) fn key_value(theirs: proto::KeyValue) -> KeyValue {
    let proto::KeyValue { key, create_revision, mod_revision, value, lease } = theirs;
    KeyValue { key, value, created: create_revision, modified: mod_revision, lease: self::lease(lease) }
}

pub(super) fn event(theirs: proto::Event) -> Option<Event> {
    let kv = theirs.kv?;
    let deleted = theirs.r#type == i32::from(EventKind::Delete);
    Some(if deleted { Event::Delete(kv.key) } else { Event::Put(key_value(kv)) })
}

pub(super) fn lease(number: i64) -> LeaseId {
    LeaseId::from(number.cast_unsigned())
}

/// The number that [`lease`] was made of.
pub(super) fn number(lease: LeaseId) -> i64 {
    u64::try_from(lease).unwrap_or_default().cast_signed()
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Late(_) | Fault::Overtaken => Self::Late,
            fault if fault.is_unknown_lease() => Self::UnknownLease,
            fault if fault.is_final() => Self::Refused(fault.to_string()),
            fault => Self::Broken(fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_of_leases_survive() {
        for number in [0, 1, i64::MAX, i64::MIN, -1] {
            assert_eq!(super::number(lease(number)), number);
        }
    }

    #[test]
    fn what_faults_mean() {
        #[track_caller]
        fn check(code: u16, message: &str, expect: &str) {
            let fault = Fault::Status { code, message: message.to_owned() };
            let kind = match Failed::from(fault) {
                Failed::UnknownLease => "lease",
                Failed::Refused(_) => "refused",
                Failed::Late => "late",
                Failed::Broken(_) => "broken",
            };
            assert_eq!(kind, expect, "{code} {message}");
        }
        check(5, "etcdserver: requested lease not found", "lease");
        check(7, "etcdserver: permission denied", "refused");
        check(14, "etcdserver: no leader", "broken");
        check(3, "auth: revision in header is old", "broken");
        assert_eq!(Failed::from(Fault::Late(Duration::ZERO)), Failed::Late);
        assert_eq!(Failed::from(Fault::Overtaken), Failed::Late);
    }
}
