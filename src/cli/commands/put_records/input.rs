//! Records of a text: paragraphs with empty lines between them, as in Debian's package lists.

use std::io::{self, BufRead, Read as _};

use p2pdb_protocol::limits::MAX_ENTRY_BYTES;

/// The records of an input, as they come.
///
/// Of a record that no network would take only so much is kept that it can be told.
pub(super) struct Records<R>(R);

impl<R: BufRead> Records<R> {
    pub(super) const fn new(input: R) -> Self {
        Self(input)
    }

    /// The next record without the line end after it; none at the end.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut record, mut line) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            // A line may have any length: it comes in pieces.
            let is_end = (&mut self.0).take(MAX_ENTRY_BYTES as u64).read_until(b'\n', &mut line)? == 0;
            let is_blank = line.iter().all(u8::is_ascii_whitespace);
            if (is_end || is_blank) && !record.is_empty() {
                record.pop_if(|last| *last == b'\n');
                return Ok(Some(record));
            }
            if is_end {
                return Ok(None);
            }
            if !is_blank && record.len() <= MAX_ENTRY_BYTES {
                record.extend_from_slice(&line);
            }
        }
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<String> {
        Records::new(text.as_bytes()).map(|record| String::from_utf8(record.unwrap()).unwrap()).collect()
    }

    #[test]
    fn empty_lines_separate_records() {
        assert_eq!(
            records("\n\nPackage: a\nSize: 1\n\n \t\nPackage: b\n"),
            ["Package: a\nSize: 1", "Package: b"]
        );
        assert_eq!(records("a"), ["a"]);
        assert!(records("\n \n").is_empty());
    }

    #[test]
    fn a_record_takes_bounded_memory_and_is_still_too_long() {
        let endless = format!("{}\n\nnext\n", "x".repeat(5 * MAX_ENTRY_BYTES));
        let lengths: Vec<usize> = records(&endless).iter().map(String::len).collect();
        assert!(
            matches!(lengths[..], [long, 4] if long > MAX_ENTRY_BYTES && long <= 2 * MAX_ENTRY_BYTES),
            "{lengths:?}"
        );
    }
}
