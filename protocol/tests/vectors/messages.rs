//! Messages: what the crate's types hold, compared as JSON.

use cbor4ii::core::{Value, dec::Decode as _, utils::SliceReader};
use p2pdb_protocol::{
    codec::lenient,
    filter::{BySids, Filter},
    message::{
        Operation, Reply, announce,
        get::{Get, GetRequest},
        hello::Hello,
        index::Index,
        put::Put,
        sync::{Sync, SyncRequest},
    },
    network::Network,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::vector::{Vector, hex};

const OK: &str = "ok";
const MALFORMED: &str = "malformed";

pub fn messages(vector: &Vector) -> String {
    fn operation<O: Operation>(vector: &Vector, is_request: bool) -> &'static str {
        if is_request { decode::<O::Request>(vector) } else { decode::<Reply<O::Response>>(vector) }
    }
    match vector.need("message") {
        "announce" => match announce::decode(&vector.body) {
            Ok(ids) => same(vector, &ids),
            Err(_) => MALFORMED,
        },
        "new-tables" => match announce::decode_new_tables(&vector.body) {
            Ok(tables) => same(vector, &tables),
            Err(_) => MALFORMED,
        },
        "get-request" => match lenient::from_slice::<GetRequest>(&vector.body) {
            Err(_) => MALFORMED,
            Ok(request) => match BySids::from_request(&request) {
                Ok(Some(_)) => same(vector, &request),
                Ok(None) if Filter::from_request(request.clone(), &Network::default()).is_ok() => {
                    same(vector, &request)
                }
                _ => "bad_request",
            },
        },
        "get-response" => operation::<Get>(vector, false),
        "hello-request" => operation::<Hello>(vector, true),
        "hello-response" => operation::<Hello>(vector, false),
        "put-request" => operation::<Put>(vector, true),
        "put-response" => operation::<Put>(vector, false),
        "sync-request" => match lenient::from_slice::<SyncRequest>(&vector.body) {
            Err(_) => MALFORMED,
            Ok(request) if request.clone().question().is_none() => "bad_request",
            Ok(request) => same(vector, &request),
        },
        "sync-response" => operation::<Sync>(vector, false),
        "index-request" => operation::<Index>(vector, true),
        "index-response" => operation::<Index>(vector, false),
        other => panic!("{other} is no message"),
    }
    .to_owned()
}

fn decode<T: Serialize + DeserializeOwned>(vector: &Vector) -> &'static str {
    lenient::from_slice::<T>(&vector.body).map_or(MALFORMED, |message| same(vector, &message))
}

/// Compares what was understood of a message with what the vector states.
fn same<T: Serialize>(vector: &Vector, message: &T) -> &'static str {
    let encoded = lenient::to_vec(message).unwrap();
    let value = Value::decode(&mut SliceReader::new(&encoded)).unwrap();
    assert_eq!(json(&value), vector.need("json"), "{}", vector.path().display());
    OK
}

/// Keys that are null left out, the others sorted.
fn json(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Bytes(bytes) => format!("\"{}\"", hex(bytes)),
        Value::Text(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().filter(|(_, value)| *value != Value::Null).collect();
            entries.sort_by_key(|(key, _)| json(key));
            let entry = |(key, value): &&(Value, Value)| format!("\"{}\":{}", json(key), json(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
        }
        other => panic!("{other:?} stands in no message"),
    }
}
