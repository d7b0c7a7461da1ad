//! What a measurement says: on the terminal at once, and kept beside the sources.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::process::{Outcome, output};
use crate::workspace::Workspace;

/// The lines of one measurement. They name programs and versions, never hosts or paths: the file is published.
pub(super) struct Report {
    name: &'static str,
    text: String,
}

impl Report {
    pub(super) fn new(name: &'static str) -> Self {
        let mut report = Self { name, text: String::new() };
        report.line(format!("{name}, {}", today()));
        report.line(format!("machine: {}", machine()));
        report
    }

    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        println!("{}", line.as_ref());
        let _strings_take_all = writeln!(self.text, "{}", line.as_ref());
    }

    /// Keeps it among the measurements of today, after those that are there: they may be of something else.
    pub(super) fn keep(&self, workspace: &Workspace) -> Outcome {
        let directory = workspace.root.join("docs/benchmarks");
        let path = directory.join(format!("{}-{}.txt", self.name, today()));
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let before = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            before => before.map_err(failed)? + "\n",
        };
        std::fs::write(&path, before + &self.text).map_err(failed)?;
        println!("kept in {}", workspace.relative(&path).display());
        Ok(())
    }
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = output(std::process::Command::new("uname").arg("-sr")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}, {}", model.map_or("unknown CPU", |(_, name)| name), kernel.trim())
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The date of a day counted from 1970-01-01. Years are reckoned from March, so that a leap day comes last.
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        #[track_caller]
        fn check(day: u64, expect: (u64, u64, u64)) {
            assert_eq!(civil(day), expect);
        }
        check(0, (1970, 1, 1));
        check(58, (1970, 2, 28));
        check(59, (1970, 3, 1));
        check(11_016, (2000, 2, 29));
        check(19_782, (2024, 2, 29));
        check(19_783, (2024, 3, 1));
        check(20_453, (2025, 12, 31));
        check(20_454, (2026, 1, 1));
    }
}
