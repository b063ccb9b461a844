//! Headers, entries, their contents, records and export files.

use bytes::Bytes;
use p2pdb_protocol::{
    entry::{Entry, Header, UnverifiedEntry},
    export::{Item, Reader},
    keys::{PrivateKey, PublicKey},
    network::{Network, NetworkFile},
    record::SignedRecord,
    refusal::Refusal,
    seal::{OpenError, open},
};

use crate::{
    root,
    vector::{Vector, hex},
};

const OK: &str = "ok";

/// The file that a header line names, below `vectors/`.
fn file(vector: &Vector, key: &str) -> String {
    std::fs::read_to_string(root().join(vector.need(key))).unwrap()
}

fn network(vector: &Vector) -> Network {
    NetworkFile::parse(&file(vector, "network")).unwrap().network
}

fn private(vector: &Vector, key: &str) -> PrivateKey {
    PrivateKey::from_pem(&file(vector, key), None).unwrap()
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

pub fn header(vector: &Vector) -> String {
    let header = match Header::decode(&vector.body) {
        Ok(header) => header,
        Err(refusal) => return refusal.name().to_owned(),
    };
    assert_eq!(header.encode(), vector.body);
    assert_eq!(header.table.to_string(), vector.need("table"));
    assert_eq!(header.created, vector.number::<u64>("created"));
    assert_eq!(or_null(header.expires), vector.need("expires"));
    let recipients = header.recipients.iter().map(|key| format!("{}:{}", key.recipient, key.wrapped.len()));
    assert_eq!(recipients.collect::<Vec<_>>().join(" "), vector.need("recipients"));
    assert_eq!(hex(&header.body_hash), vector.need("body-hash"));
    assert_eq!(header.body_length, vector.number::<u64>("body-length"));
    OK.to_owned()
}

pub fn entry(vector: &Vector) -> String {
    let (now, horizon_start) = (vector.number("now"), vector.number("horizon-start"));
    let admit = |network: &Network, table_key: &PublicKey| -> Result<Entry, Refusal> {
        let entry = UnverifiedEntry::decode(vector.body.clone().into(), network)?;
        entry.check_clock(network, now, horizon_start)?;
        entry.check_work(network)?.verify(table_key)
    };
    match admit(&network(vector), private(vector, "table-key").public_key()) {
        Ok(entry) => {
            assert_eq!(entry.id().to_string(), vector.need("id"));
            assert_eq!(entry.effort(), vector.number::<u64>("effort"));
            OK
        }
        Err(refusal) => refusal.name(),
    }
    .to_owned()
}

pub fn seal(vector: &Vector) -> String {
    let network = network(vector);
    // All of them are admitted: it is the reader who finds the fault.
    let entry = UnverifiedEntry::decode(vector.body.clone().into(), &network).unwrap();
    let entry =
        entry.check_work(&network).unwrap().verify(private(vector, "table-key").public_key()).unwrap();
    match open(&entry, &private(vector, "reader-key")) {
        Ok(opened) => {
            assert_eq!(opened.created, vector.number::<u64>("created"));
            assert_eq!(opened.content.media_type, vector.need("media-type"));
            assert_eq!(hex(&opened.content.data), vector.need("data"));
            assert_eq!(or_null(opened.author.map(|key| key.recipient_id())), vector.need("author"));
            OK
        }
        Err(OpenError::NotARecipient { .. }) => "not_a_recipient",
        Err(OpenError::WrappedKey) => "wrapped_key",
        Err(OpenError::Body) => "body",
        Err(OpenError::Padding) => "padding",
        Err(OpenError::Content(_)) => "content",
        Err(OpenError::AuthorKey(_)) => "author_key",
        Err(OpenError::AuthorSignature) => "author_signature",
        Err(other) => panic!("{other}"),
    }
    .to_owned()
}

pub fn record(vector: &Vector) -> String {
    let network_id = vector.need("network-id").parse().unwrap();
    let record = match SignedRecord::verify(Bytes::from(vector.body.clone()), &network_id) {
        Ok(signed) => signed.into_record(),
        Err(error) => return error.name().to_owned(),
    };
    assert_eq!(hex(&record.key), vector.need("key"));
    assert_eq!(hex(&record.peer_id_bytes()), vector.need("peer-id"));
    assert_eq!(record.sequence, vector.number::<u64>("sequence"));
    let addresses: Vec<String> = record.addresses.iter().map(|address| hex(address)).collect();
    assert_eq!(addresses.join(" "), vector.need("addresses"));
    let tables =
        record.tables.map(|tables| tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    assert_eq!(or_null(tables), vector.need("tables"));
    assert_eq!(record.horizon, vector.number::<u64>("horizon"));
    assert_eq!(record.puts_per_minute, vector.number::<u64>("puts-per-minute"));
    OK.to_owned()
}

pub fn export(vector: &Vector) -> String {
    let (mut table_keys, mut entries) = (0, 0);
    let mut read = || {
        for item in Reader::new(&vector.body[..])? {
            match item? {
                Item::TableKey(_) => table_keys += 1,
                Item::Entry(_) => entries += 1,
            }
        }
        Ok(())
    };
    let result: Result<(), p2pdb_protocol::export::ExportError> = read();
    assert_eq!(table_keys, vector.number::<u64>("table-keys"));
    assert_eq!(entries, vector.number::<u64>("entries"));
    result.map_or_else(|error| error.name().to_owned(), |()| OK.to_owned())
}
