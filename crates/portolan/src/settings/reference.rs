//! The reference page of settings, made from the tables that the program itself reads.

use std::fmt::Write;

use super::routes::ROUTE_KEYS;
use super::table::{Fallback, Flag, Kind, SETTINGS, Setting};

const HEAD: &str = "\
# Settings

<!-- Made by `portolan reference settings`; a test keeps it up to date. Edit crates/portolan/src/settings/table.rs. -->

Every setting can be said in three places. The first of these that says it wins:

1. a flag of `portolan up`,
2. an environment variable,
3. the settings file (TOML) named by `--config FILE` or `PORTOLAN_CONFIG`.

A key that is unknown or a value that cannot be read is an error that names file, line and key; `portolan config check`
looks for them without starting anything. Times are written with units: `500ms`, `10s`, `1m30s`.
";

const ROUTES: &str = "
## `[[route]]`

Routes come in the order of the file. A route that does not hold together (a host with a port, a path without `/`) is
reported by `portolan config check` and in the log, and routes nothing; everything else works.

| key | value | meaning |
|---|---|---|
";

/// The page, in Markdown.
pub(crate) fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = None;
    for setting in SETTINGS {
        let its = setting.key.split_once('.').map(|(section, _)| section);
        if section != Some(its) {
            section = Some(its);
            let title = its.map_or("At the top".to_owned(), |name| format!("`[{name}]`"));
            let _ = write!(
                page,
                "\n## {title}\n\n| key | flag | variable | value | default |\n|---|---|---|---|---|\n"
            );
            for setting in SETTINGS.iter().filter(|s| s.key.split_once('.').map(|(s, _)| s) == its) {
                page.push_str(&row(setting));
            }
            page.push('\n');
        }
        let name = setting.key.rsplit('.').next().unwrap_or_default();
        let _ = writeln!(page, "- **`{name}`**: {}", setting.about);
    }
    page.push_str(ROUTES);
    for key in ROUTE_KEYS {
        let _ = writeln!(page, "| `{}` | {} | {} |", key.name, key.form, key.about);
    }
    page
}

fn row(setting: &Setting) -> String {
    let name = setting.key.rsplit('.').next().unwrap_or_default();
    let flag = match setting.flag {
        Flag::Takes(flag) => format!("`--{flag} {}`", setting.kind.placeholder()),
        Flag::Says(flag, text) => format!("`--{flag}` says `{text}`"),
    };
    let value = match setting.kind {
        Kind::Address => "`\"IP:PORT\"`".to_owned(),
        Kind::Ip => "`\"IP\"`".to_owned(),
        Kind::Duration => "time, `\"10s\"`".to_owned(),
        Kind::Count => "whole number".to_owned(),
        Kind::Switch => "`true` or `false`".to_owned(),
        Kind::Choice(words) => {
            words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Path => "path in quotes".to_owned(),
        Kind::Text => "text in quotes".to_owned(),
        Kind::List | Kind::Tags => "list of texts, `[\"a\", \"b\"]`".to_owned(),
    };
    let fallback = match setting.fallback {
        Fallback::Is("") => "none".to_owned(),
        Fallback::Is(text) => format!("`{text}`"),
        Fallback::Found(words, _) => words.to_owned(),
    };
    format!("| `{name}` | {flag} | `{}` | {value} | {fallback} |\n", setting.env())
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn the_committed_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/settings.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == reference(),
            "docs/reference/settings.md is stale: run `cargo run -- reference settings > docs/reference/settings.md`"
        );
    }
}
