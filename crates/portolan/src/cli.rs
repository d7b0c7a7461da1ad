//! What can be said on the command line.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::settings::{self, Environment, Flags, SettingsError};
use crate::terminal::{complain, say};
use crate::{client, demo, drop_in, sample, up};

/// Service registry, registrator and gateway in one small binary.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all roles: registry, HTTP API, registrator, gateway
    Up(Flags),
    /// Run a gateway alone, over a registry that others write to (--registry)
    Gateway(Flags),
    /// Run a registrator alone; takes the command line of gliderlabs/registrator (`-help` prints it)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Registrator(Words),
    /// Run all roles on a throw-away registry with three sample instances, and print what to try
    Demo(Flags),
    /// Run the sample service that the guides and tests put behind the gateway
    Sample(Sample),
    /// List services
    Services(client::Services),
    /// List the instances of a service
    Instances(client::Instances),
    /// Follow the instances of a service, one line per change
    Watch(client::Watch),
    /// Register an instance
    Register(client::Register),
    /// Take an instance out of use: it finishes what it has and gets nothing new
    Drain(client::Drain),
    /// Remove an instance
    Deregister(client::Deregister),
    /// Say where a request would go, and why
    Explain(client::Explain),
    /// Look at settings without running anything
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print reference pages
    #[command(subcommand, hide = true)]
    Reference(Reference),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check settings: prints ok, or everything that is wrong with file, line and key
    Check(Check),
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    flags: Flags,
    /// Fail also when a route is broken, which would not keep `portolan up` from starting
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Args)]
struct Sample {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// The service it plays
    #[arg(long, default_value = "service_1")]
    name: String,
    /// What it calls itself in the x-instance header [default: the host name]
    #[arg(long)]
    instance: Option<String>,
    /// How many seconds requests in flight may take to finish once it is told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u16,
}

/// A command line that clap must not read: its flags begin with one dash.
#[derive(Debug, Args)]
struct Words {
    /// Options, then a registry URI, such as consul://localhost:8500
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS | URI")]
    words: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Reference {
    /// The settings, in Markdown
    Settings,
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let environment = Environment::of_process();
    let done = match Cli::parse().command {
        Command::Up(flags) => up::run(&flags, &environment),
        Command::Gateway(flags) => up::run_gateway(flags, &environment),
        Command::Registrator(Words { words }) => drop_in::run(&words, &environment),
        Command::Demo(flags) => demo::run(flags, &environment),
        Command::Sample(said) => run_sample(said, &environment),
        Command::Services(said) => said.run(),
        Command::Instances(said) => said.run(),
        Command::Watch(said) => said.run(),
        Command::Register(said) => said.run(),
        Command::Drain(said) => said.run(),
        Command::Deregister(said) => said.run(),
        Command::Explain(said) => said.run(),
        Command::Config(ConfigCommand::Check(said)) => check(&said, &environment),
        Command::Reference(Reference::Settings) => {
            say(settings::reference().trim_end());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        match &error {
            SettingsError::Flawed(flaws) if flaws.in_flags() => Self::Usage(error.to_string()),
            SettingsError::Flawed(_) | SettingsError::Unreadable { .. } => Self::failed(error),
        }
    }
}

fn check(said: &Check, environment: &Environment) -> Result<(), Failure> {
    let settled = settings::load(&said.flags, environment)?;
    settled.warnings.iter().for_each(complain);
    let table = routing::RouteTable::new(&settled.config.routing());
    let broken = table.broken();
    let mut summary = format!("ok: {} routes", settled.config.routes.len());
    if !broken.is_empty() {
        summary.push_str(&format!(", {} of them broken", broken.len()));
    }
    let lines = broken.iter().map(|route| format!("\n  {}: {}", route.name, route.reason));
    summary.extend(lines);
    match broken.is_empty() || !said.strict {
        true => {
            say(summary);
            Ok(())
        }
        false => Err(Failure::Failed(summary.replacen("ok: ", "", 1))),
    }
}

fn run_sample(said: Sample, environment: &Environment) -> Result<(), Failure> {
    let config = sample::Config {
        listen: said.listen,
        name: said.name,
        instance: said.instance.unwrap_or_else(|| environment.host_name()),
        drain_timeout: Duration::from_secs(said.drain_timeout.into()),
    };
    up::block_on(sample::run_process(config))
}
