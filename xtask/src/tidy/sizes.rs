//! A file is small enough to be read in one go.

use super::source::{is_comment, tests_begin};
use super::{Finding, TextFile};

const RULE: &str = "file size";

/// Lines of code that are no tests; blank lines and comments do not count.
const LIMIT: usize = 500;

/// Files with a limit of their own.
const TIGHTER: &[(&str, usize)] = &[("crates/portolan/src/main.rs", 40)];

/// Files that may be longer, with the reason.
const LONGER: &[(&str, usize, &str)] = &[];

pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    check_against(files, TIGHTER, LONGER)
}

fn check_against(
    files: &[TextFile],
    tighter: &[(&str, usize)],
    longer: &[(&str, usize, &str)],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let lines = code_lines(&file.text);
        let longer = longer.iter().find(|(path, ..)| *path == file.path).map(|(_, limit, _)| *limit);
        let tighter = tighter.iter().find(|(path, _)| *path == file.path).map(|(_, limit)| *limit);
        let limit = longer.or(tighter).unwrap_or(LIMIT);
        let advice = if lines > limit {
            format!("{lines} lines of code, {limit} are allowed; split it by what changes together")
        } else if longer.is_some() && lines <= LIMIT {
            format!("{lines} lines of code need no exception in xtask/src/tidy/sizes.rs; remove it")
        } else {
            continue;
        };
        findings.push(Finding { file: file.path.clone(), line: 1, rule: RULE, advice });
    }
    findings
}

fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let code = &lines[..tests_begin(&lines).unwrap_or(lines.len())];
    code.iter().filter(|line| !line.trim().is_empty() && !is_comment(line)).count()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{file, shown};
    use super::*;

    #[test]
    fn what_counts() {
        #[track_caller]
        fn check_one(text: &str, expect: usize) {
            assert_eq!(code_lines(text), expect);
        }
        check_one("//! Head.\n\nfn a() {\n    // why\n    b();\n}\n", 3);
        check_one("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n", 1);
        check_one("#[cfg(test)]\nuse x;\nfn a() {}\n", 3);
    }

    #[test]
    fn limits() {
        #[track_caller]
        fn check_one(path: &str, lines: usize, expect: &[&str]) {
            let files = [file(path, &"x();\n".repeat(lines))];
            let found = check_against(&files, &[("main.rs", 40)], &[("long.rs", 600, "a table")]);
            assert_eq!(shown(found), expect);
        }
        check_one("a.rs", 500, &[]);
        check_one("a.md", 5000, &[]);
        check_one(
            "a.rs",
            501,
            &["a.rs:1 501 lines of code, 500 are allowed; split it by what changes together"],
        );
        check_one(
            "main.rs",
            41,
            &["main.rs:1 41 lines of code, 40 are allowed; split it by what changes together"],
        );
        check_one("long.rs", 600, &[]);
        check_one(
            "long.rs",
            601,
            &["long.rs:1 601 lines of code, 600 are allowed; split it by what changes together"],
        );
        check_one(
            "long.rs",
            500,
            &["long.rs:1 500 lines of code need no exception in xtask/src/tidy/sizes.rs; remove it"],
        );
    }
}
