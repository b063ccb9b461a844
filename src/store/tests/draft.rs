//! Entries of the tests, without a gate: nothing in them has to be true but the lengths. The fuzz target `store` is made of
//! them too, so this file takes what it needs from its parent by name.

use std::sync::LazyLock;

use p2pdb_protocol::{
    entry::{self, Entry, Header, WrappedKey},
    id::{RecipientId, TableId},
    keys::PublicKey,
    network::Network,
};
use sha2::{Digest as _, Sha256};

use super::NewEntry;

/// The time at which most tests begin.
pub(super) const START: u64 = 1_700_000_000;
pub(super) const DAY: u64 = 86_400;

/// Few buckets, cheap work and short epochs, so that few entries show everything.
pub(super) fn network() -> Network {
    Network {
        name: "store-test".to_owned(),
        bucket_bits: 3,
        work_price: 1,
        work_base_bytes: 1 << 20,
        work_puzzles: 1,
        epoch_seconds: DAY,
        ..Network::default()
    }
}

/// The key of one of three tables, the same in every process and in the fixtures.
pub(super) fn key(number: usize) -> PublicKey {
    static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
        let pems = include_str!("tables.pem").split_inclusive("-----END PUBLIC KEY-----\n");
        pems.map(|pem| PublicKey::from_pem(pem).unwrap()).collect()
    });
    KEYS[number].clone()
}

pub(super) fn table(number: usize) -> TableId {
    key(number).table_id()
}

pub(super) fn recipient(number: u8) -> RecipientId {
    // 0 and 1 begin alike: the index by recipient cannot tell them apart.
    let mut bytes = [number / 2; 32];
    bytes[31] = number;
    RecipientId::from_bytes(bytes)
}

/// What an entry of a test is made of; its signature is nonsense, since the store trusts the gate.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) table: usize,
    pub(super) created: u64,
    pub(super) expires: Option<u64>,
    pub(super) recipients: Vec<u8>,
    pub(super) length: usize,
    /// Makes body and proof different from those of other drafts.
    pub(super) seed: u64,
}

impl Default for Draft {
    fn default() -> Self {
        Self { table: 0, created: START, expires: None, recipients: vec![1], length: 256, seed: 0 }
    }
}

impl Draft {
    pub(super) fn entry(&self) -> Entry {
        self.to_all(self.recipients.iter().map(|number| recipient(*number)).collect())
    }

    pub(super) fn to_all(&self, mut recipients: Vec<RecipientId>) -> Entry {
        let blocks = (0..self.length.div_ceil(32) as u64)
            .map(|block| Sha256::digest([self.seed.to_be_bytes(), block.to_be_bytes()].concat()));
        let mut body = blocks.collect::<Vec<_>>().concat();
        body.truncate(self.length);
        recipients.sort_unstable();
        recipients.dedup();
        let recipients =
            recipients.into_iter().map(|recipient| WrappedKey { recipient, wrapped: vec![7; 256] }).collect();
        let header = Header {
            table: table(self.table),
            created: self.created,
            expires: self.expires,
            recipients,
            body_hash: Sha256::digest(&body).into(),
            body_length: body.len() as u64,
        };
        let work = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let encoded = entry::encode(&header.encode(), &body, &[9; 256], &work);
        Entry::from_trusted(encoded, &network()).unwrap()
    }

    pub(super) fn new_entry(&self) -> NewEntry {
        NewEntry { entry: self.entry(), key: key(self.table) }
    }
}
