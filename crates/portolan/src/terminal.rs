//! Standard streams and aligned columns.

use std::fmt::Display;
use std::io::Write;

/// Prints a line to stdout. Returns whether somebody still reads: a closed pipe must not end a server, and must end a
/// command that would print for ever.
pub(crate) fn say(line: impl Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Prints a line to stderr, where it does not mix with what a script reads.
pub(crate) fn complain(line: impl Display) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr().lock(), "portolan: {line}");
}

/// Rows in columns as wide as their widest cell, two spaces apart; the first row is the head.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_align() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let got = columns(&[row("NAME", "TAGS"), row("订单-service", "a"), row("x", "")]);
        assert_eq!(got, "NAME        TAGS\n订单-service  a\nx");
    }
}
