#![allow(clippy::unwrap_used)]

use super::*;
use crate::keys::testing::key;

fn card() -> TableCard {
    TableCard {
        name: "Notes \"2026\"".to_owned(),
        network: NetworkFile {
            bootstrap: vec!["/dnsaddr/node.example".to_owned()],
            ..NetworkFile::default()
        },
        table_public: key(0).public_key().clone(),
        table_private: Some(key(0).clone()),
        recipient_public: Some(key(1).public_key().clone()),
        recipient_private: Some(key(1).clone()),
    }
}

fn error(text: &str) -> String {
    TableCard::parse(text).unwrap_err().to_string()
}

#[test]
fn a_card_survives_writing_and_reading() {
    let public = TableCard { table_private: None, recipient_private: None, ..card() };
    let poster = TableCard { recipient_public: None, recipient_private: None, ..card() };
    for card in [card(), public, poster] {
        let text = card.to_toml().unwrap();
        let read = TableCard::parse(&text).unwrap();
        assert_eq!((&read.name, &read.network), (&card.name, &card.network));
        assert_eq!(read.table_public, card.table_public);
        assert_eq!(read.recipient_public, card.recipient_public);
        assert_eq!(read.table_private.is_some(), card.table_private.is_some());
        assert_eq!(read.recipient_private.is_some(), card.recipient_private.is_some());
        assert_eq!(*read.to_toml().unwrap(), *text);
    }
}

#[test]
fn errors_name_the_key_and_what_to_do() {
    let text = card().to_toml().unwrap();
    for (from, to, expected) in [
        ("version = 1", "version = 2", "`version` is 2, expected 1: update p2pdb"),
        ("version = 1\n", "", "missing field `version`"),
        ("name = 'Notes \"2026\"'", "name = ''", "`name` is \"\""),
        ("[recipient]", "[recipients]", "unknown field `recipients`"),
        ("bucket_bits = 12", "bucket_bits = 99", "in [network]: `bucket_bits` is 99, expected 0 to 12"),
        ("work_price = 536870912\n", "", "in [network]: not a network file: "),
    ] {
        assert!(text.contains(from), "{from} in {}", text.get(..300).unwrap());
        let message = error(&text.replacen(from, to, 1));
        assert!(message.contains(expected), "{message}");
    }
    assert!(error(&text.replacen("PUBLIC KEY", "PUBLIC KAY", 1)).contains("`table.public_key`: "));
    let (head, tail) = text.split_at(text.find("[recipient]").unwrap());
    assert!(
        error(&format!("{head}{}", tail.replacen("PRIVATE", "PIRATE", 2)))
            .contains("`recipient.private_key`: ")
    );
}

#[test]
fn an_error_does_not_quote_a_private_key() {
    let text = card().to_toml().unwrap();
    let private = key(0).to_pem().unwrap();
    let secret = private.lines().nth(3).unwrap();
    let broken = text.replacen(secret, &format!("{secret}'''"), 1);
    let message = error(&broken);
    assert!(message.contains("line ") && !message.contains(secret), "{message}");
}

#[test]
fn keys_that_do_not_match_are_refused() {
    let wrong = TableCard { table_private: Some(key(2).clone()), ..card() };
    assert_eq!(wrong.to_toml(), Err(CardError::Mismatch { section: "table" }));
    let bare = TableCard { recipient_public: None, ..card() };
    assert_eq!(bare.to_toml(), Err(CardError::NoRecipientPublic));
    let text = card().to_toml().unwrap().replace(
        key(1).public_key().to_pem().unwrap().trim_end(),
        key(2).public_key().to_pem().unwrap().trim_end(),
    );
    assert_eq!(TableCard::parse(&text).unwrap_err(), CardError::Mismatch { section: "recipient" });
}

#[test]
fn debug_shows_no_private_key() {
    let shown = format!("{:?}", card());
    assert!(shown.contains("<redacted>"));
    for line in key(0).to_pem().unwrap().lines().filter(|line| line.len() > 20) {
        assert!(!shown.contains(line));
    }
}
