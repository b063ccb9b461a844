#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{num::NonZeroUsize, sync::atomic::AtomicBool};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    codec::strict::Writer,
    id::{RecipientId, TableId},
    keys::testing::{key, rng},
    network::Network,
    pow::Solver,
    refusal::Refusal,
};

fn network() -> Network {
    Network { work_price: 64, work_puzzles: 4, max_entry_bytes: 4096, ..Network::default() }
}

fn header(body: &[u8]) -> Header {
    let wrapped_key =
        |byte| WrappedKey { recipient: RecipientId::from_bytes([byte; 32]), wrapped: vec![byte; 256] };
    Header {
        table: key(0).public_key().table_id(),
        created: 1_700_000_000,
        expires: Some(1_800_000_000),
        recipients: vec![wrapped_key(1), wrapped_key(2)],
        body_hash: Sha256::digest(body).into(),
        body_length: body.len() as u64,
    }
}

/// A signed entry of this header, with work.
fn entry(header: &Header, body: &[u8]) -> Bytes {
    let encoded = header.encode();
    let id = entry_id(&encoded, body);
    let signature = key(0).sign(&mut rng(), &signed_message(&id)).unwrap();
    let draft = UnverifiedEntry::decode(encode(&encoded, body, &signature, &[]), &network()).unwrap();
    let cancel = AtomicBool::new(false);
    let work = Solver::new(draft.puzzle(&network())).solve(NonZeroUsize::MIN, &cancel, &|_| {}).unwrap();
    encode(&encoded, body, &signature, &work)
}

fn admit(encoded: Bytes) -> Result<Entry, Refusal> {
    UnverifiedEntry::decode(encoded, &network())?.check_work(&network())?.verify(key(0).public_key())
}

fn decode_header(header: &[u8], body: &[u8]) -> Result<UnverifiedEntry, Refusal> {
    UnverifiedEntry::decode(encode(header, body, &[0; 256], &[]), &network())
}

fn refusal(change: impl FnOnce(&mut Header)) -> Result<(), Refusal> {
    let body = b"body";
    let mut header = header(body);
    change(&mut header);
    decode_header(&header.encode(), body).map(drop)
}

#[test]
fn an_honest_entry_is_admitted_and_read_back() {
    let body = vec![7; 500];
    let encoded = entry(&header(&body), &body);
    let admitted = admit(encoded.clone()).unwrap();
    assert_eq!(admitted.header(), &header(&body));
    assert_eq!(admitted.body(), &body);
    assert_eq!(admitted.encoded(), &encoded);
    assert!(admitted.effort() >= 64);
    assert_eq!(Entry::from_trusted(encoded, &network()), Ok(admitted));
}

#[test]
fn the_id_begins_with_the_bucket_and_commits_to_the_header() {
    let id = entry_id(b"header", b"body");
    // MD5("body") = 841a2d68...; the rest is computed here in the words of SPEC 4.3.
    assert_eq!(id.as_bytes()[..2], [0x84, 0x1a]);
    assert_eq!(id.as_bytes()[2..], Sha256::digest(b"p2pdb entry v1header")[..30]);
}

#[test]
fn each_rule_of_the_header_has_its_refusal() {
    assert_eq!(refusal(|_| {}), Ok(()));
    assert_eq!(refusal(|header| header.expires = None), Ok(()));
    assert_eq!(refusal(|header| header.expires = Some(header.created)), Err(Refusal::BadExpiry));
    assert_eq!(refusal(|header| header.recipients.clear()), Err(Refusal::BadRecipients));
    assert_eq!(refusal(|header| header.recipients.reverse()), Err(Refusal::BadRecipients));
    let twice = |header: &mut Header| {
        header.recipients.truncate(1);
        header.recipients.extend_from_within(..);
    };
    assert_eq!(refusal(twice), Err(Refusal::BadRecipients));
    for (length, expected) in
        [(255, Err(Refusal::BadRecipients)), (512, Ok(())), (513, Err(Refusal::BadRecipients))]
    {
        let change = |header: &mut Header| header.recipients.last_mut().unwrap().wrapped.resize(length, 0);
        assert_eq!(refusal(change), expected);
    }
    for (count, expected) in [(16, Ok(())), (17, Err(Refusal::BadRecipients))] {
        let mut many = header(b"body");
        many.recipients = (0..count)
            .map(|byte| WrappedKey { recipient: RecipientId::from_bytes([byte; 32]), wrapped: vec![0; 256] })
            .collect();
        let network = Network { max_entry_bytes: 8192, ..network() };
        let encoded = encode(&many.encode(), b"body", &[0; 256], &[]);
        assert_eq!(UnverifiedEntry::decode(encoded, &network).map(drop), expected);
    }
    assert_eq!(refusal(|header| header.body_length += 1), Err(Refusal::BodyMismatch));
    assert_eq!(refusal(|header| header.body_hash = [0; 32]), Err(Refusal::BodyMismatch));
}

#[test]
fn the_version_is_judged_before_everything_else() {
    for header in [
        Writer::new().array(7).uint(2).take(),
        Writer::new().array(1).uint(2).take(),
        Writer::new().array(9).uint(0).text("anything").take(),
        [Writer::new().array(3).uint(u64::MAX).take(), vec![0xff; 40]].concat(),
    ] {
        assert_eq!(decode_header(&header, b"").err(), Some(Refusal::UnknownVersion));
    }
    let short = Writer::new().array(6).uint(1).take();
    assert_eq!(decode_header(&short, b"").err(), Some(Refusal::Malformed));
    assert_eq!(decode_header(&[0x80], b"").err(), Some(Refusal::Malformed));
    // The version itself must be canonical: 0x18 0x01 is a long 1.
    assert_eq!(decode_header(&[0x87, 0x18, 0x01], b"").err(), Some(Refusal::NonCanonical));
}

#[test]
fn trailing_bytes_and_long_forms_are_told_apart() {
    let body = b"body";
    let encoded = header(body).encode();
    let trailing = [&encoded[..], &[0]].concat();
    assert_eq!(decode_header(&trailing, body).err(), Some(Refusal::Malformed));
    // The array's head in two bytes.
    let long = [&[0x98, 0x07], encoded.get(1..).unwrap()].concat();
    assert_eq!(decode_header(&long, body).err(), Some(Refusal::NonCanonical));

    let whole = encode(&encoded, body, &[0; 256], &[]);
    let trailing = [&whole[..], &[0]].concat();
    assert_eq!(UnverifiedEntry::decode(trailing.into(), &network()).err(), Some(Refusal::Malformed));
    let indefinite = [&[0x9f], whole.get(1..).unwrap(), &[0xff]].concat();
    assert_eq!(UnverifiedEntry::decode(indefinite.into(), &network()).err(), Some(Refusal::NonCanonical));
    for length in [255, 513] {
        let wrong = encode(&encoded, body, &vec![0; length], &[]);
        assert_eq!(UnverifiedEntry::decode(wrong, &network()).err(), Some(Refusal::Malformed));
    }
}

#[test]
fn the_size_is_checked_first() {
    let limit = network().max_entry_bytes as usize;
    let decode = |length| UnverifiedEntry::decode(vec![0xff; length].into(), &network()).err();
    assert_eq!(decode(limit), Some(Refusal::Malformed));
    assert_eq!(decode(limit + 1), Some(Refusal::TooLarge));
}

#[test]
fn times_are_checked_against_this_node() {
    let body = b"body";
    let entry = decode_header(&header(body).encode(), body).unwrap();
    let (created, expires, ahead) = (1_700_000_000, 1_800_000_000, network().max_clock_ahead);
    let check = |now, horizon| entry.check_clock(&network(), now, horizon);
    assert_eq!(check(created - ahead, created), Ok(()));
    assert_eq!(check(created - ahead - 1, 0), Err(Refusal::CreatedInFuture));
    assert_eq!(check(expires - 1, 0), Ok(()));
    assert_eq!(check(expires, 0), Err(Refusal::Expired));
    assert_eq!(check(created, created + 1), Err(Refusal::BeyondHorizon));
    assert_eq!(check(u64::MAX, 0), Err(Refusal::Expired));
}

#[test]
fn another_table_s_key_and_another_key_s_signature_are_refused() {
    let body = b"body";
    let worked = |header: &Header| {
        UnverifiedEntry::decode(entry(header, body), &network()).unwrap().check_work(&network()).unwrap()
    };
    let honest = worked(&header(body));
    assert_eq!(honest.verify(key(1).public_key()).err(), Some(Refusal::TableKeyInvalid));
    // key(0) signs an entry of the table of key(1).
    let foreign = worked(&Header { table: key(1).public_key().table_id(), ..header(body) });
    assert_eq!(foreign.verify(key(1).public_key()).err(), Some(Refusal::SignatureInvalid));
}

#[test]
fn work_of_a_wrong_length_or_of_another_entry_is_refused() {
    let body = b"body";
    let signed = |work: &[u8]| {
        let encoded = encode(&header(body).encode(), body, &[0; 256], work);
        UnverifiedEntry::decode(encoded, &network()).unwrap().check_work(&network()).err()
    };
    assert_eq!(signed(&[0; 31]), Some(Refusal::WorkMalformed));
    assert_eq!(signed(&[]), Some(Refusal::WorkMalformed));
    let hard = Network { work_price: 1 << 48, ..network() };
    let encoded = encode(&header(body).encode(), body, &[0; 256], &[0; 32]);
    let decoded = UnverifiedEntry::decode(encoded, &hard).unwrap();
    assert_eq!(decoded.check_work(&hard).err(), Some(Refusal::WorkInsufficient));
}

fn any_header() -> impl Strategy<Value = Header> {
    let recipients =
        prop::collection::btree_map(any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 256..=512), 1..=5);
    (any::<[u8; 32]>(), any::<u64>(), any::<Option<u64>>(), recipients, any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(table, created, expires, recipients, body_hash, body_length)| Header {
            table: TableId::from_bytes(table),
            created,
            expires: expires.filter(|expires| *expires > created),
            recipients: recipients
                .into_iter()
                .map(|(id, wrapped)| WrappedKey { recipient: RecipientId::from_bytes(id), wrapped })
                .collect(),
            body_hash,
            body_length,
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(header in any_header()) {
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    /// One header has one encoding: else it would have several ids.
    #[test]
    fn a_changed_byte_is_refused_or_gives_another_header(
        header in any_header(), position: prop::sample::Index, change in 1u8..,
    ) {
        let mut encoded = header.encode();
        let position = position.index(encoded.len());
        *encoded.get_mut(position).unwrap() ^= change;
        if let Ok(other) = Header::decode(&encoded) {
            prop_assert_ne!(&other, &header);
            prop_assert_eq!(other.encode(), encoded);
        }
    }

    #[test]
    fn a_truncated_header_is_malformed(header in any_header(), position: prop::sample::Index) {
        let encoded = header.encode();
        let cut = encoded.get(..position.index(encoded.len())).unwrap();
        prop_assert_eq!(Header::decode(cut), Err(Refusal::Malformed));
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, header: Vec<u8>) {
        let _ = Header::decode(&header);
        let _ = decode_header(&header, &bytes);
        let _ = UnverifiedEntry::decode(bytes.into(), &network());
    }
}

/// Every bit of one entry: decoding, another id, the work or the signature notices it.
#[test]
fn no_flipped_bit_passes_for_the_same_entry() {
    let body = b"a short body";
    let header = Header { recipients: header(body).recipients.into_iter().take(1).collect(), ..header(body) };
    let encoded = entry(&header, body);
    for bit in 0..encoded.len() * 8 {
        let mut flipped = encoded.to_vec();
        *flipped.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
        // Another solution of a puzzle is as good: only the work may change in an entry that passes.
        if let Ok(admitted) = admit(flipped.into()) {
            let work_start = encoded.len() - 32;
            assert!(bit / 8 >= work_start, "bit {bit} changed and the entry passed");
            assert_eq!(admitted.id(), entry_id(&header.encode(), body));
        }
    }
    for length in 0..encoded.len() {
        assert!(admit(encoded.slice(..length)).is_err());
    }
}
