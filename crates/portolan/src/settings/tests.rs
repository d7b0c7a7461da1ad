use clap::{Args, Command, FromArgMatches};

use super::*;

fn flags(args: &[&str]) -> Flags {
    let command = Flags::augment_args(Command::new("up").no_binary_name(true));
    Flags::from_arg_matches(&command.try_get_matches_from(args).unwrap()).unwrap()
}

fn settle(args: &[&str], environment: &Environment, file: &str) -> Result<Settled, String> {
    let flags = flags(args);
    Said { flags: &flags, environment, file: Some(("p.toml", file)) }.settle().map_err(|e| e.to_string())
}

#[test]
fn flag_before_variable_before_file_before_default() {
    #[track_caller]
    fn check(args: &[&str], variable: Option<&str>, file: &str, expect: &str) {
        let environment =
            variable.map_or_else(Environment::default, |v| Environment::from([("PORTOLAN_PROXY_LISTEN", v)]));
        let got = settle(args, &environment, file).unwrap();
        assert_eq!(got.config.proxy.listen.to_string(), expect);
    }
    let (flag, variable) = (["--proxy", "127.0.0.1:1"], Some("127.0.0.1:2"));
    let file = "[proxy]\nlisten = '127.0.0.1:3'";
    check(&flag, variable, file, "127.0.0.1:1");
    check(&[], variable, file, "127.0.0.1:2");
    check(&[], None, file, "127.0.0.1:3");
    check(&[], None, "proxy.listen = '127.0.0.1:4'", "127.0.0.1:4");
    check(&[], None, "", "127.0.0.1:8000");
}

#[test]
fn switches_in_all_three_places() {
    #[track_caller]
    fn check(args: &[&str], variable: Option<&str>, file: &str, expect: bool) {
        let environment = variable
            .map_or_else(Environment::default, |v| Environment::from([("PORTOLAN_DOCKER_ENABLED", v)]));
        assert_eq!(settle(args, &environment, file).unwrap().config.docker.enabled, expect);
    }
    check(&[], None, "", true);
    check(&[], None, "docker.enabled = false", false);
    check(&[], Some("true"), "docker.enabled = false", true);
    check(&["--no-docker"], Some("true"), "", false);
}

#[test]
fn an_empty_variable_is_said() {
    let empty = Environment::from([("PORTOLAN_PROXY_DOMAIN", "")]);
    assert_eq!(settle(&[], &empty, "").unwrap().config.proxy.domain, None);
    let empty = Environment::from([("PORTOLAN_PROXY_LISTEN", "")]);
    assert!(
        settle(&[], &empty, "").unwrap_err().starts_with("PORTOLAN_PROXY_LISTEN: \"\" is not an address")
    );
}

#[test]
fn mistakes_name_file_line_and_key() {
    #[track_caller]
    fn check(file: &str, expect: &str) {
        let got = settle(&[], &Environment::default(), file);
        assert_eq!(got.map(|settled| settled.config), Err(expect.to_owned()));
    }
    check("[proxy]\n\nlisen = 'x'", "p.toml:3: proxy.lisen: unknown key; did you mean proxy.listen?");
    check("[proxy]\nnode = 'x'", "p.toml:2: proxy.node: unknown key; did you mean http.node?");
    check("[proxi]\nlisten = 'x'", "p.toml:1: proxi: unknown section; did you mean proxy?");
    check("colour = 'red'", "p.toml:1: colour: unknown key");
    check("proxy = 1", "p.toml:1: proxy: is a section; write [proxy]");
    check("[http]\nlisten = 8500", "p.toml:2: http.listen: must be a text in quotes, not a whole number");
    check(
        "[http]\nlisten = 'localhost'",
        "p.toml:2: http.listen: \"localhost\" is not an address; write IP:PORT, such as 127.0.0.1:8000",
    );
    check("[proxy]\ncores = '2'", "p.toml:2: proxy.cores: must be a whole number, not a text");
    check("[proxy]\ncores = 0", "p.toml:2: proxy.cores: \"0\" is not a whole number from 1 to 1024");
    check("[docker]\ninternal = 1", "p.toml:2: docker.internal: must be true or false, not a whole number");
    check(
        "[proxy]\nbalance = 'rr'",
        "p.toml:2: proxy.balance: \"rr\" is not a balancing policy; there are round-robin, random, weighted",
    );
    check(
        "[proxy]\nconnect_timeout = '0s'",
        "p.toml:2: proxy.connect_timeout: \"0s\" is no time at all; it must be more than zero",
    );
    check("log = 'loud'", "p.toml:1: log: \"loud\" is not a log filter; write a level, or part=level,…");
    check("[proxy]\nlisten", "p.toml:2: key with no value, expected `=`");
    check(
        "[proxy]\nlisen = 'x'\n[http]\nlisten = 'y'",
        "p.toml:2: proxy.lisen: unknown key; did you mean proxy.listen?\n\
         p.toml:4: http.listen: \"y\" is not an address; write IP:PORT, such as 127.0.0.1:8000",
    );
}

#[test]
fn routes_are_read_and_their_mistakes_named() {
    let file = "[[route]]\nname = 'shop'\nhost = 'shop.example.com'\npath = '/api'\nheaders = { x-tenant = 'a' }\n\
                service = 'cart'\nstrip_prefix = true\npreserve_host = true\nbalance = 'random'\n[[route]]\nservice = 'b'";
    let got = settle(&[], &Environment::default(), file).unwrap().config.routes;
    let shop = routing::RouteSpec {
        name: "shop".into(),
        host: Some("shop.example.com".into()),
        path: Some("/api".into()),
        headers: [("x-tenant".to_owned(), "a".to_owned())].into(),
        service: "cart".into(),
        strip_prefix: true,
        preserve_host: true,
        balance: Some(routing::Policy::Random),
    };
    assert_eq!(got, [shop, routing::RouteSpec { service: "b".into(), ..Default::default() }]);

    #[track_caller]
    fn check(file: &str, expect: &str) {
        assert_eq!(settle(&[], &Environment::default(), file).map(|s| s.config), Err(expect.to_owned()));
    }
    check("[[route]]\npath = '/a'", "p.toml:1: route: says no service");
    check("[[route]]\nservice='a'\npaht = '/'", "p.toml:3: route.paht: unknown key; did you mean path?");
    check("[[route]]\nservice=1", "p.toml:2: route.service: must be a text in quotes, not a whole number");
    check(
        "[[route]]\nservice='a'\nheaders = { a = 1 }",
        "p.toml:3: route.headers: a must be a text in quotes, not a whole number",
    );
    check("[route]\nservice='a'", "p.toml:1: route: must be a list of tables; write [[route]]");
}

#[test]
fn every_setting_is_named_once_and_its_default_is_good() {
    let mut names = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        assert!(names.insert(setting.flag.name()), "--{} is there twice", setting.flag.name());
        assert!(
            names.insert(setting.key) || setting.flag.name() == setting.key,
            "{} is there twice",
            setting.key
        );
    }
    settle(&[], &Environment::default(), "").unwrap();
}

#[test]
fn lists_and_the_gateways_own_defaults() {
    let got = settle(&["--tags", "a, b"], &Environment::default(), "proxy.trusted_proxies = ['10.0.0.0/8']")
        .unwrap();
    assert_eq!(got.config.docker.tags.source(), "a, b");
    assert_eq!(got.config.proxy.trusted_proxies.len(), 1);
    let got =
        settle(&[], &Environment::default(), r#"docker.tags = ["a,b", 'c\,d', '{{.Name}},x', "e"]"#).unwrap();
    assert_eq!(got.config.docker.tags.source(), r"a\,b,c\,d,{{.Name}},x,e");
    let got = settle(&[], &Environment::default(), "proxy.trusted_proxies = ['10.0.0.0/99']");
    assert!(got.unwrap_err().starts_with("p.toml:1: proxy.trusted_proxies: "));

    let config = settle(&[], &Environment::default(), "").unwrap().config;
    assert_eq!(config.proxy.timeouts, gateway::Timeouts::default());
    assert_eq!(config.proxy.limits, gateway::Limits::default());
}

#[test]
fn strange_variables_are_warned_of() {
    let environment = Environment::from([("PORTOLAN_PROXY_LISTN", "x"), ("PORTOLAN_HTTP_ADDR", "y")]);
    let got = settle(&[], &environment, "").unwrap().warnings;
    assert_eq!(got, ["PORTOLAN_PROXY_LISTN is no setting; did you mean PORTOLAN_PROXY_LISTEN?"]);
}

#[test]
fn demo_defaults_give_way_to_flags() {
    let flags = flags(&["--no-docker", "--proxy", "127.0.0.1:1"]).or("proxy.listen", "127.0.0.1:9");
    let environment = Environment::default();
    let settled = Said { flags: &flags, environment: &environment, file: None }.settle().unwrap();
    assert_eq!(settled.config.proxy.listen.port(), 1);
    assert_eq!(settled.said, ["docker.enabled", "proxy.listen"].into());
    assert!(!settled.config.docker.enabled);
}
