//! `put`: posts entries.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use libp2p::PeerId;
use p2pdb_protocol::{
    entry::Entry,
    export,
    id::{EntryId, TableId},
    keys::{PrivateKey, PublicKey},
    limits::{MAX_PUT_ENTRIES, PUT_REQUEST_BYTES},
    network::Network,
    refusal::Outcome,
    seal::{Content, Draft},
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
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
/// Bytes of a request that are not entries: keys, and heads of lists.
const REQUEST_OVERHEAD: usize = 16 << 10;

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
    /// Post an entry for each line or paragraph of the input
    #[arg(long, value_enum)]
    each: Option<Unit>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unit {
    /// A line
    Line,
    /// Lines up to an empty one
    Paragraph,
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
        writeln!(to, "{}  stored by {held} of {} nodes", self.id, self.nodes.len())
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
    let contents = contents(args)?;
    match &args.save {
        Some(path) => save(&poster, contents, path),
        None => context.block_on(post(&poster, contents)),
    }
}

/// The contents to post, read as they are needed.
fn contents(args: &Args) -> Result<Box<dyn Iterator<Item = io::Result<Vec<u8>>>>> {
    let mut input: Box<dyn BufRead> = match (&args.text, &args.file) {
        (Some(text), _) => Box::new(io::Cursor::new(text.clone().into_bytes())),
        (None, Some(path)) if path != Path::new("-") => {
            let file = File::open(path)
                .with_context(|| format!("cannot read {}", path.display()))
                .hint("check the path and its permissions")?;
            Box::new(BufReader::new(file))
        }
        _ => Box::new(BufReader::new(io::stdin())),
    };
    Ok(match args.each {
        None => {
            // One byte more than any network permits, so that too much is noticed as such.
            let mut data = Vec::new();
            input.take(p2pdb_protocol::limits::MAX_ENTRY_BYTES as u64 + 1).read_to_end(&mut data)?;
            Box::new(std::iter::once(Ok(data)))
        }
        Some(unit) => Box::new(std::iter::from_fn(move || next_unit(&mut input, unit).transpose())),
    })
}

/// The next line or paragraph that is not empty.
fn next_unit(input: &mut dyn BufRead, unit: Unit) -> io::Result<Option<Vec<u8>>> {
    let mut collected = Vec::new();
    loop {
        let mut line = Vec::new();
        let is_end = input.read_until(b'\n', &mut line)? == 0;
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        if !is_blank {
            collected.extend(line);
        }
        let is_whole = is_end || is_blank || unit == Unit::Line;
        if is_whole && !collected.is_empty() {
            collected.pop_if(|last| *last == b'\n');
            return Ok(Some(collected));
        }
        if is_end {
            return Ok(None);
        }
    }
}

fn save(
    poster: &Poster<'_>,
    contents: impl Iterator<Item = io::Result<Vec<u8>>>,
    path: &Path,
) -> Result<Exit> {
    let shown = path.display();
    let failed = || format!("cannot write {shown}");
    let file = File::create_new(path).with_context(failed).hint("choose a file that is not there yet")?;
    let mut writer = export::Writer::new(BufWriter::new(file)).with_context(failed)?;
    writer.table_key(poster.table().der()).with_context(failed)?;
    for content in contents {
        let entry = poster.make(content?)?;
        writer.entry(entry.encoded()).with_context(failed)?;
        poster.context.output().print_line(&Saved { id: entry.id(), table: entry.header().table })?;
    }
    writer.finish().and_then(|output| output.get_ref().sync_all()).with_context(failed)?;
    Ok(Exit::Success)
}

async fn post(poster: &Poster<'_>, contents: impl Iterator<Item = io::Result<Vec<u8>>>) -> Result<Exit> {
    let reach = &poster.args.reach;
    let client = reach.client(poster.context).await?;
    let result = async {
        // Found before the work is done, which would be for nothing without a node.
        let nodes = reach.nodes(&client, &[poster.table().table_id()]).await?;
        let most = batch_entries(&client, &nodes);
        let mut batch = Batch::default();
        let mut is_stored = true;
        for content in contents {
            let content = content.context("cannot read what to post")?;
            let entry = tokio::task::block_in_place(|| poster.make(content))?;
            if !batch.fits(&entry, most) {
                is_stored &= batch.put(poster, &client, &nodes).await?;
            }
            batch.add(entry);
        }
        is_stored &= batch.put(poster, &client, &nodes).await?;
        Ok(if is_stored { Exit::Success } else { Exit::Failure })
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

/// Entries that go into one request.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    fn fits(&self, entry: &Entry, most: usize) -> bool {
        self.entries.len() < most
            && self.bytes + entry.encoded().len() + REQUEST_OVERHEAD <= PUT_REQUEST_BYTES
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.encoded().len();
        self.entries.push(entry);
    }

    /// Puts the entries to all nodes at once, empties the batch, and tells what became of each entry. Whether every
    /// one is stored by some node.
    async fn put(&mut self, poster: &Poster<'_>, client: &Client, nodes: &[PeerId]) -> Result<bool> {
        let Self { entries, .. } = std::mem::take(self);
        if entries.is_empty() {
            return Ok(true);
        }
        let puts = nodes.iter().map(|node| put_patiently(client, *node, &entries, poster.table()));
        let answers = futures::future::join_all(puts).await;
        let mut all_stored = true;
        for (place, entry) in entries.iter().enumerate() {
            let at_nodes = nodes.iter().zip(&answers).map(|(node, answer)| {
                let outcome = answer.as_ref().map(|outcomes| outcomes.get(place).copied());
                at_node(node, outcome)
            });
            let nodes: Vec<AtNode> = at_nodes.collect();
            let stored = nodes.iter().any(|node| node.held);
            all_stored &= stored;
            let posted = Posted { id: entry.id(), table: entry.header().table, stored, nodes };
            poster.context.output().print_line(&posted)?;
            for node in posted.nodes.iter().filter(|node| !node.held) {
                note(&format!("{}: {} at {}", posted.id, node.outcome, node.node));
            }
        }
        Ok(all_stored)
    }
}

fn at_node(node: &PeerId, outcome: Result<Option<Outcome>, &RequestError>) -> AtNode {
    let (outcome, held) = match outcome {
        Ok(Some(outcome)) => (outcome.name().to_owned(), outcome.is_held()),
        Ok(None) => ("no outcome".to_owned(), false),
        Err(error) => (error.to_string(), false),
    };
    AtNode { node: node.to_string(), outcome, held }
}

/// Puts entries to a node, and comes back when it says so.
async fn put_patiently(
    client: &Client,
    node: PeerId,
    entries: &[Entry],
    table: &PublicKey,
) -> Result<Vec<Outcome>, RequestError> {
    let mut retries = 0;
    loop {
        match client.put_to(node, entries, table).await {
            Err(RequestError::Refused { retry_after: Some(wait), .. }) if retries < MAX_RETRIES => {
                retries += 1;
                tracing::info!(%node, ?wait, "the node wants to be asked later");
                tokio::time::sleep(wait.min(Duration::from_secs(60))).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, unit: Unit) -> Vec<String> {
        let mut input = text.as_bytes();
        std::iter::from_fn(|| next_unit(&mut input, unit).unwrap())
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    #[test]
    fn input_is_split_into_lines_or_paragraphs() {
        let text = "\n\na\nb\n\n \nc\n";
        assert_eq!(units(text, Unit::Line), ["a", "b", "c"]);
        assert_eq!(units(text, Unit::Paragraph), ["a\nb", "c"]);
        assert_eq!(units("a", Unit::Paragraph), ["a"]);
        assert!(units("\n \n", Unit::Line).is_empty());
    }
}
