//! The command line's share of the settings, made from the table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::table::{Fallback, Flag, Kind, SETTINGS, Setting};

/// Settings said on the command line, unread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// The settings file.
    pub(crate) config: Option<PathBuf>,
    values: BTreeMap<&'static str, String>,
    /// What holds in place of the table's defaults.
    fallbacks: BTreeMap<&'static str, String>,
}

impl Flags {
    /// What the command line says of `setting`.
    pub(super) fn get(&self, setting: &Setting) -> Option<&str> {
        self.values.get(setting.key).map(String::as_str)
    }

    /// Says `text` for `key`, unless the user said something.
    #[must_use]
    pub(crate) fn or(mut self, key: &'static str, text: impl Into<String>) -> Self {
        debug_assert!(super::table::find(key).is_some(), "{key} is a setting");
        self.values.entry(key).or_insert_with(|| text.into());
        self
    }

    /// Makes `text` the default of `key`: what flag, variable and file say comes before it.
    #[must_use]
    pub(crate) fn by_default(mut self, key: &'static str, text: impl Into<String>) -> Self {
        debug_assert!(super::table::find(key).is_some(), "{key} is a setting");
        self.fallbacks.insert(key, text.into());
        self
    }

    /// The default of `setting` for this command, if it is not the table's.
    pub(super) fn fallback(&self, setting: &Setting) -> Option<&str> {
        self.fallbacks.get(setting.key).map(String::as_str)
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Settings file (TOML) [env: PORTOLAN_CONFIG]");
        command.arg(config).args(SETTINGS.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let said = |setting: &'static Setting| {
            let text = match setting.flag {
                Flag::Takes(_) => matches.get_one::<String>(setting.key).cloned()?,
                Flag::Says(_, text) if matches.get_flag(setting.key) => text.to_owned(),
                Flag::Says(..) => return None,
            };
            Some((setting.key, text))
        };
        let config = matches.get_one("config").cloned();
        let values = SETTINGS.iter().filter_map(said).collect();
        Ok(Self { config, values, fallbacks: BTreeMap::new() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg(setting: &'static Setting) -> Arg {
    let fallback = match setting.fallback {
        Fallback::Is("") => "none",
        Fallback::Is(text) => text,
        Fallback::Found(words, _) => words,
    };
    let words = match setting.kind {
        Kind::Choice(words) => format!(" One of {}.", words.join(", ")),
        _ => String::new(),
    };
    let env = setting.env();
    let arg = Arg::new(setting.key).long(setting.flag.name());
    match setting.flag {
        Flag::Takes(_) => arg.value_name(setting.kind.placeholder()).help(format!(
            "{}{words} [default: {}] [env: {env}]",
            setting.about,
            fallback.replace('`', "")
        )),
        Flag::Says(_, text) => arg
            .action(ArgAction::SetTrue)
            .help(format!("{} [this flag says {text}; default: {fallback}] [env: {env}]", setting.about)),
    }
}
