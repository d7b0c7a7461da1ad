//! What no line of source may hold: unfinished work, ignored tests, tests that sleep, names that say nothing.

use super::{Finding, TextFile};

pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let found = |line: usize, rule, advice: &str| Finding {
            file: file.path.clone(),
            line: line + 1,
            rule,
            advice: advice.to_owned(),
        };
        if empty_name(&file.path) {
            findings.push(found(0, "name", "name the file after what is in it"));
        }
        let lines: Vec<&str> = file.text.lines().collect();
        let tests = if is_test_file(&file.path) { Some(0) } else { tests_begin(&lines) };
        for (at, line) in lines.iter().enumerate() {
            let line = &without_strings(line);
            if unfinished(line) {
                findings.push(found(
                    at,
                    "unfinished",
                    "finish it, or open an issue and say here what holds today",
                ));
            }
            if line.trim_start().starts_with("#[ignore") {
                findings.push(found(at, "ignored test", "make it pass or remove it"));
            }
            if empty_type(line) {
                findings.push(found(
                    at,
                    "name",
                    "name the type after what it is or does, not that it manages or helps",
                ));
            }
            let tested = tests.is_some_and(|begin| at >= begin);
            if tested && sleeps(line) && !virtual_time(&lines[..at]) && !polls(&lines[..at], line) {
                findings.push(found(
                    at,
                    "sleeping test",
                    "wait for a condition, or use virtual time (start_paused)",
                ));
            }
        }
    }
    findings
}

/// The line at which the tests of a file begin.
pub(super) fn tests_begin(lines: &[&str]) -> Option<usize> {
    lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod "))
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests")
}

fn unfinished(line: &str) -> bool {
    let macros = ["todo!", "unimplemented!"];
    let words = ["TODO", "FIXME", "XXX"];
    macros.iter().any(|name| !is_comment(line) && line.contains(name))
        || words.iter().any(|word| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == *word))
}

fn sleeps(line: &str) -> bool {
    !is_comment(line) && line.contains("sleep(")
}

/// Whether the test that these lines end in runs on virtual time.
fn virtual_time(before: &[&str]) -> bool {
    let attribute = before.iter().rev().find(|line| {
        let line = line.trim_start();
        line.starts_with("#[tokio::test") || line.starts_with("#[test]")
    });
    attribute.is_some_and(|line| line.contains("start_paused"))
}

/// Whether a line stands in a loop of the function it is in: a pause between two looks at a condition.
fn polls(before: &[&str], line: &str) -> bool {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut inner = depth(line);
    for line in before.iter().rev().filter(|line| !line.trim().is_empty()) {
        if depth(line) >= inner {
            continue;
        }
        inner = depth(line);
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["loop" | "while", ..] => return true,
            words if words.contains(&"fn") => return false,
            _ => {}
        }
    }
    false
}

fn empty_name(path: &str) -> bool {
    let parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
    parts.into_iter().any(|part| matches!(part, "util" | "utils" | "common" | "helper" | "helpers" | "misc"))
}

fn empty_type(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let declared = words.find(|word| matches!(*word, "struct" | "enum" | "trait")).and_then(|_| words.next());
    !is_comment(line) && declared.is_some_and(|name| name.ends_with("Manager") || name.ends_with("Helper"))
}

/// The line without what stands between quotes, so that a rule's own words and its tests' rows are not findings.
fn without_strings(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut inside = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if inside => {
                characters.next();
            }
            // A quote as a character literal opens nothing.
            '\'' if !inside && characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => inside = !inside,
            _ if inside => {}
            _ => kept.push(character),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::file;
    use super::*;

    #[track_caller]
    fn check_one(path: &str, text: &str, expect: &[(usize, &str)]) {
        let findings = check(&[file(path, text)]);
        let found: Vec<(usize, &str)> = findings.iter().map(|f| (f.line, f.rule)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn unfinished_work() {
        check_one("src/a.rs", "fn a() {\n    todo!()\n}", &[(2, "unfinished")]);
        check_one("src/a.rs", "// TODO: later", &[(1, "unfinished")]);
        check_one("src/a.rs", "a(); // FIXME", &[(1, "unfinished")]);
        check_one("src/a.rs", "let a = \"TODO\"; // and \\\" no", &[]);
        check_one("src/a.rs", "const MASTODON: u8 = 1;", &[]);
        check_one("src/a.md", "TODO", &[]);
        check_one("src/a.rs", "    #[ignore = \"slow\"]", &[(1, "ignored test")]);
    }

    #[test]
    fn sleeping_tests() {
        let code = "async fn a() {\n    sleep(b).await;\n}\n";
        check_one("src/a.rs", code, &[]);
        check_one("tests/a.rs", code, &[(2, "sleeping test")]);
        check_one("src/a/tests.rs", code, &[(2, "sleeping test")]);
        check_one("src/a.rs", &format!("{code}#[cfg(test)]\nmod tests {{\n{code}"), &[(7, "sleeping test")]);
        check_one("tests/a.rs", &format!("#[tokio::test(start_paused = true)]\n{code}"), &[]);
        check_one("tests/a.rs", &format!("#[tokio::test]\n{code}"), &[(3, "sleeping test")]);
        check_one("tests/a.rs", "// no sleep(1) here", &[]);
        check_one(
            "tests/a.rs",
            "fn a() {\n    while !b() {\n        if c {\n            sleep(d);\n        }\n    }\n}",
            &[],
        );
        check_one("tests/a.rs", "fn a() {\n    loop {\n    }\n    sleep(d);\n}", &[(4, "sleeping test")]);
    }

    #[test]
    fn empty_names() {
        check_one("src/utils.rs", "", &[(1, "name")]);
        check_one("src/common/a.rs", "", &[(1, "name")]);
        check_one("src/a.rs", "pub struct PoolManager<T>(T);", &[(1, "name")]);
        check_one("src/a.rs", "/// Not a struct HelperHelper.\nstruct Pool;", &[]);
    }

    #[test]
    fn strings_are_left_out() {
        #[track_caller]
        fn check(line: &str, expect: &str) {
            assert_eq!(without_strings(line), expect);
        }
        check("a(\"b\", c)", "a(, c)");
        check("a(\"b\\\"c\") // d", "a() // d");
        check("split('\"') // \"e\"", "split(') // ");
        check("'a'", "'a'");
    }
}
