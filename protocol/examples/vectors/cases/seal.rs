//! Padding, and opening entries (SPEC 4.4-4.9).

use p2pdb_protocol::{codec::strict::Writer, id::RecipientId};
use sha2::{Digest as _, Sha256};

use super::NETWORK_FILE;
use crate::{
    vector::{Vector, hex},
    world::{CREATED, Rng, Sealed, Sealing, content, pad, padded_length, public, seal, sign},
};

pub fn cases() -> Vec<Vector> {
    [paddings(), good(), spoiled(), authors()].concat()
}

fn paddings() -> Vec<Vector> {
    let case = |length: u64| {
        let about = "P(length)";
        Vector::new("padding", &format!("ok-{length}"), "4.5", "ok", about)
            .with("length", length)
            .with("padded", padded_length(length))
    };
    [1, 255, 256, 257, 271, 272, 273, 511, 512, 513, 1023, 1025, 4095, 65_535, 65_537, 100_000, 262_145]
        .map(case)
        .into()
}

fn case(name: &str, expect: &str, about: &str, reader: &str, sealed: Sealed) -> Vector {
    Vector::new("seal", name, "4.4-4.9", expect, about)
        .with("network", NETWORK_FILE)
        .with("table-key", "keys/table.pem")
        .with("reader-key", format!("keys/{reader}.pem"))
        .body(sealed.finish())
}

fn plain(name: &str, plaintext: &[u8]) -> Sealed {
    seal(&format!("seal/{name}"), plaintext, &Sealing::default())
}

fn ok(name: &str, about: &str, data: &[u8]) -> Vector {
    let sealed = plain(name, &pad(&content("text/plain", data, None)));
    case(name, "ok", about, "recipient-1", sealed)
        .with("created", CREATED)
        .with("media-type", "text/plain")
        .with("data", hex(data))
        .with("author", "null")
}

fn good() -> Vec<Vector> {
    let both = Sealing { recipients: &["recipient-1", "recipient-2"], ..Sealing::default() };
    let second = |name: &str, reader: &str| {
        let sealed = seal(&format!("seal/{name}"), &pad(&content("text/plain", b"to two", None)), &both);
        case(name, "ok", "one of two recipients opens it", reader, sealed)
            .with("created", CREATED)
            .with("media-type", "text/plain")
            .with("data", hex(b"to two"))
            .with("author", "null")
    };
    // Type "text/plain" and data of up to 255 bytes make a content of 15 bytes and the data, if there are 24 or more.
    vec![
        ok("ok", "a short text", b"hello"),
        ok("ok-empty", "no data", b""),
        ok("ok-marks", "data that ends like padding", &[0x80, 0x00, 0x00]),
        ok("ok-just-256", "content and mark have 256 bytes together", &[b'x'; 240]),
        ok("ok-just-above-256", "content and mark have 257 bytes together", &[b'x'; 241]),
        ok("ok-1000", "1000 bytes", &[b'x'; 1000]),
        second("ok-first-of-two", "recipient-1"),
        second("ok-second-of-two", "recipient-2"),
    ]
}

fn spoiled() -> Vec<Vector> {
    let hello = content("text/plain", b"hello", None);
    let how = |name: &str, how: &Sealing<'_>| seal(&format!("seal/{name}"), &pad(&hello), how);
    let bad = |name: &str, expect: &str, about: &str, sealed: Sealed| {
        case(name, expect, about, "recipient-1", sealed)
    };
    let in_content =
        |name: &str, about: &str, content: &[u8]| bad(name, "content", about, plain(name, &pad(content)));
    let mut wrapped = plain("wrapped-key-flipped", &pad(&hello));
    wrapped.header.recipients[0].wrapped[100] ^= 1;
    let mut swapped = how(
        "wrapped-keys-swapped",
        &Sealing { recipients: &["recipient-1", "recipient-2"], ..Sealing::default() },
    );
    let [first, second] = &mut swapped.header.recipients[..] else { panic!("two recipients") };
    std::mem::swap(&mut first.wrapped, &mut second.wrapped);
    let mut flipped = plain("body-flipped", &pad(&hello));
    flipped.body[30] ^= 1;
    flipped.header.body_hash = Sha256::digest(&flipped.body).into();
    let mut short = plain("body-short", &pad(&hello));
    short.body.truncate(15);
    (short.header.body_hash, short.header.body_length) = (Sha256::digest(&short.body).into(), 15);
    let elsewhere = [b"p2pdb body v1", &public("stranger").table_id().as_bytes()[..]].concat();
    let unmarked = [&hello[..], &vec![0; 256 - hello.len()]].concat();
    let type_256 = content(&"x".repeat(256), b"", None);
    let mut long_form = hello.clone();
    long_form.splice(1..2, [0x78, 0x0a]);
    let mut indefinite = [&[0x9f], &hello[1..], &[0xff]].concat();
    indefinite.truncate(hello.len() + 1);
    let not_text = [&[0x83, 0x62, 0xff, 0xfe][..], &[0x40, 0xf6]].concat();
    vec![
        case(
            "not-a-recipient",
            "not_a_recipient",
            "for somebody else",
            "stranger",
            plain("ok", &pad(&hello)),
        ),
        bad("wrapped-key-flipped", "wrapped_key", "a bit of the wrapped key is flipped", wrapped),
        bad("wrapped-keys-swapped", "wrapped_key", "each recipient has the key of the other", swapped),
        bad("wrapped-key-label", "wrapped_key", "wrapped without the label", {
            how("wrapped-key-label", &Sealing { label: b"", ..Sealing::default() })
        }),
        bad("wrapped-key-31-bytes", "wrapped_key", "the content key is too short", {
            how("wrapped-key-31-bytes", &Sealing { key_bytes: 31, ..Sealing::default() })
        }),
        bad("body-flipped", "body", "a bit of the body was flipped before signing", flipped),
        bad("body-short", "body", "shorter than a tag", short),
        bad("body-other-table", "body", "encrypted for another table", {
            how("body-other-table", &Sealing { associated_data: elsewhere, ..Sealing::default() })
        }),
        bad("body-no-table", "body", "encrypted without associated data", {
            how("body-no-table", &Sealing { associated_data: Vec::new(), ..Sealing::default() })
        }),
        bad("padding-none", "padding", "zeros without the mark", plain("padding-none", &unmarked)),
        bad("padding-zero", "padding", "nothing but zeros", plain("padding-zero", &[0; 256])),
        bad("padding-empty", "padding", "nothing", plain("padding-empty", &[])),
        in_content("content-empty", "no content before the mark", &[]),
        in_content("content-trailing", "a byte follows the content", &[&hello[..], &[0x01]].concat()),
        in_content("content-long-form", "the length of the type in two bytes", &long_form),
        in_content("content-indefinite", "an array without length", &indefinite),
        in_content("content-no-type", "an empty type", &content("", b"hello", None)),
        in_content("content-type-256", "a type that is too long", &type_256),
        in_content("content-type-not-text", "a type that is not UTF-8", &not_text),
        in_content("content-two-elements", "no author field", &[0x82, 0x61, 0x61, 0x40]),
    ]
}

/// What an author signs (SPEC 4.4).
fn author_message(created: u64, recipients: &[RecipientId], media_type: &str, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(5).bytes(public("table").table_id().as_bytes()).uint(created).array(recipients.len());
    for recipient in recipients {
        writer.bytes(recipient.as_bytes());
    }
    let signed = writer.text(media_type).bytes(data).take();
    [b"p2pdb author v1", &Sha256::digest(signed)[..]].concat()
}

fn authors() -> Vec<Vector> {
    let data = b"signed by its author";
    let first = public("recipient-1").recipient_id();
    let second = public("recipient-2").recipient_id();
    let author = public("author");
    let claim = |name: &str, signer: &str, message: &[u8]| {
        let signature = sign(&mut Rng::new(&format!("seal/author/{name}")), signer, message);
        pad(&content("text/plain", data, Some((author.der(), &signature))))
    };
    let right = author_message(CREATED, &[first], "text/plain", data);
    let bad = |name: &str, about: &str, signer: &str, message: &[u8]| {
        case(name, "author_signature", about, "recipient-1", plain(name, &claim(name, signer, message)))
    };
    let mut both = [first, second];
    both.sort_unstable();
    let to_both = Sealing { recipients: &["recipient-1", "recipient-2"], ..Sealing::default() };
    let signed_for_both =
        claim("ok-author-two", "author", &author_message(CREATED, &both, "text/plain", data));
    let keyed = |name: &str, key: &[u8]| {
        let signature = sign(&mut Rng::new(&format!("seal/author/{name}")), "author", &right);
        plain(name, &pad(&content("text/plain", data, Some((key, &signature)))))
    };
    let known = |vector: Vector| {
        vector
            .with("created", CREATED)
            .with("media-type", "text/plain")
            .with("data", hex(data))
            .with("author", author.recipient_id())
    };
    vec![
        known(case("ok-author", "ok", "signed by its author", "recipient-1", {
            plain("ok-author", &claim("ok-author", "author", &right))
        })),
        known(case("ok-author-two", "ok", "signed by its author for two recipients", "recipient-2", {
            seal("seal/ok-author-two", &signed_for_both, &to_both)
        })),
        bad("author-other-key", "another key signed", "stranger", &right),
        bad(
            "author-other-time",
            "signed for another time",
            "author",
            &author_message(CREATED + 1, &[first], "text/plain", data),
        ),
        bad(
            "author-other-type",
            "signed for another type",
            "author",
            &author_message(CREATED, &[first], "text/html", data),
        ),
        bad(
            "author-other-data",
            "signed for other data",
            "author",
            &author_message(CREATED, &[first], "text/plain", b"something else"),
        ),
        bad(
            "author-resealed",
            "signed for another recipient, who sealed it anew",
            "author",
            &author_message(CREATED, &[second], "text/plain", data),
        ),
        bad("author-unlabelled", "signed without the label", "author", &right[15..]),
        case("author-key-truncated", "author_key", "the author's key is cut", "recipient-1", {
            keyed("author-key-truncated", &author.der()[..200])
        }),
        case("author-key-empty", "author_key", "the author's key is empty", "recipient-1", {
            keyed("author-key-empty", &[])
        }),
    ]
}
