//! What the user said about routing, as plain data: nothing here is checked yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::balance::Policy;

/// All that compiling a route table needs besides the instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `Host: <service>.<domain>` names a service. `None` turns that contract off.
    pub domain: Option<String>,
    /// How to balance where a route does not say.
    pub balance: Policy,
    /// Routes, as written.
    pub routes: Vec<RouteSpec>,
}

/// One route, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSpec {
    /// What people call it; appears in logs and in `explain`.
    pub name: String,
    /// `shop.example.com`, or `*.example.com` for any one or more labels in front. Absent: any host.
    pub host: Option<String>,
    /// A prefix that ends at a `/` of the path: `/api` fits `/api` and `/api/x`, not `/apix`. Absent: any path.
    pub path: Option<String>,
    /// Every one of these headers must be there with this value.
    pub headers: BTreeMap<String, String>,
    /// The service that gets the requests.
    pub service: String,
    /// Take the prefix off before forwarding.
    pub strip_prefix: bool,
    /// Forward the client's `Host` instead of the instance's address.
    pub preserve_host: bool,
    /// How to balance; absent: as the config says.
    pub balance: Option<Policy>,
}
