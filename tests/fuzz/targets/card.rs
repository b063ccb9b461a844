//! Table cards: a card that is read is written as a card that reads the same, and an error shows no private key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::{card::TableCard, keys::PrivateKey};

fuzz_target!(|text: &str| {
    let card = match TableCard::parse(text) {
        Ok(card) => card,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let written = card.to_toml().expect("what was read can be written");
    let again = TableCard::parse(&written).expect("what is written can be read");
    assert_eq!(again.name, card.name);
    assert_eq!(again.network, card.network);
    // It says the rest, each key and address of it.
    assert_eq!(*again.to_toml().expect("as before"), *written);
    let private = |key: Option<PrivateKey>| key.map(|key| key.to_pem().expect("a key can be written"));
    assert!(private(again.table_private) == private(card.table_private));
    assert!(private(again.recipient_private) == private(card.recipient_private));
    assert_eq!(again.table_public.der(), card.table_public.der());
    assert_eq!(
        again.recipient_public.map(|key| key.table_id()),
        card.recipient_public.map(|key| key.table_id())
    );
});
