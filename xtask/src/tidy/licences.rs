//! Every dependency may be used freely: its SPDX expression can be met with permissive licences alone.

use super::Finding;
use crate::workspace::Package;

const RULE: &str = "licence";

const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let judged = packages.iter().filter_map(|package| {
        let fault = match package.license.as_deref().map(permissive) {
            Some(Ok(true)) => return None,
            Some(Ok(false)) => "is not permissive",
            Some(Err(())) => "is no SPDX expression",
            None => "is not stated",
        };
        let licence = package.license.as_deref().unwrap_or("none");
        let advice =
            format!("{} {}: its licence ({licence}) {fault}; find another", package.name, package.version);
        Some(Finding { file: "Cargo.lock".to_owned(), line: 1, rule: RULE, advice })
    });
    judged.collect()
}

/// Whether an expression can be met with permissive licences alone.
fn permissive(expression: &str) -> Result<bool, ()> {
    // `MIT/Apache-2.0` is how crates wrote OR before they wrote SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let (answer, rest) = either(&words)?;
    if rest.is_empty() { Ok(answer) } else { Err(()) }
}

type Parsed<'w, 't> = Result<(bool, &'w [&'t str]), ()>;

/// `a OR b`: one suffices.
fn either<'w, 't>(words: &'w [&'t str]) -> Parsed<'w, 't> {
    let (mut answer, mut rest) = both(words)?;
    while let ["OR", more @ ..] = rest {
        let (next, after) = both(more)?;
        (answer, rest) = (answer | next, after);
    }
    Ok((answer, rest))
}

/// `a AND b`: both apply. Binds tighter than OR.
fn both<'w, 't>(words: &'w [&'t str]) -> Parsed<'w, 't> {
    let (mut answer, mut rest) = one(words)?;
    while let ["AND", more @ ..] = rest {
        let (next, after) = one(more)?;
        (answer, rest) = (answer & next, after);
    }
    Ok((answer, rest))
}

fn one<'w, 't>(words: &'w [&'t str]) -> Parsed<'w, 't> {
    match words {
        ["(", inner @ ..] => match either(inner)? {
            (answer, [")", rest @ ..]) => Ok((answer, rest)),
            _ => Err(()),
        },
        [")" | "OR" | "AND" | "WITH", ..] | [] => Err(()),
        // An exception only ever permits more.
        [name, "WITH", _exception, rest @ ..] => Ok((PERMISSIVE.contains(name), rest)),
        [name, rest @ ..] => Ok((PERMISSIVE.contains(name), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        #[track_caller]
        fn check(expression: &str, expect: Result<bool, ()>) {
            assert_eq!(permissive(expression), expect, "{expression}");
        }
        check("MIT", Ok(true));
        check("MIT/Apache-2.0", Ok(true));
        check("MIT OR GPL-3.0-only", Ok(true));
        check("MIT AND GPL-3.0-only", Ok(false));
        check("GPL-3.0-only OR MIT AND ISC", Ok(true));
        check("(GPL-3.0-only OR MIT) AND (Apache-2.0 OR LGPL-2.1)", Ok(true));
        check("(MIT OR Apache-2.0) AND Unicode-3.0", Ok(true));
        check("Apache-2.0 WITH LLVM-exception", Ok(true));
        check("GPL-2.0 WITH Classpath-exception-2.0", Ok(false));
        check("MPL-2.0", Ok(false));
        check("", Err(()));
        check("MIT OR", Err(()));
        check("(MIT", Err(()));
        check("MIT Apache-2.0", Err(()));
    }

    #[test]
    fn packages() {
        #[track_caller]
        fn check_one(license: Option<&str>, expect: Option<&str>) {
            let package = Package {
                name: "lib".to_owned(),
                version: "1.0.0".to_owned(),
                license: license.map(str::to_owned),
                ..Package::default()
            };
            let found = check(&[package]);
            assert_eq!(found.first().map(|finding| finding.advice.as_str()), expect);
        }
        check_one(Some("ISC"), None);
        check_one(
            Some("AGPL-3.0"),
            Some("lib 1.0.0: its licence (AGPL-3.0) is not permissive; find another"),
        );
        check_one(
            Some("see file"),
            Some("lib 1.0.0: its licence (see file) is no SPDX expression; find another"),
        );
        check_one(None, Some("lib 1.0.0: its licence (none) is not stated; find another"));
    }
}
