//! Reading the files back.

use crate::vector::Vector;

impl Vector {
    /// Reads a file, which must be exactly in the form of the README.
    pub fn parse(area: &str, name: &str, text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").expect("a blank line after the header lines");
        let line = |line: &str| {
            let (key, value) = line.split_once(": ").expect("a header line `key: value`");
            (key.to_owned(), value.to_owned())
        };
        let vector = Self {
            area: area.to_owned(),
            name: name.to_owned(),
            keys: head.lines().map(line).collect(),
            body: unhex(&body.split('\n').collect::<String>()),
        };
        assert_eq!(vector.render(), text, "{area}/{name} is not in the form of the README");
        vector
    }

    /// The value of a header line that must be there.
    pub fn need(&self, key: &str) -> &str {
        let found = self.keys.iter().find(|(found, _)| found == key);
        found
            .map(|(_, value)| &value[..])
            .unwrap_or_else(|| panic!("{}: no line {key}", self.path().display()))
    }

    /// The number in a header line.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> T {
        self.need(key).parse().unwrap_or_else(|_| panic!("{}: {key} is no number", self.path().display()))
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "an odd number of hex digits");
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}
