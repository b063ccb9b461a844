//! Puts to one node on one connection, each answered once it is durable.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use libp2p::PeerId;
use p2pdb::{
    client::Client,
    clock::monotonic,
    protocol::{
        codec::bounded::{Blob, List, TooLong},
        entry::Entry,
        keys::PublicKey,
        message::{
            Status,
            put::{Put, PutRequest},
        },
        refusal::Outcome,
    },
    swarm::RequestError,
};
use tokio::task::JoinSet;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of, total_bytes},
    node::{Node, check_index, connect},
    proxy::Proxy,
    samples::{Samples, cpu_per_thousand, per_second},
};

/// How entries are put.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Entries under way at once.
    in_flight: usize,
    /// Entries of one call.
    per_call: usize,
    /// Whether each call is a request of its own; else the client puts several calls into one, as it always does.
    alone: bool,
}

const WAYS: [Way; 4] = [
    Way { in_flight: 1, per_call: 1, alone: false },
    Way { in_flight: 64, per_call: 1, alone: false },
    Way { in_flight: 64, per_call: 1, alone: true },
    Way { in_flight: 64, per_call: 8, alone: true },
];

pub(crate) fn run(bench: &Bench) -> Result<()> {
    for bits in bench.bits(&[2048]) {
        let data = Dataset::new(Spec::of(bench.count(20_000, 200), bits))?;
        let entries = data.entries()?;
        let mut rows = Vec::new();
        for way in WAYS {
            bench.note(&format!("{way:?}"));
            // One at a time takes long, and shows the same with fewer.
            let most = if way.in_flight == 1 { entries.len().min(2_000) } else { entries.len() };
            let entries = entries.get(..most).unwrap_or_default();
            rows.push(bench.runtime()?.block_on(measure(bench, &data, entries, way))?);
        }
        let settings =
            format!("entries of 1 KiB, RSA-{bits}; one client, one node process, one TCP connection");
        bench.show(&settings, &rows);
    }
    Ok(())
}

/// What a load of puts found.
#[derive(Debug, Default)]
struct Load {
    seconds: Duration,
    /// Of each request.
    times: Samples,
    stored: usize,
    /// Requests that the node was too busy for; each was made again.
    busy: usize,
}

async fn measure(bench: &Bench, data: &Dataset, entries: &[Entry], way: Way) -> Result<Row> {
    let (warm_up, measured) = entries.split_at(entries.len() / 10);
    let directory = bench.scratch()?;
    let mut node = Node::new(directory.path(), "node", &data.network)?;
    node.start(&[]).await?;
    let (client, peer) = connect(&data.network, node.address()?).await?;
    let key = data.table.public_key();
    put_all(&client, peer, key, warm_up, way).await?;
    let before = node.cpu()?;
    let load = put_all(&client, peer, key, measured, way).await?;
    let cpu = node.cpu()? - before;
    client.stop().await;
    ensure!(load.stored == measured.len(), "{} of {} entries stored", load.stored, measured.len());
    let index = index_of(entries.iter().map(Entry::id), &data.network.network);
    check_index(&data.network, &node, data.table_id(), &index).await?;
    drop(node);
    let count = measured.len();
    let bytes = total_bytes(measured) as f64 / count as f64;
    let wire_bytes = wire(bench, data, entries, way).await?;
    Ok(Row::new()
        .count("in_flight", way.in_flight as u64)
        .count("per_call", way.per_call as u64)
        .text("requests", if way.alone { "one a call" } else { "the client's" })
        .count("entries", count as u64)
        .number("entries_per_s", per_second(count, load.seconds))
        .number("cpu_s_per_1000", cpu_per_thousand(count, cpu))
        .milliseconds("p50_ms", load.times.median())
        .milliseconds("p99_ms", load.times.percentile(99))
        .number("wire_bytes_per_entry", wire_bytes)
        .number("entry_bytes", bytes)
        .count("busy", load.busy as u64))
}

/// The bytes on the wire, in a run of their own: counting them takes time that the others should not lack.
async fn wire(bench: &Bench, data: &Dataset, entries: &[Entry], way: Way) -> Result<f64> {
    let entries = entries.get(..entries.len().min(1_000)).unwrap_or_default();
    let directory = bench.scratch()?;
    let mut node = Node::new(directory.path(), "node", &data.network)?;
    node.start(&[]).await?;
    let proxy = Proxy::before(node.address()?).await?;
    let (client, peer) = connect(&data.network, &proxy.address).await?;
    let (warm_up, measured) = entries.split_at(entries.len() / 10);
    let key = data.table.public_key();
    put_all(&client, peer, key, warm_up, way).await?;
    let before = proxy.bytes();
    put_all(&client, peer, key, measured, way).await?;
    let bytes = proxy.bytes() - before;
    client.stop().await;
    ensure!(proxy.connections() == 1, "{} connections", proxy.connections());
    Ok(bytes as f64 / measured.len() as f64)
}

/// Puts entries, so many at a time; every one of them has to be stored.
async fn put_all(
    client: &Client,
    peer: PeerId,
    key: &PublicKey,
    entries: &[Entry],
    way: Way,
) -> Result<Load> {
    let requests: VecDeque<Vec<Entry>> = entries.chunks(way.per_call).map(<[Entry]>::to_vec).collect();
    let requests = Arc::new(Mutex::new(requests));
    let mut putting = JoinSet::new();
    let began = monotonic();
    for _ in 0..way.in_flight / way.per_call {
        let (client, key, requests) = (client.clone(), key.clone(), Arc::clone(&requests));
        putting.spawn(async move {
            let mut load = Load::default();
            loop {
                let request = requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(request) = request else { return anyhow::Ok(load) };
                let sent = monotonic();
                let outcomes = loop {
                    let outcomes = if way.alone {
                        put_alone(&client, peer, &request, &key).await
                    } else {
                        client.put_to(peer, &request, &key).await
                    };
                    match outcomes {
                        Err(RequestError::Refused { status: Status::Busy, .. }) => load.busy += 1,
                        outcomes => break outcomes?,
                    }
                };
                load.times.push(sent.elapsed());
                if let Some(other) = outcomes.iter().find(|outcome| **outcome != Outcome::Stored) {
                    bail!("an entry was not stored: {other:?}");
                }
                load.stored += outcomes.len();
            }
        });
    }
    let mut whole = Load::default();
    while let Some(load) = putting.join_next().await {
        let load = load??;
        whole.times.extend(load.times);
        whole.stored += load.stored;
        whole.busy += load.busy;
    }
    whole.seconds = began.elapsed();
    Ok(whole)
}

/// Puts entries in a request of their own.
async fn put_alone(
    client: &Client,
    peer: PeerId,
    entries: &[Entry],
    key: &PublicKey,
) -> Result<Vec<Outcome>, RequestError> {
    let too_long = |error: TooLong| RequestError::Invalid(error.to_string());
    let encoded = entries.iter().map(|entry| Blob::try_from(entry.encoded().clone()));
    let encoded = encoded.collect::<Result<Vec<_>, _>>().map_err(too_long)?;
    let key = Blob::try_from(key.der().to_vec()).map_err(too_long)?;
    let request = PutRequest {
        entries: List::try_from(encoded).map_err(too_long)?,
        keys: List::try_from(vec![key]).map_err(too_long)?,
    };
    let response = client.swarm().request::<Put>(peer, request).await?;
    Ok(response.outcomes.iter().map(|code| Outcome::from_code(*code)).collect())
}
