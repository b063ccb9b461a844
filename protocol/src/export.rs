//! The export file: table keys and entries in one stream (SPEC 12.2).

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::{
    codec::strict::{self, Reader as Strict, Writer as StrictWriter},
    limits::{MAX_ENTRY_BYTES, MAX_SPKI_BYTES},
};

const MAGIC: &[u8; 16] = b"p2pdb export v1\n";
const TABLE_KEY: u64 = 0;
const ENTRY: u64 = 1;
const END: u64 = 2;

/// Writes an export file.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    entries: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file. Writes are small: give it a buffered output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn new(mut output: W) -> io::Result<Self> {
        output.write_all(MAGIC)?;
        Ok(Self { output, entries: 0 })
    }

    /// Writes a table's key (SPKI DER), which must come before the first entry of the table.
    ///
    /// # Errors
    /// Those of the output.
    pub fn table_key(&mut self, spki: &[u8]) -> io::Result<()> {
        self.output.write_all(&StrictWriter::new().array(2).uint(TABLE_KEY).bytes(spki).take())
    }

    /// Writes an encoded entry.
    ///
    /// # Errors
    /// Those of the output.
    pub fn entry(&mut self, encoded: &[u8]) -> io::Result<()> {
        self.output.write_all(&StrictWriter::new().array(2).uint(ENTRY).bytes(encoded).take())?;
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// Ends the file, without which it counts as truncated, and flushes the output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&StrictWriter::new().array(2).uint(END).uint(self.entries).take())?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// What stands in an export file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A table's key (SPKI DER), not verified.
    TableKey(Vec<u8>),
    /// An encoded entry, not verified: it goes through admission like any other.
    Entry(Bytes),
}

/// Why an export file cannot be read, or not further. What was read before is good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The file begins otherwise.
    #[error("not a p2pdb export file: expected the first line `p2pdb export v1`")]
    NotAnExport,
    /// The file ends without its last item.
    #[error("the export file is truncated: it ends after {entries} entries without its last item")]
    Truncated {
        /// How many entries were read.
        entries: u64,
    },
    /// An item that is not one of the export format.
    #[error("the export file is damaged after {entries} entries: expected a table key, an entry or the end")]
    Malformed {
        /// How many entries were read.
        entries: u64,
    },
    /// A key or an entry longer than any may be.
    #[error(
        "the export file is damaged after {entries} entries: an item of {got} bytes, expected at most {max}"
    )]
    TooLarge {
        /// How many entries were read.
        entries: u64,
        /// The length found.
        got: u64,
        /// The most permitted.
        max: usize,
    },
    /// The file counts another number of entries than it has.
    #[error("the export file says that it has {stated} entries, but {entries} were read")]
    WrongCount {
        /// How many entries were read.
        entries: u64,
        /// How many its last item states.
        stated: u64,
    },
    /// The input failed.
    #[error("the export file cannot be read")]
    Io(#[from] io::Error),
}

impl ExportError {
    /// The stable name, in the manner of SPEC 6.2.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotAnExport => "not_an_export",
            Self::Truncated { .. } => "truncated",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::WrongCount { .. } => "wrong_count",
            Self::Io(_) => "io",
        }
    }
}

/// Reads an export file item by item; it holds one item in memory at a time.
///
/// It ends after the last item of a whole file, or after the first error.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    entries: u64,
    is_done: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read. Reads are small: give it a buffered input.
    ///
    /// # Errors
    /// Not an export file, or the input fails.
    pub fn new(mut input: R) -> Result<Self, ExportError> {
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => Ok(Self { input, entries: 0, is_done: false }),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error.into()),
            _ => Err(ExportError::NotAnExport),
        }
    }

    /// How many entries were read.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    fn item(&mut self) -> Result<Option<Item>, ExportError> {
        let array: [u8; 1] = self.exact()?;
        Strict::new(&array).tuple(2).map_err(|error| self.malformed(error))?;
        let [kind] = self.exact()?;
        match u64::from(kind) {
            TABLE_KEY => self.bytes(MAX_SPKI_BYTES).map(|bytes| Some(Item::TableKey(bytes))),
            ENTRY => {
                let bytes = self.bytes(MAX_ENTRY_BYTES)?;
                self.entries = self.entries.saturating_add(1);
                Ok(Some(Item::Entry(bytes.into())))
            }
            END => {
                let stated = self.head(|head| head.uint())?;
                if stated != self.entries {
                    return Err(ExportError::WrongCount { entries: self.entries, stated });
                }
                match self.input.read(&mut [0])? {
                    0 => Ok(None),
                    _ => Err(ExportError::Malformed { entries: self.entries }),
                }
            }
            _ => Err(ExportError::Malformed { entries: self.entries }),
        }
    }

    fn bytes(&mut self, max: usize) -> Result<Vec<u8>, ExportError> {
        let length = self.head(|head| head.bytes_head())?;
        if length > max as u64 {
            return Err(ExportError::TooLarge { entries: self.entries, got: length, max });
        }
        // Grows with what is really there, so that a damaged length alone allocates nothing.
        let mut bytes = Vec::new();
        self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(ExportError::Truncated { entries: self.entries });
        }
        Ok(bytes)
    }

    /// Reads the head of an item, of 1 to 9 bytes, and decodes it with `decode`.
    fn head(
        &mut self,
        decode: impl FnOnce(&mut Strict<'_>) -> Result<u64, strict::Error>,
    ) -> Result<u64, ExportError> {
        let [first] = self.exact()?;
        let mut head = vec![first];
        match first & 0x1f {
            24 => head.extend(self.exact::<1>()?),
            25 => head.extend(self.exact::<2>()?),
            26 => head.extend(self.exact::<4>()?),
            27 => head.extend(self.exact::<8>()?),
            _ => {}
        }
        decode(&mut Strict::new(&head)).map_err(|error| self.malformed(error))
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], ExportError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ExportError::Truncated { entries: self.entries },
            _ => error.into(),
        })?;
        Ok(bytes)
    }

    /// A file that a program wrote wrongly is damaged all the same, canonical or not.
    fn malformed(&self, _: strict::Error) -> ExportError {
        ExportError::Malformed { entries: self.entries }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Item, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let item = self.item().transpose();
        self.is_done = !matches!(item, Some(Ok(_)));
        item
    }
}

#[cfg(test)]
mod tests;
