//! Export files (SPEC 12.2).

use p2pdb_protocol::{codec::strict::Writer, limits::MAX_ENTRY_BYTES};

use crate::{
    vector::Vector,
    world::{Sealing, content, pad, public, seal},
};

const MAGIC: &[u8] = b"p2pdb export v1\n";

fn item(kind: u64, bytes: &[u8]) -> Vec<u8> {
    Writer::new().array(2).uint(kind).bytes(bytes).take()
}

fn end(entries: u64) -> Vec<u8> {
    Writer::new().array(2).uint(2).uint(entries).take()
}

pub fn cases() -> Vec<Vector> {
    let entry = |text: &str| {
        let plaintext = pad(&content("text/plain", text.as_bytes(), None));
        seal(&format!("export/{text}"), &plaintext, &Sealing::default()).finish()
    };
    let key = item(0, public("table").der());
    let entries = [item(1, &entry("one")), item(1, &entry("two"))];
    let case = |name: &str, expect: &str, about: &str, keys: u64, count: u64, parts: &[&[u8]]| {
        Vector::new("export", name, "12.2", expect, about)
            .with("table-keys", keys)
            .with("entries", count)
            .body(parts.concat())
    };
    let [one, two] = &entries;
    let huge = [&[0x82, 0x01, 0x5a][..], &(MAX_ENTRY_BYTES as u32 + 1).to_be_bytes()].concat();
    let long_form = [&[0x82, 0x00, 0x5a, 0x00, 0x00][..], &key[3..]].concat();
    vec![
        case("ok", "ok", "a table key and two entries", 1, 2, &[MAGIC, &key, one, two, &end(2)]),
        case("ok-empty", "ok", "no entries", 0, 0, &[MAGIC, &end(0)]),
        case("ok-key-only", "ok", "a table key without entries", 1, 0, &[MAGIC, &key, &end(0)]),
        case("empty", "not_an_export", "nothing", 0, 0, &[]),
        case("other-version", "not_an_export", "another first line", 0, 0, &[b"p2pdb export v2\n", &end(0)]),
        case(
            "crlf",
            "not_an_export",
            "the first line ends in CR LF",
            0,
            0,
            &[b"p2pdb export v1\r\n", &end(0)],
        ),
        case("no-end", "truncated", "the last item is missing", 1, 2, &[MAGIC, &key, one, two]),
        case("cut", "truncated", "ends in an entry", 1, 1, &[MAGIC, &key, one, &two[..two.len() - 1]]),
        case("magic-only", "truncated", "ends after the first line", 0, 0, &[MAGIC]),
        case("too-large", "too_large", "an entry of 524289 bytes is announced", 0, 0, &[MAGIC, &huge]),
        case("huge", "too_large", "an entry of 2^64 - 1 bytes is announced", 0, 0, {
            &[MAGIC, &[0x82, 0x01, 0x5b], &[0xff; 8]]
        }),
        case(
            "count",
            "wrong_count",
            "the last item counts three entries",
            1,
            2,
            &[MAGIC, &key, one, two, &end(3)],
        ),
        case(
            "trailing",
            "malformed",
            "a byte follows the last item",
            1,
            1,
            &[MAGIC, &key, one, &end(1), &[0]],
        ),
        case(
            "unknown-item",
            "malformed",
            "an item of type 3",
            1,
            0,
            &[MAGIC, &key, &[0x82, 0x03, 0x00], &end(0)],
        ),
        case(
            "long-form",
            "malformed",
            "a length in four bytes where two do",
            0,
            0,
            &[MAGIC, &long_form, &end(0)],
        ),
        case(
            "text-item",
            "malformed",
            "an entry as a text",
            1,
            0,
            &[MAGIC, &key, &[0x82, 0x01, 0x61, 0x61], &end(0)],
        ),
        case("indefinite", "malformed", "an item without length", 0, 0, &[MAGIC, &[0x9f, 0x02, 0x00, 0xff]]),
    ]
}
