//! `put`: posts entries.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use libp2p::PeerId;
use p2pdb_protocol::{
    entry::Entry,
    export,
    id::{EntryId, TableId},
    keys::{PrivateKey, PublicKey},
    limits::MAX_PUT_ENTRIES,
    network::Network,
    refusal::Outcome,
    seal::{Content, Draft},
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        commands::put_records,
        context::Context,
        failure::Advise as _,
        format,
        keyring::Keyring,
        output::{Answer, note},
        passphrase::PassphraseArgs,
        posting,
        reach::ReachArgs,
        tables,
    },
    client::Client,
    clock::Clock,
    config::Period,
    swarm::RequestError,
};

/// How often a node that has too much to do is asked again.
const MAX_RETRIES: u32 = 20;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What to post [default: standard input]
    #[arg(conflicts_with = "file")]
    text: Option<String>,
    /// Post the content of this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Table to post to, by name or id; its card must have the private key
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// Who can read it: name or id of a key, or a PEM file; may be repeated [default: the table's shared recipient]
    #[arg(long, value_name = "KEY")]
    to: Vec<String>,
    /// Media type of the content
    #[arg(long = "type", value_name = "MEDIA_TYPE", default_value = "text/plain; charset=utf-8")]
    media_type: String,
    /// Let nodes drop it after this period, such as "30 days"
    #[arg(long, value_name = "PERIOD")]
    expires: Option<Period>,
    /// Sign it as author with this key of the home
    #[arg(long, value_name = "KEY")]
    sign: Option<String>,
    /// Post an entry for each record of this file, many at a time; records have empty lines between them, `-` is standard
    /// input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "threads", "save"])]
    records: Option<PathBuf>,
    /// Append the id of each entry to this file once a node has stored it
    #[arg(long, value_name = "FILE", requires = "records")]
    acknowledged: Option<PathBuf>,
    /// Threads for the proof of work [default: all cores]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// Write the entries to a file for `p2pdb import`, instead of putting them to nodes
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    reach: ReachArgs,
}

/// What became of one entry at one node.
#[derive(Serialize)]
struct AtNode {
    node: String,
    outcome: String,
    #[serde(skip)]
    held: bool,
}

/// What became of one entry.
#[derive(Serialize)]
struct Posted {
    id: EntryId,
    table: TableId,
    stored: bool,
    nodes: Vec<AtNode>,
}

impl Answer for Posted {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let held = self.nodes.iter().filter(|node| node.held).count();
        let nodes = format::some(self.nodes.len(), "node", "nodes");
        writeln!(to, "{}  stored by {held} of {nodes}", self.id)
    }
}

/// An entry that was written to a file.
#[derive(Serialize)]
struct Saved {
    id: EntryId,
    table: TableId,
}

impl Answer for Saved {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "{}  saved", self.id)
    }
}

/// Makes entries one after the other.
struct Poster<'a> {
    args: &'a Args,
    context: &'a Context,
    network: Network,
    table: PrivateKey,
    recipients: Vec<PublicKey>,
    author: Option<PrivateKey>,
    clock: Clock,
}

impl Poster<'_> {
    fn table(&self) -> &PublicKey {
        self.table.public_key()
    }

    fn make(&self, data: Vec<u8>) -> Result<Entry> {
        let created = self.clock.now();
        let content = Content { media_type: self.args.media_type.clone(), data };
        let draft = Draft {
            table: &self.table,
            recipients: &self.recipients,
            created,
            expires: self.args.expires.map(|period| created.saturating_add(period.0)),
            content: &content,
            author: self.author.as_ref(),
        };
        posting::make(self.context, &self.network, &draft, self.args.threads)
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let keyring = Keyring::new(home.clone());
    let table = tables::find(&home, &args.table)?;
    let network = context.network()?.network;
    let table_key = table
        .card
        .table_private
        .clone()
        .ok_or_else(|| anyhow!("the card of {} has no private key: it does not let you post", table.name))
        .hint("ask for a card made with `p2pdb table share --with post`")?;
    let recipients = posting::recipients(&keyring, &table, &args.to)?;
    let author = match &args.sign {
        Some(key) => Some(keyring.unlock(&keyring.find(key)?, &args.passphrase)?),
        None => None,
    };
    let poster =
        Poster { args, context, network, table: table_key, recipients, author, clock: Clock::system() };
    if let Some(records) = &args.records {
        return context.block_on(post_records(poster, records));
    }
    let content = content(args)?;
    match &args.save {
        Some(path) => save(&poster, content, path),
        None => context.block_on(post(&poster, content)),
    }
}

/// The content to post; one byte more than any network permits, so that too much is noticed as such.
fn content(args: &Args) -> Result<Vec<u8>> {
    let most = p2pdb_protocol::limits::MAX_ENTRY_BYTES as u64 + 1;
    let mut data = Vec::new();
    match (&args.text, &args.file) {
        (Some(text), _) => data.extend_from_slice(text.as_bytes()),
        (None, Some(path)) if path != Path::new("-") => {
            File::open(path)
                .and_then(|file| file.take(most).read_to_end(&mut data))
                .with_context(|| format!("cannot read {}", path.display()))
                .hint("check the path and its permissions")?;
        }
        _ => drop(io::stdin().lock().take(most).read_to_end(&mut data).context("cannot read what to post")?),
    }
    Ok(data)
}

fn save(poster: &Poster<'_>, content: Vec<u8>, path: &Path) -> Result<Exit> {
    let shown = path.display();
    let failed = || format!("cannot write {shown}");
    let file = File::create_new(path).with_context(failed).hint("choose a file that is not there yet")?;
    let mut writer = export::Writer::new(BufWriter::new(file)).with_context(failed)?;
    writer.table_key(poster.table().der()).with_context(failed)?;
    let entry = poster.make(content)?;
    writer.entry(entry.encoded()).with_context(failed)?;
    poster.context.output().print_line(&Saved { id: entry.id(), table: entry.header().table })?;
    writer.finish().and_then(|output| output.get_ref().sync_all()).with_context(failed)?;
    Ok(Exit::Success)
}

async fn post(poster: &Poster<'_>, content: Vec<u8>) -> Result<Exit> {
    let reach = &poster.args.reach;
    let client = reach.client(poster.context).await?;
    let result = async {
        // Found before the work is done, which would be for nothing without a node.
        let nodes = reach.nodes(&client, &[poster.table().table_id()]).await?;
        let entry = tokio::task::block_in_place(|| poster.make(content))?;
        put(poster, &client, &nodes, &entry).await
    };
    let result = result.await;
    client.stop().await;
    result
}

/// Puts the entry to all nodes at once, and tells what became of it.
async fn put(poster: &Poster<'_>, client: &Client, nodes: &[PeerId], entry: &Entry) -> Result<Exit> {
    let puts = nodes.iter().map(|node| put_patiently(client, *node, entry, poster.table()));
    let answers = futures::future::join_all(puts).await;
    let nodes: Vec<AtNode> = nodes.iter().zip(answers).map(|(node, answer)| at_node(node, answer)).collect();
    let stored = nodes.iter().any(|node| node.held);
    let posted = Posted { id: entry.id(), table: entry.header().table, stored, nodes };
    poster.context.output().print_line(&posted)?;
    for node in posted.nodes.iter().filter(|node| !node.held) {
        note(&format!("{}: {} at {}", posted.id, node.outcome, node.node));
    }
    Ok(if stored { Exit::Success } else { Exit::Failure })
}

async fn post_records(poster: Poster<'_>, records: &Path) -> Result<Exit> {
    let Poster { args, context, network, table, recipients, author, .. } = poster;
    let client = args.reach.client(context).await?;
    let result = async {
        let nodes = args.reach.nodes(&client, &[table.public_key().table_id()]).await?;
        let maker = put_records::Maker {
            network,
            table,
            recipients,
            author,
            media_type: args.media_type.clone(),
            expires_after: args.expires.map(|period| period.0),
        };
        put_records::put(put_records::Job {
            context,
            client: &client,
            nodes: &nodes,
            maker,
            records,
            acknowledged: args.acknowledged.as_deref(),
            most: batch_entries(&client, &nodes),
        })
        .await
    };
    let result = result.await;
    client.stop().await;
    result
}

/// How many entries a request may have: no more than any of the nodes takes in a minute.
fn batch_entries(client: &Client, nodes: &[PeerId]) -> usize {
    let rates = nodes.iter().filter_map(|node| Some(client.routes().of(node)?.record().puts_per_minute));
    let slowest = rates.min().and_then(|rate| usize::try_from(rate).ok()).unwrap_or(MAX_PUT_ENTRIES);
    slowest.clamp(1, MAX_PUT_ENTRIES)
}

fn at_node(node: &PeerId, answer: Result<Outcome, RequestError>) -> AtNode {
    let (outcome, held) = match answer {
        Ok(outcome) => (outcome.name().to_owned(), outcome.is_held()),
        Err(error) => (error.to_string(), false),
    };
    AtNode { node: node.to_string(), outcome, held }
}

/// Puts an entry to a node, and comes back when it says so.
async fn put_patiently(
    client: &Client,
    node: PeerId,
    entry: &Entry,
    table: &PublicKey,
) -> Result<Outcome, RequestError> {
    let mut retries = 0;
    loop {
        match client.put_to(node, std::slice::from_ref(entry), table).await {
            Err(RequestError::Refused { retry_after: Some(wait), .. }) if retries < MAX_RETRIES => {
                retries += 1;
                tracing::info!(%node, ?wait, "the node wants to be asked later");
                tokio::time::sleep(wait.min(Duration::from_secs(60))).await;
            }
            // `put_to` answers for each entry.
            answer => {
                return answer?
                    .first()
                    .copied()
                    .ok_or_else(|| RequestError::Invalid("no outcome".to_owned()));
            }
        }
    }
}
