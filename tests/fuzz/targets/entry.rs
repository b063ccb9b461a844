//! Entries, raw and with the hashes a fuzzer cannot guess put right: what is accepted has one encoding, and its parts are
//! where the header says.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use p2pdb_protocol::{
    entry::{self, Header, UnverifiedEntry, WrappedKey},
    id::{RecipientId, TableId},
    limits::RSA_BYTES,
    network::Network,
    refusal::Refusal,
};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Raw(&'a [u8]),
    Made {
        table: [u8; 32],
        created: u64,
        expires: Option<u64>,
        recipients: Vec<([u8; 32], u16)>,
        body: &'a [u8],
        signature: u16,
        work: &'a [u8],
        spoil: Option<(u16, u8)>,
        now: u64,
    },
}

fn accepted(encoded: &Bytes, network: &Network, now: u64) -> Result<UnverifiedEntry, Refusal> {
    let entry = UnverifiedEntry::decode(encoded.clone(), network)?;
    assert_eq!(entry.encoded(), encoded);
    assert_eq!(entry.header().body_length, entry.body().len() as u64);
    assert_eq!(entry.id(), entry::entry_id(&entry.header().encode(), entry.body()));
    if entry.check_clock(network, now, 0).is_ok() {
        assert!(entry.header().created <= now.saturating_add(network.max_clock_ahead));
    }
    // Nothing a fuzzer finds has done the work of the default network.
    assert!(entry.clone().check_work(network).is_err());
    Ok(entry)
}

fuzz_target!(|input: Input<'_>| {
    let network = Network::default();
    match input {
        Input::Raw(bytes) => drop(accepted(&Bytes::copy_from_slice(bytes), &network, 0)),
        Input::Made { table, created, expires, recipients, body, signature, work, spoil, now } => {
            let recipients: Vec<WrappedKey> = recipients
                .into_iter()
                .map(|(id, length)| WrappedKey {
                    recipient: RecipientId::from_bytes(id),
                    wrapped: vec![7; usize::from(length % 640)],
                })
                .collect();
            let is_good = (1..=16).contains(&recipients.len())
                && recipients.iter().all(|key| RSA_BYTES.contains(&key.wrapped.len()))
                && recipients.is_sorted_by(|a, b| a.recipient < b.recipient)
                && expires.is_none_or(|expires| expires > created);
            let (body_hash, body_length) = (sha256(body), body.len() as u64);
            let table = TableId::from_bytes(table);
            let header = Header { table, created, expires, recipients, body_hash, body_length };
            let signature = vec![9; usize::from(signature % 640)];
            let is_good = is_good && RSA_BYTES.contains(&signature.len());
            let encoded = entry::encode(&header.encode(), body, &signature, work);
            match accepted(&encoded, &network, now) {
                Ok(entry) => assert!(is_good && *entry.header() == header),
                Err(refusal) => assert!(!is_good, "{refusal:?} for a good entry"),
            }
            // One flipped bit: refused, or another entry, or the same with another signature or work.
            let Some((at, bits)) = spoil.filter(|(_, bits)| *bits != 0) else { return };
            let mut spoilt = encoded.to_vec();
            let at = usize::from(at) % spoilt.len();
            spoilt[at] ^= bits;
            if let (Ok(before), Ok(after)) =
                (accepted(&encoded, &network, now), accepted(&spoilt.into(), &network, now))
            {
                assert_eq!(before.id() == after.id(), before.header() == after.header());
            }
        }
    }
});

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).into()
}
