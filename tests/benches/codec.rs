//! Encoding and decoding, against hashing the same bytes once, which no node can do without.

use anyhow::{Context as _, Result};
use p2pdb::protocol::{
    bucket::BucketSummary,
    codec::{
        bounded::{Blob, List},
        lenient,
    },
    entry::{Entry, Header, UnverifiedEntry},
    id::EntryId,
    message::{Operation, Reply, get::Get, index::Index, put::Put},
};
use sha2::{Digest as _, Sha256};

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of},
    micro::seconds_per_call,
    random::Random,
};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let data = Dataset::new(Spec::of(100, 2048))?;
    let entries = data.entries()?;
    let entry = entries.first().context("no entries")?;
    let network = &data.network.network;
    let header = entry.header().encode();
    let mut rows = vec![
        row(bench, "entry, decode (with its three hashes)", entry.encoded(), || {
            UnverifiedEntry::decode(entry.encoded().clone(), network)
        }),
        row(bench, "header, decode", &header, || Header::decode(&header)),
        row(bench, "header, encode", &header, || entry.header().encode()),
    ];
    let blobs = || entries.iter().take(64).map(|entry| Blob::try_from(entry.encoded().clone()));
    let request = p2pdb::protocol::message::put::PutRequest {
        entries: List::try_from(blobs().collect::<Result<Vec<_>, _>>()?)?,
        keys: List::default(),
    };
    rows.extend(message::<Put>(bench, "put of 64 entries", &request)?);
    let index = index(network, bench.pick(100_000, 1_000))?;
    rows.extend(reply::<Index>(bench, "index of a table", index)?);
    let ids: Vec<EntryId> = entries.iter().map(Entry::id).collect();
    let request =
        p2pdb::protocol::message::get::GetRequest { ids: Some(List::try_from(ids)?), ..Default::default() };
    rows.extend(message::<Get>(bench, "get of 100 ids", &request)?);
    bench.show("processor time of one core; ratio: times what SHA-256 of the same bytes takes", &rows);
    Ok(())
}

fn index(
    network: &p2pdb::protocol::network::Network,
    ids: usize,
) -> Result<p2pdb::protocol::message::index::IndexResponse> {
    let mut random = Random::new(2);
    let ids = (0..ids).map(|_| EntryId::from_bytes(random.bytes()));
    let buckets: Vec<BucketSummary> = index_of(ids, network);
    Ok(p2pdb::protocol::message::index::IndexResponse {
        buckets: List::try_from(buckets)?,
        ..Default::default()
    })
}

fn message<O: Operation>(bench: &Bench, what: &str, request: &O::Request) -> Result<Vec<Row>> {
    let encoded = lenient::to_vec(request)?;
    Ok(vec![
        row(bench, &format!("{what}, encode"), &encoded, || lenient::to_vec(request)),
        row(bench, &format!("{what}, decode"), &encoded, || lenient::from_slice::<O::Request>(&encoded)),
    ])
}

fn reply<O: Operation>(bench: &Bench, what: &str, response: O::Response) -> Result<Vec<Row>> {
    let reply = Reply::Ok(response);
    let encoded = lenient::to_vec(&reply)?;
    Ok(vec![
        row(bench, &format!("{what}, encode"), &encoded, || lenient::to_vec(&reply)),
        row(bench, &format!("{what}, decode"), &encoded, || {
            lenient::from_slice::<Reply<O::Response>>(&encoded)
        }),
    ])
}

fn row<T>(bench: &Bench, what: &str, bytes: &[u8], call: impl FnMut() -> T) -> Row {
    let seconds = seconds_per_call(bench, call);
    let hashing = seconds_per_call(bench, || Sha256::digest(bytes));
    Row::new()
        .text("what", what)
        .count("bytes", bytes.len() as u64)
        .number("microseconds", seconds * 1e6)
        .number("mib_per_s", bytes.len() as f64 / seconds / f64::from(1 << 20))
        .number("ratio_to_sha256", seconds / hashing)
}
