//! The one table of settings. Flags, environment names, file keys, defaults, the reference and the config itself all
//! come from these rows; to add a setting, add a field to `Config` and a row here.

use registrator::desired::TagsTemplate;

use super::config::Config;
use super::environment::Environment;
use super::value::{list, positive, put, within};

/// One setting.
pub(crate) struct Setting {
    /// Where it stands in the file: `section.name`, or `name` at the top.
    pub(crate) key: &'static str,
    /// How it is said on the command line.
    pub(crate) flag: Flag,
    /// What its value looks like.
    pub(crate) kind: Kind,
    /// What holds when nobody says anything.
    pub(crate) fallback: Fallback,
    /// One or two sentences for people.
    pub(crate) about: &'static str,
    /// Reads the value and puts it where it belongs.
    pub(super) put: fn(&mut Config, &str) -> Result<(), String>,
}

/// How a setting is said on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `--name VALUE`.
    Takes(&'static str),
    /// `--name` alone says this value.
    Says(&'static str, &'static str),
}

/// What a value looks like, for the file's types and for the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `IP:PORT`.
    Address,
    /// An IP address.
    Ip,
    /// A time such as `500ms` or `1m30s`.
    Duration,
    /// A whole number.
    Count,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path.
    Path,
    /// Any text.
    Text,
    /// Texts: a list in the file, commas between them elsewhere.
    List,
    /// The same, and one of them may hold a comma: `\,` elsewhere.
    Tags,
}

/// What holds when nobody says anything.
#[derive(Clone, Copy)]
pub(crate) enum Fallback {
    /// This value.
    Is(&'static str),
    /// What is found at start, described in words.
    Found(&'static str, fn(&Environment) -> String),
}

impl Setting {
    /// Its environment variable: the key, in capitals.
    pub(crate) fn env(&self) -> String {
        format!("PORTOLAN_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }
}

impl Flag {
    /// The name without the dashes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Takes(name) | Self::Says(name, _) => name,
        }
    }
}

impl Kind {
    /// What stands for the value in help texts.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Address => "IP:PORT",
            Self::Ip => "IP",
            Self::Duration => "TIME",
            Self::Count => "N",
            Self::Switch => "BOOL",
            Self::Choice(_) => "WORD",
            Self::Path => "PATH",
            Self::Text => "TEXT",
            Self::List | Self::Tags => "TEXT,…",
        }
    }
}

/// The words of the balancing policies.
pub(super) const POLICIES: &[&str] = &["round-robin", "random", "weighted"];

/// The words of `registry.on_exit`.
pub(super) const ON_EXIT: &[&str] = &["leave", "deregister"];

/// The words of `docker.deregister`.
pub(super) const DEREGISTER: &[&str] = &["always", "on-success"];

/// Every setting, in the order of the reference.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "data_dir",
        flag: Flag::Takes("data-dir"),
        kind: Kind::Path,
        fallback: Fallback::Found(
            "`$XDG_DATA_HOME/portolan`; without that variable `/var/lib/portolan` for root and \
             `~/.local/share/portolan` for anybody else",
            Environment::data_dir,
        ),
        about: "Where the registry keeps its book; one process at a time may use it. With a cluster as registry, where \
                the last known table is kept: a start that finds the cluster away serves what was known before.",
        put: |config, text| put(&mut config.data_dir, text),
    },
    Setting {
        key: "log",
        flag: Flag::Takes("log"),
        kind: Kind::Text,
        fallback: Fallback::Is("info"),
        about: "What to log to stderr: off, error, warn, info, debug or trace; also per part, as in \
                `info,registrator=debug`. The ZooKeeper client has a line for every attempt, with `debug` or `zookeeper_client=warn`.",
        put: |config, text| {
            crate::log::parse(text)?;
            put(&mut config.log, text)
        },
    },
    Setting {
        key: "proxy.listen",
        flag: Flag::Takes("proxy"),
        kind: Kind::Address,
        fallback: Fallback::Is("127.0.0.1:8000"),
        about: "Where the gateway listens. Port 0 takes any free one.",
        put: |config, text| put(&mut config.proxy.listen, text),
    },
    Setting {
        key: "proxy.domain",
        flag: Flag::Takes("domain"),
        kind: Kind::Text,
        fallback: Fallback::Is("localhost"),
        about: "A request whose host is `<service>.<domain>` goes to that service. Empty turns this off.",
        put: |config, text| {
            config.proxy.domain = super::value::domain(text)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.balance",
        flag: Flag::Takes("balance"),
        kind: Kind::Choice(POLICIES),
        fallback: Fallback::Is("weighted"),
        about: "How requests are spread over the instances of a service, where a route does not say; with equal weights, `weighted` is `round-robin`.",
        put: |config, text| put(&mut config.proxy.balance, text),
    },
    Setting {
        key: "proxy.cores",
        flag: Flag::Takes("cores"),
        kind: Kind::Count,
        fallback: Fallback::Found("the number of CPUs", Environment::cores),
        about: "How many cores the gateway works on: one thread each, 1 to 1024.",
        put: |config, text| {
            config.proxy.cores = within(text, 1..=1024)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.connect_timeout",
        flag: Flag::Takes("connect-timeout"),
        kind: Kind::Duration,
        fallback: Fallback::Is("1s"),
        about: "How long connecting to an instance may take before another one is tried.",
        put: |config, text| positive(&mut config.proxy.timeouts.connect, text),
    },
    Setting {
        key: "proxy.response_timeout",
        flag: Flag::Takes("response-timeout"),
        kind: Kind::Duration,
        fallback: Fallback::Is("1m"),
        about: "How long an instance may take until its answer begins; then the client gets 504.",
        put: |config, text| positive(&mut config.proxy.timeouts.response, text),
    },
    Setting {
        key: "proxy.request_head_timeout",
        flag: Flag::Takes("request-head-timeout"),
        kind: Kind::Duration,
        fallback: Fallback::Is("10s"),
        about: "How long a client may take to send the head of a request.",
        put: |config, text| positive(&mut config.proxy.timeouts.request_head, text),
    },
    Setting {
        key: "proxy.client_idle_timeout",
        flag: Flag::Takes("client-idle-timeout"),
        kind: Kind::Duration,
        fallback: Fallback::Is("75s"),
        about: "How long a client's connection may idle between requests.",
        put: |config, text| positive(&mut config.proxy.timeouts.client_idle, text),
    },
    Setting {
        key: "proxy.upstream_idle_timeout",
        flag: Flag::Takes("upstream-idle-timeout"),
        kind: Kind::Duration,
        fallback: Fallback::Is("1m"),
        about: "How long an idle connection to an instance is kept.",
        put: |config, text| positive(&mut config.proxy.timeouts.upstream_idle, text),
    },
    Setting {
        key: "proxy.drain_timeout",
        flag: Flag::Takes("drain-timeout"),
        kind: Kind::Duration,
        fallback: Fallback::Is("30s"),
        about: "How long requests in flight may take to finish once the process is told to stop.",
        put: |config, text| put(&mut config.proxy.timeouts.drain, text),
    },
    Setting {
        key: "proxy.attempts",
        flag: Flag::Takes("attempts"),
        kind: Kind::Count,
        fallback: Fallback::Is("5"),
        about: "On how many instances one request is tried at most, where a retry is safe.",
        put: |config, text| {
            config.proxy.limits.attempts = within(text, 1..=100)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.max_connections",
        flag: Flag::Takes("max-connections"),
        kind: Kind::Count,
        fallback: Fallback::Is("16384"),
        about: "Client connections per core; beyond it, new ones wait in the kernel.",
        put: |config, text| {
            config.proxy.limits.connections = within(text, 1..=1_000_000)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.max_idle_per_instance",
        flag: Flag::Takes("max-idle-per-instance"),
        kind: Kind::Count,
        fallback: Fallback::Is("256"),
        about: "Idle connections kept per instance and core.",
        put: |config, text| {
            config.proxy.limits.idle_per_instance = within(text, 0..=65_536)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.max_head_bytes",
        flag: Flag::Takes("max-head-bytes"),
        kind: Kind::Count,
        fallback: Fallback::Is("32768"),
        about: "The largest head of a request or an answer, in bytes.",
        put: |config, text| {
            config.proxy.limits.head_bytes = within(text, 8192..=1_048_576)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.max_headers",
        flag: Flag::Takes("max-headers"),
        kind: Kind::Count,
        fallback: Fallback::Is("100"),
        about: "The most header fields of a request or an answer.",
        put: |config, text| {
            config.proxy.limits.headers = within(text, 1..=10_000)?;
            Ok(())
        },
    },
    Setting {
        key: "proxy.trusted_proxies",
        flag: Flag::Takes("trusted-proxies"),
        kind: Kind::List,
        fallback: Fallback::Is(""),
        about: "Networks (such as 10.0.0.0/8) whose `X-Forwarded-*` headers are believed; everybody else's are replaced.",
        put: |config, text| list(&mut config.proxy.trusted_proxies, text),
    },
    Setting {
        key: "http.listen",
        flag: Flag::Takes("http"),
        kind: Kind::Address,
        fallback: Fallback::Is("127.0.0.1:8500"),
        about: "Where the registry's HTTP API (Consul's shapes, status, explain) listens. Port 0 takes any free one, `off` is nowhere. \
                `portolan gateway` has 127.0.0.1:8510 unless told, for a Consul agent may be its neighbour; `portolan registrator` has `off`.",
        put: |config, text| {
            config.http.listen = super::value::address_or_off(text)?;
            Ok(())
        },
    },
    Setting {
        key: "http.node",
        flag: Flag::Takes("node"),
        kind: Kind::Text,
        fallback: Fallback::Found("the host name", Environment::host_name),
        about: "The name of this machine, as the HTTP API and the ids of registered containers say it.",
        put: |config, text| put(&mut config.http.node, &super::value::filled(text)?),
    },
    Setting {
        key: "http.datacenter",
        flag: Flag::Takes("datacenter"),
        kind: Kind::Text,
        fallback: Fallback::Is("dc1"),
        about: "The data centre that the HTTP API names.",
        put: |config, text| put(&mut config.http.datacenter, &super::value::filled(text)?),
    },
    Setting {
        key: "registry.uri",
        flag: Flag::Takes("registry"),
        kind: Kind::Text,
        fallback: Fallback::Is("embedded:"),
        about: "Which registry all roles share: `embedded:`, the one in this process, or a cluster's, as `etcd://a:2379,b:2379/services`.",
        put: |config, text| put(&mut config.registry.uri, &super::value::registry(text)?),
    },
    Setting {
        key: "registry.warm_up",
        flag: Flag::Takes("warm-up"),
        kind: Kind::Duration,
        fallback: Fallback::Is("0s"),
        about: "How long a new instance counts as young, which takes a smaller share; only of the embedded registry. 0s: it is adult at once.",
        put: |config, text| put(&mut config.registry.warm_up, text),
    },
    Setting {
        key: "registry.on_exit",
        flag: Flag::Takes("on-exit"),
        kind: Kind::Choice(ON_EXIT),
        fallback: Fallback::Is("leave"),
        about: "What becomes of instances in a cluster that this process registered, when it is told to stop: with `leave` they stay for the \
                cluster's own time (`ttl` in the registry URI), so that a restart in that time leaves no gap; `deregister` removes them.",
        put: |config, text| put(&mut config.registry.on_exit, text),
    },
    Setting {
        key: "docker.enabled",
        flag: Flag::Says("no-docker", "false"),
        kind: Kind::Switch,
        fallback: Fallback::Is("true"),
        about: "Whether to follow a Docker engine and register its containers.",
        put: |config, text| put(&mut config.docker.enabled, text),
    },
    Setting {
        key: "docker.host",
        flag: Flag::Takes("docker"),
        kind: Kind::Text,
        fallback: Fallback::Found(
            "`$DOCKER_HOST`, else `unix:///var/run/docker.sock`",
            Environment::docker_host,
        ),
        about: "The Docker engine to follow: `unix:///path` or `tcp://host:port`.",
        put: |config, text| {
            registrator::docker::Engine::new(Some(text), None).map_err(|error| error.to_string())?;
            put(&mut config.docker.host, text)
        },
    },
    Setting {
        key: "docker.tls_verify",
        flag: Flag::Says("docker-tls-verify", "true"),
        kind: Kind::Switch,
        fallback: Fallback::Found("`true` when `$DOCKER_TLS_VERIFY` holds any text", Environment::docker_tls),
        about: "Speak TLS to an engine at `tcp://`, port 2376 unless it says another, whose certificate `ca.pem` of `docker.cert_path` vouches for.",
        put: |config, text| put(&mut config.docker.tls, text),
    },
    Setting {
        key: "docker.cert_path",
        flag: Flag::Takes("docker-cert-path"),
        kind: Kind::Path,
        fallback: Fallback::Found("`$DOCKER_CERT_PATH`, else `~/.docker`", Environment::docker_certificates),
        about: "The folder with `ca.pem`, `cert.pem` and `key.pem` for that, as the docker client keeps them; read again at each new connection. \
                Without the last two nobody is told who we are, for an engine that does not ask.",
        put: |config, text| put(&mut config.docker.certificates, text),
    },
    Setting {
        key: "docker.internal",
        flag: Flag::Says("internal", "true"),
        kind: Kind::Switch,
        fallback: Fallback::Is("false"),
        about: "Register containers under their own address and exposed ports instead of published ones.",
        put: |config, text| put(&mut config.docker.internal, text),
    },
    Setting {
        key: "docker.explicit",
        flag: Flag::Says("explicit", "true"),
        kind: Kind::Switch,
        fallback: Fallback::Is("false"),
        about: "Register only containers and ports that were given a name (`SERVICE_NAME`).",
        put: |config, text| put(&mut config.docker.explicit, text),
    },
    Setting {
        key: "docker.ip",
        flag: Flag::Takes("ip"),
        kind: Kind::Ip,
        fallback: Fallback::Is("127.0.0.1"),
        about: "The address under which published ports are registered: the one others reach this machine at.",
        put: |config, text| put(&mut config.docker.ip, text),
    },
    Setting {
        key: "docker.force_ip",
        flag: Flag::Says("force-ip", "true"),
        kind: Kind::Switch,
        fallback: Fallback::Is("false"),
        about: "Use `docker.ip` also for ports that are published on one particular address.",
        put: |config, text| put(&mut config.docker.force_ip, text),
    },
    Setting {
        key: "docker.network",
        flag: Flag::Takes("network"),
        kind: Kind::Text,
        fallback: Fallback::Is(""),
        about: "With `--internal`: the network whose address is registered for containers on several. Empty, or where a container is not on it: \
                the network it was started on, else the first by name. A container's label `portolan.network` comes first.",
        put: |config, text| {
            config.docker.network = Some(text.to_owned()).filter(|network| !network.is_empty());
            Ok(())
        },
    },
    Setting {
        key: "docker.ip_label",
        flag: Flag::Takes("ip-label"),
        kind: Kind::Text,
        fallback: Fallback::Is(""),
        about: "A container label that holds the address to register. Empty: none.",
        put: |config, text| {
            config.docker.ip_label = Some(text.to_owned()).filter(|label| !label.is_empty());
            Ok(())
        },
    },
    Setting {
        key: "docker.tags",
        flag: Flag::Takes("tags"),
        kind: Kind::Tags,
        fallback: Fallback::Is(""),
        about: "Tags added to every instance that is registered; also a template over its container, as gliderlabs/registrator's `-tags`: \
                `{{.Config.Image}},{{mIndex \"team\" .Config.Labels}}`.",
        put: |config, text| {
            config.docker.tags = TagsTemplate::parse(text).map_err(|error| error.to_string())?;
            Ok(())
        },
    },
    Setting {
        key: "docker.period",
        flag: Flag::Takes("docker-period"),
        kind: Kind::Duration,
        fallback: Fallback::Is("15s"),
        about: "How often to compare engine and registry even when the engine reports no event.",
        put: |config, text| positive(&mut config.docker.period, text),
    },
    Setting {
        key: "docker.deregister",
        flag: Flag::Takes("deregister"),
        kind: Kind::Choice(DEREGISTER),
        fallback: Fallback::Is("always"),
        about: "When the instances of a container that has ended are removed: always, or only when it ended well or by a signal (`on-success`). \
                One that failed then stays registered, as critical, until it is started again or removed.",
        put: |config, text| put(&mut config.docker.deregister, text),
    },
    Setting {
        key: "docker.cleanup",
        flag: Flag::Says("cleanup", "true"),
        kind: Kind::Switch,
        fallback: Fallback::Is("false"),
        about: "Remove also what gliderlabs/registrator left for containers of this host that are no more: instances nobody owns whose id \
                is `<this host>:<container>:<port>`.",
        put: |config, text| put(&mut config.docker.cleanup, text),
    },
];

/// The row with this key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
