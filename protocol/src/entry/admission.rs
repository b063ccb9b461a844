//! The types an entry passes through on its way in (SPEC 6.1).

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Header, entry_id, signed_message};
use crate::{
    codec::strict::Reader,
    id::EntryId,
    keys::PublicKey,
    limits::RSA_BYTES,
    network::Network,
    pow::{self, Puzzle},
    refusal::Refusal,
};

/// The decoded parts of an entry; all bytes are slices of `encoded`.
#[derive(Clone, PartialEq, Eq)]
struct Parts {
    id: EntryId,
    header: Header,
    encoded: Bytes,
    /// `length(header) + length(body)`, which the price depends on (SPEC 5.1).
    priced_size: u64,
    body: Bytes,
    signature: Bytes,
    work: Bytes,
}

impl Parts {
    fn decode(encoded: Bytes, network: &Network) -> Result<Self, Refusal> {
        let length = encoded.len();
        if length as u64 > network.max_entry_bytes {
            return Err(Refusal::TooLarge);
        }
        let mut reader = Reader::new(&encoded);
        reader.tuple(4)?;
        let header_bytes = reader.bytes(length)?;
        let [body, signature, work] = [reader.bytes(length)?, reader.bytes(length)?, reader.bytes(length)?];
        reader.finish()?;
        let header = Header::decode(header_bytes)?;
        if !RSA_BYTES.contains(&signature.len()) {
            return Err(Refusal::Malformed);
        }
        if header.body_length != body.len() as u64 || header.body_hash[..] != Sha256::digest(body)[..] {
            return Err(Refusal::BodyMismatch);
        }
        Ok(Self {
            id: entry_id(header_bytes, body),
            header,
            priced_size: (header_bytes.len() + body.len()) as u64,
            body: encoded.slice_ref(body),
            signature: encoded.slice_ref(signature),
            work: encoded.slice_ref(work),
            encoded,
        })
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("id", &self.id)
            .field("table", &self.header.table)
            .field("created", &self.header.created)
            .field("bytes", &self.encoded.len())
            .finish_non_exhaustive()
    }
}

/// An entry that decodes, from anyone: the steps 1 and 2 of admission are done.
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedEntry(Parts);

impl UnverifiedEntry {
    /// Decodes an entry: size, encoding, header, and that the body is the one the header commits to.
    ///
    /// # Errors
    /// The refusals of the steps 1 and 2 of SPEC 6.1.
    pub fn decode(encoded: Bytes, network: &Network) -> Result<Self, Refusal> {
        Parts::decode(encoded, network).map(Self)
    }

    /// The id, which header and body alone determine.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        self.0.id
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.0.header
    }

    /// The encoding of the whole entry.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    /// The encrypted body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// What the work of this entry must solve (SPEC 5.1, 5.2).
    #[must_use]
    pub fn puzzle(&self, network: &Network) -> Puzzle {
        Puzzle::for_entry(network, &self.0.id, self.0.priced_size)
    }

    /// Checks the times (step 3 of SPEC 6.1). `now` and `horizon_start` are unix seconds; a node that keeps
    /// entries of every age has the horizon 0.
    ///
    /// # Errors
    /// [`Refusal::CreatedInFuture`], [`Refusal::Expired`] or [`Refusal::BeyondHorizon`].
    pub fn check_clock(&self, network: &Network, now: u64, horizon_start: u64) -> Result<(), Refusal> {
        let Header { created, expires, .. } = self.0.header;
        if created > now.saturating_add(network.max_clock_ahead) {
            return Err(Refusal::CreatedInFuture);
        }
        if expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Expired);
        }
        if created < horizon_start {
            return Err(Refusal::BeyondHorizon);
        }
        Ok(())
    }

    /// Checks the proof of work (step 5 of SPEC 6.1).
    ///
    /// # Errors
    /// [`Refusal::WorkMalformed`] or [`Refusal::WorkInsufficient`].
    pub fn check_work(self, network: &Network) -> Result<WorkedEntry, Refusal> {
        let effort = pow::check(&self.puzzle(network), &self.0.work)?;
        Ok(WorkedEntry { parts: self.0, effort })
    }
}

impl fmt::Debug for UnverifiedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt("UnverifiedEntry", f)
    }
}

/// An entry whose work is done: only for such a one may a node spend RSA (SPEC 6.1).
#[derive(Clone, PartialEq, Eq)]
pub struct WorkedEntry {
    parts: Parts,
    effort: u64,
}

impl WorkedEntry {
    /// The id.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        self.parts.id
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.parts.header
    }

    /// The hashes that its proof shows to have been made, as far as can be told (SPEC 5.4).
    #[must_use]
    pub const fn effort(&self) -> u64 {
        self.effort
    }

    /// Checks the table's signature (step 7 of SPEC 6.1).
    ///
    /// # Errors
    /// [`Refusal::TableKeyInvalid`] if `table_key` is not the key of the entry's table,
    /// [`Refusal::SignatureInvalid`] if it did not sign the entry.
    pub fn verify(self, table_key: &PublicKey) -> Result<Entry, Refusal> {
        if table_key.table_id() != self.parts.header.table {
            return Err(Refusal::TableKeyInvalid);
        }
        table_key
            .verify(&signed_message(&self.parts.id), &self.parts.signature)
            .map_err(|_| Refusal::SignatureInvalid)?;
        Ok(Entry { parts: self.parts, effort: self.effort })
    }
}

impl fmt::Debug for WorkedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt("WorkedEntry", f)
    }
}

/// A verified entry: worked for and signed by its table.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    parts: Parts,
    effort: u64,
}

impl Entry {
    /// Reads an entry back from a store that only holds verified ones: everything is checked but its times
    /// and the RSA signature, so that damage to the store is noticed.
    ///
    /// # Errors
    /// The refusals of the steps 1, 2 and 5 of SPEC 6.1.
    pub fn from_trusted(encoded: Bytes, network: &Network) -> Result<Self, Refusal> {
        let WorkedEntry { parts, effort } = UnverifiedEntry::decode(encoded, network)?.check_work(network)?;
        Ok(Self { parts, effort })
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        self.parts.id
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.parts.header
    }

    /// The encoding of the whole entry.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.parts.encoded
    }

    /// The encrypted body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.parts.body
    }

    /// The hashes that its proof shows to have been made, as far as can be told (SPEC 5.4).
    #[must_use]
    pub const fn effort(&self) -> u64 {
        self.effort
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt("Entry", f)
    }
}
