//! Decoding of sketches: whatever the syndromes, what comes out is a set that has them.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use p2pdb_protocol::{
    id::EntryId,
    message::sync::words,
    reconcile::sketch::{Element, GROUP_SYNDROMES, Group, Sid, Summary, decode},
};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Raw(&'a [u8]),
    /// Syndromes of a set, shortened, and some of them spoiled.
    Of {
        sids: Vec<u64>,
        length: u8,
        spoil: Vec<(u8, u64)>,
    },
    Row(&'a [u8]),
}

fn group<'a>(sids: impl IntoIterator<Item = &'a Sid>) -> Group {
    let mut group = Group::default();
    for sid in sids {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&sid.to_u64().to_be_bytes());
        group.insert(&Element::of(&EntryId::from_bytes(id)));
    }
    group
}

fn check(syndromes: &[u64]) -> Option<Vec<Sid>> {
    let mut sids = decode(syndromes)?;
    assert!(sids.len() < syndromes.len());
    assert_eq!(group(&sids).syndromes()[..syndromes.len()], *syndromes);
    sids.sort_unstable();
    assert!(sids.is_sorted_by(|a, b| a < b), "an element came out twice");
    Some(sids)
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Raw(bytes) => {
        let syndromes = words(&bytes[..bytes.len() / 8 * 8]).expect("whole words");
        check(&syndromes);
    }
    Input::Of { sids, length, spoil } => {
        let mut sids: Vec<Sid> = sids.into_iter().filter_map(Sid::from_u64).collect();
        sids.sort_unstable();
        sids.dedup();
        let length = usize::from(length) % (GROUP_SYNDROMES + 1);
        let mut syndromes = group(&sids).syndromes()[..length].to_vec();
        if sids.len() < length {
            assert_eq!(check(&syndromes), Some(sids), "a set that fits");
        }
        for (at, by) in spoil {
            if let Some(word) = syndromes.get_mut(usize::from(at)) {
                *word ^= by;
            }
        }
        check(&syndromes);
    }
    Input::Row(bytes) => {
        if let Some(row) = bytes.first_chunk() {
            assert_eq!(Group::from_bytes(row).to_bytes(), *row);
        }
        if let Some(row) = bytes.first_chunk() {
            assert_eq!(Summary::from_bytes(row).to_bytes(), *row);
        }
    }
});
