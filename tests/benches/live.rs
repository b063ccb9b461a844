//! How long after a put to A the entry is with who follows A, and with who follows B, a node linked with A.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use p2pdb::{
    client::{Client, Follow},
    clock::monotonic,
    protocol::{filter::Filter, id::EntryId, keys::PublicKey, refusal::Outcome},
};
use tokio::sync::mpsc;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec},
    node::{Node, check_alone, connect},
    samples::Samples,
};

/// An entry that is not seen by then counts as lost; the first ones come by reconciliation, until gossip has settled.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let bits = bench.bits(&[2048]).first().copied().unwrap_or(2048);
    let count = bench.count(500, 5);
    let warm_up = bench.pick(50, 2);
    let data = Dataset::new(Spec::of(count + warm_up + 1, bits))?;
    let row = bench.runtime()?.block_on(measure(bench, &data, warm_up))?;
    let settings = format!(
        "one entry of 1 KiB at a time, RSA-{bits}; two linked node processes, a client that puts to A, a follower of A \
         and one of B"
    );
    bench.show(&settings, &row);
    Ok(())
}

async fn measure(bench: &Bench, data: &Dataset, warm_up: usize) -> Result<Vec<Row>> {
    let directory = bench.scratch()?;
    let mut a = Node::new(directory.path(), "a", &data.network)?;
    let mut b = Node::new(directory.path(), "b", &data.network)?;
    a.start(&[]).await?;
    b.start(&[a.address()?.clone()]).await?;
    a.wait_for_peer().await?;
    let entries = data.entries()?;
    let key: &PublicKey = data.table.public_key();
    // Both know the table before anything is measured: of a table that is new to it, a node hears in its own time.
    let (first, rest) = entries.split_first().context("no entries")?;
    for node in [&a, &b] {
        let (client, peer) = connect(&data.network, node.address()?).await?;
        client.put_to(peer, std::slice::from_ref(first), key).await?;
        client.stop().await;
    }
    let (putting, peer) = connect(&data.network, a.address()?).await?;
    let (at_a, peer_a) = connect(&data.network, a.address()?).await?;
    let (at_b, peer_b) = connect(&data.network, b.address()?).await?;
    let filter = Filter { seconds_since: Some(0), ..Filter::table(data.table_id()) };
    let (mut seen_a, mut seen_b) = (watch(&at_a, &filter)?, watch(&at_b, &filter)?);
    let (mut acknowledged, mut with_a, mut with_b) =
        (Samples::default(), Samples::default(), Samples::default());
    for (index, entry) in rest.iter().enumerate() {
        let id = entry.id();
        let began = monotonic();
        let outcomes = putting.put_to(peer, std::slice::from_ref(entry), key).await?;
        let answered = began.elapsed();
        ensure!(outcomes == [Outcome::Stored], "the put was answered {outcomes:?}");
        let a = wait_for(&mut seen_a, id).await.context("at A")?;
        let b = wait_for(&mut seen_b, id).await.context("at B")?;
        if index >= warm_up {
            acknowledged.push(answered);
            with_a.push(a - began);
            with_b.push(b - began);
        }
    }
    // B's follower must not have read from A.
    check_alone(&at_a, peer_a).await?;
    check_alone(&at_b, peer_b).await?;
    for client in [putting, at_a, at_b] {
        client.stop().await;
    }
    let row = |what: &str, times: &Samples| {
        Row::new()
            .text("what", what)
            .count("entries", times.len() as u64)
            .milliseconds("p50_ms", times.median())
            .milliseconds("p90_ms", times.percentile(90))
            .milliseconds("p99_ms", times.percentile(99))
    };
    Ok(vec![
        row("durable at A and acknowledged", &acknowledged),
        row("with the follower of A", &with_a),
        row("with the follower of B", &with_b),
    ])
}

/// Notes when a follower hands out which entry.
fn watch(client: &Client, filter: &Filter) -> Result<mpsc::Receiver<(EntryId, Instant)>> {
    let mut follow: Follow = client.follow(filter.clone())?;
    let (sender, seen) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(entry) = follow.next().await {
            if sender.send((entry.id(), monotonic())).await.is_err() {
                return;
            }
        }
    });
    Ok(seen)
}

async fn wait_for(seen: &mut mpsc::Receiver<(EntryId, Instant)>, id: EntryId) -> Result<Instant> {
    let found = async {
        while let Some((found, when)) = seen.recv().await {
            if found == id {
                return Some(when);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, found).await.context("an entry is not seen")?.context("the follower ended")
}
