//! Runs a command inside the container, by the engine. The engine ends no command, so one that is late is waited for
//! before the next begins: there is never more than one of a check.

use futures_util::FutureExt;
use portolan_model::{Health, Pending};

use super::Finding;
use crate::check::Check;
use crate::source::{ContainerSource, Exec, Executed, SourceError};

/// How much of what a command writes is taken.
const OUTPUT_LIMIT: usize = 4 << 10;

/// A command that did not end in time, if there is one.
pub(in crate::check) type Running<'s> = Option<Pending<'s, Result<Executed, SourceError>>>;

/// Runs `script` once; `None` when it does not end in time.
pub(super) async fn run<'s>(
    source: &'s dyn ContainerSource,
    check: &Check,
    script: &str,
    running: &mut Running<'s>,
) -> Result<Option<Finding>, SourceError> {
    if let Some(mut late) = running.take()
        && (&mut late).now_or_never().is_none()
    {
        *running = Some(late);
        return Ok(Some(Finding::critical("its last run has not ended yet")));
    }
    let exec = Exec {
        words: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: vec![format!("SERVICE_IP={}", check.inside.host), format!("SERVICE_PORT={}", check.inside.port)],
        output_limit: OUTPUT_LIMIT,
    };
    let mut run = source.exec(check.container.clone(), exec);
    let Ok(answer) = tokio::time::timeout(check.spec.timeout, &mut run).await else {
        *running = Some(run);
        return Ok(None);
    };
    Ok(Some(reading(&answer?)))
}

/// Consul's reading of a script's end.
fn reading(Executed { code, output }: &Executed) -> Finding {
    let health = match code {
        0 => Health::Passing,
        1 => Health::Warning,
        _ => Health::Critical,
    };
    let output = String::from_utf8_lossy(output);
    let words = output.trim().lines().next().unwrap_or_default();
    let text =
        if words.is_empty() { format!("exit code {code}") } else { format!("exit code {code}: {words}") };
    Finding::new(health, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings() {
        #[track_caller]
        fn check(code: i64, output: &str, health: Health, text: &str) {
            let finding = reading(&Executed { code, output: output.as_bytes().to_vec() });
            assert_eq!((finding.health, finding.text.as_str()), (health, text));
        }
        check(0, "", Health::Passing, "exit code 0");
        check(0, "\nfine\nreally\n", Health::Passing, "exit code 0: fine");
        check(1, "so \u{1b}[31mso", Health::Warning, "exit code 1: so [31mso");
        check(2, "", Health::Critical, "exit code 2");
        check(137, &"x".repeat(500), Health::Critical, &format!("exit code 137: {}", "x".repeat(145)));
    }
}
