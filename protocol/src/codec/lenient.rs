//! CBOR of messages (SPEC 1.3): maps with text keys, unknown keys ignored.
//!
//! Message types derive serde with their fields as keys; an `Option` field may be absent. Serde refuses
//! duplicate known keys, and the types of [`super::bounded`] refuse what is too long.

use cbor4ii::{
    core::{dec::Read as _, utils::SliceReader},
    serde::Deserializer,
};
use serde::{Deserialize, Serialize};

/// Why a message does not decode or encode. For logs: a peer gets a status code only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not CBOR, or not the structure of the message.
    #[error("the message does not decode: {0}")]
    Decode(String),
    /// Bytes after the object.
    #[error("further bytes follow the message")]
    Trailing,
    /// A value that has no encoding.
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
}

/// Encodes a message.
///
/// # Errors
/// The type cannot be written as CBOR, which is a fault of the type and not of the value.
pub fn to_vec<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, Error> {
    append(Vec::new(), message)
}

/// Encodes a message behind bytes that are there already.
///
/// # Errors
/// Only if the message cannot be written as CBOR, which none of this crate's do.
pub fn append<T: Serialize + ?Sized>(bytes: Vec<u8>, message: &T) -> Result<Vec<u8>, Error> {
    cbor4ii::serde::to_vec(bytes, &message).map_err(|error| Error::Encode(error.to_string()))
}

/// Decodes one message that makes up the whole of `bytes`.
///
/// # Errors
/// Not CBOR, not of this structure, a duplicate key, a list past its limit, or bytes after the object.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut deserializer = Deserializer::new(SliceReader::new(bytes));
    let message = T::deserialize(&mut deserializer).map_err(|error| Error::Decode(error.to_string()))?;
    let mut reader = deserializer.into_inner();
    let Ok(rest) = reader.fill(1);
    if rest.as_ref().is_empty() { Ok(message) } else { Err(Error::Trailing) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::codec::bounded::{Blob, List};

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Sample {
        ids: List<u64, 3>,
        blob: Option<Blob<4>>,
        count: Option<u64>,
    }

    fn sample() -> Sample {
        Sample { ids: vec![1, 2].try_into().unwrap(), blob: None, count: Some(7) }
    }

    #[test]
    fn unknown_keys_are_ignored_and_absent_ones_are_null() {
        // {"ids": [1], "later": {"x": [null, 1.5]}}
        let bytes = b"\xa2\x63ids\x81\x01\x65later\xa1\x61x\x82\xf6\xf9\x3e\x00";
        let sample: Sample = from_slice(bytes).unwrap();
        assert_eq!(sample, Sample { ids: vec![1].try_into().unwrap(), blob: None, count: None });
    }

    #[test]
    fn duplicate_keys_and_trailing_bytes_are_refused() {
        assert!(matches!(from_slice::<Sample>(b"\xa2\x63ids\x80\x63ids\x80"), Err(Error::Decode(_))));
        let mut bytes = to_vec(&sample()).unwrap();
        bytes.push(0);
        assert_eq!(from_slice::<Sample>(&bytes), Err(Error::Trailing));
    }

    #[test]
    fn lists_and_blobs_past_their_limit_are_refused() {
        assert!(from_slice::<Sample>(b"\xa1\x63ids\x83\x01\x02\x03").is_ok());
        assert!(from_slice::<Sample>(b"\xa1\x63ids\x84\x01\x02\x03\x04").is_err());
        // An indefinite length hides the count, and a huge count has no elements behind it.
        assert!(from_slice::<Sample>(b"\xa1\x63ids\x9f\x01\x02\x03\x04\xff").is_err());
        assert!(from_slice::<Sample>(b"\xa1\x63ids\x9b\x00\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(from_slice::<Sample>(b"\xa2\x63ids\x80\x64blob\x44\x01\x02\x03\x04").is_ok());
        assert!(from_slice::<Sample>(b"\xa2\x63ids\x80\x64blob\x45\x01\x02\x03\x04\x05").is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = b"\xa1\x63new".to_vec();
        bytes.extend(std::iter::repeat_n(0x81, 100_000));
        assert!(matches!(from_slice::<Sample>(&bytes), Err(Error::Decode(_))));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = from_slice::<Sample>(&bytes);
        }

        #[test]
        fn truncation_is_refused(cut in 0usize..30) {
            let bytes = to_vec(&sample()).unwrap();
            let cut = cut % bytes.len();
            prop_assert!(from_slice::<Sample>(bytes.get(..cut).unwrap()).is_err());
        }
    }
}
