//! gliderlabs/registrator's registry URIs in ours. Pure.

use std::time::Duration;

/// What stands before the `://`, what a URI without a host means, and how it is said here.
struct Backend {
    schemes: &'static [&'static str],
    /// Our scheme, if it is another.
    ours: Option<&'static str>,
    /// The server that was meant by none.
    usual: &'static str,
    /// Whether a path means anything.
    path: bool,
    /// An option that is added unless it is said.
    option: Option<(&'static str, &'static str)>,
    /// The option with how long what is registered outlives a registrator, and its least and most seconds.
    ttl: Option<(&'static str, u64, u64)>,
}

const ETCD: Backend = Backend {
    schemes: &["etcd", "etcd-tls"],
    ours: None,
    usual: "127.0.0.1:2379",
    path: true,
    option: Some(("layout", "registrator")),
    ttl: Some(("ttl", 2, 3600)),
};

const BACKENDS: &[Backend] = &[
    Backend {
        schemes: &["consul", "consul-tls"],
        ours: None,
        usual: "",
        path: false,
        option: None,
        ttl: Some(("ttl", 1, 86_400)),
    },
    Backend {
        schemes: &["consul-unix"],
        ours: None,
        usual: "",
        path: true,
        option: None,
        ttl: Some(("ttl", 1, 86_400)),
    },
    Backend {
        schemes: &["consulkv", "consulkv-tls", "consulkv-unix"],
        ours: None,
        usual: "",
        path: true,
        option: None,
        ttl: Some(("ttl", 10, 86_400)),
    },
    ETCD,
    Backend { schemes: &["skydns2"], ours: Some("etcd"), option: Some(("layout", "skydns")), ..ETCD },
    Backend {
        schemes: &["zookeeper"],
        ours: None,
        usual: "127.0.0.1:2181",
        path: true,
        option: None,
        ttl: Some(("session_timeout", 1, 3600)),
    },
];

/// Where Consul's own clients look for it, by the same variables, as one of our URIs.
fn usual_consul(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let said = |name| env(name).filter(|value: &String| !value.is_empty());
    // What Go takes for true.
    let tls = said("CONSUL_HTTP_SSL")
        .is_some_and(|ssl| matches!(ssl.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let Some(address) = said("CONSUL_HTTP_ADDR") else {
        return tls.then(|| "consul-tls://127.0.0.1:8500".to_owned());
    };
    let (scheme, place) = address.split_once("://").unwrap_or((if tls { "https" } else { "http" }, &address));
    if scheme == "unix" {
        return Some(format!("consul-unix://{place}"));
    }
    let tls = tls || scheme == "https";
    let host = place.split('/').next().unwrap_or_default();
    // Without a port it is that of the protocol, not Consul's.
    let behind_brackets = host.rsplit(']').next().unwrap_or_default();
    let port = match (behind_brackets.contains(':'), tls) {
        (true, _) => "",
        (false, true) => ":443",
        (false, false) => ":80",
    };
    Some(format!("{}://{host}{port}", if tls { "consul-tls" } else { "consul" }))
}

/// The registry URI that means here what `uri` means to gliderlabs/registrator, given the environment. What it does not
/// know stays as it is.
pub(super) fn translated(uri: &str, ttl: Option<Duration>, env: &dyn Fn(&str) -> Option<String>) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
    let lower = scheme.to_ascii_lowercase();
    let Some(backend) = BACKENDS.iter().find(|backend| backend.schemes.contains(&lower.as_str())) else {
        return uri.to_owned();
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    if lower == "consul"
        && host.is_empty()
        && let Some(usual) = usual_consul(env)
    {
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        return translated(&format!("{usual}{query}"), ttl, &|_| None);
    }
    let host = if host.is_empty() { backend.usual } else { host };
    let path = if backend.path { path } else { "" };
    let mut options: Vec<String> = query.split('&').filter(|o| !o.is_empty()).map(str::to_owned).collect();
    let mut add = |name: &str, value: String| {
        let said = options.iter().any(|option| option.split('=').next() == Some(name));
        options.extend((!said).then(|| format!("{name}={value}")));
    };
    if let Some((name, value)) = backend.option {
        add(name, value.to_owned());
    }
    if let Some(((name, least, most), ttl)) = backend.ttl.zip(ttl) {
        add(name, format!("{}s", ttl.as_secs().clamp(least, most)));
    }
    let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
    format!("{}://{host}{path}{query}", backend.ours.unwrap_or(&lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        #[track_caller]
        fn check(uri: &str, ttl: u64, expect: &str) {
            let ttl = Some(Duration::from_secs(ttl)).filter(|ttl| !ttl.is_zero());
            assert_eq!(translated(uri, ttl, &|_| None), expect, "{uri}");
        }
        check("consul://localhost:8500", 0, "consul://localhost:8500");
        check("consul:", 0, "consul://");
        check("consul://a:8500/ignored", 30, "consul://a:8500?ttl=30s");
        check("consul-tls://a:8501", 0, "consul-tls://a:8501");
        check("consul-unix:///run/consul.sock", 0, "consul-unix:///run/consul.sock");
        check("consulkv://a:8500/services", 0, "consulkv://a:8500/services");
        check("consulkv-unix:///c.sock:/services", 5, "consulkv-unix:///c.sock:/services?ttl=10s");
        check("consulkv://a/services", 5, "consulkv://a/services?ttl=10s");
        check("etcd://a:2379/services", 0, "etcd://a:2379/services?layout=registrator");
        check("etcd:///services", 60, "etcd://127.0.0.1:2379/services?layout=registrator&ttl=60s");
        check("etcd://a/s?layout=json&ttl=9s", 60, "etcd://a/s?layout=json&ttl=9s");
        check("etcd://a/s", 1, "etcd://a/s?layout=registrator&ttl=2s");
        check("skydns2://a:2379/apps.local", 0, "etcd://a:2379/apps.local?layout=skydns");
        check("zookeeper://a:2181,b/services", 20, "zookeeper://a:2181,b/services?session_timeout=20s");
        check("portolan://a:8500", 20, "portolan://a:8500");
        check("redis://a", 20, "redis://a");
        check("nothing", 0, "nothing");
    }

    #[test]
    fn consul_is_where_its_own_clients_look_for_it() {
        #[track_caller]
        fn check(uri: &str, address: &str, ssl: &str, expect: &str) {
            let env = |name: &str| match name {
                "CONSUL_HTTP_ADDR" => Some(address.to_owned()),
                "CONSUL_HTTP_SSL" => Some(ssl.to_owned()),
                _ => None,
            };
            assert_eq!(translated(uri, None, &env), expect, "{uri} {address} {ssl}");
        }
        check("consul:", "a:8500", "", "consul://a:8500");
        check("consul://", "http://a:8500", "false", "consul://a:8500");
        check("consul://?stale=1", "a:8500", "", "consul://a:8500?stale=1");
        check("consul:", "a:8501", "true", "consul-tls://a:8501");
        check("consul:", "https://a:8501/ui", "", "consul-tls://a:8501");
        check("consul:", "https://a", "", "consul-tls://a:443");
        check("consul:", "a", "", "consul://a:80");
        check("consul:", "[::1]:8500", "", "consul://[::1]:8500");
        check("consul:", "[::1]", "", "consul://[::1]:80");
        check("consul:", "unix:///run/consul.sock", "true", "consul-unix:///run/consul.sock");
        check("consul:", "", "", "consul://");
        check("consul:", "", "1", "consul-tls://127.0.0.1:8500");
        check("consul://b:8500", "a:8500", "true", "consul://b:8500");
        check("consulkv:///path", "a:8500", "", "consulkv:///path");
    }
}
