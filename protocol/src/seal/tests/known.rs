//! An entry that another implementation sealed: `known/make.py`, written from the text of the specification.

use super::*;
use crate::{entry::UnverifiedEntry, keys::PrivateKey};

#[test]
fn an_entry_of_another_implementation_is_admitted_and_opens() {
    let network = Network { work_price: 300, work_base_bytes: 100, work_puzzles: 3, ..Network::default() };
    let table = PublicKey::from_pem(include_str!("known/table.pem")).unwrap();
    let reader = PrivateKey::from_pem(include_str!("known/reader.pem"), None).unwrap();
    let author = PublicKey::from_pem(include_str!("known/author.pem")).unwrap();
    let (pairs, []) = include_str!("known/entry.hex").trim().as_bytes().as_chunks::<2>() else { panic!() };
    let encoded: Vec<u8> =
        pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect();

    let unverified = UnverifiedEntry::decode(encoded.into(), &network).unwrap();
    let entry = unverified.check_work(&network).unwrap().verify(&table).unwrap();
    let opened = open(&entry, &reader).unwrap();
    assert_eq!(opened.table, table.table_id());
    assert_eq!((opened.created, opened.expires), (1_700_000_000, Some(1_700_003_600)));
    assert_eq!(opened.recipients.len(), 2);
    assert_eq!(opened.content.media_type, "text/plain; charset=utf-8");
    assert_eq!(opened.content.data, "Grüße aus einer anderen Implementierung. ".repeat(20).as_bytes());
    assert_eq!(opened.author, Some(author));
}
