//! How the entry comes to the nodes: cheats fail, work is done, and the nodes tell each other.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use p2pdb_protocol::{
    entry::Entry,
    filter::Filter,
    network::Network,
    pow::{self, Solver},
    refusal::{Outcome, Refusal},
    seal::SealedEntry,
};
use serde_json::json;

use super::{
    super::{Teller, forge, process::NodeProcess},
    People, milliseconds, until,
    visitor::Visitor,
};
use crate::{
    cli::{context::Context, format, progress::WorkBar},
    clock::monotonic,
};

/// Too little work is this part of the price.
const CHEAP_PARTS: u64 = 1000;

/// Has cheats try node A with the entry, before it is put there as it should be.
pub(super) async fn publish(
    context: &Context,
    network: &Network,
    people: &People,
    nodes: &[NodeProcess; 3],
    sealed: &SealedEntry,
    teller: &mut Teller<'_>,
) -> Result<Entry> {
    let [a, ..] = nodes;
    let cheat = Visitor::new(network, a).await?;
    let cheap = forge::cheap(sealed, network, CHEAP_PARTS)?;
    refused(&cheat, &cheap, people, Refusal::WorkInsufficient).await?;
    let text =
        format!("A refuses it with 1/{CHEAP_PARTS} of the work: {}", reason(Refusal::WorkInsufficient));
    teller.done(
        "too cheap",
        text,
        json!({ "refusal": Refusal::WorkInsufficient.name(), "price": network.work_price / CHEAP_PARTS }),
    )?;

    let entry = mine(context, network, sealed, teller).await?;
    let forged = forge::forged(&entry, &people.eve, network)?;
    refused(&cheat, &forged, people, Refusal::SignatureInvalid).await?;
    let text =
        format!("A refuses it signed by Eve's key for the table's: {}", reason(Refusal::SignatureInvalid));
    teller.done("forged", text, json!({ "refusal": Refusal::SignatureInvalid.name() }))?;
    cheat.client.stop().await;

    let poster = Visitor::new(network, a).await?;
    let held = poster.client.get_all(poster.node, &Filter::ids(vec![entry.id()])).await?;
    ensure!(held.is_empty(), "node A stores an entry that it refused");
    let began = monotonic();
    let outcomes = poster.put(&entry, people).await?;
    let elapsed = began.elapsed();
    ensure!(outcomes == [Outcome::Stored], "node A answered {outcomes:?}, expected stored");
    poster.client.stop().await;
    let size = entry.encoded().len();
    let text = format!(
        "A stored it for good, all {} bytes, in {}",
        format::count(size as u64),
        milliseconds(elapsed)
    );
    teller.done(
        "put",
        text,
        json!({ "node": "A", "outcome": "stored", "bytes": size, "milliseconds": elapsed.as_millis() }),
    )?;
    Ok(entry)
}

/// Finds the work on one core, under a bar.
async fn mine(
    context: &Context,
    network: &Network,
    sealed: &SealedEntry,
    teller: &mut Teller<'_>,
) -> Result<Entry> {
    // What is priced is header and body (SPEC 5.1).
    let size = sealed.header().encode().len() as u64 + sealed.header().body_length;
    let price = pow::price(network, size);
    let bar = WorkBar::new(context, network, size);
    let solver = Solver::new(sealed.puzzle(network));
    let (hashes, cancel) = (Arc::new(AtomicU64::new(0)), CancelOnDrop::default());
    let (counted, cancelled) = (Arc::clone(&hashes), Arc::clone(&cancel.0));
    let began = monotonic();
    let work = tokio::task::spawn_blocking(move || {
        let work = solver.solve(NonZeroUsize::MIN, &cancelled, &|progress| {
            counted.store(progress.hashes, Ordering::Relaxed);
            bar.show(progress);
        });
        bar.finish();
        work
    });
    let work = work.await??;
    let (seconds, hashes) = (began.elapsed().as_secs_f64(), hashes.load(Ordering::Relaxed));
    let entry = sealed.finish(&work, network)?;
    let rate = hashes as f64 / seconds;
    let text = format!(
        "proof of work in {seconds:.1} s on one core: {} hashes for {} puzzles, {:.1} million/s",
        format::count(hashes),
        network.work_puzzles,
        rate / 1e6
    );
    teller.done("mine", text, json!({ "price": price as u64, "hashes": hashes, "puzzles": network.work_puzzles, "hashes_per_second": rate as u64 }))?;
    Ok(entry)
}

/// Tells the solver's thread to stop when the demo is interrupted.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the other nodes serve the entry.
pub(super) async fn spread(
    network: &Network,
    entry: &Entry,
    nodes: [&NodeProcess; 2],
    teller: &mut Teller<'_>,
) -> Result<()> {
    let began = monotonic();
    let (mut text, mut facts) = (Vec::new(), serde_json::Map::new());
    for node in nodes {
        let visitor = Visitor::new(network, node).await?;
        let found = until("the entry does not arrive", async || {
            node.status().await?;
            Ok(visitor.client.get_all(visitor.node, &Filter::ids(vec![entry.id()])).await?.pop())
        })
        .await
        .with_context(|| format!("node {}", node.name))?;
        let elapsed = began.elapsed();
        ensure!(found.encoded() == entry.encoded(), "node {} serves something else than was put", node.name);
        visitor.client.stop().await;
        // What did not come by reconciliation was announced.
        let way = if node.status().await?.sync.fetched == 0 { "announce" } else { "reconciliation" };
        text.push(format!("{} had it by {way} within {}", node.name, milliseconds(elapsed)));
        facts.insert(node.name.to_string(), json!({ "way": way, "milliseconds": elapsed.as_millis() }));
    }
    teller.done("spread", text.join(", "), facts.into())
}

async fn refused(cheat: &Visitor, entry: &Entry, people: &People, expected: Refusal) -> Result<()> {
    let outcomes = cheat.put(entry, people).await?;
    ensure!(
        outcomes == [Outcome::Refused(expected)],
        "node A answered {outcomes:?}, expected {}",
        expected.name()
    );
    Ok(())
}

fn reason(refusal: Refusal) -> String {
    format!("{} ({})", refusal.name(), refusal.code())
}
