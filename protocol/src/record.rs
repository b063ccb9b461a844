//! Node records: what a node says about itself, signed by its key (SPEC 7).

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::{
    codec::strict::{self, Reader, Writer},
    id::{NetworkId, TableId},
    limits::{MAX_ADDRESS_BYTES, MAX_RECORD_ADDRESSES, MAX_RECORD_BYTES, MAX_TABLES},
};

const VERSION: u64 = 1;

/// Why a node record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Longer than any record may be.
    #[error("the node record has {got} bytes, expected at most {MAX_RECORD_BYTES}")]
    TooLarge {
        /// Its length in bytes.
        got: usize,
    },
    /// Not the structure of SPEC 7.1, or a list in it breaks its rule.
    #[error("the node record does not decode")]
    Malformed,
    /// Not the one encoding of its values.
    #[error("the node record is not encoded canonically")]
    NonCanonical,
    /// Of a later version of the protocol.
    #[error("the node record has version {got}, expected {VERSION}")]
    UnknownVersion {
        /// Its version.
        got: u64,
    },
    /// Not signed by the key it names, for this network.
    #[error("the node record is not signed by its key for this network")]
    SignatureInvalid,
}

impl RecordError {
    /// The stable name, in the manner of SPEC 6.2.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed => "malformed",
            Self::NonCanonical => "non_canonical",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::SignatureInvalid => "signature_invalid",
        }
    }
}

impl From<strict::Error> for RecordError {
    fn from(error: strict::Error) -> Self {
        match error {
            strict::Error::Malformed | strict::Error::TooLong => Self::Malformed,
            strict::Error::NonCanonical => Self::NonCanonical,
        }
    }
}

/// What a node says about itself (SPEC 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node's Ed25519 public key.
    pub key: [u8; 32],
    /// Grows with every new record; usually the unix time it was made.
    pub sequence: u64,
    /// Where it listens: at most 8 binary multiaddrs of 1-256 bytes, without the peer id.
    pub addresses: Vec<Vec<u8>>,
    /// The tables it mirrors, at most 256, strictly ascending; `None`: every table.
    pub tables: Option<Vec<TableId>>,
    /// For how many seconds it keeps an entry; 0: no limit by age.
    pub horizon: u64,
    /// How many entries a peer may put per minute; 0: none.
    pub puts_per_minute: u64,
}

impl NodeRecord {
    /// The bytes of the libp2p peer id of the node: the identity multihash of its key (SPEC 7.1).
    #[must_use]
    pub fn peer_id_bytes(&self) -> [u8; 38] {
        let mut id = [0; 38];
        let prefix = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
        for (to, from) in id.iter_mut().zip(prefix.iter().chain(&self.key)) {
            *to = *from;
        }
        id
    }

    /// Whether the node mirrors a table, by what it says.
    #[must_use]
    pub fn mirrors(&self, table: &TableId) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.binary_search(table).is_ok())
    }

    /// Signs the record for a network; `sign` makes the Ed25519 signature of `self.key` over its argument.
    ///
    /// # Errors
    /// The record breaks a rule of SPEC 7.1, or `sign` does not sign with the record's key.
    pub fn sign(
        &self,
        network: &NetworkId,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<SignedRecord, RecordError> {
        let payload = self.encode();
        let signature = sign(&signed_message(network, &payload));
        SignedRecord::verify(Writer::new().array(2).bytes(&payload).bytes(&signature).take().into(), network)
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(7).uint(VERSION).bytes(&self.key).uint(self.sequence).array(self.addresses.len());
        for address in &self.addresses {
            writer.bytes(address);
        }
        match &self.tables {
            None => writer.null(),
            Some(tables) => {
                tables.iter().fold(writer.array(tables.len()), |writer, table| writer.bytes(table.as_bytes()))
            }
        };
        writer.uint(self.horizon).uint(self.puts_per_minute).take()
    }

    fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(payload);
        let elements = reader.array(usize::MAX)?;
        match reader.uint()? {
            VERSION => {}
            got => return Err(RecordError::UnknownVersion { got }),
        }
        if elements != 7 {
            return Err(RecordError::Malformed);
        }
        let record = Self {
            key: reader.fixed()?,
            sequence: reader.uint()?,
            addresses: decode_addresses(&mut reader)?,
            tables: reader.nullable(decode_tables)?,
            horizon: reader.uint()?,
            puts_per_minute: reader.uint()?,
        };
        reader.finish()?;
        Ok(record)
    }
}

fn decode_addresses(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, RecordError> {
    let count = reader.array(MAX_RECORD_ADDRESSES)?;
    let address = |_| match reader.bytes(MAX_ADDRESS_BYTES)? {
        [] => Err(RecordError::Malformed),
        address => Ok(address.to_vec()),
    };
    (0..count).map(address).collect()
}

fn decode_tables(reader: &mut Reader<'_>) -> Result<Vec<TableId>, RecordError> {
    let count = reader.array(MAX_TABLES)?;
    let tables: Vec<TableId> =
        (0..count).map(|_| reader.fixed().map(TableId::from_bytes)).collect::<Result<_, _>>()?;
    if tables.is_sorted_by(|a, b| a < b) { Ok(tables) } else { Err(RecordError::Malformed) }
}

fn signed_message(network: &NetworkId, payload: &[u8]) -> Vec<u8> {
    [b"p2pdb node record v1", &network.as_bytes()[..], payload].concat()
}

/// A node record whose signature is right, with the bytes by which it is passed on.
///
/// Whether it is that of the peer it is claimed for is for the caller to compare: see
/// [`NodeRecord::peer_id_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecord {
    record: NodeRecord,
    encoded: Bytes,
}

impl SignedRecord {
    /// Decodes a record and verifies its signature for a network (SPEC 7.2).
    ///
    /// # Errors
    /// Too large, not decodable, or not signed by its key for this network.
    pub fn verify(encoded: Bytes, network: &NetworkId) -> Result<Self, RecordError> {
        if encoded.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { got: encoded.len() });
        }
        let mut reader = Reader::new(&encoded);
        reader.tuple(2)?;
        let payload = reader.bytes(MAX_RECORD_BYTES)?;
        let signature: [u8; 64] = reader.fixed()?;
        reader.finish()?;
        let record = NodeRecord::decode(payload)?;
        VerifyingKey::from_bytes(&record.key)
            .and_then(|key| {
                key.verify_strict(&signed_message(network, payload), &Signature::from_bytes(&signature))
            })
            .map_err(|_| RecordError::SignatureInvalid)?;
        Ok(Self { record, encoded })
    }

    /// What the node says about itself.
    #[must_use]
    pub const fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// The encoding, as it is sent to others.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The record alone.
    #[must_use]
    pub fn into_record(self) -> NodeRecord {
        self.record
    }
}

#[cfg(test)]
mod tests;
