//! `demo`: everything at work on this machine, with nodes that are processes of their own.
//!
//! Nodes A and B mirror a table and meet through A's address. A text is sealed, worked for, and put to A alone; B hears of it by announce. C
//! starts later, knowing nothing but A, and gets it by reconciliation. Then come those who must fail, and A is
//! killed.

mod process;

use std::{
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2pdb_protocol::{
    codec::strict::{Reader, Writer},
    entry::Entry,
    filter::Filter,
    id::EntryId,
    keys::PrivateKey,
    limits::MAX_ENTRY_BYTES,
    network::{Network, NetworkFile},
    pow::NONCE_BYTES,
    refusal::{Outcome, Refusal},
    seal::{self, Content, Draft, OpenError},
};
use serde::Serialize;

use self::process::{NodeProcess, Scratch};
use crate::{
    cli::{
        Exit,
        context::{Context, rng},
        format,
        output::Answer,
        posting,
    },
    client::{Client, ClientConfig},
    clock::Clock,
};

/// What is posted: a real text that everybody has.
const TEXT: &str = include_str!("../../../../LICENSE-MIT");
/// Keys as small as permitted, since making them is most of the demo's time.
const KEY_BITS: usize = 2048;
/// A proof of work of about a second.
const WORK_PRICE: u64 = 1 << 23;
/// An entry has to have come to a node after this time.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Step {
    step: &'static str,
    result: String,
    seconds: f64,
}

/// The whole demo, as `--json` prints it.
#[derive(Serialize)]
struct Demo {
    ok: bool,
    steps: Vec<Step>,
    seconds: f64,
}

impl Answer for Demo {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let time = format::duration(Duration::from_secs_f64(self.seconds));
        writeln!(to, "All {} steps went as they should, in {time}; nothing is left behind.", self.steps.len())
    }
}

impl Answer for Step {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "[ok] {}\n     {}", self.step, self.result)
    }
}

/// Tells each step when it is done.
struct Teller<'a> {
    context: &'a Context,
    steps: Vec<Step>,
    began: Instant,
    last: Instant,
}

impl Teller<'_> {
    fn done(&mut self, step: &'static str, result: String) -> Result<()> {
        let now = now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        let step = Step { step, result, seconds };
        if !self.context.output().is_json() {
            self.context.output().print_line(&step)?;
        }
        self.steps.push(step);
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the demo tells how long it takes")]
fn now() -> Instant {
    Instant::now()
}

pub(in crate::cli) fn run(context: &Context) -> Result<Exit> {
    let began = now();
    let mut teller = Teller { context, steps: Vec::new(), began, last: began };
    context.block_on(async {
        let scratch = Scratch::new()?;
        // Interrupted or failed, the processes and the directory go all the same: they go when they are dropped.
        tokio::select! {
            shown = show(context, &scratch, &mut teller) => shown,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                Err(anyhow!("interrupted"))
            }
        }
    })?;
    let seconds = (now() - teller.began).as_secs_f64();
    context.output().print(&Demo { ok: true, steps: teller.steps, seconds })?;
    Ok(Exit::Success)
}

struct Keys {
    table: PrivateKey,
    recipient: PrivateKey,
    stranger: PrivateKey,
    impostor: PrivateKey,
}

async fn show(context: &Context, scratch: &Scratch, teller: &mut Teller<'_>) -> Result<()> {
    let network = Network { name: "p2pdb-demo".to_owned(), work_price: WORK_PRICE, ..Network::default() };
    let keys = make_keys()?;
    let (table, recipient) = (keys.table.public_key().table_id(), keys.recipient.public_key().recipient_id());
    teller.done("a table and its recipient are RSA key pairs", format!("{table}\n     {recipient}"))?;

    let start = |name: &str, bootstrap: Option<&Multiaddr>| {
        let bootstrap = bootstrap.iter().map(ToString::to_string).collect();
        let network = NetworkFile { network: network.clone(), bootstrap };
        NodeProcess::start(&scratch.path().join(name), &network, &table)
            .with_context(|| format!("node {name} does not start"))
    };
    let a = start("a", None)?;
    let b = start("b", Some(a.address()))?;
    let client = connect(&network, a.address()).await?;
    let (at_a, at_b) = (greet(&client, &a).await?, greet(&client, &b).await?);
    meet(&b).await?;
    teller.done(
        "two nodes, each a process of its own, meet through one address",
        format!("A {at_a}\n     B {at_b}"),
    )?;

    let entry = post(context, &network, &keys)?;
    let report = client.put_to(at_a, std::slice::from_ref(&entry), keys.table.public_key()).await?;
    ensure!(report == [Outcome::Stored], "node A answered {report:?}, expected stored");
    let size = format::bytes(entry.encoded().len() as u64);
    let id = entry.id();
    teller.done("a text is sealed, worked for, and stored by node A", format!("{id}, {size}"))?;

    arrives(&b).await?;
    let fetched = b.fetched().await?;
    ensure!(
        fetched == 0,
        "node B fetched {fetched} entries by reconciliation, expected the announce to be faster"
    );
    teller.done(
        "node B hears of it by announce and fetches it",
        "checked before it was passed on".to_owned(),
    )?;

    let c = start("c", Some(a.address()))?;
    let at_c = greet(&client, &c).await?;
    arrives(&c).await?;
    ensure!(c.fetched().await? == 1, "node C did not get the entry by reconciliation");
    teller.done("node C joins late and gets it by reconciliation", format!("C {at_c}"))?;

    let found = client.get_all(at_c, &Filter::recipient(recipient).with_table(table)).await?;
    let [found] = found.as_slice() else { bail!("node C serves {} entries, expected 1", found.len()) };
    let opened = seal::open(found, &keys.recipient)?;
    ensure!(opened.content.data == TEXT.as_bytes(), "what was read is not what was posted");
    let first = TEXT.lines().next().unwrap_or_default();
    teller.done("its recipient reads it back from node C", format!("{first:?}, {} bytes", TEXT.len()))?;

    match seal::open(found, &keys.stranger) {
        Err(error @ OpenError::NotARecipient { .. }) => {
            teller.done("somebody else cannot read it", error.to_string())?;
        }
        other => bail!("a stranger got {other:?}"),
    }

    // Nodes think ill of who sends such things: these come from a client of their own.
    let villain = connect(&network, b.address()).await?;
    let at_b = greet(&villain, &b).await?;
    let forged = forge(&post(context, &network, &keys)?, &keys.impostor, &network)?;
    let refusal = refused(&villain, at_b, &forged, &keys).await?;
    ensure!(refusal == Refusal::SignatureInvalid, "a forged entry was refused as {refusal}");
    teller.done("an entry signed by another key is refused", refusal.to_string())?;

    let lazy = skip_work(&post(context, &network, &keys)?, &network)?;
    let refusal = refused(&villain, at_b, &lazy, &keys).await?;
    ensure!(refusal == Refusal::WorkInsufficient, "an entry without work was refused as {refusal}");
    teller.done("an entry without its work is refused", refusal.to_string())?;
    villain.stop().await;

    drop(a);
    let found = client.get_all(at_b, &Filter::ids(vec![id])).await?;
    ensure!(found.len() == 1, "node B serves {} entries, expected 1", found.len());
    teller.done("node A is killed; the entry is still served", format!("{id} from B"))?;
    client.stop().await;
    Ok(())
}

async fn connect(network: &Network, address: &Multiaddr) -> Result<Client> {
    let bootstrap = vec![address.clone()];
    let config = ClientConfig {
        bootstrap,
        ..ClientConfig::new(&NetworkFile { network: network.clone(), bootstrap: Vec::new() })?
    };
    Ok(Client::start(config).await?)
}

async fn greet(client: &Client, node: &NodeProcess) -> Result<PeerId> {
    let peer = client.connect(node.address().clone()).await?;
    client.hello(peer, None).await?;
    Ok(peer)
}

/// Waits until a node is connected with another.
async fn meet(node: &NodeProcess) -> Result<()> {
    until("the nodes do not meet", async || node.is_healthy().await).await
}

/// Waits until the entry is stored by a node.
async fn arrives(node: &NodeProcess) -> Result<()> {
    until("the entry does not arrive", async || Ok(node.entries().await? > 0)).await
}

async fn until(failure: &'static str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !holds().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(ARRIVAL_DEADLINE, wait).await.with_context(|| failure)?
}

/// Makes the keys of all who take part, side by side.
fn make_keys() -> Result<Keys> {
    let keys = thread::scope(|scope| {
        let make = || PrivateKey::generate(&mut rng(), KEY_BITS);
        let makers: [_; 4] = std::array::from_fn(|_| scope.spawn(make));
        makers.map(|maker| maker.join().map_err(|_| anyhow!("no key could be made")))
    });
    let [table, recipient, stranger, impostor] = keys;
    Ok(Keys { table: table??, recipient: recipient??, stranger: stranger??, impostor: impostor?? })
}

/// An entry with all that it needs.
fn post(context: &Context, network: &Network, keys: &Keys) -> Result<Entry> {
    let recipients = [keys.recipient.public_key().clone()];
    let content =
        Content { media_type: "text/plain; charset=utf-8".to_owned(), data: TEXT.as_bytes().to_vec() };
    let draft = Draft {
        table: &keys.table,
        recipients: &recipients,
        created: Clock::system().now(),
        expires: None,
        content: &content,
        author: None,
    };
    tokio::task::block_in_place(|| posting::make(context, network, &draft, None))
}

/// The entry with the signature of another key.
fn forge(entry: &Entry, impostor: &PrivateKey, network: &Network) -> Result<Entry> {
    let mut message = b"p2pdb signature v1".to_vec();
    message.extend(entry.id().as_bytes());
    let signature = impostor.sign(&mut rng(), &message)?;
    altered(entry, network, |[header, body, _, work]| [header, body, &signature, work])
}

/// The entry with work of the right length and nothing else.
fn skip_work(entry: &Entry, network: &Network) -> Result<Entry> {
    let nothing = vec![0; usize::try_from(network.work_puzzles)? * NONCE_BYTES];
    altered(entry, network, |[header, body, signature, _]| [header, body, signature, &nothing])
}

/// The entry with some of its four parts (SPEC 4.1) changed; nobody checks it on the way out.
fn altered<'a>(
    entry: &'a Entry,
    network: &Network,
    alter: impl FnOnce([&'a [u8]; 4]) -> [&'a [u8]; 4],
) -> Result<Entry> {
    let mut reader = Reader::new(entry.encoded());
    reader.tuple(4)?;
    let mut part = || reader.bytes(MAX_ENTRY_BYTES);
    let parts = [part()?, part()?, part()?, part()?];
    let mut writer = Writer::new();
    writer.array(4);
    for part in alter(parts) {
        writer.bytes(part);
    }
    Ok(Entry::from_trusted(Bytes::from(writer.take()), network)?)
}

/// Why a node refuses an entry.
async fn refused(client: &Client, node: PeerId, entry: &Entry, keys: &Keys) -> Result<Refusal> {
    match client.put_to(node, std::slice::from_ref(entry), keys.table.public_key()).await?.as_slice() {
        [Outcome::Refused(refusal)] => Ok(*refusal),
        other => Err(anyhow!("the node answered {other:?}, expected a refusal")),
    }
}
