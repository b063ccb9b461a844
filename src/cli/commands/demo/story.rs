//! What the demo shows, step by step.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use libp2p::{Multiaddr, PeerId};
use p2pdb_protocol::{
    entry::Entry,
    filter::Filter,
    keys::PrivateKey,
    message::index::IndexRequest,
    network::{Network, NetworkFile},
    pow::{self, Solver},
    refusal::{Outcome, Refusal},
    seal::{self, Content, Draft, OpenError, SealedEntry},
};
use serde_json::json;

use super::{
    Teller, forge,
    process::{NodeProcess, Status},
};
use crate::{
    cli::{
        context::{Context, rng},
        format,
        progress::WorkBar,
    },
    client::{Client, ClientConfig},
    clock::{Clock, monotonic},
};

/// What is posted: Article 1 of the Universal Declaration of Human Rights.
const TEXT: &str = "All human beings are born free and equal in dignity and rights. They are endowed with reason and \
                    conscience and should act towards one another in a spirit of brotherhood.";
/// Making keys of the usual 3072 bits would take most of the demo's time.
const KEY_BITS: usize = 2048;
/// A few seconds on one core.
const WORK_PRICE: u64 = 1 << 26;
/// Too little work is this part of the price.
const CHEAP_PARTS: u64 = 1000;
/// The label under which content keys are wrapped (SPEC 4.7).
const WRAP_LABEL: &[u8] = b"p2pdb content key v1";
/// Whatever is waited for has to come within this time.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often is looked whether it has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Who takes part.
struct People {
    table: PrivateKey,
    ann: PrivateKey,
    ben: PrivateKey,
    eve: PrivateKey,
}

/// Tells the whole story; what does not come out as it should is an error.
pub(super) async fn tell(context: &Context, directory: &Path, teller: &mut Teller<'_>) -> Result<()> {
    let network = Network { name: "p2pdb-demo".to_owned(), work_price: WORK_PRICE, ..Network::default() };
    let people = make_keys(teller)?;
    let nodes = meet(directory, &network, &people, teller).await?;
    let sealed = seal(&network, &people, teller)?;
    let entry = publish(context, &network, &people, &nodes, &sealed, teller).await?;
    let [a, mut b, mut c] = nodes;
    spread(&network, &entry, [&mut b, &mut c], teller).await?;
    read(&network, &people, &c, teller).await?;
    let a = kill(&network, &people, a, [&b, &c], teller).await?;
    recover(&network, &people, a, [&mut b, &mut c], teller).await
}

fn make_keys(teller: &mut Teller<'_>) -> Result<People> {
    let keys = thread::scope(|scope| {
        let make = || PrivateKey::generate(&mut rng(), KEY_BITS);
        let makers: [_; 4] = std::array::from_fn(|_| scope.spawn(make));
        makers.map(|maker| maker.join().map_err(|_| anyhow!("a key could not be made")))
    });
    let [table, ann, ben, eve] = keys;
    let people = People { table: table??, ann: ann??, ben: ben??, eve: eve?? };
    let table = people.table.public_key().table_id();
    let id = |key: &PrivateKey| key.public_key().recipient_id();
    let text = format!(
        "the table {} and Ann, Ben and Eve have RSA keys of {KEY_BITS} bits",
        short(&table.to_string())
    );
    let facts = json!({ "bits": KEY_BITS, "table": table, "ann": id(&people.ann), "ben": id(&people.ben), "eve": id(&people.eve) });
    teller.done("keys", text, facts)?;
    Ok(people)
}

/// Starts three nodes, two of which know nothing but the address of the first.
async fn meet(
    directory: &Path,
    network: &Network,
    people: &People,
    teller: &mut Teller<'_>,
) -> Result<[NodeProcess; 3]> {
    let table = people.table.public_key().table_id();
    let file = |bootstrap| NetworkFile { network: network.clone(), bootstrap };
    let a = NodeProcess::start(directory, 'A', &file(Vec::new()), table).await?;
    let only_a = file(vec![a.address().to_string()]);
    let (b, c) = tokio::try_join!(
        NodeProcess::start(directory, 'B', &only_a, table),
        NodeProcess::start(directory, 'C', &only_a, table),
    )?;
    let mut nodes = [a, b, c];
    for (place, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
        until("the nodes do not meet", async || {
            let [one, two] = others;
            let status = status_of(&mut nodes, place).await?;
            Ok(match (nodes.get(one), nodes.get(two)) {
                (Some(one), Some(two)) if status.knows(one) && status.knows(two) => Some(()),
                _ => None,
            })
        })
        .await?;
    }
    let [a, b, c] = &nodes;
    let text = format!(
        "nodes A, B and C, the processes {}, {} and {}, met through {} alone",
        a.process(),
        b.process(),
        c.process(),
        without_peer(a.address())
    );
    let node = |node: &NodeProcess| json!({ "process": node.process(), "peer": node.peer().to_string(), "address": node.address() });
    teller.done("meet", text, json!({ "bootstrap": a.address(), "a": node(a), "b": node(b), "c": node(c) }))?;
    Ok(nodes)
}

async fn status_of(nodes: &mut [NodeProcess; 3], place: usize) -> Result<Status> {
    nodes.get_mut(place).context("there are three nodes")?.status().await
}

fn seal(network: &Network, people: &People, teller: &mut Teller<'_>) -> Result<SealedEntry> {
    let recipients = [people.ann.public_key().clone(), people.ben.public_key().clone()];
    let content = Content { media_type: "text/plain; charset=utf-8".to_owned(), data: TEXT.as_bytes().to_vec() };
    let draft = Draft {
        table: &people.table,
        recipients: &recipients,
        created: Clock::system().now(),
        expires: None,
        content: &content,
        author: Some(&people.ben),
    };
    let sealed = draft.seal(&mut rng(), network)?;
    let bytes = sealed.to_bytes();
    let word = TEXT.split(' ').next().unwrap_or(TEXT);
    ensure!(!contains(&bytes, word.as_bytes()) && !contains(&bytes, TEXT.as_bytes()), "the text is not encrypted");
    let text = format!(
        "{} bytes of text by Ben, sealed for Ann and Ben, are {} bytes: {}",
        TEXT.len(),
        format::count(bytes.len() as u64),
        short(&sealed.id().to_string())
    );
    let facts = json!({ "id": sealed.id(), "text": TEXT, "text_bytes": TEXT.len(), "sealed_bytes": bytes.len() });
    teller.done("seal", text, facts)?;
    Ok(sealed)
}

/// Has cheats try node A with the entry, before it is put there as it should be.
async fn publish(
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
    let text = format!("A refuses it with 1/{CHEAP_PARTS} of the work: {}", reason(Refusal::WorkInsufficient));
    teller.done("too cheap", text, json!({ "refusal": Refusal::WorkInsufficient.name(), "price": network.work_price / CHEAP_PARTS }))?;

    let entry = mine(context, network, sealed, teller).await?;
    let forged = forge::forged(&entry, &people.eve, network)?;
    refused(&cheat, &forged, people, Refusal::SignatureInvalid).await?;
    let text = format!("A refuses it signed by Eve's key for the table's: {}", reason(Refusal::SignatureInvalid));
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
    let text = format!("A stored it for good, all {} bytes, in {}", format::count(size as u64), milliseconds(elapsed));
    teller.done("put", text, json!({ "node": "A", "outcome": "stored", "bytes": size, "milliseconds": elapsed.as_millis() }))?;
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
async fn spread(
    network: &Network,
    entry: &Entry,
    nodes: [&mut NodeProcess; 2],
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

/// Ann reads it where it was not put, and Eve does not.
async fn read(network: &Network, people: &People, c: &NodeProcess, teller: &mut Teller<'_>) -> Result<()> {
    let visitor = Visitor::new(network, c).await?;
    let table = people.table.public_key().table_id();
    let ann = people.ann.public_key().recipient_id();
    let found = visitor.client.get_all(visitor.node, &Filter::recipient(ann).with_table(table)).await?;
    let [found] = found.as_slice() else { bail!("node C serves Ann {} entries, expected 1", found.len()) };
    check_text(found, &people.ann, people)?;
    let text = format!("Ann, from C, by her own key: \"{TEXT}\"");
    teller.done("read", text, json!({ "node": "C", "reader": ann, "text": TEXT, "author": people.ben.public_key().recipient_id() }))?;

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
    let text = format!("Eve can get it, but her key unwraps none of its {} copies of the content key", wrapped.len());
    teller.done("eavesdrop", text, json!({ "node": "C", "reader": eve, "wrapped_keys": wrapped.len(), "unwrapped": unwrapped }))
}

/// Kills the node that the entry was put to. A reader who knows B alone gets it all the same.
async fn kill(
    network: &Network,
    people: &People,
    mut a: NodeProcess,
    others: [&NodeProcess; 2],
    teller: &mut Teller<'_>,
) -> Result<NodeProcess> {
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
    let [entry] = found.entries.as_slice() else { bail!("{} entries for Ben, expected 1", found.entries.len()) };
    check_text(entry, &people.ben, people)?;
    visitor.client.stop().await;
    let text = format!("A (process {}) is killed ({status}); B and C serve it still, and Ben reads it", a.process());
    teller.done("kill", text, json!({ "process": a.process(), "status": status.to_string(), "served_by": ["B", "C"] }))?;
    Ok(a)
}

/// Starts the killed node with an empty disk; the others fill it.
async fn recover(
    network: &Network,
    people: &People,
    a: NodeProcess,
    others: [&mut NodeProcess; 2],
    teller: &mut Teller<'_>,
) -> Result<()> {
    let [b, c] = others;
    let began = monotonic();
    let mut a = a.start_empty(b.address()).await?;
    let status = until("node A does not get the entry back", async || {
        let status = a.status().await?;
        Ok((status.entries == 1).then_some(status))
    })
    .await?;
    let elapsed = began.elapsed();
    ensure!(status.sync.fetched == 1, "node A got {} entries by reconciliation, expected 1", status.sync.fetched);
    let table = Some(people.table.public_key().table_id());
    let mut indexes = Vec::new();
    for node in [&a, &*b, &*c] {
        let visitor = Visitor::new(network, node).await?;
        let index = visitor.client.index(visitor.node, IndexRequest { table, ..IndexRequest::default() }).await?;
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

/// A client that has just come, connected with one node.
struct Visitor {
    client: Client,
    node: PeerId,
}

impl Visitor {
    async fn new(network: &Network, node: &NodeProcess) -> Result<Self> {
        let client = Client::start(ClientConfig {
            network: network.clone(),
            bootstrap: vec![node.address().clone()],
            nodes: 3,
            patience: DEADLINE,
        })
        .await?;
        let peer = client.connect(node.address().clone()).await?;
        client.hello(peer, None).await.with_context(|| format!("node {} does not introduce itself", node.name))?;
        Ok(Self { client, node: peer })
    }

    async fn put(&self, entry: &Entry, people: &People) -> Result<Vec<Outcome>> {
        Ok(self.client.put_to(self.node, std::slice::from_ref(entry), people.table.public_key()).await?)
    }
}

async fn refused(cheat: &Visitor, entry: &Entry, people: &People, expected: Refusal) -> Result<()> {
    let outcomes = cheat.put(entry, people).await?;
    ensure!(outcomes == [Outcome::Refused(expected)], "node A answered {outcomes:?}, expected {}", expected.name());
    Ok(())
}

fn check_text(entry: &Entry, key: &PrivateKey, people: &People) -> Result<()> {
    let opened = seal::open(entry, key)?;
    ensure!(opened.content.data == TEXT.as_bytes(), "what was read is not what was posted");
    ensure!(opened.author.as_ref() == Some(people.ben.public_key()), "the author is not Ben");
    Ok(())
}

/// Waits until `probe` gives something.
async fn until<T>(failure: &'static str, mut probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let wait = async {
        loop {
            if let Some(found) = probe().await? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = || format!("{failure} within {}", format::duration(DEADLINE));
    tokio::time::timeout(DEADLINE, wait).await.with_context(late)?
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn reason(refusal: Refusal) -> String {
    format!("{} ({})", refusal.name(), refusal.code())
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", format::count(duration.as_millis() as u64))
}

/// The begin of an id: enough to tell it from others on one screen.
fn short(id: &str) -> String {
    let end = id.find('1').map_or(id.len(), |separator| separator + 9);
    id.get(..end).map_or_else(|| id.to_owned(), |begin| format!("{begin}…"))
}

fn without_peer(address: &Multiaddr) -> String {
    address.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect::<Multiaddr>().to_string()
}
