//! Settings as a user meets them: what is printed, and the exit code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod process;

use process::{command, run};

#[track_caller]
fn check(file: &str, more: &[&str], code: i32, expect: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.toml"), file).unwrap();
    let args = [&["config", "check", "--config", "p.toml"], more].concat();
    let output = command(&args).current_dir(dir.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!((String::from_utf8(said).unwrap().as_str(), output.status.code()), (expect, Some(code)));
}

#[test]
fn config_check() {
    check("", &[], 0, "ok: 0 routes\n");
    check("[[route]]\nservice = 'a'\n[[route]]\nservice = 'b'", &[], 0, "ok: 2 routes\n");
    let broken = "[[route]]\nname = 'shop'\nhost = 'a:80'\nservice = 'a'";
    let why = "1 routes, 1 of them broken\n  shop: host \"a:80\" is not a host name; \
               write shop.example.com or *.example.com, without a port\n";
    check(broken, &[], 0, &format!("ok: {why}"));
    check(broken, &["--strict"], 1, &format!("portolan: {why}"));
    check(
        "[proxy]\nlisen = 'x'\n",
        &[],
        1,
        "portolan: p.toml:2: proxy.lisen: unknown key; did you mean proxy.listen?\n",
    );
    check(
        "[proxy]\ncores = 2\n",
        &["--cores", "many"],
        2,
        "portolan: --cores: \"many\" is not a whole number from 1 to 1024\n",
    );
}

#[test]
fn registries_that_there_are_not() {
    check("registry.uri = 'embedded:'", &[], 0, "ok: 0 routes\n");
    check("registry.uri = 'consul://a,b?ttl=1m'", &[], 0, "ok: 0 routes\n");
    let wrong = |uri: &str, why: &str| {
        check("", &["--registry", uri], 2, &format!("portolan: --registry: {why}\n"));
        let file = format!("[registry]\nuri = '{uri}'");
        check(&file, &[], 1, &format!("portolan: p.toml:2: registry.uri: {why}\n"));
    };
    wrong("etcd://u:secret@a?tll=1s", "unknown option \"tll\"; etcd:// knows layout, ttl, grace, timeout");
    wrong("etcd://u:secret@a:99999", "\"a:99999\" is no server; write host, host:port or [ipv6]:port");
    wrong("consul://a?ttl=often", "option ttl=\"often\": write for example 10s or 1m30s");
    wrong("embedded:/x", "embedded: takes no path; where its book is kept is the setting data_dir");
    let all = "embedded, consul, consul-tls, consul-unix, consulkv, consulkv-tls, consulkv-unix, portolan, etcd, \
               etcd-tls, zookeeper, zookeeper-tls";
    wrong("nope://a", &format!("no registry is called \"nope\"; there are {all}"));
}

/// The programs know what there is; the guide is to say it.
#[test]
fn the_guide_names_every_option_of_every_registry() {
    let guide = include_str!("../../../docs/guide/registries.md");
    let sections = [
        ("Consul", "consul-tls://a?no=1"),
        ("Consul", "consulkv-tls://a/path?no=1"),
        ("Portolan", "portolan://a?no=1"),
        ("ZooKeeper", "zookeeper-tls://a?ca=x&no=1"),
        ("etcd", "etcd-tls://a?no=1"),
    ];
    for (name, uri) in sections {
        let output = run(&["config", "check", "--registry", uri]);
        let said = String::from_utf8(output.stderr).unwrap();
        let known = said.trim_end().split_once(":// knows ").unwrap().1;
        let (_, section) = guide.split_once(&format!("\n## {name}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        for option in known.split(", ") {
            assert!(section.contains(&format!("`{option}`")), "{name}: {option}");
        }
    }
}

#[test]
fn up_refuses_what_config_check_refuses() {
    let output = run(&["up", "--proxy", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "portolan: --proxy: \"nowhere\" is not an address; write IP:PORT, such as 127.0.0.1:8000\n"
    );
    let output = run(&["up", "--config", "/nonexistent/p.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("portolan: cannot read settings file /nonexistent/p.toml: "), "{said}");
    assert_eq!(run(&["up", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn help_names_every_flag_with_its_variable() {
    let output = run(&["up", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for word in
        ["--config", "--data-dir", "--proxy", "--http", "--docker", "--no-docker", "PORTOLAN_PROXY_LISTEN"]
    {
        assert!(help.contains(word), "{word}");
    }
}
