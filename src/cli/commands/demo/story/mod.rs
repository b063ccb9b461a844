//! What the demo shows, step by step.

mod publish;
mod read;
mod visitor;

use std::{path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use libp2p::{Multiaddr, multiaddr::Protocol};
use p2pdb_protocol::{
    keys::PrivateKey,
    network::{Network, NetworkFile},
    seal::{Content, Draft, SealedEntry},
};
use serde_json::json;

use super::{Teller, process::NodeProcess};
use crate::{
    cli::{
        context::{Context, rng},
        format,
    },
    clock::Clock,
};

/// What is posted: Article 1 of the Universal Declaration of Human Rights.
const TEXT: &str = "All human beings are born free and equal in dignity and rights. They are endowed with reason and \
                    conscience and should act towards one another in a spirit of brotherhood.";
/// Making keys of the usual 3072 bits would take most of the demo's time.
const KEY_BITS: usize = 2048;
/// A few seconds on one core.
const WORK_PRICE: u64 = 1 << 26;
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
    let entry = publish::publish(context, &network, &people, &nodes, &sealed, teller).await?;
    let [a, b, c] = nodes;
    publish::spread(&network, &entry, [&b, &c], teller).await?;
    read::read(&network, &people, &c, teller).await?;
    read::kill(&network, &people, &a, [&b, &c], teller).await?;
    read::recover(&network, &people, a, [&b, &c], teller).await
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
    for (node, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        until("the nodes do not meet", async || {
            let status = node.status().await?;
            Ok(others.iter().all(|other| status.knows(other)).then_some(()))
        })
        .await?;
    }
    let text = format!(
        "nodes A, B and C, the processes {}, {} and {}, met through {} alone",
        a.process(),
        b.process(),
        c.process(),
        without_peer(a.address())
    );
    let node = |node: &NodeProcess| json!({ "process": node.process(), "peer": node.peer().to_string(), "address": node.address() });
    teller.done(
        "meet",
        text,
        json!({ "bootstrap": a.address(), "a": node(&a), "b": node(&b), "c": node(&c) }),
    )?;
    Ok([a, b, c])
}

fn seal(network: &Network, people: &People, teller: &mut Teller<'_>) -> Result<SealedEntry> {
    let recipients = [people.ann.public_key().clone(), people.ben.public_key().clone()];
    let content =
        Content { media_type: "text/plain; charset=utf-8".to_owned(), data: TEXT.as_bytes().to_vec() };
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
    ensure!(
        !contains(&bytes, word.as_bytes()) && !contains(&bytes, TEXT.as_bytes()),
        "the text is not encrypted"
    );
    let text = format!(
        "{} bytes of text by Ben, sealed for Ann and Ben, are {} bytes: {}",
        TEXT.len(),
        format::count(bytes.len() as u64),
        short(&sealed.id().to_string())
    );
    let facts =
        json!({ "id": sealed.id(), "text": TEXT, "text_bytes": TEXT.len(), "sealed_bytes": bytes.len() });
    teller.done("seal", text, facts)?;
    Ok(sealed)
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

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", format::count(duration.as_millis() as u64))
}

/// The begin of an id: enough to tell it from others on one screen.
fn short(id: &str) -> String {
    let end = id.find('1').map_or(id.len(), |separator| separator + 9);
    id.get(..end).map_or_else(|| id.to_owned(), |begin| format!("{begin}…"))
}

fn without_peer(address: &Multiaddr) -> String {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect::<Multiaddr>().to_string()
}
