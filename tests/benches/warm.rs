//! Warm synchronisation of two node processes over TCP: what goes through the connection when little or nothing differs.

use std::{fs, io, time::Duration};

use anyhow::{Context as _, Result, ensure};
use p2pdb::{
    clock::{Clock, monotonic},
    protocol::entry::Entry,
};
use serde_json::Value;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of, total_bytes},
    node::{Node, check_index, put_all},
    proxy::Proxy,
};

/// Reconciliations in which nothing differs. Each takes ten seconds: so long a node waits between two with the same peer.
const IDLE_ROUNDS: u64 = 6;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let entries = bench.count(100_000, 500);
    let data = Dataset::new(Spec::of(entries, 2048))?;
    let rows = bench.runtime()?.block_on(measure(bench, &data))?;
    let settings = format!(
        "two linked node processes with {entries} entries of 1 KiB, one of which is away while the other gets what differs; \
         all bytes of the connection from its first on, without the entries; `more_bytes`: than where nothing differs"
    );
    bench.show(&settings, &rows);
    Ok(())
}

async fn measure(bench: &Bench, data: &Dataset) -> Result<Vec<Row>> {
    let directory = bench.scratch()?;
    let mut a = Node::new(directory.path(), "a", &data.network)?;
    let mut b = Node::new(directory.path(), "b", &data.network)?;
    for node in [&a, &b] {
        node.import(&data.file, data.spec.entries)?;
    }
    a.start(&[]).await?;
    let (mut ids, _) = data.ids()?;
    let mut rows = vec![idle(bench, &mut a, &mut b).await?];
    let mut nothing: Option<u64> = None;
    for differences in bench.pick(vec![0, 1, 10, 100, 1_000, 10_000], vec![0, 3]) {
        let now = Clock::system().now();
        let reader = data.readers.first().context("no reader")?;
        let fresh = (0..differences).map(|_| data.seal_for(reader, now)).collect::<Result<Vec<Entry>>>()?;
        put_all(data, &a, &fresh).await?;
        ids.extend(fresh.iter().map(Entry::id));
        let proxy = Proxy::before(a.address()?).await?;
        // It would dial A without the proxy.
        fs::remove_file(b.home.join("routes.cbor")).or_else(absent)?;
        let began = monotonic();
        b.start(std::slice::from_ref(&proxy.address)).await?;
        b.wait_for_entries(ids.len(), Duration::from_secs(120)).await?;
        let time = began.elapsed();
        b.wait_for_sync().await?;
        ensure!(proxy.connections() == 1, "{} connections instead of one", proxy.connections());
        let bytes =
            (proxy.bytes().checked_sub(total_bytes(&fresh))).context("the entries came another way")?;
        check_index(
            &data.network,
            &b,
            data.table_id(),
            &index_of(ids.iter().copied(), &data.network.network),
        )
        .await?;
        b.stop()?;
        let more = bytes.saturating_sub(*nothing.get_or_insert(bytes));
        rows.push(
            Row::new()
                .text("what", "after a restart")
                .count("differences", differences)
                .count("bytes", bytes)
                .count("more_bytes", more)
                .maybe(
                    "more_bytes_per_difference",
                    (differences > 0).then(|| more as f64 / differences as f64),
                )
                .milliseconds("start_to_level_ms", time),
        );
    }
    Ok(rows)
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// An established connection on which both sides reconcile, again and again, and find nothing. Whatever else goes through
/// it in that time is counted with them.
async fn idle(bench: &Bench, a: &mut Node, b: &mut Node) -> Result<Row> {
    let proxy = Proxy::before(a.address()?).await?;
    let often = [
        "--bootstrap".to_owned(),
        proxy.address.to_string(),
        "--set".to_owned(),
        "sync_interval=1 s".to_owned(),
    ];
    b.start_with(&often).await?;
    b.wait_for_sync().await?;
    // What nodes tell each other when they meet is over by then.
    let first = wait_for_rounds(b, bench.pick(2, 1)).await?;
    let (before, of_a) = (proxy.bytes(), rounds_of(a).await?);
    let began = monotonic();
    let last = wait_for_rounds(b, first + bench.pick(IDLE_ROUNDS, 1)).await?;
    let (bytes, time) = (proxy.bytes() - before, began.elapsed());
    let rounds = last - first + rounds_of(a).await? - of_a;
    b.stop()?;
    Ok(Row::new()
        .text("what", "connected")
        .count("differences", 0)
        .count("bytes", bytes / rounds)
        .count("more_bytes", 0)
        .maybe("more_bytes_per_difference", None)
        .milliseconds("start_to_level_ms", time / u32::try_from(rounds)?))
}

/// Waits until this node has begun so many reconciliations; how many it has then.
async fn wait_for_rounds(node: &mut Node, rounds: u64) -> Result<u64> {
    loop {
        let done = rounds_of(node).await?;
        if done >= rounds {
            return Ok(done);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many reconciliations this node has begun: while nothing differs, each is one request.
async fn rounds_of(node: &mut Node) -> Result<u64> {
    let status = node.status().await?;
    status.pointer("/sync/requests").and_then(Value::as_u64).context("a status without /sync/requests")
}
