//! Import of a file: every entry verified and durable when the program ends.

use std::time::Duration;

use anyhow::Result;
use p2pdb::clock::monotonic;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of},
    machine,
    node::{Node, check_index},
    samples::{cpu_per_thousand, per_second},
};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut rows = Vec::new();
    let count = bench.count(20_000, 200);
    for bits in bench.bits(&[2048, 3072]) {
        bench.note(&format!("RSA-{bits}"));
        rows.push(measure(bench, Spec::of(count, bits))?);
    }
    bench.show("entries of 1 KiB; `p2pdb import` of a file that is in the page cache", &rows);
    Ok(())
}

fn measure(bench: &Bench, spec: Spec) -> Result<Row> {
    let data = Dataset::new(spec)?;
    // Reading it all brings the file into the page cache, too.
    let (ids, bytes) = data.ids()?;
    let expected = index_of(ids.into_iter(), &data.network.network);
    let directory = bench.scratch()?;
    let mut node = Node::new(directory.path(), "node", &data.network)?;
    let began = monotonic();
    let cpu: Duration = node.import(&data.file, spec.entries)?;
    let time = began.elapsed();
    let disk = machine::disk_of(&node.home.join("store"))?;
    bench.runtime()?.block_on(async {
        node.start(&[]).await?;
        check_index(&data.network, &node, data.table_id(), &expected).await
    })?;
    Ok(Row::new()
        .count("bits", spec.bits as u64)
        .count("entries", spec.entries as u64)
        .number("entries_per_s", per_second(spec.entries, time))
        .number("cpu_s_per_1000", cpu_per_thousand(spec.entries, cpu))
        // Nothing goes over a wire: it is there to have the columns of `sync` and `put`.
        .count("wire_bytes_per_entry", 0)
        .number("entry_bytes", bytes as f64 / spec.entries as f64)
        .number("disk_ratio", disk as f64 / bytes as f64))
}
