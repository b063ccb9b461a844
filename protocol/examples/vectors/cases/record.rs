//! Node records (SPEC 7).

use ed25519_dalek::{Signer as _, SigningKey};
use p2pdb_protocol::{
    codec::strict::Writer,
    id::{NetworkId, TableId},
    record::NodeRecord,
};

use crate::{
    vector::{Vector, hex},
    world::{CREATED, Rng, network},
};

fn secret() -> SigningKey {
    SigningKey::from_bytes(&Rng::new("record").bytes())
}

fn table(byte: u8) -> TableId {
    TableId::from_bytes([byte; 32])
}

/// A payload item by item, each encoded, so that any of them can be spoiled.
struct Raw {
    head: Vec<u8>,
    version: Vec<u8>,
    key: Vec<u8>,
    sequence: Vec<u8>,
    addresses: Vec<u8>,
    tables: Vec<u8>,
    horizon: Vec<u8>,
    puts: Vec<u8>,
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(items.len());
    for item in items {
        writer.bytes(item);
    }
    writer.take()
}

fn raw(record: &NodeRecord) -> Raw {
    let uint = |value| Writer::new().uint(value).take();
    let tables = |tables: &Vec<TableId>| {
        list(&tables.iter().map(|table| table.as_bytes().to_vec()).collect::<Vec<_>>())
    };
    Raw {
        head: vec![0x87],
        version: uint(1),
        key: Writer::new().bytes(&record.key).take(),
        sequence: uint(record.sequence),
        addresses: list(&record.addresses),
        tables: record.tables.as_ref().map_or(vec![0xf6], tables),
        horizon: uint(record.horizon),
        puts: uint(record.puts_per_minute),
    }
}

impl Raw {
    fn payload(self) -> Vec<u8> {
        let Self { head, version, key, sequence, addresses, tables, horizon, puts } = self;
        [head, version, key, sequence, addresses, tables, horizon, puts].concat()
    }
}

fn sign(network: &NetworkId, payload: &[u8]) -> Vec<u8> {
    let message = [b"p2pdb node record v1", &network.as_bytes()[..], payload].concat();
    secret().sign(&message).to_bytes().to_vec()
}

fn signed(payload: &[u8]) -> Vec<u8> {
    Writer::new().array(2).bytes(payload).bytes(&sign(&network().id(), payload)).take()
}

fn case(name: &str, expect: &str, about: &str, body: Vec<u8>) -> Vector {
    Vector::new("record", name, "7.1, 7.2", expect, about).with("network-id", network().id()).body(body)
}

fn ok(name: &str, about: &str, record: &NodeRecord) -> Vector {
    let joined = |items: Vec<String>| items.join(" ");
    let tables = record
        .tables
        .as_ref()
        .map_or("null".to_owned(), |tables| joined(tables.iter().map(TableId::to_string).collect()));
    case(name, "ok", about, signed(&raw(record).payload()))
        .with("key", hex(&record.key))
        .with("peer-id", hex(&[&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20], &record.key[..]].concat()))
        .with("sequence", record.sequence)
        .with("addresses", joined(record.addresses.iter().map(|address| hex(address)).collect()))
        .with("tables", tables)
        .with("horizon", record.horizon)
        .with("puts-per-minute", record.puts_per_minute)
}

pub fn cases() -> Vec<Vector> {
    // /ip4/127.0.0.1/tcp/4001 and /dns4/node.example/tcp/443
    let loopback = vec![0x04, 127, 0, 0, 1, 0x06, 0x0f, 0xa1];
    let dns = [&[0x36, 0x0c][..], b"node.example", &[0x06, 0x01, 0xbb]].concat();
    let record = NodeRecord {
        key: secret().verifying_key().to_bytes(),
        sequence: CREATED,
        addresses: vec![loopback, dns],
        tables: Some(vec![table(1), table(2)]),
        horizon: 604_800,
        puts_per_minute: 60,
    };
    let all =
        NodeRecord { addresses: vec![], tables: None, horizon: 0, puts_per_minute: 0, ..record.clone() };
    let none = NodeRecord { tables: Some(vec![]), ..all.clone() };
    let many = |count: u16| -> Vec<TableId> {
        let id = |number: u16| [&number.to_be_bytes()[..], &[7; 30]].concat().try_into().unwrap();
        (0..count).map(|number| TableId::from_bytes(id(number))).collect()
    };
    let full = NodeRecord { addresses: vec![vec![1; 256]; 8], tables: Some(many(256)), ..record.clone() };
    let good = vec![
        ok("ok", "two addresses and two tables", &record),
        ok("ok-all-tables", "no addresses, every table", &all),
        ok("ok-no-tables", "no table", &none),
        ok("ok-full", "as many addresses and tables as fit, each address as long as may be", &full),
    ];
    let spoil = |name: &str, expect: &str, about: &str, change: &dyn Fn(&mut Raw)| {
        let mut raw = raw(&record);
        change(&mut raw);
        case(name, expect, about, signed(&raw.payload()))
    };
    let with = |name: &str, about: &str, record: NodeRecord| {
        case(name, "malformed", about, signed(&raw(&record).payload()))
    };
    let payload = raw(&record).payload();
    let signature = sign(&network().id(), &payload);
    let whole = signed(&payload);
    let pair =
        |payload: &[u8], signature: &[u8]| Writer::new().array(2).bytes(payload).bytes(signature).take();
    let mut flipped = signature.clone();
    flipped[10] ^= 1;
    let mut tampered = payload.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let other_network = NetworkId::from_bytes([1; 32]);
    let mut small_order = [0; 64];
    small_order[0] = 1;
    let mut identity = record.key;
    identity.fill(0);
    identity[0] = 1;
    let small = raw(&NodeRecord { key: identity, ..record.clone() }).payload();
    let addresses = |addresses: Vec<Vec<u8>>| NodeRecord { addresses, ..record.clone() };
    let tables = |tables: Vec<TableId>| NodeRecord { tables: Some(tables), ..record.clone() };
    let spoiled = vec![
        spoil("version-2", "unknown_version", "version 2", &|raw| raw.version = vec![0x02]),
        spoil("version-long-form", "non_canonical", "version 1 in two bytes", &|raw| {
            raw.version = vec![0x18, 1]
        }),
        spoil("head-long-form", "non_canonical", "the array's length in two bytes", &|raw| {
            raw.head = vec![0x98, 7]
        }),
        spoil("six-elements", "malformed", "the last element is missing", &|raw| {
            (raw.head, raw.puts) = (vec![0x86], vec![]);
        }),
        spoil("key-31-bytes", "malformed", "the key is too short", &|raw| raw.key = vec![0x41; 2]),
        spoil("sequence-negative", "malformed", "a negative sequence", &|raw| raw.sequence = vec![0x20]),
        spoil("addresses-null", "malformed", "null", &|raw| raw.addresses = vec![0xf6]),
        with("addresses-9", "an address too many", addresses(vec![vec![1]; 9])),
        with("address-257", "an address that is too long", addresses(vec![vec![1; 257]])),
        with("address-empty", "an empty address", addresses(vec![vec![]])),
        with("tables-257", "a table too many", tables(many(257))),
        with("tables-descending", "the tables are not in order", tables(vec![table(2), table(1)])),
        with("tables-twice", "the same table twice", tables(vec![table(1), table(1)])),
        case("payload-trailing", "malformed", "a byte follows inside of the payload", {
            signed(&[&payload[..], &[0]].concat())
        }),
        case("trailing", "malformed", "a byte follows", [&whole[..], &[0]].concat()),
        case("truncated", "malformed", "the last byte is missing", whole[..whole.len() - 1].to_vec()),
        case("empty", "malformed", "nothing", Vec::new()),
        case("too-large", "too_large", "12289 bytes", vec![0; 12_289]),
        case(
            "indefinite",
            "non_canonical",
            "an array without length",
            [&[0x9f], &whole[1..], &[0xff]].concat(),
        ),
        case("signature-63", "malformed", "the signature is too short", pair(&payload, &signature[..63])),
        case("signature-flipped", "signature_invalid", "a bit is flipped", pair(&payload, &flipped)),
        case(
            "tampered",
            "signature_invalid",
            "the payload was changed after signing",
            pair(&tampered, &signature),
        ),
        case("other-network", "signature_invalid", "signed for another network", {
            pair(&payload, &sign(&other_network, &payload))
        }),
        case("unlabelled", "signature_invalid", "signed without label and network", {
            pair(&payload, &secret().sign(&payload).to_bytes())
        }),
        case("small-order", "signature_invalid", "a key of order 1, under which every signature holds", {
            pair(&small, &small_order)
        }),
    ];
    [good, spoiled].concat()
}
