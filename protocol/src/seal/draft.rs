//! From content to an entry that only lacks its work.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};

use super::{
    WRAP_LABEL,
    body::ContentKey,
    content::{Claim, Content, author_message},
    padme::pad,
};
use crate::{
    codec::strict::{Reader, Writer},
    entry::{self, Entry, Header, WrappedKey, entry_id, signed_message},
    id::{EntryId, RecipientId},
    keys::{OperationError, PrivateKey, PublicKey},
    limits::{MAX_ENTRY_BYTES, MAX_MEDIA_TYPE_BYTES, MAX_RECIPIENTS, RSA_BYTES},
    network::Network,
    pow::Puzzle,
    refusal::Refusal,
};

/// Why a draft cannot become an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No recipients, or too many.
    #[error("expected 1 to {MAX_RECIPIENTS} recipients, got {got}")]
    Recipients {
        /// The number of different recipients.
        got: usize,
    },
    /// It would expire at once.
    #[error("expected it to expire after {created}, when it is created, got {expires} (seconds since 1970)")]
    Expiry {
        /// When it is created, in unix seconds.
        created: u64,
        /// When it expires, in unix seconds.
        expires: u64,
    },
    /// The media type is empty or too long.
    #[error("expected a media type of 1 to {MAX_MEDIA_TYPE_BYTES} bytes, got {got}")]
    MediaType {
        /// Its length, in bytes.
        got: usize,
    },
    /// More than the network permits. Padding, recipients and the author's signature count too.
    #[error("expected an entry of at most {max} bytes, got {got}: shorten its content")]
    TooLarge {
        /// What the network permits, in bytes.
        max: u64,
        /// The length of the encoded entry, or of the data if that alone is too much, in bytes.
        got: u64,
    },
    /// An RSA operation failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

/// An entry to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// The key of the table to post to.
    pub table: &'a PrivateKey,
    /// Who is to read it: 1-16, in any order; one given twice counts once.
    pub recipients: &'a [PublicKey],
    /// The time, in unix seconds.
    pub created: u64,
    /// When nodes may drop it, in unix seconds; later than `created`.
    pub expires: Option<u64>,
    /// What they are to read.
    pub content: &'a Content,
    /// Who vouches for having written it; `None` leaves open which holder of the table's key did.
    pub author: Option<&'a PrivateKey>,
}

impl Draft<'_> {
    /// Encrypts the content to the recipients under a fresh key, and signs the entry.
    ///
    /// # Errors
    /// [`SealError`]. The length of an entry follows from that of its content, so that what is too large stays it.
    pub fn seal(&self, rng: &mut impl CryptoRng, network: &Network) -> Result<SealedEntry, SealError> {
        let recipients = self.check(network)?;
        let mut buffer = self.encode_content(rng, recipients.keys().copied())?;
        pad(&mut buffer);

        let table = self.table.public_key().table_id();
        let key = ContentKey::generate(rng);
        let recipients = (recipients.into_iter())
            .map(|(recipient, public)| {
                Ok(WrappedKey { recipient, wrapped: public.encrypt(rng, WRAP_LABEL, key.as_bytes())? })
            })
            .collect::<Result<_, OperationError>>()?;
        key.encrypt(&table, &mut buffer).ok_or(OperationError::Encrypt)?;
        let header = Header {
            table,
            created: self.created,
            expires: self.expires,
            recipients,
            body_hash: Sha256::digest(&buffer).into(),
            body_length: buffer.len() as u64,
        };
        let encoded_header = header.encode();
        let id = entry_id(&encoded_header, &buffer);
        let signature = self.table.sign(rng, &signed_message(&id))?;
        let sealed = SealedEntry { id, header, encoded_header, body: buffer, signature };
        let blank_work = vec![0; sealed.puzzle(network).work_bytes()];
        let (max, got) = (network.max_entry_bytes, sealed.encode(&blank_work).len() as u64);
        if got > max { Err(SealError::TooLarge { max, got }) } else { Ok(sealed) }
    }

    /// Checks what costs nothing to check, and puts the recipients in the order of the header.
    fn check(&self, network: &Network) -> Result<BTreeMap<RecipientId, &PublicKey>, SealError> {
        let recipients: BTreeMap<_, _> =
            self.recipients.iter().map(|key| (key.recipient_id(), key)).collect();
        if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
            return Err(SealError::Recipients { got: recipients.len() });
        }
        if let Some(expires) = self.expires.filter(|expires| *expires <= self.created) {
            return Err(SealError::Expiry { created: self.created, expires });
        }
        let got = self.content.media_type.len();
        if got == 0 || got > MAX_MEDIA_TYPE_BYTES {
            return Err(SealError::MediaType { got });
        }
        let (max, got) = (network.max_entry_bytes, self.content.data.len() as u64);
        if got > max { Err(SealError::TooLarge { max, got }) } else { Ok(recipients) }
    }

    /// The encoded content, signed by its author if there is one.
    fn encode_content(
        &self,
        rng: &mut impl CryptoRng,
        recipients: impl ExactSizeIterator<Item = RecipientId>,
    ) -> Result<Vec<u8>, SealError> {
        let Some(author) = self.author else { return Ok(self.content.encode(None)) };
        let table = self.table.public_key().table_id();
        let message = author_message(&table, self.created, recipients, self.content);
        let claim = Claim { key: author.public_key().der(), signature: &author.sign(rng, &message)? };
        Ok(self.content.encode(Some(&claim)))
    }
}

/// An entry that lacks nothing but its work. It is encrypted: an outbox may hold it on disk.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedEntry {
    id: EntryId,
    header: Header,
    encoded_header: Vec<u8>,
    body: Vec<u8>,
    signature: Vec<u8>,
}

impl SealedEntry {
    /// The id, which the work does not change.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        self.id
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What must be solved for the entry to be admitted (SPEC 5.1, 5.2).
    #[must_use]
    pub fn puzzle(&self, network: &Network) -> Puzzle {
        Puzzle::for_entry(network, &self.id, (self.encoded_header.len() + self.body.len()) as u64)
    }

    /// The form for an outbox: the entry without its work, as the strict array `[header, body, signature]`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::new().array(3).bytes(&self.encoded_header).bytes(&self.body).bytes(&self.signature).take()
    }

    /// Reads what [`SealedEntry::to_bytes`] wrote.
    ///
    /// # Errors
    /// The refusal with which any node would answer damage to header or body. Damage to the signature is found by the
    /// nodes only, which know nothing of where it comes from.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes);
        reader.tuple(3)?;
        let encoded_header = reader.bytes(MAX_ENTRY_BYTES)?.to_vec();
        let body = reader.bytes(MAX_ENTRY_BYTES)?.to_vec();
        let signature = reader.bytes(*RSA_BYTES.end())?.to_vec();
        reader.finish()?;
        let header = Header::decode(&encoded_header)?;
        if header.body_length != body.len() as u64 || header.body_hash[..] != Sha256::digest(&body)[..] {
            return Err(Refusal::BodyMismatch);
        }
        Ok(Self { id: entry_id(&encoded_header, &body), header, encoded_header, body, signature })
    }

    /// The entry with this work, ready to be put to nodes.
    ///
    /// # Errors
    /// [`Refusal::WorkMalformed`] or [`Refusal::WorkInsufficient`] if it is not the work for this entry and network;
    /// [`Refusal::TooLarge`] if it was sealed for a network that permits more.
    pub fn finish(&self, work: &[u8], network: &Network) -> Result<Entry, Refusal> {
        Entry::from_trusted(self.encode(work), network)
    }

    fn encode(&self, work: &[u8]) -> Bytes {
        entry::encode(&self.encoded_header, &self.body, &self.signature, work)
    }
}

impl std::fmt::Debug for SealedEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedEntry").field("id", &self.id).finish_non_exhaustive()
    }
}
