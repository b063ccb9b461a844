//! Ids for people and the keys they come from (SPEC 3).

use bech32::{Bech32, Bech32m, Hrp};
use p2pdb_protocol::{
    id::{EntryId, NetworkId, RecipientId, TableId},
    keys::PublicKey,
};

use crate::{
    vector::Vector,
    world::{Rng, pem, public},
};

pub fn cases() -> Vec<Vector> {
    [ids(), keys()].concat()
}

fn ids() -> Vec<Vector> {
    let bytes: [u8; 32] = Rng::new("ids").bytes();
    let ok = |name: &str, prefix: &str, text: String, bytes: [u8; 32]| {
        Vector::new("ids", name, "3.3", "ok", "the text and the bytes are the same id")
            .with("prefix", prefix)
            .with("text", text)
            .body(bytes)
    };
    let bad = |name: &str, expect: &str, about: &str, text: String| {
        Vector::new("ids", name, "3.3", expect, about).with("prefix", "p2table").with("text", text)
    };
    let table = TableId::from_bytes(bytes).to_string();
    let encode =
        |prefix: &str, bytes: &[u8]| bech32::encode::<Bech32m>(Hrp::parse(prefix).unwrap(), bytes).unwrap();
    let typo = format!("{}{}", &table[..table.len() - 1], if table.ends_with('q') { 'p' } else { 'q' });
    let mut mixed = table.clone();
    mixed.replace_range(2..3, "T");
    vec![
        ok("ok-table", "p2table", table.clone(), bytes),
        ok("ok-key", "p2key", RecipientId::from_bytes(bytes).to_string(), bytes),
        ok("ok-entry", "p2entry", EntryId::from_bytes(bytes).to_string(), bytes),
        ok("ok-network", "p2net", NetworkId::from_bytes(bytes).to_string(), bytes),
        ok("ok-zeros", "p2table", TableId::from_bytes([0; 32]).to_string(), [0; 32]),
        ok("ok-ones", "p2table", TableId::from_bytes([0xff; 32]).to_string(), [0xff; 32]),
        bad("typo", "malformed", "one character is wrong", typo),
        bad("mixed-case", "malformed", "one letter is upper case", mixed),
        bad("truncated", "malformed", "the last character is missing", table[..table.len() - 1].to_owned()),
        bad("empty", "malformed", "nothing", String::new()),
        bad(
            "bech32",
            "malformed",
            "the checksum is that of bech32 and not of bech32m",
            bech32::encode::<Bech32>(Hrp::parse("p2table").unwrap(), &bytes).unwrap(),
        ),
        bad("other-type", "wrong_type", "a valid id of an entry", EntryId::from_bytes(bytes).to_string()),
        bad("other-prefix", "wrong_type", "a prefix that is none of ours", encode("bc", &bytes)),
        bad("31-bytes", "wrong_length", "one byte too few", encode("p2table", &bytes[..31])),
        bad("33-bytes", "wrong_length", "one byte too many", encode("p2table", &[&bytes[..], &[0]].concat())),
    ]
}

/// The DER in a PEM file of `vectors/keys`.
fn der(file: &str) -> Vec<u8> {
    let text = pem(file);
    let (_, document) = rsa::pkcs8::Document::from_pem(&text).unwrap();
    document.as_bytes().to_vec()
}

fn keys() -> Vec<Vector> {
    let ok = |name: &str, bits: usize, spki: Vec<u8>| {
        let key = PublicKey::from_der(&spki).unwrap();
        Vector::new("keys", name, "3.1, 3.2", "ok", "a public key (SPKI) and its ids")
            .with("bits", bits)
            .with("table", key.table_id())
            .with("recipient", key.recipient_id())
            .body(spki)
    };
    let bad = |name: &str, about: &str, spki: Vec<u8>| {
        Vector::new("keys", name, "3.1", "table_key_invalid", about).body(spki)
    };
    let good = public("table").der().to_vec();
    let without = |range: std::ops::Range<usize>, outer: &[(usize, u8)]| {
        let mut spki = good.clone();
        spki.drain(range);
        outer.iter().for_each(|(at, by)| spki[*at] -= by);
        spki
    };
    // A 2048-bit SPKI: 30 82 01 22 | 30 0d | 06 09 OID | 05 00 | 03 82 01 0f 00 | 30 82 01 0a | 02 82 01 01 00 n | 02 03 e.
    assert_eq!(
        (good[..6].to_vec(), &good[17..19]),
        (vec![0x30, 0x82, 0x01, 0x22, 0x30, 0x0d], &[0x05, 0x00][..])
    );
    let mut long_length = good.clone();
    long_length.splice(1..4, [0x83, 0x00, 0x01, 0x22]);
    vec![
        ok("ok-2048", 2048, good.clone()),
        ok("ok-3072", 3072, der("public-3072")),
        ok("ok-4096", 4096, der("public-4096")),
        bad("1024-bits", "the modulus is too small", der("invalid/rsa-1024")),
        bad("4104-bits", "the modulus is too large", der("invalid/rsa-4104")),
        bad("2052-bits", "the length of the modulus is not a multiple of 8 bits", der("invalid/rsa-2052")),
        bad("exponent-3", "the public exponent is not 65537", der("invalid/exponent-3")),
        bad("rsa-pss", "the algorithm is id-RSASSA-PSS and not rsaEncryption", der("invalid/rsa-pss")),
        bad("ed25519", "not an RSA key", der("invalid/ed25519")),
        bad("no-null", "the algorithm has no NULL parameters", without(17..19, &[(3, 2), (5, 2)])),
        bad("long-length", "a length takes more bytes than it needs, which is BER but not DER", long_length),
        bad("trailing", "a byte follows the key", [&good[..], &[0]].concat()),
        bad("truncated", "the last byte is missing", good[..good.len() - 1].to_vec()),
        bad("pkcs1", "RSAPublicKey (PKCS#1) without the SPKI around it", good[24..].to_vec()),
        bad("empty", "nothing", Vec::new()),
    ]
}
