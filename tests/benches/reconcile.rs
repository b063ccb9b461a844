//! Reconciliation in memory, on the same sets in the same run as the `negentropy` crate.
//!
//! What is counted are the bytes of the messages both ways until the requester knows which ids it lacks: frames of SPEC 8.1
//! here, messages there. Neither the entries nor the requests for them are counted, and of p2pdb neither are the sketches and
//! the index that a store keeps up to date anyway; negentropy's vector, which has to be built first, stands in a column of
//! its own. The plain form stands beside the faster one.

mod fast;
mod negentropy;
mod plain;
mod sets;

use std::time::Duration;

use anyhow::{Result, ensure};
use p2pdb::protocol::{
    id::{EntryId, TableId},
    network::Network,
    reconcile::Setup,
};

use self::sets::{Pattern, Sets};
use crate::support::{
    bench::{Bench, Row},
    samples::Samples,
};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let count = bench.count(100_000, 2_000);
    let mut rows = Vec::new();
    for differences in [0, 1, 10, 100, 1_000, 10_000, 100_000] {
        // More would not be two copies of one set.
        if differences > count / 4 {
            break;
        }
        for pattern in [Pattern::Scattered, Pattern::Recent] {
            bench.note(&format!("{differences} differences, {}", pattern.name()));
            rows.push(compare(bench, &Sets::new(count, differences, pattern))?);
            if differences == 0 {
                break;
            }
        }
    }
    let settings = format!(
        "{count} ids on each side, of one table, of 52 weeks; half of the differences on each side, anywhere or within \
         the last hour; ratio: how many times less than negentropy 0.5"
    );
    bench.show(&settings, &rows);
    Ok(())
}

/// The table that is reconciled.
const TABLE: TableId = TableId::from_bytes([1; 32]);

/// What a session of either form is about.
const fn setup(network: &Network) -> Setup {
    Setup { table: TABLE, bucket_bits: network.bucket_bits, epoch_seconds: network.epoch_seconds, since: 0 }
}

/// What finding the differences costs.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    bytes: u64,
    round_trips: u64,
    requester: Duration,
    responder: Duration,
}

fn compare(bench: &Bench, sets: &Sets) -> Result<Row> {
    let theirs = negentropy::Storages::new(sets)?;
    let nodes = fast::Nodes::new(sets);
    let own = repeated(bench, sets, || nodes.find())?;
    let plain = repeated(bench, sets, || plain::find(sets))?;
    let their = repeated(bench, sets, || theirs.find())?;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Row::new()
        .text("pattern", sets.pattern.name())
        .count("differences", sets.differences as u64)
        .count("bytes", own.bytes)
        .number("bytes_per_difference", own.bytes as f64 / sets.differences as f64)
        .count("round_trips", own.round_trips)
        .number("responder_cpu_ms", milliseconds(own.responder))
        .number("requester_cpu_ms", milliseconds(own.requester))
        .count("negentropy_bytes", their.bytes)
        .number("ratio", their.bytes as f64 / own.bytes as f64)
        .count("plain_bytes", plain.bytes)
        .count("negentropy_round_trips", their.round_trips)
        .number("negentropy_responder_cpu_ms", milliseconds(their.responder))
        .number("negentropy_requester_cpu_ms", milliseconds(their.requester))
        .number("negentropy_build_cpu_ms", milliseconds(theirs.build)))
}

/// The cost with the median of the times, after it was shown that what is found is what is missing.
fn repeated(bench: &Bench, sets: &Sets, find: impl Fn() -> Result<(Cost, Vec<EntryId>)>) -> Result<Cost> {
    let (mut requester, mut responder) = (Samples::default(), Samples::default());
    let mut cost = Cost::default();
    for _ in 0..bench.pick(3, 1) {
        let mut found;
        (cost, found) = find()?;
        found.sort_unstable();
        ensure!(found == sets.missing, "{} ids found, {} are missing", found.len(), sets.missing.len());
        requester.push(cost.requester);
        responder.push(cost.responder);
    }
    Ok(Cost { requester: requester.median(), responder: responder.median(), ..cost })
}

/// Length of a message with the varint of its length before it (SPEC 8.1).
fn frame_length(message: &[u8]) -> u64 {
    let bits = usize::BITS - message.len().leading_zeros();
    u64::from(bits.div_ceil(7).max(1)) + message.len() as u64
}
