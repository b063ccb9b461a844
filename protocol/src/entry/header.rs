//! The header of an entry (SPEC 4.2).

use crate::{
    codec::strict::{Error, Reader, Writer},
    id::{RecipientId, TableId},
    limits::{MAX_RECIPIENTS, RSA_BYTES},
    refusal::Refusal,
};

/// The content key of an entry, wrapped for one recipient (SPEC 4.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Whose key unwraps it.
    pub recipient: RecipientId,
    /// The RSA-OAEP ciphertext, as long as the recipient's modulus: 256-512 bytes.
    pub wrapped: Vec<u8>,
}

/// What an entry says about itself in the clear (SPEC 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The table it belongs to.
    pub table: TableId,
    /// When the poster claims to have made it, in unix seconds.
    pub created: u64,
    /// When nodes may drop it, in unix seconds; later than `created`.
    pub expires: Option<u64>,
    /// Who can read it: 1-16, strictly ascending by recipient.
    pub recipients: Vec<WrappedKey>,
    /// SHA-256 of the body.
    pub body_hash: [u8; 32],
    /// Length of the body, in bytes.
    pub body_length: u64,
}

impl Header {
    /// The version of the header that this crate reads and writes.
    pub const VERSION: u64 = 1;

    /// The strict encoding, which the entry id hashes. Nothing is checked.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(7).uint(Self::VERSION).bytes(self.table.as_bytes()).uint(self.created);
        match self.expires {
            Some(expires) => writer.uint(expires),
            None => writer.null(),
        };
        writer.array(self.recipients.len());
        for WrappedKey { recipient, wrapped } in &self.recipients {
            writer.array(2).bytes(recipient.as_bytes()).bytes(wrapped);
        }
        writer.bytes(&self.body_hash).uint(self.body_length).take()
    }

    /// Decodes a header and checks the rules of SPEC 4.2.
    ///
    /// # Errors
    /// The first fault in the order of the encoding. The version comes before everything else, the number of
    /// elements included: a later version may have another one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes);
        let elements = reader.array(usize::MAX)?;
        if reader.uint()? != Self::VERSION {
            return Err(Refusal::UnknownVersion);
        }
        if elements != 7 {
            return Err(Refusal::Malformed);
        }
        let table = TableId::from_bytes(reader.fixed()?);
        let created = reader.uint()?;
        let expires = reader.nullable(Reader::uint)?;
        if expires.is_some_and(|expires| expires <= created) {
            return Err(Refusal::BadExpiry);
        }
        let recipients = decode_recipients(&mut reader)?;
        let body_hash = reader.fixed()?;
        let body_length = reader.uint()?;
        reader.finish()?;
        Ok(Self { table, created, expires, recipients, body_hash, body_length })
    }
}

fn decode_recipients(reader: &mut Reader<'_>) -> Result<Vec<WrappedKey>, Refusal> {
    let count = bounded(reader.array(MAX_RECIPIENTS))?;
    if count == 0 {
        return Err(Refusal::BadRecipients);
    }
    let mut recipients: Vec<WrappedKey> = Vec::with_capacity(count);
    for _ in 0..count {
        reader.tuple(2)?;
        let recipient = RecipientId::from_bytes(reader.fixed()?);
        let wrapped = bounded(reader.bytes(*RSA_BYTES.end()))?.to_vec();
        let is_ascending = recipients.last().is_none_or(|last| last.recipient < recipient);
        if wrapped.len() < *RSA_BYTES.start() || !is_ascending {
            return Err(Refusal::BadRecipients);
        }
        recipients.push(WrappedKey { recipient, wrapped });
    }
    Ok(recipients)
}

/// Too many recipients, or too long a wrapped key, is a fault of the recipients and not of the encoding.
fn bounded<T>(item: Result<T, Error>) -> Result<T, Refusal> {
    item.map_err(|error| if error == Error::TooLong { Refusal::BadRecipients } else { error.into() })
}
