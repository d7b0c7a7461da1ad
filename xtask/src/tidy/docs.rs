//! Decisions are numbered without a gap, and a link inside the tree leads somewhere.

use super::{Finding, TextFile};

const ADR: &str = "docs/adr/";

/// `exists` says whether a path, relative to the root, is there.
pub(super) fn check(files: &[TextFile], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = decisions(files);
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, link) in links(&file.text) {
            let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
            if !exists(&format!("{directory}/{link}")[usize::from(directory.is_empty())..]) {
                let advice = format!("{link} leads nowhere; mend or remove the link");
                findings.push(Finding { file: file.path.clone(), line: at + 1, rule: "link", advice });
            }
        }
    }
    findings
}

fn decisions(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    let pages = files.iter().filter(|file| file.path.starts_with(ADR) && !file.path.ends_with("/README.md"));
    for page in pages {
        let mut find = |advice: String| {
            findings.push(Finding { file: page.path.clone(), line: 1, rule: "decision", advice });
        };
        let Some(number) = number_of(&page.path[ADR.len()..]) else {
            find("name it NNNN-what-was-decided.md".to_owned());
            continue;
        };
        if number != expected {
            find(format!("number {number:04} where {expected:04} is next; renumber"));
        }
        let title = page.text.lines().next().unwrap_or_default();
        let says = |word: &str| word.trim_matches(|c: char| !c.is_ascii_digit()).parse() == Ok(number);
        if !title.strip_prefix("# ").is_some_and(|title| title.split(' ').any(says)) {
            find(format!("its first line is no title with the number {number}"));
        }
        expected = number + 1;
    }
    findings
}

fn number_of(name: &str) -> Option<u32> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let plain = title.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (number.len() == 4 && plain && !title.is_empty()).then(|| number.parse().ok())?
}

/// Relative targets of Markdown links with their lines, without anchors. Code is no place for links.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second part stands between backticks.
        for part in line.split('`').step_by(2) {
            let targets = part.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
            let paths = targets.map(|target| target.split('#').next().unwrap_or_default());
            found.extend(paths.filter(|path| !path.is_empty() && !path.contains(':')).map(|path| (at, path)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{file, shown};
    use super::*;

    #[test]
    fn numbering() {
        #[track_caller]
        fn check_pages(pages: &[(&str, &str)], expect: &[&str]) {
            let files: Vec<_> =
                pages.iter().map(|(name, text)| file(&format!("{ADR}{name}"), text)).collect();
            assert_eq!(shown(decisions(&files)), expect);
        }
        check_pages(&[("0001-a.md", "# 1. A"), ("0002-b.md", "# ADR 0002: B"), ("README.md", "")], &[]);
        check_pages(
            &[("0001-a.md", "# 1 A"), ("0003-b.md", "# 3 B"), ("0004-c.md", "# 4 C")],
            &["docs/adr/0003-b.md:1 number 0003 where 0002 is next; renumber"],
        );
        check_pages(
            &[("0001-a.md", "# 1 A"), ("0001-b.md", "# 1 B")],
            &["docs/adr/0001-b.md:1 number 0001 where 0002 is next; renumber"],
        );
        check_pages(&[("Some Thing.md", "")], &["docs/adr/Some Thing.md:1 name it NNNN-what-was-decided.md"]);
        check_pages(
            &[("0001-a.md", "A")],
            &["docs/adr/0001-a.md:1 its first line is no title with the number 1"],
        );
    }

    #[test]
    fn links_lead_somewhere() {
        #[track_caller]
        fn check_page(path: &str, text: &str, expect: &[&str]) {
            let there = |path: &str| ["README.md", "docs/a.md", "docs/../README.md"].contains(&path);
            assert_eq!(shown(check(&[file(path, text)], there)), expect);
        }
        check_page("README.md", "[a](docs/a.md#part) [b](https://example.com) [c](#here)", &[]);
        check_page("docs/b.md", "[a](a.md)\n[r](../README.md \"title\")", &[]);
        check_page("docs/b.md", "\n[x](x.md)", &["docs/b.md:2 x.md leads nowhere; mend or remove the link"]);
        check_page("docs/b.md", "`[x](x.md)`\n```\n[x](x.md)\n```\n", &[]);
    }
}
