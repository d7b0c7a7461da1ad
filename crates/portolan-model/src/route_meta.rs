//! Meta keys by which an instance asks gateways for a route to its service. They are valid keys in every registry,
//! Consul's included, so that any gateway over any registry sees them, whoever registered the instance.

/// Hosts, with commas between them: `shop.example.com`, or `*.example.com`.
pub const HOST: &str = "portolan_host";

/// A path prefix that ends at a `/`.
pub const PATH: &str = "portolan_path";

/// `true`: the prefix is taken off before forwarding.
pub const STRIP: &str = "portolan_strip";
