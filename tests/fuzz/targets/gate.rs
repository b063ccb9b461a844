//! The checks of admission in their order (SPEC 6.1): whatever becomes of the bytes of good entries, and whatever the clock
//! and the key, what comes through is an entry that its table signed, worked for and in time.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use p2pdb_protocol::{
    entry::{Entry, UnverifiedEntry},
    id::EntryId,
    keys::{PrivateKey, PublicKey},
    network::{Network, NetworkFile},
    pow,
    refusal::Refusal,
};

/// Some bytes in another place of the entry.
#[derive(Arbitrary, Debug)]
struct Splice<'a> {
    at: u16,
    remove: u8,
    insert: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    which: u8,
    splices: Vec<Splice<'a>>,
    clock: i32,
    horizon: u16,
    other_key: bool,
}

struct World {
    network: Network,
    keys: [PublicKey; 2],
    entries: Vec<(Bytes, EntryId)>,
}

/// The entries of the vectors that are good but for their times.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let file = NetworkFile::parse(include_str!("../../../protocol/vectors/network/p2pdb-vectors.toml"));
    let network = file.expect("the network of the vectors").network;
    let key = |pem| PrivateKey::from_pem(pem, None).expect("a key of the vectors").public_key().clone();
    let keys = [
        key(include_str!("../../../protocol/vectors/keys/table.pem")),
        key(include_str!("../../../protocol/vectors/keys/stranger.pem")),
    ];
    let entries = [
        include_str!("../../../protocol/vectors/entry/ok.txt"),
        include_str!("../../../protocol/vectors/entry/ok-better-work.txt"),
        include_str!("../../../protocol/vectors/entry/ok-last-second.txt"),
        include_str!("../../../protocol/vectors/entry/ok-longer.txt"),
        include_str!("../../../protocol/vectors/entry/ok-no-expiry.txt"),
        include_str!("../../../protocol/vectors/entry/ok-two-recipients.txt"),
    ];
    let entries = entries.map(|vector| {
        let encoded = body(vector);
        let entry = UnverifiedEntry::decode(encoded.clone(), &network).expect("an entry of the vectors");
        (encoded, entry.id())
    });
    World { network, keys, entries: entries.into() }
});

fn body(vector: &str) -> Bytes {
    let (_, body) = vector.split_once("\n\n").expect("a blank line");
    let digits: Vec<u8> = body.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

fn admit(encoded: Bytes, key: &PublicKey, now: u64, horizon_start: u64) -> Result<Entry, Refusal> {
    let network = &WORLD.network;
    let entry = UnverifiedEntry::decode(encoded, network)?;
    entry.check_clock(network, now, horizon_start)?;
    entry.check_work(network)?.verify(key)
}

fuzz_target!(|input: Input<'_>| {
    let World { network, keys, entries } = &*WORLD;
    let (good, _) = &entries[usize::from(input.which) % entries.len()];
    let mut bytes = good.to_vec();
    for Splice { at, remove, insert } in input.splices.iter().take(8) {
        let at = usize::from(*at) % (bytes.len() + 1);
        let end = (at + usize::from(*remove)).min(bytes.len());
        bytes.splice(at..end, insert.iter().copied());
    }
    let is_whole = bytes == *good;
    let now = 1_750_000_060_u64.saturating_add_signed(input.clock.into());
    let horizon_start = now.saturating_sub(u64::from(input.horizon) * 60);
    let key = &keys[usize::from(input.other_key)];
    let encoded = Bytes::from(bytes);
    match admit(encoded.clone(), key, now, horizon_start) {
        Ok(entry) => {
            assert_eq!(*entry.encoded(), encoded);
            assert!(!input.other_key, "signed by another key");
            // Header and body are what was signed; the work may be another that fits, but it is not less.
            assert!(entries.iter().any(|(_, id)| *id == entry.id()), "nobody signed {:?}", entry.id());
            let header = entry.header();
            assert!((horizon_start..=now + network.max_clock_ahead).contains(&header.created));
            assert!(header.expires.is_none_or(|expires| expires > now));
            let size = (header.encode().len() + entry.body().len()) as u64;
            assert!(u128::from(entry.effort()) >= pow::price(network, size));
        }
        Err(refusal) => {
            let of_the_clock =
                matches!(refusal, Refusal::CreatedInFuture | Refusal::Expired | Refusal::BeyondHorizon);
            assert!(
                !is_whole || of_the_clock || input.other_key && refusal == Refusal::TableKeyInvalid,
                "{refusal:?} for a good entry"
            );
        }
    }
});
