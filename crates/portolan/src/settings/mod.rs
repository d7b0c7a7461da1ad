//! What the user said, and what it means.
//!
//! Every setting can be said by flag, by `PORTOLAN_*` variable and in a TOML file; the first of these that says it
//! wins, and the table's default holds when none does. Start at [`SETTINGS`], then [`Said::settle`].

mod config;
mod environment;
mod file;
mod flags;
mod flaw;
mod reference;
mod routes;
mod table;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use config::{Config, EMBEDDED, OnExit};
pub(crate) use environment::Environment;
pub(crate) use flags::Flags;
use flaw::hint;
pub(crate) use flaw::{Flaw, Place};
pub(crate) use reference::reference;
use table::{Fallback, SETTINGS, Setting};

/// The longest settings file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// Variables of ours that are no settings.
const OTHER_VARIABLES: &[&str] = &["PORTOLAN_CONFIG", "PORTOLAN_HTTP_ADDR"];

/// Everything the user said, unread.
pub(crate) struct Said<'a> {
    /// On the command line.
    pub(crate) flags: &'a Flags,
    /// In the environment.
    pub(crate) environment: &'a Environment,
    /// In the settings file: its name and its text.
    pub(crate) file: Option<(&'a str, &'a str)>,
}

/// What was said, settled.
#[derive(Debug)]
pub(crate) struct Settled {
    /// What it means.
    pub(crate) config: Config,
    /// What looks like a slip but stops nothing.
    pub(crate) warnings: Vec<String>,
    /// Keys that the user said, rather than their defaults.
    pub(crate) said: BTreeSet<&'static str>,
}

/// Everything that is wrong with what the user said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaws(pub(crate) Vec<Flaw>);

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something said is wrong.
    #[error("{0}")]
    Flawed(Flaws),
}

/// Reads the settings file, if one is named, and settles everything.
pub(crate) fn load(flags: &Flags, environment: &Environment) -> Result<Settled, SettingsError> {
    let path = flags.config.clone().or_else(|| environment.get("PORTOLAN_CONFIG").map(PathBuf::from));
    let text = path.as_deref().map(read).transpose()?;
    let name = path.as_deref().map(Path::to_string_lossy);
    let file = name.as_deref().zip(text.as_deref());
    Said { flags, environment, file }.settle().map_err(SettingsError::Flawed)
}

fn read(path: &Path) -> Result<String, SettingsError> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text));
    let read = read.and_then(|length| match length as u64 {
        length if length > FILE_LIMIT => Err(std::io::Error::other("it is larger than 16 MiB")),
        _ => Ok(text),
    });
    read.map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })
}

impl Said<'_> {
    /// Flag before variable before file before default; all that is wrong at once.
    pub(crate) fn settle(&self) -> Result<Settled, Flaws> {
        let mut file = self.file.map(|(name, text)| file::read(name, text)).unwrap_or_default();
        let mut flaws = std::mem::take(&mut file.flaws);
        let mut config = Config::blank();
        let mut said = BTreeSet::new();
        for setting in SETTINGS {
            let (text, place) = self.said(setting, &mut file);
            if !matches!(place, Place::Found(_)) {
                said.insert(setting.key);
            }
            if let Err(what) = (setting.put)(&mut config, &text) {
                flaws.push(Flaw { place, what });
            }
        }
        config.routes = file.routes;
        if flaws.is_empty() {
            Ok(Settled { config, warnings: self.strangers(), said })
        } else {
            Err(Flaws(flaws))
        }
    }

    fn said(&self, setting: &Setting, file: &mut file::File) -> (String, Place) {
        if let Some(text) = self.flags.get(setting) {
            return (text.to_owned(), Place::Flag(setting.flag.name()));
        }
        let variable = setting.env();
        if let Some(text) = self.environment.get_even_empty(&variable) {
            return (text.to_owned(), Place::Env(variable));
        }
        file.values.remove(setting.key).unwrap_or_else(|| {
            let text = match (self.flags.fallback(setting), setting.fallback) {
                (Some(text), _) | (None, Fallback::Is(text)) => text.to_owned(),
                (None, Fallback::Found(_, find)) => find(self.environment),
            };
            (text, Place::Found(setting.key))
        })
    }

    /// Variables that look like settings and are none. No error: container engines inject `PORTOLAN_PORT` and the
    /// like when a neighbour is called portolan.
    fn strangers(&self) -> Vec<String> {
        let known: Vec<String> = SETTINGS.iter().map(Setting::env).collect();
        let known = || known.iter().map(String::as_str).chain(OTHER_VARIABLES.iter().copied());
        let strangers =
            self.environment.names("PORTOLAN_").filter(|name| known().all(|known| known != *name));
        strangers.map(|name| format!("{name} is no setting{}", hint(name, known()))).collect()
    }
}

impl Flaws {
    /// Whether the command line is at fault, so that the exit code can say so.
    pub(crate) fn in_flags(&self) -> bool {
        self.0.iter().any(|flaw| matches!(flaw.place, Place::Flag(_)))
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, flaw) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{flaw}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
