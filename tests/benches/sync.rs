//! An empty node fetches everything from another one: verified, durable, and proven by equal indexes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use libp2p::Multiaddr;
use p2pdb::clock::monotonic;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of},
    machine,
    node::{Node, check_index},
    proxy::Proxy,
    samples::{cpu_per_thousand, per_second},
};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut rows = Vec::new();
    let count = bench.count(20_000, 200);
    for bits in bench.bits(&[2048, 3072]) {
        bench.note(&format!("RSA-{bits}"));
        rows.push(bench.runtime()?.block_on(measure(bench, Spec::of(count, bits)))?);
    }
    bench.show("entries of 1 KiB; two node processes, the second starts empty", &rows);
    Ok(())
}

async fn measure(bench: &Bench, spec: Spec) -> Result<Row> {
    let whole = ColdSync::run(bench, spec, false).await?;
    // Counting bytes takes time that the nodes should not lack.
    let counted =
        ColdSync::run(bench, Spec { entries: spec.entries.min(bench.pick(2_000, 200)), ..spec }, true)
            .await?;
    let count = spec.entries;
    Ok(Row::new()
        .count("bits", spec.bits as u64)
        .count("entries", count as u64)
        .number("entries_per_s", per_second(count, whole.time))
        .number("cpu_s_per_1000", cpu_per_thousand(count, whole.source_cpu + whole.sink_cpu))
        .number("source_cpu_s_per_1000", cpu_per_thousand(count, whole.source_cpu))
        .number("sink_cpu_s_per_1000", cpu_per_thousand(count, whole.sink_cpu))
        .maybe("wire_bytes_per_entry", counted.wire_bytes_per_entry)
        .number("entry_bytes", whole.entry_bytes)
        .maybe("sink_memory_mib", whole.sink_memory)
        .number("sink_disk_ratio", whole.sink_disk_ratio))
}

/// One cold sync.
struct ColdSync {
    time: Duration,
    source_cpu: Duration,
    sink_cpu: Duration,
    wire_bytes_per_entry: Option<f64>,
    entry_bytes: f64,
    sink_memory: Option<f64>,
    sink_disk_ratio: f64,
}

impl ColdSync {
    async fn run(bench: &Bench, spec: Spec, counted: bool) -> Result<Self> {
        let data = Dataset::new(spec)?;
        let (ids, bytes) = data.ids()?;
        let expected = index_of(ids.into_iter(), &data.network.network);
        let directory = bench.scratch()?;
        let mut source = Node::new(directory.path(), "a", &data.network)?;
        let mut sink = Node::new(directory.path(), "b", &data.network)?;
        source.import(&data.file, spec.entries)?;
        source.start(&[]).await?;
        let proxy = if counted { Some(Proxy::before(source.address()?).await?) } else { None };
        let address: Multiaddr = match &proxy {
            Some(proxy) => proxy.address.clone(),
            None => source.address()?.clone(),
        };
        let before = source.cpu()?;
        let began = monotonic();
        sink.start(&[address]).await?;
        // Ten times slower than anything acceptable is a failure.
        let patience = Duration::from_secs(120) + Duration::from_millis(spec.entries as u64);
        sink.wait_for_entries(spec.entries, patience).await?;
        let time = began.elapsed();
        let (source_cpu, sink_cpu) = (source.cpu()? - before, sink.cpu()?);
        let sink_memory = machine::memory_of(sink.pid()?);
        let wire_bytes_per_entry = match &proxy {
            None => None,
            Some(proxy) if proxy.connections() == 1 => Some(proxy.bytes() as f64 / spec.entries as f64),
            Some(_) => return Err(anyhow::anyhow!("more than one connection")),
        };
        for node in [&source, &sink] {
            check_index(&data.network, node, data.table_id(), &expected).await?;
        }
        sink.stop()?;
        let sink_disk = machine::disk_of(&sink.home.join("store")).context("the store's directory")?;
        Ok(Self {
            time,
            source_cpu,
            sink_cpu,
            wire_bytes_per_entry,
            entry_bytes: bytes as f64 / spec.entries as f64,
            sink_memory,
            sink_disk_ratio: sink_disk as f64 / bytes as f64,
        })
    }
}
