//! A book's changes as they happen, which Consul has no endpoint for: `GET /v1/portolan/changes`.

use serde::{Deserialize, Serialize};

use crate::health::ServiceEntry;

/// One line of the answer, as JSON.
///
/// First comes everything there is, between [`ChangeLine::Reset`] and [`ChangeLine::Whole`]; then each change, in order.
/// Whoever reads too slowly is sent everything again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeLine {
    /// What comes until [`ChangeLine::Whole`] replaces all that came before.
    Reset {},
    /// An instance is as follows.
    #[serde(rename_all = "PascalCase")]
    Upsert {
        /// The index of this change.
        index: u64,
        /// As `GET /v1/health/service/:name` shows it.
        entry: Box<ServiceEntry>,
    },
    /// An instance is gone.
    #[serde(rename_all = "PascalCase")]
    Remove {
        /// The index of this change.
        index: u64,
        /// The service it belonged to.
        service: String,
        /// Its id.
        #[serde(rename = "ID")]
        id: String,
    },
    /// All was told that there is at this index.
    #[serde(rename_all = "PascalCase")]
    Whole {
        /// No change up to here is missing.
        index: u64,
    },
    /// Nothing has changed for a while, and the server is well.
    Alive {},
}
