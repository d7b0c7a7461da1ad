//! gliderlabs/registrator's behaviour, a row for every sentence of its description: what a container is, what is
//! registered. `10.0.0.9` is `-ip`, `H` the host's name; unless a row says so, image `nginx`, container `web`,
//! `80/tcp` published as 32768. Where Portolan mends a fault of it, the row says "mended".

use super::*;

#[track_caller]
fn rows(config: &Config, rows: Vec<(&str, Container, &[&str])>) {
    for (sentence, container, expect) in rows {
        let got = lines(&desired(&[seen(container, Standing::Serving)], config));
        assert_eq!(got, expect, "{sentence}");
    }
}

/// With `-ip 10.0.0.9`, which gliderlabs' program takes for every published port.
fn ip() -> Config {
    Config { force_ip: true, ..config() }
}

fn tagged(template: &str) -> Config {
    Config { tags: TagsTemplate::parse(template).unwrap(), ..ip() }
}

const WEB: &str = "nginx H:web:80 10.0.0.9:32768";

#[test]
fn one_ports() {
    let bare = || web().no_ports();
    rows(
        &ip(),
        vec![
            ("published ports count, exposed or not", bare().port("80/tcp", &["32768"]), &[WEB]),
            ("published ones overwrite exposed ones", web().expose("80/tcp"), &[WEB]),
            ("a null entry is not published", web().port("80/tcp", &[]), &[]),
            ("not internal: without a host port skipped", bare().expose("80/tcp"), &[]),
            (
                "only the first binding counts",
                web().port("80/tcp", &["192.0.2.1:81", "82"]),
                &["nginx H:web:80 10.0.0.9:81"],
            ),
            (
                "several remaining ports are a group",
                web().port("443/tcp", &["32769"]),
                &["nginx-443 H:web:443 10.0.0.9:32769", "nginx-80 H:web:80 10.0.0.9:32768"],
            ),
            (
                "an ignored port still is a member",
                web().port("443/tcp", &["32769"]).env(&["SERVICE_443_IGNORE=true"]),
                &["nginx-80 H:web:80 10.0.0.9:32768"],
            ),
            ("a port that is not published is no member", web().port("9000/tcp", &[]), &[WEB]),
        ],
    );
    rows(
        &internal(),
        vec![
            ("internal: exposed ports count", bare().expose("80/tcp"), &["nginx H:web:80 172.17.0.5:80"]),
            (
                "internal: all of them are members",
                web().expose("9000/tcp"),
                &["nginx-80 H:web:80 172.17.0.5:80", "nginx-9000 H:web:9000 172.17.0.5:9000"],
            ),
        ],
    );
}

#[test]
fn two_name() {
    let two = || web().port("443/tcp", &["32769"]);
    rows(
        &ip(),
        vec![
            ("metadata name", web().env(&["SERVICE_NAME=shop"]), &["shop H:web:80 10.0.0.9:32768"]),
            (
                "else the image's base",
                web().image("reg:5000/team/my-app:1.2"),
                &["my-app H:web:80 10.0.0.9:32768"],
            ),
            ("mended: no digest in it", web().image("redis@sha256:0f"), &["redis H:web:80 10.0.0.9:32768"]),
            (
                "mended: nor after a tag",
                web().image("a/redis:7@sha256:0f"),
                &["redis H:web:80 10.0.0.9:32768"],
            ),
            (
                "in a group the exposed port is appended",
                two().env(&["SERVICE_NAME=shop"]),
                &["shop-443 H:web:443 10.0.0.9:32769", "shop-80 H:web:80 10.0.0.9:32768"],
            ),
            (
                "unless the name is of that port",
                two().env(&["SERVICE_443_NAME=tls", "SERVICE_80_NAME=plain"]),
                &["tls H:web:443 10.0.0.9:32769", "plain H:web:80 10.0.0.9:32768"],
            ),
            (
                "tcp and udp on one port share a name",
                web().image("x").no_ports().port("53/tcp", &["53"]).port("53/udp", &["53"]),
                &["x-53 H:web:53 10.0.0.9:53", "x-53 H:web:53:udp 10.0.0.9:53 {udp} udp"],
            ),
            ("an empty name is unset", web().env(&["SERVICE_NAME="]), &[WEB]),
        ],
    );
    rows(
        &Config { explicit: true, ..ip() },
        vec![
            ("explicit drops what has no name", web(), &[]),
            ("an empty one is none", web().env(&["SERVICE_NAME="]), &[]),
            ("and keeps what has", web().env(&["SERVICE_80_NAME=shop"]), &["shop H:web:80 10.0.0.9:32768"]),
        ],
    );
}

#[test]
fn three_id() {
    let udp = || web().no_ports().port("53/udp", &["5353"]);
    rows(
        &ip(),
        vec![
            ("host, container, exposed port", web(), &[WEB]),
            ("and udp", udp(), &["nginx H:web:53:udp 10.0.0.9:5353 {udp} udp"]),
            (
                "SERVICE_ID replaces all of it",
                udp().env(&["SERVICE_ID=me"]),
                &["nginx me 10.0.0.9:5353 {udp} udp"],
            ),
            ("and so does that of the port", web().env(&["SERVICE_80_ID=me"]), &["nginx me 10.0.0.9:32768"]),
            ("an empty one is unset", web().env(&["SERVICE_ID="]), &[WEB]),
            (
                "mended: two ports with one id stay two",
                web().port("443/tcp", &["32769"]).env(&["SERVICE_ID=me"]),
                &[
                    "nginx-443 H:web:443 10.0.0.9:32769",
                    "nginx-80 me 10.0.0.9:32768",
                    "container web port 443/tcp: id \"me\" belongs to container web: registered as \"H:web:443\"",
                ],
            ),
        ],
    );
}

#[test]
fn four_address() {
    let on_one = || web().port("80/tcp", &["192.0.2.10:8080"]);
    let user = || web().mode(NetworkMode::User("shop".into()), &[("shop", "10.2.0.2")]);
    let host = || web().no_ports().mode(NetworkMode::Host, &[]);
    rows(
        &config(),
        vec![
            ("the binding's own address", on_one(), &["nginx H:web:80 192.0.2.10:8080"]),
            ("none is this host's", web(), &[WEB]),
            ("and so is 0.0.0.0", web().port("80/tcp", &["0.0.0.0:32768"]), &[WEB]),
            ("mended: on a user's network too, whose address does not serve that port", user(), &[WEB]),
            ("host network", host().expose("8080/tcp"), &["nginx H:web:8080 10.0.0.9:8080"]),
            ("host network, nothing exposed", host(), &[]),
        ],
    );
    rows(&ip(), vec![("-ip replaces the binding's", on_one(), &["nginx H:web:80 10.0.0.9:8080"])]);
    rows(
        &Config { internal: true, ..ip() },
        vec![
            ("internal: the container's, whatever -ip", on_one(), &["nginx H:web:80 172.17.0.5:80"]),
            ("internal: on its network", user(), &["nginx H:web:80 10.2.0.2:80"]),
        ],
    );
    let label = |template: &str| Config { ip_label: Some(template.to_owned()), ..ip() };
    rows(
        &label("io.rancher.container.ip"),
        vec![
            (
                "the label's text before its last slash",
                web().label("io.rancher.container.ip", "10.42.0.3/16"),
                &["nginx H:web:80 10.42.0.3:32768"],
            ),
            ("a missing one changes nothing", web(), &[WEB]),
            ("and so does an empty one", web().label("io.rancher.container.ip", ""), &[WEB]),
        ],
    );
}

#[test]
fn five_metadata() {
    rows(
        &ip(),
        vec![
            (
                "labels beat environment",
                web().env(&["SERVICE_NAME=a"]).label("SERVICE_NAME", "b"),
                &["b H:web:80 10.0.0.9:32768"],
            ),
            ("the prefix is case-sensitive", web().env(&["service_name=a", "Service_Name=b"]), &[WEB]),
            (
                "split at the first =",
                web().env(&["SERVICE_A=x=y=z"]),
                &["nginx H:web:80 10.0.0.9:32768 a=x=y=z"],
            ),
            ("no = says nothing", web().env(&["SERVICE_A"]), &[WEB]),
            (
                "keys are lower-cased",
                web().env(&["SERVICE_FooBar=1"]),
                &["nginx H:web:80 10.0.0.9:32768 foobar=1"],
            ),
            ("of another port", web().env(&["SERVICE_443_A=1"]), &[WEB]),
            (
                "the port's wins, said before",
                web().env(&["SERVICE_80_A=p", "SERVICE_A=g"]),
                &["nginx H:web:80 10.0.0.9:32768 a=p"],
            ),
            (
                "or after",
                web().env(&["SERVICE_A=g", "SERVICE_80_A=p"]),
                &["nginx H:web:80 10.0.0.9:32768 a=p"],
            ),
            (
                "an environment's for the port beats a label for all",
                web().env(&["SERVICE_80_A=p"]).label("SERVICE_A", "g"),
                &["nginx H:web:80 10.0.0.9:32768 a=p"],
            ),
            (
                "what is left is Meta: not id, tags, name",
                web().env(&["SERVICE_ID=i", "SERVICE_TAGS=t", "SERVICE_NAME=n", "SERVICE_X=y"]),
                &["n i 10.0.0.9:32768 {t} x=y"],
            ),
            ("empty attributes stay", web().env(&["SERVICE_X="]), &["nginx H:web:80 10.0.0.9:32768 x="]),
            ("any text ignores", web().env(&["SERVICE_IGNORE=false"]), &[]),
            ("mended: an empty one neither ignores nor leaks", web().env(&["SERVICE_IGNORE="]), &[WEB]),
        ],
    );
}

#[test]
fn six_tags() {
    let udp = || web().no_ports().port("53/udp", &["5353"]);
    rows(
        &ip(),
        vec![
            (
                "\\, is a comma, empties go",
                web().env(&["SERVICE_TAGS=foo,bar\\,baz,"]),
                &["nginx H:web:80 10.0.0.9:32768 {bar,baz foo}"],
            ),
            ("only commas", web().env(&["SERVICE_TAGS=,,,,"]), &[WEB]),
            ("a set", web().env(&["SERVICE_TAGS=c,a,b,a"]), &["nginx H:web:80 10.0.0.9:32768 {a b c}"]),
        ],
    );
    rows(
        &tagged("z,{{.Config.Image}},{{mIndex \"team\" .Config.Labels}}"),
        vec![
            (
                "SERVICE_TAGS, -tags and udp",
                udp().env(&["SERVICE_TAGS=a"]),
                &["nginx H:web:53:udp 10.0.0.9:5353 {a nginx udp z} udp"],
            ),
            (
                "a template over the container",
                web().label("team", "blue,green"),
                &["nginx H:web:80 10.0.0.9:32768 {blue green nginx z}"],
            ),
        ],
    );
    rows(
        &tagged("{{sIndex 0 .Config.Env}},z"),
        vec![(
            "mended: a template that fails here costs its tags, not the instance",
            web(),
            &[
                WEB,
                "container web: the tags template takes one of an empty list: registered without its tags",
            ],
        )],
    );
}

#[test]
fn the_table() {
    let two = || web().port("443/tcp", &["32769"]);
    rows(
        &ip(),
        vec![
            ("nothing", web(), &[WEB]),
            (
                "both SERVICE_NAME",
                web().env(&["SERVICE_NAME=e"]).label("SERVICE_NAME", "l"),
                &["l H:web:80 10.0.0.9:32768"],
            ),
            (
                "80 and 443",
                two(),
                &["nginx-443 H:web:443 10.0.0.9:32769", "nginx-80 H:web:80 10.0.0.9:32768"],
            ),
            (
                "80, 443, a name for 80 and one for all",
                two().env(&["SERVICE_80_NAME=web", "SERVICE_NAME=gen"]),
                &["gen-443 H:web:443 10.0.0.9:32769", "web H:web:80 10.0.0.9:32768"],
            ),
            (
                "tags for 80 and for all",
                web().env(&["SERVICE_80_TAGS=p", "SERVICE_TAGS=g"]),
                &["nginx H:web:80 10.0.0.9:32768 {p}"],
            ),
            ("80 published, 9000 null", web().port("9000/tcp", &[]), &[WEB]),
            (
                "on one address, -ip",
                web().port("80/tcp", &["192.0.2.10:8080"]),
                &["nginx H:web:80 10.0.0.9:8080"],
            ),
            (
                "attributes",
                web().env(&["SERVICE_REGION=eu", "SERVICE_80_WEIGHT=5", "SERVICE_FOO_BAR=x=y=z"]),
                &["nginx H:web:80 10.0.0.9:32768 foo_bar=x=y=z region=eu weight=5 weight 5"],
            ),
        ],
    );
    let udp = web().no_ports().port("53/udp", &["5353"]).env(&["SERVICE_TAGS=a"]);
    rows(&tagged("z"), vec![("udp", udp, &["nginx H:web:53:udp 10.0.0.9:5353 {a udp z} udp"])]);
    let on_one = web().port("80/tcp", &["192.0.2.10:8080"]);
    let host = || web().no_ports().mode(NetworkMode::Host, &[]);
    rows(
        &config(),
        vec![
            ("on one address", on_one, &["nginx H:web:80 192.0.2.10:8080"]),
            ("host mode, EXPOSE 8080", host().expose("8080/tcp"), &["nginx H:web:8080 10.0.0.9:8080"]),
            ("host mode without EXPOSE", host(), &[]),
        ],
    );
    rows(
        &internal(),
        vec![("internal, 80 null", web().port("80/tcp", &[]), &["nginx H:web:80 172.17.0.5:80"])],
    );
}
