//! What commands print: one struct per answer, which is JSON for programs and text for people.

use std::io::{self, IsTerminal as _, Write};

use anyhow::Result;
use serde::Serialize;

/// An answer of a command: `Serialize` is its JSON form.
pub(super) trait Answer: Serialize {
    /// Writes the form for people.
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()>;
}

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Whether stdout may hold nothing but JSON.
    pub(super) const fn is_json(self) -> bool {
        self.is_json
    }

    /// Prints the one answer of a command.
    pub(super) fn print(self, answer: &impl Answer) -> Result<()> {
        let mut stdout = io::stdout().lock();
        if self.is_json {
            serde_json::to_writer_pretty(&mut stdout, answer).map_err(io::Error::from)?;
            writeln!(stdout)?;
        } else {
            answer.write_text(&mut stdout)?;
        }
        Ok(stdout.flush()?)
    }

    /// Prints one of a stream of answers: JSON takes one line each.
    pub(super) fn print_line(self, answer: &impl Answer) -> Result<()> {
        let mut stdout = io::stdout().lock();
        if self.is_json {
            serde_json::to_writer(&mut stdout, answer).map_err(io::Error::from)?;
            writeln!(stdout)?;
        } else {
            answer.write_text(&mut stdout)?;
        }
        Ok(stdout.flush()?)
    }

    /// Writes bytes as they are.
    pub(super) fn write(self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }
}

/// Writes something to stderr that is neither an answer nor an error.
pub(super) fn note(text: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person looks at stderr.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Writes `name: value` lines with the values below each other.
pub(super) fn write_fields(to: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default() + 1;
    fields.iter().try_for_each(|(name, value)| writeln!(to, "{:width$} {value}", format!("{name}:")))
}

/// Writes rows below their headings; `none` stands for no rows at all.
pub(super) fn write_table<const N: usize>(
    to: &mut dyn Write,
    headings: [&str; N],
    rows: &[[String; N]],
    none: &str,
) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(to, "{none}");
    }
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut write_row = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(to, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    write_row(&headings.map(str::to_owned))?;
    rows.iter().try_for_each(write_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut text = Vec::new();
        write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1"], ["long name", "22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            written(|to| write_table(to, ["NAME", "N"], &rows, "none")),
            "NAME       N\na          1\nlong name  22\n"
        );
        assert_eq!(written(|to| write_table::<2>(to, ["NAME", "N"], &[], "none")), "none\n");
    }

    #[test]
    fn values_stand_below_each_other() {
        let fields = [("id", "1".to_owned()), ("name", "x".to_owned())];
        assert_eq!(written(|to| write_fields(to, &fields)), "id:   1\nname: x\n");
    }
}
