//! One test vector and its file, as `vectors/README.md` describes it.

use std::{fmt::Write as _, path::PathBuf};

/// A case with the result that it must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// The directory, which says what is done with the body.
    pub area: String,
    /// The file's name without `.txt`.
    pub name: String,
    /// The header lines, in order; `expect` is one of them.
    pub keys: Vec<(String, String)>,
    /// The bytes the case is about.
    pub body: Vec<u8>,
}

impl Vector {
    /// A case of `area` that shows what `about` says and gives `expect`.
    pub fn new(area: &str, name: &str, spec: &str, expect: &str, about: &str) -> Self {
        let keys = [("about", about), ("spec", spec), ("expect", expect)];
        let keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self { area: area.to_owned(), name: name.to_owned(), keys, body: Vec::new() }
    }

    /// Adds a header line.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        assert!(!key.contains(':') && !value.contains('\n'), "{key} cannot be a header line");
        self.keys.push((key.to_owned(), value));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The file, below `vectors/`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(&self.area).join(format!("{}.txt", self.name))
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.keys {
            writeln!(text, "{key}: {value}").unwrap();
        }
        text.push('\n');
        for line in self.body.chunks(32) {
            writeln!(text, "{}", hex(line)).unwrap();
        }
        text
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
