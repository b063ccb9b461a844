//! Node records: nothing that a fuzzer finds is signed, and what its own key signs is read back whole.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use p2pdb_protocol::{
    codec::strict::Writer,
    id::{NetworkId, TableId},
    record::{NodeRecord, SignedRecord},
};

/// Where the key is in a payload: after an array of seven, the version, and the length.
const KEY: std::ops::Range<usize> = 4..36;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Raw(&'a [u8]),
    /// What is signed, with the key in its place.
    Payload {
        secret: [u8; 32],
        payload: &'a [u8],
    },
    Made {
        secret: [u8; 32],
        sequence: u64,
        addresses: Vec<Vec<u8>>,
        tables: Option<Vec<[u8; 32]>>,
        horizon: u64,
        puts_per_minute: u64,
    },
}

fuzz_target!(|input: Input<'_>| {
    let network = NetworkId::from_bytes([1; 32]);
    match input {
        Input::Raw(bytes) => {
            if let Ok(signed) = SignedRecord::verify(bytes.to_vec().into(), &network) {
                assert_eq!(signed.encoded(), bytes);
            }
        }
        Input::Payload { secret, payload } => {
            let key = ed25519_dalek::SigningKey::from_bytes(&secret);
            let mut payload = payload.to_vec();
            if let Some(place) = payload.get_mut(KEY) {
                place.copy_from_slice(key.verifying_key().as_bytes());
            }
            let sign = |message: &[u8]| ed25519_dalek::Signer::sign(&key, message).to_bytes();
            let signature = sign(&[b"p2pdb node record v1", &network.as_bytes()[..], &payload].concat());
            let encoded = Writer::new().array(2).bytes(&payload).bytes(&signature).take();
            if let Ok(signed) = SignedRecord::verify(encoded.clone().into(), &network) {
                let again = signed.record().sign(&network, sign).expect("a record that was good");
                assert_eq!(*again.encoded(), encoded, "one encoding for each record");
            }
        }
        Input::Made { secret, sequence, addresses, tables, horizon, puts_per_minute } => {
            let key = ed25519_dalek::SigningKey::from_bytes(&secret);
            let tables = tables.map(|tables| tables.into_iter().map(TableId::from_bytes).collect::<Vec<_>>());
            let is_good = addresses.len() <= 8
                && addresses.iter().all(|address| (1..=256).contains(&address.len()))
                && tables
                    .as_ref()
                    .is_none_or(|tables| tables.len() <= 256 && tables.is_sorted_by(|a, b| a < b));
            let key_bytes = key.verifying_key().to_bytes();
            let record = NodeRecord { key: key_bytes, sequence, addresses, tables, horizon, puts_per_minute };
            let sign = |message: &[u8]| ed25519_dalek::Signer::sign(&key, message).to_bytes();
            match record.sign(&network, sign) {
                Ok(signed) => {
                    assert!(is_good && *signed.record() == record);
                    let other = NetworkId::from_bytes([2; 32]);
                    assert!(SignedRecord::verify(signed.encoded().clone(), &other).is_err(), "replayed");
                }
                Err(error) => assert!(!is_good, "{error} for a good record"),
            }
        }
    }
});
