//! Reading `[[route]]` tables. Only form is judged here; whether a route makes sense is the gateway's to say, as a
//! status.

use std::collections::BTreeMap;

use routing::RouteSpec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{Source, kind};
use super::flaw::{Flaw, hint};
use super::value::Parse;

/// The most routes one file may hold.
const LIMIT: usize = 10_000;

/// One key of a route, for the reader and for the reference.
pub(super) struct RouteKey {
    /// Its name.
    pub(super) name: &'static str,
    /// What its value looks like.
    pub(super) form: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    put: fn(&mut RouteSpec, &DeValue<'_>) -> Result<(), String>,
}

/// Every key of a route.
pub(super) const ROUTE_KEYS: &[RouteKey] = &[
    RouteKey {
        name: "name",
        form: "text",
        about: "What people call it; `explain` and the logs show it.",
        put: |route, value| text(value).map(|text| route.name = text),
    },
    RouteKey {
        name: "host",
        form: "text",
        about: "`shop.example.com`, or `*.example.com` for any labels in front. Absent: any host.",
        put: |route, value| text(value).map(|text| route.host = Some(text)),
    },
    RouteKey {
        name: "path",
        form: "text",
        about: "A path prefix that ends at a `/`: `/api` fits `/api` and `/api/x`, not `/apix`. Absent: any path.",
        put: |route, value| text(value).map(|text| route.path = Some(text)),
    },
    RouteKey {
        name: "headers",
        form: "table of texts",
        about: "Every one of these headers must be there with this value.",
        put: |route, value| headers(value).map(|headers| route.headers = headers),
    },
    RouteKey {
        name: "service",
        form: "text, required",
        about: "The service that gets the requests.",
        put: |route, value| text(value).map(|text| route.service = text),
    },
    RouteKey {
        name: "strip_prefix",
        form: "true or false",
        about: "Take the path prefix off before forwarding. Default `false`.",
        put: |route, value| switch(value).map(|switch| route.strip_prefix = switch),
    },
    RouteKey {
        name: "preserve_host",
        form: "true or false",
        about: "Forward the client's `Host` instead of the instance's address. Default `false`.",
        put: |route, value| switch(value).map(|switch| route.preserve_host = switch),
    },
    RouteKey {
        name: "balance",
        form: "`round-robin`, `random` or `weighted`",
        about: "How to spread its requests. Default: `proxy.balance`.",
        put: |route, value| {
            route.balance = Some(Parse::parse(&text(value)?)?);
            Ok(())
        },
    },
];

/// Reads the value of `route`.
pub(super) fn read(source: Source<'_>, value: &Spanned<DeValue<'_>>) -> (Vec<RouteSpec>, Vec<Flaw>) {
    let refuse = |what: String| (Vec::new(), vec![Flaw { place: source.place("route", value.span()), what }]);
    let DeValue::Array(tables) = value.get_ref() else {
        return refuse("must be a list of tables; write [[route]]".to_owned());
    };
    if tables.len() > LIMIT {
        return refuse(format!("there are {}; at most {LIMIT} are allowed", tables.len()));
    }
    let mut flaws = Vec::new();
    let mut specs = Vec::with_capacity(tables.len());
    for table in tables {
        match table.get_ref() {
            DeValue::Table(entries) => specs.push(route(source, table, entries, &mut flaws)),
            _ => flaws.push(Flaw {
                place: source.place("route", table.span()),
                what: "must be a table; write [[route]]".to_owned(),
            }),
        }
    }
    (specs, flaws)
}

fn route(
    source: Source<'_>,
    table: &Spanned<DeValue<'_>>,
    entries: &DeTable<'_>,
    flaws: &mut Vec<Flaw>,
) -> RouteSpec {
    let mut spec = RouteSpec::default();
    for (name, value) in entries {
        let key = format!("route.{}", name.get_ref());
        let (span, outcome) = match ROUTE_KEYS.iter().find(|known| known.name == name.get_ref()) {
            Some(known) => (value.span(), (known.put)(&mut spec, value.get_ref())),
            None => {
                let near = hint(name.get_ref(), ROUTE_KEYS.iter().map(|known| known.name));
                (name.span(), Err(format!("unknown key{near}")))
            }
        };
        if let Err(what) = outcome {
            flaws.push(Flaw { place: source.place(&key, span), what });
        }
    }
    if !entries.iter().any(|(name, _)| name.get_ref() == "service") {
        let what = "says no service".to_owned();
        flaws.push(Flaw { place: source.place("route", table.span()), what });
    }
    spec
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Parse::parse(text),
        other => Err(format!("must be a text in quotes, not {}", kind(other))),
    }
}

fn switch(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(switch) => Ok(*switch),
        other => Err(format!("must be true or false, not {}", kind(other))),
    }
}

fn headers(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, String> {
    let DeValue::Table(entries) = value else {
        return Err(format!("must be a table such as {{ x-tenant = \"a\" }}, not {}", kind(value)));
    };
    let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &toml::de::DeString<'_> = name.get_ref();
        Ok((name.clone().into_owned(), text(value.get_ref()).map_err(|what| format!("{name} {what}"))?))
    };
    entries.iter().map(entry).collect()
}
