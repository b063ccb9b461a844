//! Get by recipient since a time, by four clients that each ask one question after the other.

mod plain;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libp2p::PeerId;
use p2pdb::{
    client::Client,
    clock::{Clock, monotonic},
    protocol::{
        entry::Entry,
        filter::Filter,
        id::{EntryId, RecipientId, TableId},
        keys::PublicKey,
        message::get::Get,
        refusal::Outcome,
    },
};
use tokio::task::JoinSet;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec},
    node::{Node, connect},
    samples::{Samples, cpu_per_thousand, per_second},
};

const CLIENTS: usize = 4;
/// Recipients; each has as many entries before the time as there are to find after it, and more.
const READERS: usize = 16;

/// The part of a child.
pub(crate) fn run_child(bytes: &str) -> Result<()> {
    plain::serve(bytes.parse()?)
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let count = bench.count(20_000, 200);
    let readers = bench.pick(READERS, 2);
    let mut rows = Vec::new();
    for content_bytes in bench.pick(vec![512, 1024], vec![512]) {
        let data = Dataset::new(Spec { readers, content_bytes, ..Spec::of(count, 2048) })?;
        for values in [10, 100] {
            let values = bench.pick(values, values / 5);
            bench.note(&format!("{values} values of {content_bytes} bytes"));
            rows.push(bench.runtime()?.block_on(measure(bench, &data, values))?);
        }
    }
    let settings = format!(
        "{CLIENTS} clients over TCP, one question at a time each; one node process with {count} entries for {readers} recipients \
         that arrived before; answers decoded and counted, signatures not verified by the client; plain: as many bytes from \
         memory by libp2p's request-response"
    );
    bench.show(&settings, &rows);
    Ok(())
}

async fn measure(bench: &Bench, data: &Dataset, values: usize) -> Result<Row> {
    let directory = bench.scratch()?;
    let mut node = Node::new(directory.path(), "node", &data.network)?;
    node.import(&data.file, data.spec.entries)?;
    node.start(&[]).await?;
    let (client, peer) = connect(&data.network, node.address()?).await?;
    let since = a_second_later(&client, peer, data.table_id()).await?;
    let mut found_by_reader = Vec::new();
    for reader in &data.readers {
        found_by_reader.push((reader.recipient_id(), put_fresh(&client, peer, data, reader, values).await?));
    }
    client.stop().await;
    let questions = Arc::new(found_by_reader);
    ask_all(&node, data, &questions, since, values, bench.pick(10_000 / values.max(1), 10)).await?;
    let before = node.cpu()?;
    let began = monotonic();
    let rounds = bench.pick(100_000 / values.max(1), 10);
    let times = ask_all(&node, data, &questions, since, values, rounds).await?;
    let time = began.elapsed();
    let cpu = node.cpu()? - before;
    let reader = data.readers.first().context("no reader")?;
    let bytes = values * data.seal_for(reader, since)?.encoded().len();
    let plain_time = plain::ask_all(CLIENTS, rounds, bytes).await?;
    let (rate, plain_rate) = (per_second(times.len(), time), per_second(times.len(), plain_time));
    Ok(Row::new()
        .count("content_bytes", data.spec.content_bytes as u64)
        .count("values", values as u64)
        .count("queries", times.len() as u64)
        .number("queries_per_s", rate)
        .number("plain_per_s", plain_rate)
        .number("ratio", rate / plain_rate)
        .milliseconds("p50_ms", times.median())
        .milliseconds("p99_ms", times.percentile(99))
        .number("node_cpu_s_per_1000", cpu_per_thousand(times.len(), cpu))
        .number("values_per_s", per_second(times.len() * values, time)))
}

/// Waits until nothing arrived in this second or the one before: times of arrival are whole seconds, and a question may be
/// asked in one second and answered in the next.
async fn a_second_later(client: &Client, peer: PeerId, table: TableId) -> Result<u64> {
    let filter = Filter { seconds_since: Some(1), ..Filter::table(table) };
    loop {
        let since = Clock::system().now();
        let request = filter.to_request()?;
        if client.swarm().request::<Get>(peer, request).await?.entries.is_empty() {
            return Ok(since);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Puts what is to be found.
async fn put_fresh(
    client: &Client,
    peer: PeerId,
    data: &Dataset,
    reader: &PublicKey,
    values: usize,
) -> Result<Vec<EntryId>> {
    let now = Clock::system().now();
    let fresh = (0..values).map(|_| data.seal_for(reader, now)).collect::<Result<Vec<Entry>>>()?;
    let outcomes = client.put_to(peer, &fresh, data.table.public_key()).await?;
    ensure!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored), "a put was answered {outcomes:?}");
    let mut ids: Vec<EntryId> = fresh.iter().map(Entry::id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Has every client ask so many questions.
async fn ask_all(
    node: &Node,
    data: &Dataset,
    questions: &Arc<Vec<(RecipientId, Vec<EntryId>)>>,
    since: u64,
    values: usize,
    rounds: usize,
) -> Result<Samples> {
    let mut asking = JoinSet::new();
    for first in 0..CLIENTS {
        let (client, peer) = connect(&data.network, node.address()?).await?;
        let (questions, network) = (Arc::clone(questions), data.network.network.clone());
        asking.spawn(async move {
            let mut times = Samples::default();
            for round in 0..rounds {
                let (recipient, expected) =
                    questions.get((first + round) % questions.len()).context("no recipient")?;
                let ago = Clock::system().now() - since + 1;
                let filter =
                    Filter { seconds_since: Some(ago), limit: 1000, ..Filter::recipient(*recipient) };
                let request = filter.to_request()?;
                let asked = monotonic();
                let response = client.swarm().request::<Get>(peer, request).await?;
                times.push(asked.elapsed());
                ensure!(
                    response.entries.len() == values,
                    "{} values, expected {values}",
                    response.entries.len()
                );
                if round == 0 {
                    let decode = |bytes| Ok(Entry::from_trusted(bytes, &network)?.id());
                    let found = response.entries.into_iter().map(|(_, entry)| decode(entry.into_inner()));
                    let mut found = found.collect::<Result<Vec<EntryId>>>()?;
                    found.sort_unstable();
                    ensure!(found == *expected, "other values than those put");
                }
            }
            client.stop().await;
            anyhow::Ok(times)
        });
    }
    let mut times = Samples::default();
    while let Some(asked) = asking.join_next().await {
        times.extend(asked??);
    }
    Ok(times)
}
