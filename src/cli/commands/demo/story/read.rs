//! Who reads the entry and who does not, whatever becomes of the node that it was put to.

use anyhow::{Result, bail, ensure};
use p2pdb_protocol::{
    entry::Entry,
    filter::Filter,
    keys::PrivateKey,
    message::index::IndexRequest,
    network::Network,
    seal::{self, OpenError},
};
use serde_json::json;

use super::{
    super::{Teller, process::NodeProcess},
    People, TEXT, milliseconds, until,
    visitor::Visitor,
};
use crate::clock::monotonic;

/// The label under which content keys are wrapped (SPEC 4.7).
const WRAP_LABEL: &[u8] = b"p2pdb content key v1";

/// Ann reads it where it was not put, and Eve does not.
pub(super) async fn read(
    network: &Network,
    people: &People,
    c: &NodeProcess,
    teller: &mut Teller<'_>,
) -> Result<()> {
    let visitor = Visitor::new(network, c).await?;
    let table = people.table.public_key().table_id();
    let ann = people.ann.public_key().recipient_id();
    let found = visitor.client.get_all(visitor.node, &Filter::recipient(ann).with_table(table)).await?;
    let [found] = found.as_slice() else { bail!("node C serves Ann {} entries, expected 1", found.len()) };
    check_text(found, &people.ann, people)?;
    let text = format!("Ann, from C, by her own key: \"{TEXT}\"");
    teller.done(
        "read",
        text,
        json!({ "node": "C", "reader": ann, "text": TEXT, "author": people.ben.public_key().recipient_id() }),
    )?;

    let eve = people.eve.public_key().recipient_id();
    let for_eve = visitor.client.get_all(visitor.node, &Filter::recipient(eve)).await?;
    ensure!(for_eve.is_empty(), "node C has {} entries for Eve, expected none", for_eve.len());
    match seal::open(found, &people.eve) {
        Err(OpenError::NotARecipient { got }) if got == eve => {}
        other => bail!("Eve got {other:?}, expected that she is no recipient"),
    }
    let wrapped = &found.header().recipients;
    let unwrapped = wrapped.iter().filter(|key| people.eve.decrypt(WRAP_LABEL, &key.wrapped).is_ok()).count();
    ensure!(unwrapped == 0, "Eve's key unwraps the content key");
    visitor.client.stop().await;
    let text = format!(
        "Eve can get it, but her key unwraps none of its {} copies of the content key",
        wrapped.len()
    );
    teller.done(
        "eavesdrop",
        text,
        json!({ "node": "C", "reader": eve, "wrapped_keys": wrapped.len(), "unwrapped": unwrapped }),
    )
}

/// Kills the node that the entry was put to. A reader who knows B alone gets it all the same.
pub(super) async fn kill(
    network: &Network,
    people: &People,
    a: &NodeProcess,
    others: [&NodeProcess; 2],
    teller: &mut Teller<'_>,
) -> Result<()> {
    let status = a.kill()?;
    ensure!(!status.success(), "node A ended by itself");
    let [b, c] = others;
    let visitor = Visitor::new(network, b).await?;
    let ben = people.ben.public_key().recipient_id();
    let filter = Filter::recipient(ben).with_table(people.table.public_key().table_id());
    let found = until("nobody but one node serves the entry", async || {
        let found = visitor.client.get(&filter).await?;
        Ok([b, c].iter().all(|node| found.nodes.contains(&node.peer())).then_some(found))
    })
    .await?;
    ensure!(!found.nodes.contains(&a.peer()), "node A answers after it was killed");
    let [entry] = found.entries.as_slice() else {
        bail!("{} entries for Ben, expected 1", found.entries.len())
    };
    check_text(entry, &people.ben, people)?;
    visitor.client.stop().await;
    let text =
        format!("A (process {}) is killed ({status}); B and C serve it still, and Ben reads it", a.process());
    teller.done(
        "kill",
        text,
        json!({ "process": a.process(), "status": status.to_string(), "served_by": ["B", "C"] }),
    )
}

/// Starts the killed node with an empty disk; the others fill it.
pub(super) async fn recover(
    network: &Network,
    people: &People,
    a: NodeProcess,
    others: [&NodeProcess; 2],
    teller: &mut Teller<'_>,
) -> Result<()> {
    let [b, c] = others;
    let began = monotonic();
    let a = a.start_empty(b.address()).await?;
    // Both others may bring it at the same time, and count only when they are done: fetched is at least 1.
    until("node A does not get the entry back by reconciliation", async || {
        let status = a.status().await?;
        Ok((status.entries == 1 && status.sync.fetched > 0).then_some(()))
    })
    .await?;
    let elapsed = began.elapsed();
    let table = Some(people.table.public_key().table_id());
    let mut indexes = Vec::new();
    for node in [&a, b, c] {
        let visitor = Visitor::new(network, node).await?;
        let index =
            visitor.client.index(visitor.node, IndexRequest { table, ..IndexRequest::default() }).await?;
        visitor.client.stop().await;
        indexes.push(index.buckets.into_inner());
    }
    let same = indexes.windows(2).all(|pair| matches!(pair, [one, other] if one == other));
    let [[bucket], ..] = indexes.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] else {
        bail!("the index of A has not one bucket: {indexes:?}");
    };
    ensure!(same, "the indexes differ: {indexes:?}");
    let text = format!(
        "A starts with an empty disk and has it by reconciliation after {}; all indexes are equal",
        milliseconds(elapsed)
    );
    let facts = json!({ "node": "A", "process": a.process(), "milliseconds": elapsed.as_millis(), "bucket": bucket.bucket, "digest": bucket.digest.to_string() });
    teller.done("reconcile", text, facts)
}

fn check_text(entry: &Entry, key: &PrivateKey, people: &People) -> Result<()> {
    let opened = seal::open(entry, key)?;
    ensure!(opened.content.data == TEXT.as_bytes(), "what was read is not what was posted");
    ensure!(opened.author.as_ref() == Some(people.ben.public_key()), "the author is not Ben");
    Ok(())
}
