//! Runs a command inside a container.

use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::time::sleep;

use crate::container::ContainerId;
use crate::source::{Exec, Executed};

/// How soon to ask whether a command that writes no more has ended: its outputs close just before it does.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What shells say of a program that cannot be run.
const CANNOT_RUN: i64 = 126;

pub(super) async fn run(client: &Docker, id: &ContainerId, exec: Exec) -> Result<Executed, Error> {
    let Exec { words, env, output_limit } = exec;
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(words),
        env: Some(env),
        ..ExecConfig::default()
    };
    let exec = client.create_exec(id.as_str(), config).await?.id;
    let started = match client.start_exec(&exec, None::<StartExecOptions>).await {
        // Some versions refuse a program that is not there, others say so as the program would.
        Err(Error::DockerResponseServerError { status_code: 400 | 500, message }) => {
            let output = message.into_bytes().into_iter().take(output_limit).collect();
            return Ok(Executed { code: CANNOT_RUN, output });
        }
        started => started?,
    };
    let mut written = Vec::new();
    if let StartExecResults::Attached { mut output, .. } = started {
        // Beyond the limit it is read all the same: a command whose output nobody takes does not end.
        while let Some(more) = output.next().await {
            let (LogOutput::StdErr { message }
            | LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message }) = more?;
            let room = output_limit.saturating_sub(written.len());
            written.extend_from_slice(&message[..message.len().min(room)]);
        }
    }
    let mut wait = FIRST_LOOK;
    loop {
        let found = client.inspect_exec(&exec).await?;
        match found.exit_code {
            Some(code) if found.running != Some(true) => return Ok(Executed { code, output: written }),
            _ => sleep(wait).await,
        }
        wait = (wait * 2).min(LAST_LOOK);
    }
}
