//! Every crate introduces itself: what for, what it knows, what it must not know, where to start reading.

use super::{Finding, TextFile};

const PARTS: [&str; 4] = ["**Purpose**", "**Knows**", "**Must not know**", "**Start at**"];

/// Takes the `lib.rs` or `main.rs` of every member.
pub(super) fn check(heads: &[TextFile]) -> Vec<Finding> {
    let lacking = heads.iter().filter_map(|file| {
        let head: Vec<&str> = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let missing: Vec<&str> =
            PARTS.into_iter().filter(|part| !head.iter().any(|line| line.contains(part))).collect();
        let advice = format!("the crate's head comment (//!) lacks {}", missing.join(", "));
        let finding = Finding { file: file.path.clone(), line: 1, rule: "head comment", advice };
        (!missing.is_empty()).then_some(finding)
    });
    lacking.collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{file, shown};
    use super::*;

    #[test]
    fn heads() {
        #[track_caller]
        fn check_one(text: &str, expect: &[&str]) {
            assert_eq!(shown(check(&[file("lib.rs", text)])), expect);
        }
        let whole = "//! It.\n//!\n//! **Purpose**: a.\n//! **Knows**: b.\n//! **Must not know**: c.\n//! **Start at**: d.\n";
        check_one(whole, &[]);
        check_one(
            &whole.replace("//! **Knows**: b.\n", ""),
            &["lib.rs:1 the crate's head comment (//!) lacks **Knows**"],
        );
        check_one(
            "mod a;\n//! **Purpose**",
            &[
                "lib.rs:1 the crate's head comment (//!) lacks **Purpose**, **Knows**, **Must not know**, **Start at**",
            ],
        );
    }
}
