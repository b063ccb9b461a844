//! Messages (SPEC 8, 9): each is made from a value that can be written as CBOR and as JSON.

use p2pdb_protocol::codec::strict::Writer;

use crate::vector::{Vector, hex};

/// A CBOR value, as far as messages need it.
#[derive(Clone)]
enum Value {
    Uint(u64),
    Bytes(Vec<u8>),
    Bool(bool),
    Null,
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

use Value::{Bool, List, Map, Null, Uint};

fn bytes(length: usize, byte: u8) -> Value {
    Value::Bytes(vec![byte; length])
}

fn ids(count: u8) -> Value {
    List((0..count).map(|byte| bytes(32, byte)).collect())
}

impl Value {
    fn cbor(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Uint(value) => writer.uint(*value).take(),
            Value::Bytes(bytes) => writer.bytes(bytes).take(),
            Bool(value) => vec![if *value { 0xf5 } else { 0xf4 }],
            Null => writer.null().take(),
            List(items) => {
                let head = writer.array(items.len()).take();
                [head, items.iter().flat_map(Value::cbor).collect()].concat()
            }
            Map(entries) => {
                let entry =
                    |(key, value): &(&str, Value)| [Writer::new().text(key).take(), value.cbor()].concat();
                [vec![0xa0 + entries.len() as u8], entries.iter().flat_map(entry).collect()].concat()
            }
        }
    }

    /// Keys that are null left out, the others sorted.
    fn json(&self) -> String {
        match self {
            Uint(value) => value.to_string(),
            Value::Bytes(bytes) => format!("\"{}\"", hex(bytes)),
            Bool(value) => value.to_string(),
            Null => "null".to_owned(),
            List(items) => format!("[{}]", items.iter().map(Value::json).collect::<Vec<_>>().join(",")),
            Map(entries) => {
                let mut entries: Vec<_> =
                    entries.iter().filter(|(_, value)| !matches!(value, Null)).collect();
                entries.sort_by_key(|(key, _)| *key);
                let entry = |(key, value): &&(&str, Value)| format!("\"{key}\":{}", value.json());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }
}

fn case(name: &str, message: &str, spec: &str, expect: &str, about: &str, body: Vec<u8>) -> Vector {
    Vector::new("messages", name, spec, expect, about).with("message", message).body(body)
}

fn ok(name: &str, message: &str, spec: &str, about: &str, value: Value) -> Vector {
    case(name, message, spec, "ok", about, value.cbor()).with("json", value.json())
}

fn reply(body: Value) -> Value {
    List(vec![Uint(0), Null, body])
}

pub fn cases() -> Vec<Vector> {
    [hello_and_put(), get(), index_and_announce(), sync(), lenient()].concat()
}

fn hello_and_put() -> Vec<Vector> {
    let entries = List(vec![bytes(40, 1), bytes(50, 2)]);
    let tables = |count: u16| {
        let id = |number: u16| Value::Bytes([&number.to_be_bytes()[..], &[7; 30]].concat());
        Map(vec![("record", Null), ("tables", List((0..count).map(id).collect()))])
    };
    let many = |count| Map(vec![("entries", List(vec![bytes(1, 1); count])), ("keys", List(vec![]))]);
    let malformed = |name: &str, message: &str, spec: &str, about: &str, value: Value| {
        case(name, message, spec, "malformed", about, value.cbor())
    };
    vec![
        ok("ok-hello-client", "hello-request", "8.3", "a client that asks for any node", {
            Map(vec![("record", Null), ("tables", Null)])
        }),
        ok("ok-hello-node", "hello-request", "8.3", "a node that asks for two tables", {
            Map(vec![("record", bytes(100, 5)), ("tables", ids(2))])
        }),
        ok("ok-hello-256-tables", "hello-request", "8.3", "the most tables", tables(256)),
        malformed("hello-257-tables", "hello-request", "8.3", "a table too many", tables(257)),
        malformed("hello-short-table", "hello-request", "8.3", "a table id of 31 bytes", {
            Map(vec![("record", Null), ("tables", List(vec![bytes(31, 1)]))])
        }),
        ok("ok-hello-response", "hello-response", "8.3", "two other nodes", {
            reply(Map(vec![("record", bytes(90, 1)), ("records", List(vec![bytes(80, 2), bytes(70, 3)]))]))
        }),
        malformed("hello-33-records", "hello-response", "8.3", "a record too many", {
            reply(Map(vec![("record", bytes(90, 1)), ("records", List(vec![bytes(1, 2); 33]))]))
        }),
        malformed("hello-no-record", "hello-response", "8.3", "a node without a record", {
            reply(Map(vec![("record", Null), ("records", List(vec![]))]))
        }),
        ok("ok-put", "put-request", "8.4", "two entries with a key", {
            Map(vec![("entries", entries), ("keys", List(vec![bytes(294, 9)]))])
        }),
        ok("ok-put-256", "put-request", "8.4", "the most entries", many(256)),
        malformed("put-257", "put-request", "8.4", "an entry too many", many(257)),
        malformed("put-17-keys", "put-request", "8.4", "a key too many", {
            Map(vec![("entries", List(vec![bytes(1, 1)])), ("keys", List(vec![bytes(1, 1); 17]))])
        }),
        ok("ok-put-response", "put-response", "8.4", "stored, known, and a code of a later version", {
            reply(Map(vec![("outcomes", List(vec![Uint(0), Uint(1), Uint(43), Uint(999)]))]))
        }),
        ok("ok-busy", "put-response", "8.2", "busy for half a second", List(vec![Uint(1), Uint(500), Null])),
        ok("ok-bad-request", "put-response", "8.2", "no time to try again", List(vec![Uint(3), Null, Null])),
        malformed("reply-two-elements", "put-response", "8.2", "no body", List(vec![Uint(1), Uint(500)])),
        malformed("reply-ok-null", "put-response", "8.2", "status ok with the body null", reply(Null)),
    ]
}

fn get() -> Vec<Vector> {
    let good = |name: &str, about: &str, entries: Vec<(&'static str, Value)>| {
        ok(name, "get-request", "8.5", about, Map(entries))
    };
    let bad = |name: &str, expect: &str, about: &str, entries: Vec<(&'static str, Value)>| {
        case(name, "get-request", "8.5", expect, about, Map(entries).cbor())
    };
    let cursor = || List(vec![bytes(8, 3), Uint(77)]);
    let page = Map(vec![
        ("entries", List(vec![List(vec![Uint(5), bytes(40, 1)]), List(vec![Uint(9), bytes(40, 2)])])),
        ("keys", List(vec![bytes(294, 9)])),
        ("next", cursor()),
        ("more", Bool(true)),
    ]);
    vec![
        good("ok-get-id", "one id", vec![("ids", ids(1))]),
        good("ok-get-since", "what arrived within an hour", vec![("seconds_since", Uint(3600))]),
        good("ok-get-cursor", "a cursor alone", vec![("cursor", cursor())]),
        good("ok-get-all-keys", "every filter", {
            vec![
                ("ids", ids(2)),
                ("tables", ids(1)),
                ("recipients", ids(3)),
                ("bucket", Uint(4095)),
                ("seconds_since", Uint(0)),
                ("created_from", Uint(10)),
                ("created_until", Uint(u64::MAX)),
                ("cursor", cursor()),
                ("limit", Uint(1000)),
            ]
        }),
        good("ok-get-sids", "three beginnings of ids of a table", {
            vec![("sids", bytes(24, 7)), ("tables", ids(1)), ("limit", Uint(1000))]
        }),
        good("ok-get-4096-sids", "the most beginnings", vec![("sids", bytes(32_768, 7)), ("tables", ids(1))]),
        bad("get-4097-sids", "malformed", "one too many", {
            vec![("sids", bytes(32_776, 7)), ("tables", ids(1))]
        }),
        bad("get-no-sids", "bad_request", "no beginnings", vec![("sids", bytes(0, 7)), ("tables", ids(1))]),
        bad("get-short-sid", "bad_request", "9 bytes", vec![("sids", bytes(9, 7)), ("tables", ids(1))]),
        bad("get-zero-sid", "bad_request", "the sid 0", vec![("sids", bytes(8, 0)), ("tables", ids(1))]),
        bad("get-sids-alone", "bad_request", "beginnings without a table", vec![("sids", bytes(8, 7))]),
        bad("get-sids-two-tables", "bad_request", "beginnings in two tables", {
            vec![("sids", bytes(8, 7)), ("tables", ids(2))]
        }),
        bad("get-sids-bucket", "bad_request", "beginnings and another filter", {
            vec![("sids", bytes(8, 7)), ("tables", ids(1)), ("bucket", Uint(1))]
        }),
        bad("get-empty", "bad_request", "no filter", vec![]),
        bad("get-limit-alone", "bad_request", "a limit is no filter", vec![("limit", Uint(10))]),
        bad("get-nulls", "bad_request", "filters that are null", vec![("ids", Null), ("bucket", Null)]),
        bad("get-no-ids", "bad_request", "an empty list of ids", vec![("ids", List(vec![]))]),
        bad("get-bucket-4096", "bad_request", "no such bucket", vec![("bucket", Uint(4096))]),
        bad("get-limit-0", "bad_request", "limit 0", vec![("ids", ids(1)), ("limit", Uint(0))]),
        bad("get-limit-1001", "bad_request", "limit 1001", vec![("ids", ids(1)), ("limit", Uint(1001))]),
        bad("get-65-tables", "malformed", "a table too many", vec![("tables", ids(65))]),
        bad("get-129-recipients", "malformed", "a recipient too many", vec![("recipients", ids(129))]),
        bad("get-cursor-7-bytes", "malformed", "a cursor of another length", {
            vec![("cursor", List(vec![bytes(7, 3), Uint(1)]))]
        }),
        bad("get-bucket-bytes", "malformed", "a bucket that is no number", vec![("bucket", bytes(2, 1))]),
        ok("ok-get-response", "get-response", "8.5", "a page of two entries", reply(page)),
    ]
}

fn index_and_announce() -> Vec<Vector> {
    let summary = |bucket, count| List(vec![Uint(bucket), Uint(count), bytes(16, 6)]);
    let response = |buckets: Vec<Value>, ids: Value, tables: Value| {
        reply(Map(vec![
            ("since", Uint(604_800)),
            ("buckets", List(buckets)),
            ("ids", ids),
            ("tables", tables),
            ("more", Bool(false)),
        ]))
    };
    let none = || List(vec![]);
    let good = |name: &str, about: &str, entries: Vec<(&'static str, Value)>| {
        ok(name, "index-request", "8.6", about, Map(entries))
    };
    vec![
        good("ok-index-buckets", "the buckets of a table", vec![("table", bytes(32, 1)), ("since", Uint(0))]),
        good("ok-index-bucket", "the ids of a bucket", {
            vec![
                ("table", bytes(32, 1)),
                ("since", Uint(604_800)),
                ("bucket", Uint(7)),
                ("after", bytes(32, 2)),
                ("limit", Uint(100)),
            ]
        }),
        good("ok-index-tables", "the tables", vec![("after_table", bytes(32, 1)), ("since", Uint(0))]),
        ok("ok-index-response-buckets", "index-response", "8.6", "two buckets", {
            response(vec![summary(1, 2), summary(4095, 1)], none(), none())
        }),
        ok("ok-index-response-ids", "index-response", "8.6", "three ids", response(vec![], ids(3), none())),
        ok(
            "ok-index-response-tables",
            "index-response",
            "8.6",
            "two tables",
            response(vec![], none(), ids(2)),
        ),
        case("index-summary-pair", "index-response", "8.6", "malformed", "a summary without digest", {
            response(vec![List(vec![Uint(1), Uint(2)])], none(), none()).cbor()
        }),
        ok("ok-announce", "announce", "9.1", "two ids", ids(2)),
        ok("ok-announce-64", "announce", "9.1", "the most ids", ids(64)),
        case("announce-none", "announce", "9.1", "malformed", "no ids", ids(0).cbor()),
        case("announce-65", "announce", "9.1", "malformed", "an id too many", ids(65).cbor()),
        case(
            "announce-short-id",
            "announce",
            "9.1",
            "malformed",
            "an id of 31 bytes",
            List(vec![bytes(31, 1)]).cbor(),
        ),
        ok("ok-new-tables", "new-tables", "9.3", "two tables", ids(2)),
        ok("ok-new-tables-64", "new-tables", "9.3", "the most tables", ids(64)),
        case("new-tables-none", "new-tables", "9.3", "malformed", "no tables", ids(0).cbor()),
        case("new-tables-65", "new-tables", "9.3", "malformed", "a table too many", ids(65).cbor()),
        case("new-tables-bare-id", "new-tables", "9.3", "malformed", "an id without its list", {
            bytes(32, 1).cbor()
        }),
    ]
}

fn sync() -> Vec<Vector> {
    let since = || ("since", Uint(604_800));
    let roots = |count: u8| List((0..count).map(|byte| bytes(16, byte)).collect());
    let request = |expect: &str, name: &str, about: &str, entries: Vec<(&'static str, Value)>| {
        let value = Map([vec![since()], entries].concat());
        let vector = case(name, "sync-request", "8.7", expect, about, value.cbor());
        if expect == "ok" { vector.with("json", value.json()) } else { vector }
    };
    let response = |expect: &str, name: &str, about: &str, entries: Vec<(&'static str, Value)>| {
        let value = reply(Map([vec![since()], entries].concat()));
        let vector = case(name, "sync-response", "8.7", expect, about, value.cbor());
        if expect == "ok" { vector.with("json", value.json()) } else { vector }
    };
    let table = |candidates: u8| List(vec![bytes(32, 1), roots(candidates)]);
    let groups = |level: u64, which: Value, from: u64, to: u64| {
        vec![("groups", List(vec![bytes(32, 1), Uint(level), which, Uint(from), Uint(to)]))]
    };
    let claim = |tow: usize| List(vec![Uint(9), bytes(16, 1), bytes(tow, 2), bytes(128, 3)]);
    let bits = |length: usize| bytes(length, 0x80);
    vec![
        request("ok", "ok-sync-all", "the digest of all tables", vec![("all", roots(1))]),
        request("ok", "ok-sync-tables", "two tables, the first with two candidates", {
            vec![("tables", List(vec![table(2), table(1)]))]
        }),
        request("ok", "ok-sync-256-tables", "the most tables", vec![("tables", List(vec![table(2); 256]))]),
        request("ok", "ok-sync-groups", "all groups of level 4", groups(4, Null, 0, 17)),
        request("ok", "ok-sync-some-groups", "every eighth group of level 12", groups(12, bits(512), 17, 64)),
        request("ok", "ok-sync-level-0", "the whole table", groups(0, bits(1), 16, 24)),
        request("malformed", "sync-3-candidates", "a candidate too many", vec![("all", roots(3))]),
        request("malformed", "sync-257-tables", "a table too many", {
            vec![("tables", List(vec![table(1); 257]))]
        }),
        request("malformed", "sync-513-bytes-of-groups", "more groups than there can be", {
            groups(12, bits(513), 0, 17)
        }),
        request("bad_request", "sync-nothing", "no question", vec![]),
        request("bad_request", "sync-two-questions", "two questions", {
            [vec![("all", roots(1))], groups(4, Null, 0, 17)].concat()
        }),
        request("bad_request", "sync-level-13", "no such level", groups(13, Null, 0, 17)),
        request("bad_request", "sync-no-groups", "no group at all", groups(4, bytes(2, 0), 0, 17)),
        request("bad_request", "sync-missing-groups", "too few bits", groups(4, bits(1), 0, 17)),
        request("bad_request", "sync-no-such-group", "group 7 of the four of level 2", {
            groups(2, bytes(1, 0x81), 0, 17)
        }),
        request("bad_request", "sync-no-syndromes", "from and to are equal", groups(4, Null, 17, 17)),
        request("bad_request", "sync-65-syndromes", "a syndrome too many", groups(4, Null, 0, 65)),
        response("ok", "ok-sync-response-same", "all is equal", vec![("same", List(vec![Uint(1)]))]),
        response("ok", "ok-sync-response-differing", "of three tables the second differs", {
            vec![("same", List(vec![Uint(0), Null, Uint(1)])), ("differing", List(vec![claim(128)]))]
        }),
        response("ok", "ok-sync-response-groups", "two syndromes", {
            vec![("groups", List(vec![Uint(9), bytes(16, 1), bytes(16, 2)]))]
        }),
        response("malformed", "sync-response-short-tow", "an estimator of 127 bytes", {
            vec![("same", List(vec![Null])), ("differing", List(vec![claim(127)]))]
        }),
    ]
}

fn lenient() -> Vec<Vector> {
    let plain = Map(vec![("ids", ids(1))]);
    let later =
        Map(vec![("later", Map(vec![("x", Null)])), ("ids", ids(1)), ("zzz", List(vec![Bool(true)]))]);
    let twice = Map(vec![("ids", ids(1)), ("ids", ids(1))]);
    let get = |name: &str, expect: &str, about: &str, body: Vec<u8>| {
        case(name, "get-request", "1.3", expect, about, body)
    };
    let encoded = plain.cbor();
    let mut numbered = vec![0xa2, 0x01, 0x02];
    numbered.extend(&encoded[1..]);
    let huge = [&b"\xa1\x63ids\x9b"[..], &[0xff; 8]].concat();
    vec![
        get("ok-unknown-keys", "ok", "keys of a later version are ignored", later.cbor())
            .with("json", plain.json()),
        get("duplicate-key", "malformed", "a key twice", twice.cbor()),
        get("trailing", "malformed", "a byte follows", [&encoded[..], &[0]].concat()),
        get("truncated", "malformed", "the last byte is missing", encoded[..encoded.len() - 1].to_vec()),
        get("empty", "malformed", "nothing", Vec::new()),
        get("array", "malformed", "an array instead of a map", List(vec![ids(1)]).cbor()),
        get("number-key", "malformed", "a key that is no text", numbered),
        get("huge-count", "malformed", "a claim of 2^64 - 1 ids", huge),
    ]
}
