//! Headers alone (SPEC 4.2).

use p2pdb_protocol::{
    codec::strict::Writer,
    entry::{Header, WrappedKey},
    id::TableId,
};

use crate::{
    vector::{Vector, hex},
    world::{CREATED, EXPIRES, recipient},
};

/// A header item by item, each encoded, so that any of them can be spoiled.
struct Raw {
    head: Vec<u8>,
    version: Vec<u8>,
    table: Vec<u8>,
    created: Vec<u8>,
    expires: Vec<u8>,
    recipients: Vec<u8>,
    body_hash: Vec<u8>,
    body_length: Vec<u8>,
}

fn uint(value: u64) -> Vec<u8> {
    Writer::new().uint(value).take()
}

fn bytes(length: usize) -> Vec<u8> {
    Writer::new().bytes(&vec![0xab; length]).take()
}

/// A pair of a recipient whose id is 32 times `id`, and a wrapped key of this length.
fn pair(id: u8, wrapped: usize) -> Vec<u8> {
    Writer::new().array(2).bytes(recipient(id).as_bytes()).bytes(&vec![0xcd; wrapped]).take()
}

fn list(pairs: &[Vec<u8>]) -> Vec<u8> {
    [Writer::new().array(pairs.len()).take(), pairs.concat()].concat()
}

fn raw() -> Raw {
    Raw {
        head: vec![0x87],
        version: uint(1),
        table: bytes(32),
        created: uint(CREATED),
        expires: uint(EXPIRES),
        recipients: list(&[pair(1, 256)]),
        body_hash: bytes(32),
        body_length: uint(272),
    }
}

impl Raw {
    fn encode(self) -> Vec<u8> {
        let Self { head, version, table, created, expires, recipients, body_hash, body_length } = self;
        [head, version, table, created, expires, recipients, body_hash, body_length].concat()
    }
}

/// The same number with a head of 9 bytes.
fn long_uint(value: u64) -> Vec<u8> {
    [&[0x1b][..], &value.to_be_bytes()].concat()
}

fn ok(name: &str, about: &str, header: Header) -> Vector {
    let recipients: Vec<String> = header
        .recipients
        .iter()
        .map(|WrappedKey { recipient, wrapped }| format!("{recipient}:{}", wrapped.len()))
        .collect();
    Vector::new("header", name, "4.2", "ok", about)
        .with("table", header.table)
        .with("created", header.created)
        .with("expires", header.expires.map_or("null".to_owned(), |expires| expires.to_string()))
        .with("recipients", recipients.join(" "))
        .with("body-hash", hex(&header.body_hash))
        .with("body-length", header.body_length)
        .body(header.encode())
}

fn good() -> Vec<Vector> {
    let wrapped = |id, length| WrappedKey { recipient: recipient(id), wrapped: vec![0xcd; length] };
    let header = Header {
        table: TableId::from_bytes([0xab; 32]),
        created: CREATED,
        expires: Some(EXPIRES),
        recipients: vec![wrapped(1, 256)],
        body_hash: [0xab; 32],
        body_length: 272,
    };
    let sizes = vec![wrapped(1, 256), wrapped(2, 384), wrapped(3, 512), wrapped(4, 257)];
    let no_expiry = Header { expires: None, ..header.clone() };
    let sixteen = Header { recipients: (0..16).map(|id| wrapped(id, 256)).collect(), ..header.clone() };
    let large =
        Header { created: u64::MAX - 1, expires: Some(u64::MAX), body_length: u64::MAX, ..header.clone() };
    let small = Header { created: 0, expires: Some(1), body_length: 0, ..header.clone() };
    vec![
        ok("ok", "one recipient, and a time of expiry", header.clone()),
        ok("ok-no-expiry", "expires is null", no_expiry),
        ok("ok-sizes", "wrapped keys of several lengths", Header { recipients: sizes, ..header }),
        ok("ok-16-recipients", "the most recipients", sixteen),
        ok("ok-large-numbers", "the greatest numbers", large),
        ok("ok-small-numbers", "the smallest numbers", small),
    ]
}

pub fn cases() -> Vec<Vector> {
    let bad = |name: &str, expect: &str, about: &str, change: &dyn Fn(&mut Raw)| {
        let mut raw = raw();
        change(&mut raw);
        Vector::new("header", name, "4.2, 6.1", expect, about).body(raw.encode())
    };
    let whole = |name: &str, expect: &str, about: &str, body: Vec<u8>| {
        Vector::new("header", name, "4.2, 6.1", expect, about).body(body)
    };
    let encoded = raw().encode();
    let malformed = "malformed";
    let non_canonical = "non_canonical";
    let unknown = "unknown_version";
    let recipients = "bad_recipients";
    let spoiled = vec![
        bad("version-0", unknown, "version 0", &|raw| raw.version = uint(0)),
        bad("version-2", unknown, "version 2", &|raw| raw.version = uint(2)),
        whole("version-2-other-length", unknown, "version 2 with two elements", vec![0x82, 0x02, 0xf5]),
        whole(
            "version-2-garbage",
            unknown,
            "what follows version 2 is not CBOR",
            vec![0x89, 0x02, 0xff, 0xff],
        ),
        whole("version-large", unknown, "the greatest version", [vec![0x87], uint(u64::MAX)].concat()),
        bad("version-text", malformed, "the version is a text", &|raw| raw.version = b"\x611".to_vec()),
        bad("version-long-form", non_canonical, "version 1 in two bytes", &|raw| raw.version = vec![0x18, 1]),
        bad("head-long-form", non_canonical, "the array's length in two bytes", &|raw| {
            raw.head = vec![0x98, 7]
        }),
        whole(
            "indefinite",
            non_canonical,
            "an array without length",
            [&[0x9f], &encoded[1..], &[0xff]].concat(),
        ),
        bad("six-elements", malformed, "the last element is missing", &|raw| {
            (raw.head, raw.body_length) = (vec![0x86], Vec::new());
        }),
        bad("eight-elements", malformed, "an element too many", &|raw| {
            raw.head = vec![0x88];
            raw.body_length.push(0);
        }),
        whole("map", malformed, "a map", vec![0xa1, 0x01, 0x01]),
        whole("empty-array", malformed, "an array without a version", vec![0x80]),
        whole("empty", malformed, "nothing", Vec::new()),
        bad("table-31-bytes", malformed, "the table id is too short", &|raw| raw.table = bytes(31)),
        bad("table-text", malformed, "the table id is a text", &|raw| raw.table[0] = 0x78),
        bad("table-long-form", non_canonical, "the length of the table id in three bytes", &|raw| {
            raw.table.splice(..2, [0x59, 0x00, 0x20]);
        }),
        bad("created-negative", malformed, "a negative time", &|raw| raw.created = vec![0x20]),
        bad("created-float", malformed, "a float", &|raw| raw.created = vec![0xf9, 0x3c, 0x00]),
        bad("created-tagged", malformed, "a time with tag 1", &|raw| raw.created.insert(0, 0xc1)),
        bad("created-bignum", malformed, "a number as a bignum", &|raw| raw.created = vec![0xc2, 0x41, 0x01]),
        bad("created-null", malformed, "null", &|raw| raw.created = vec![0xf6]),
        bad("created-reserved", malformed, "the reserved head 0x1c", &|raw| raw.created = vec![0x1c]),
        bad("created-long-form", non_canonical, "nine bytes where five do", &|raw| {
            raw.created = long_uint(CREATED)
        }),
        bad("expires-equal", "bad_expiry", "expires when it was created", &|raw| raw.expires = uint(CREATED)),
        bad("expires-before", "bad_expiry", "expires before it was created", &|raw| {
            raw.expires = uint(CREATED - 1)
        }),
        bad("expires-undefined", malformed, "undefined, which is not null", &|raw| raw.expires = vec![0xf7]),
        bad("expires-false", malformed, "false, which is not null", &|raw| raw.expires = vec![0xf4]),
        bad("expires-long-form", non_canonical, "nine bytes where five do", &|raw| {
            raw.expires = long_uint(EXPIRES)
        }),
    ];
    let more = vec![
        bad("recipients-none", recipients, "an empty list", &|raw| raw.recipients = list(&[])),
        bad("recipients-17", recipients, "one too many", &|raw| {
            raw.recipients = list(&(0..17).map(|id| pair(id, 256)).collect::<Vec<_>>());
        }),
        bad("recipients-huge-count", recipients, "a claim of 2^64 - 1 recipients", &|raw| {
            raw.recipients = [&[0x9b][..], &[0xff; 8]].concat();
        }),
        bad("recipients-descending", recipients, "not in order", &|raw| {
            raw.recipients = list(&[pair(2, 256), pair(1, 256)]);
        }),
        bad("recipients-twice", recipients, "the same twice", &|raw| {
            raw.recipients = list(&[pair(1, 256), pair(1, 256)]);
        }),
        bad("wrapped-255", recipients, "a wrapped key that is too short", &|raw| {
            raw.recipients = list(&[pair(1, 255)]);
        }),
        bad("wrapped-513", recipients, "a wrapped key that is too long", &|raw| {
            raw.recipients = list(&[pair(1, 513)]);
        }),
        bad("recipients-indefinite", non_canonical, "a list without length", &|raw| {
            raw.recipients = [&[0x9f][..], &pair(1, 256), &[0xff]].concat();
        }),
        bad("recipients-null", malformed, "null", &|raw| raw.recipients = vec![0xf6]),
        bad("recipient-31-bytes", malformed, "a recipient id that is too short", &|raw| {
            raw.recipients = [vec![0x81, 0x82], bytes(31), bytes(256)].concat();
        }),
        bad("recipient-triple", malformed, "three elements for a recipient", &|raw| {
            raw.recipients = [vec![0x81, 0x83], pair(1, 256)[1..].to_vec(), vec![0x00]].concat();
        }),
        bad("wrapped-indefinite", non_canonical, "a wrapped key in chunks", &|raw| {
            raw.recipients = [&[0x81, 0x82][..], &bytes(32), &[0x5f], &bytes(256), &[0xff]].concat();
        }),
        bad("wrapped-text", malformed, "a wrapped key that is a text", &|raw| {
            raw.recipients = [&[0x81, 0x82][..], &bytes(32), &[0x79, 0x01, 0x00], &[b'a'; 256]].concat();
        }),
        bad("body-hash-33-bytes", malformed, "the hash is too long", &|raw| raw.body_hash = bytes(33)),
        bad("body-length-bytes", malformed, "the length is a byte string", &|raw| raw.body_length = bytes(1)),
        bad("body-length-long-form", non_canonical, "nine bytes where three do", &|raw| {
            raw.body_length = long_uint(272);
        }),
        whole("trailing", malformed, "a byte follows", [&encoded[..], &[0]].concat()),
        whole("truncated", malformed, "the last byte is missing", encoded[..encoded.len() - 1].to_vec()),
        whole("truncated-half", malformed, "ends in the middle", encoded[..encoded.len() / 2].to_vec()),
    ];
    [good(), spoiled, more].concat()
}
