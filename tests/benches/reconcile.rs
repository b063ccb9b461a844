//! Reconciliation in memory, on the same sets in the same run as the `negentropy` crate.
//!
//! What is counted are the bytes of the messages both ways until the requester knows which ids it lacks: frames of SPEC 8.1
//! here, messages there. Neither the entries nor the requests for them are counted. The responder answers from a real store of
//! entries of 52 epochs, with the sketches that it keeps; the requester has its sketches in memory, and what keeping them up to date
//! costs is not counted, nor is the index of the plain form; negentropy's vector, which has to be built first, stands in a column of
//! its own. The plain form stands beside the faster one.

mod fast;
mod negentropy;
mod plain;
mod responder;
mod sets;

use std::time::Duration;

use anyhow::{Result, ensure};
use p2pdb::protocol::{
    id::{EntryId, TableId},
    network::Network,
    reconcile::Setup,
};

use self::{
    responder::Responder,
    sets::{Pattern, Sets},
};
use crate::support::{
    bench::{Bench, Row},
    samples::Samples,
};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let count = bench.count(100_000, 2_000);
    let responder = Responder::new(count)?;
    let mut rows = Vec::new();
    for differences in [0, 1, 10, 100, 1_000, 10_000, 100_000] {
        // More would not be two copies of one set.
        if differences > count / 4 {
            break;
        }
        for pattern in [Pattern::Scattered, Pattern::Recent] {
            bench.note(&format!("{differences} differences, {}", pattern.name()));
            rows.push(compare(bench, &responder, differences, pattern)?);
            if differences == 0 {
                break;
            }
        }
    }
    let settings = format!(
        "{count} ids on each side, of one table, of 52 weeks, {} of them of the last hour; half of the differences on each \
         side, anywhere or within that hour; ratio: how many times less than negentropy 0.5",
        responder.recent
    );
    bench.show(&settings, &rows);
    Ok(())
}

/// What a session of either form is about.
const fn setup(network: &Network, table: TableId) -> Setup {
    Setup { table, bucket_bits: network.bucket_bits, epoch_seconds: network.epoch_seconds, since: 0 }
}

/// What finding the differences costs.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    bytes: u64,
    round_trips: u64,
    requester: Duration,
    responder: Duration,
}

/// How far a sketch gets is luck: few differences are drawn several times, and the medians count. With ten million ids each draw
/// takes long, and shows what it shows with fewer.
const DRAWS: usize = 9;
const MOST_IDS_DRAWN: usize = 9_000_000;
const FEW: usize = 1_000;

fn compare(bench: &Bench, responder: &Responder, differences: usize, pattern: Pattern) -> Result<Row> {
    let most = (MOST_IDS_DRAWN / responder.items.len()).clamp(1, DRAWS);
    let draws = if (1..=FEW).contains(&differences) { bench.pick(most, 1) } else { 1 };
    let (mut own, mut plain, mut their, mut build) =
        (Costs::default(), Costs::default(), Costs::default(), Samples::default());
    for draw in 0..draws {
        let sets = Sets::new(responder, differences, pattern, draw as u64)?;
        let theirs = negentropy::Storages::new(&sets)?;
        let nodes = fast::Nodes::new(&sets, responder);
        own.0.push(repeated(bench, &sets, || nodes.find())?);
        plain.0.push(repeated(bench, &sets, || plain::find(&sets))?);
        their.0.push(repeated(bench, &sets, || theirs.find())?);
        build.push(theirs.build);
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let most = own.0.iter().map(|cost| cost.bytes).max().unwrap_or_default();
    let (own, plain, their) = (own.median(), plain.median(), their.median());
    Ok(Row::new()
        .text("pattern", pattern.name())
        .count("differences", differences as u64)
        .count("sets", draws as u64)
        .count("bytes", own.bytes)
        .number("bytes_per_difference", own.bytes as f64 / differences as f64)
        .number("most_per_difference", most as f64 / differences as f64)
        .count("round_trips", own.round_trips)
        .number("responder_cpu_ms", milliseconds(own.responder))
        .number("requester_cpu_ms", milliseconds(own.requester))
        .count("negentropy_bytes", their.bytes)
        .number("ratio", their.bytes as f64 / own.bytes as f64)
        .count("plain_bytes", plain.bytes)
        .count("negentropy_round_trips", their.round_trips)
        .number("negentropy_responder_cpu_ms", milliseconds(their.responder))
        .number("negentropy_requester_cpu_ms", milliseconds(their.requester))
        .number("negentropy_build_cpu_ms", milliseconds(build.median())))
}

/// Of several sets.
#[derive(Debug, Default)]
struct Costs(Vec<Cost>);

impl Costs {
    /// The median of each.
    fn median(&self) -> Cost {
        fn median<T: Ord + Copy + Default>(costs: &[Cost], of: impl Fn(&Cost) -> T) -> T {
            let mut all: Vec<T> = costs.iter().map(of).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        }
        Cost {
            bytes: median(&self.0, |cost| cost.bytes),
            round_trips: median(&self.0, |cost| cost.round_trips),
            requester: median(&self.0, |cost| cost.requester),
            responder: median(&self.0, |cost| cost.responder),
        }
    }
}

/// The cost with the median of the times, after it was shown that what is found is what is missing.
fn repeated(bench: &Bench, sets: &Sets<'_>, find: impl Fn() -> Result<(Cost, Vec<EntryId>)>) -> Result<Cost> {
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
