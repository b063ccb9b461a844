//! Deterministic CBOR of what is hashed or signed (SPEC 1.2): one value has one encoding.

use crate::refusal::Refusal;

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const NULL: u8 = 0xf6;

/// Why bytes are not the strict encoding of what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another type or number of elements than expected, truncated, or followed by further bytes.
    #[error("not the expected structure")]
    Malformed,
    /// An integer or length that is not in its shortest form, or an indefinite length.
    #[error("not encoded canonically")]
    NonCanonical,
    /// A list or string longer than its limit; nothing was allocated for it.
    #[error("longer than permitted")]
    TooLong,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed | Error::TooLong => Refusal::Malformed,
            Error::NonCanonical => Refusal::NonCanonical,
        }
    }
}

/// Writes one strict object, item after item.
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an array; its `length` elements must follow.
    pub fn array(&mut self, length: usize) -> &mut Self {
        self.head(ARRAY, length as u64)
    }

    /// Writes an unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Writes a text string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Writes `null`.
    pub fn null(&mut self) -> &mut Self {
        self.0.push(NULL);
        self
    }

    /// The bytes written so far; leaves the writer empty.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        let be = value.to_be_bytes();
        let [.., b4, b5, b6, b7] = be;
        match value {
            0..=23 => self.0.push(major | b7),
            24..=0xff => self.0.extend([major | 24, b7]),
            0x100..=0xffff => self.0.extend([major | 25, b6, b7]),
            0x1_0000..=0xffff_ffff => self.0.extend([major | 26, b4, b5, b6, b7]),
            _ => {
                self.0.push(major | 27);
                self.0.extend(be);
            }
        }
        self
    }
}

/// Reads one strict object, item after item, without copying or allocating.
///
/// The type of an item is judged first, then whether its head is canonical, then its length.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Begins an array of at most `max` elements and returns their number.
    ///
    /// # Errors
    /// Not an array ([`Error::Malformed`]), not canonical, or longer than `max` ([`Error::TooLong`]).
    pub fn array(&mut self, max: usize) -> Result<usize, Error> {
        let length = self.head(ARRAY)?;
        usize::try_from(length).ok().filter(|length| *length <= max).ok_or(Error::TooLong)
    }

    /// Begins an array of exactly `length` elements.
    ///
    /// # Errors
    /// Not an array, of another length, or not canonical.
    pub fn tuple(&mut self, length: usize) -> Result<(), Error> {
        if self.head(ARRAY)? == length as u64 { Ok(()) } else { Err(Error::Malformed) }
    }

    /// Reads an unsigned integer.
    ///
    /// # Errors
    /// Not an unsigned integer, or not canonical.
    pub fn uint(&mut self) -> Result<u64, Error> {
        self.head(UINT)
    }

    /// Reads a byte string of at most `max` bytes.
    ///
    /// # Errors
    /// Not a byte string, not canonical, truncated, or longer than `max`.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Error> {
        let length = self.head(BYTES)?;
        self.string(length, max)
    }

    /// Reads the head of a byte string whose bytes are not in the reader, and returns its length.
    pub(crate) fn bytes_head(&mut self) -> Result<u64, Error> {
        self.head(BYTES)
    }

    /// Reads a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// As [`Self::bytes`]; another length is [`Error::Malformed`].
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let length = self.head(BYTES)?;
        if length != N as u64 {
            return Err(Error::Malformed);
        }
        self.string(length, N)?.try_into().map_err(|_| Error::Malformed)
    }

    /// Reads a UTF-8 text of at most `max` bytes.
    ///
    /// # Errors
    /// Not a text, not UTF-8, not canonical, truncated, or longer than `max`.
    pub fn text(&mut self, max: usize) -> Result<&'a str, Error> {
        let length = self.head(TEXT)?;
        std::str::from_utf8(self.string(length, max)?).map_err(|_| Error::Malformed)
    }

    /// Reads `null`, or else what `item` reads.
    ///
    /// # Errors
    /// Those of `item`.
    pub fn nullable<T, E>(&mut self, item: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<Option<T>, E> {
        if let Some((&NULL, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(None);
        }
        item(self).map(Some)
    }

    /// Ends reading.
    ///
    /// # Errors
    /// Bytes are left ([`Error::Malformed`]).
    pub const fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }

    fn string(&mut self, length: u64, max: usize) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).ok().filter(|length| *length <= max).ok_or(Error::TooLong)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the head of an item of the type `major` and returns its value or length.
    fn head(&mut self, major: u8) -> Result<u64, Error> {
        let (&first, rest) = self.rest.split_first().ok_or(Error::Malformed)?;
        if first >> 5 != major {
            return Err(Error::Malformed);
        }
        self.rest = rest;
        // The smallest value that needs a head of this size: a smaller one has a shorter head.
        let (size, least) = match first & 0x1f {
            short @ 0..=23 => return Ok(u64::from(short)),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            31 if major != UINT => return Err(Error::NonCanonical),
            _ => return Err(Error::Malformed),
        };
        let value = self.take(size)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value < least { Err(Error::NonCanonical) } else { Ok(value) }
    }
}

#[cfg(test)]
mod tests;
