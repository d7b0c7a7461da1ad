//! What labels and environment say of a container is what the registry shows of it.

use std::collections::BTreeMap;

use consul_api::AgentService;

use super::rig::{PORT, Recipe, Rig};

/// A second port; nobody listens there.
const OTHER: u16 = 9090;

/// What is shown of an instance, without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    service: String,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
}

fn shown(service: &str, tags: &[&str], meta: &[(&str, &str)]) -> Shown {
    Shown {
        service: service.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        meta: meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

impl From<&AgentService> for Shown {
    fn from(found: &AgentService) -> Self {
        let mut tags = found.tags.clone();
        tags.sort_unstable();
        Self { service: found.service.clone(), tags, meta: found.meta.clone() }
    }
}

/// One container: what it says, and what is expected of it, by id; each with the port inside.
struct Row {
    container: &'static str,
    recipe: Recipe,
    expect: Vec<(String, u16, Shown)>,
}

fn rows(rig: &Rig) -> Vec<Row> {
    let image = rig.image_base();
    let id = |container: &str, port: u16| rig.id(container, port);
    let web = || Recipe::unnamed("web");
    let row = |container, recipe, expect: Vec<(String, u16, Shown)>| Row { container, recipe, expect };
    vec![
        row("bare", web(), vec![(id("bare", PORT), PORT, shown(image, &[], &[]))]),
        row("name", web().env("SERVICE_NAME=shop"), vec![(id("name", PORT), PORT, shown("shop", &[], &[]))]),
        row(
            "label",
            web().env("SERVICE_NAME=no").label("SERVICE_NAME", "label"),
            vec![(id("label", PORT), PORT, shown("label", &[], &[]))],
        ),
        row(
            "tags",
            web().env("SERVICE_NAME=shop").env("SERVICE_TAGS=b,a\\,c").env("SERVICE_REGION=eu"),
            vec![(id("tags", PORT), PORT, shown("shop", &["a,c", "b"], &[("region", "eu")]))],
        ),
        row(
            "id",
            web().env("SERVICE_NAME=shop").env(&format!("SERVICE_ID={}", rig.name("mine"))),
            vec![(rig.name("mine"), PORT, shown("shop", &[], &[]))],
        ),
        row("ignored", web().label("SERVICE_IGNORE", "true"), vec![]),
        row("private", web().label("SERVICE_NAME", "private").unpublished(), vec![]),
        row(
            "two",
            web()
                .publish(OTHER)
                .env("SERVICE_NAME=shop")
                .env("SERVICE_9090_NAME=admin")
                .label("SERVICE_9090_TAGS", "inside"),
            vec![
                (id("two", PORT), PORT, shown("shop-8080", &[], &[])),
                (id("two", OTHER), OTHER, shown("admin", &["inside"], &[])),
            ],
        ),
        row(
            "half",
            web().publish(OTHER).env("SERVICE_8080_NAME=shop").env("SERVICE_9090_IGNORE=1"),
            vec![(id("half", PORT), PORT, shown("shop", &[], &[]))],
        ),
    ]
}

#[test]
fn published_ports_as_described() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let rows = rows(&rig);
    rows.iter().for_each(|row| rig.run(row.container, &row.recipe));
    // It started last: what is not there beside it will not come.
    rig.run("last", &rig.sample("last"));
    super::process::until("the last one is there", || rig.registered(&up).remove(&rig.id("last", PORT)));

    let mut found = rig.registered(&up);
    found.remove(&rig.id("last", PORT));
    for Row { container, expect, .. } in rows {
        for (id, port, expect) in expect {
            let got = found.remove(&id).unwrap_or_else(|| panic!("{id} is not registered"));
            assert_eq!(Shown::from(&got), expect, "{id}");
            let published = i64::from(rig.published(container, port));
            assert_eq!((got.address.as_str(), got.port), ("127.0.0.1", published), "{id}");
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn internal_ports_under_the_containers_own_address() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up_with(&dir, &["--docker", rig.engine.uri(), "--internal"]);
    rig.run("shut", &rig.sample("shop").unpublished());
    rig.run("both", &rig.sample("shop").expose(OTHER));
    rig.run("last", &rig.sample("last"));
    super::process::until("the last one is there", || rig.registered(&up).remove(&rig.id("last", PORT)));

    let mut found = rig.registered(&up);
    found.remove(&rig.id("last", PORT));
    let shop = rig.name("shop");
    let expect = [
        ("shut", PORT, shop.clone()),
        ("both", PORT, format!("{shop}-{PORT}")),
        ("both", OTHER, format!("{shop}-{OTHER}")),
    ];
    for (container, port, service) in expect {
        let got = found.remove(&rig.id(container, port)).unwrap();
        let inspected = rig.inspect(container);
        let address = inspected["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap();
        assert_eq!((got.service, got.address.as_str(), got.port), (service, address, i64::from(port)));
    }
    assert!(found.is_empty(), "{found:?}");
}
