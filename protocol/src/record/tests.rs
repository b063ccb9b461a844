#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::*;

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn record() -> NodeRecord {
    NodeRecord {
        key: secret().verifying_key().to_bytes(),
        sequence: 1_700_000_000,
        addresses: vec![vec![4, 127, 0, 0, 1, 6, 0x0f, 0xa1]],
        tables: Some(vec![TableId::from_bytes([1; 32]), TableId::from_bytes([2; 32])]),
        horizon: 0,
        puts_per_minute: 60,
    }
}

fn network() -> NetworkId {
    NetworkId::from_bytes([9; 32])
}

fn sign(record: &NodeRecord) -> Result<SignedRecord, RecordError> {
    record.sign(&network(), |message| secret().sign(message).to_bytes())
}

#[test]
fn a_record_survives_signing_and_verifying() {
    for tables in [None, Some(vec![]), record().tables] {
        let record = NodeRecord { tables, ..record() };
        let signed = sign(&record).unwrap();
        assert_eq!(signed.record(), &record);
        assert_eq!(SignedRecord::verify(signed.encoded().clone(), &network()), Ok(signed));
    }
}

#[test]
fn a_record_is_of_one_network_and_one_key() {
    let signed = sign(&record()).unwrap();
    let other = NetworkId::from_bytes([8; 32]);
    assert_eq!(SignedRecord::verify(signed.encoded().clone(), &other), Err(RecordError::SignatureInvalid));
    let foreign = NodeRecord { key: SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes(), ..record() };
    assert_eq!(sign(&foreign), Err(RecordError::SignatureInvalid));
}

#[test]
fn a_key_of_small_order_is_refused() {
    // The identity point with the signature (R = identity, S = 0) passes a lax verification of any message.
    let mut key = [0; 32];
    key[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let forged = NodeRecord { key, ..record() }.sign(&network(), |_| signature);
    assert_eq!(forged, Err(RecordError::SignatureInvalid));
}

#[test]
fn lists_past_their_rules_are_malformed() {
    let table = |byte| TableId::from_bytes([byte; 32]);
    let tables = |count: u16| -> Vec<TableId> {
        (0..count).map(|n| TableId::from_bytes(std::array::from_fn(|i| n.to_be_bytes()[i % 2]))).collect()
    };
    assert!(sign(&NodeRecord { addresses: vec![vec![1; 256]; 8], ..record() }).is_ok());
    assert!(sign(&NodeRecord { tables: Some(tables(256)), ..record() }).is_ok());
    for broken in [
        NodeRecord { addresses: vec![vec![1]; 9], ..record() },
        NodeRecord { addresses: vec![vec![1; 257]], ..record() },
        NodeRecord { addresses: vec![vec![]], ..record() },
        NodeRecord { tables: Some(tables(257)), ..record() },
        NodeRecord { tables: Some(vec![table(2), table(1)]), ..record() },
        NodeRecord { tables: Some(vec![table(1), table(1)]), ..record() },
    ] {
        assert_eq!(sign(&broken), Err(RecordError::Malformed));
    }
}

#[test]
fn the_size_is_checked_first() {
    let bytes = Bytes::from(vec![0; MAX_RECORD_BYTES + 1]);
    let got = bytes.len();
    assert_eq!(SignedRecord::verify(bytes, &network()), Err(RecordError::TooLarge { got }));
}

#[test]
fn the_peer_id_is_the_identity_multihash_of_the_key() {
    // Multihash "identity" of 36 bytes: the protobuf of key type Ed25519 (08 01) and the key (12 20).
    let id = record().peer_id_bytes();
    assert_eq!(id[..6], [0x00, 0x24, 0x08, 0x01, 0x12, 0x20]);
    assert_eq!(id[6..], record().key);
}

proptest! {
    #[test]
    fn any_flipped_bit_and_any_truncation_is_refused(position: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = sign(&record()).unwrap().encoded().to_vec();
        let position = position.index(bytes.len());
        let truncated = Bytes::copy_from_slice(bytes.get(..position).unwrap());
        prop_assert!(SignedRecord::verify(truncated, &network()).is_err());
        *bytes.get_mut(position).unwrap() ^= 1 << bit;
        prop_assert!(SignedRecord::verify(bytes.into(), &network()).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, payload: Vec<u8>) {
        let _ = SignedRecord::verify(bytes.into(), &network());
        let _ = NodeRecord::decode(&payload);
    }
}
