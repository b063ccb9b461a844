//! `get`: reads entries.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use anyhow::{Result, anyhow};
use libp2p::PeerId;
use p2pdb_protocol::{
    entry::Entry,
    filter::{Cursor, Filter},
    message::get::Get,
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        entries::{Opener, ShownEntry},
        failure::Advise as _,
        filter::{self, CursorText, FilterArgs},
        format,
        output::{Answer, note},
        passphrase::PassphraseArgs,
        reach::ReachArgs,
    },
    client::{Client, ClientError, Fetched, NodeError},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Entries that arrived after this place, which an earlier get from the same node printed; needs one --peer
    #[arg(long, value_name = "CURSOR", requires = "peers", help_heading = "Filters")]
    cursor: Option<CursorText>,
    /// Most entries of each node
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Write the bare contents of the entries that open
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Serialize)]
struct Failed {
    node: String,
    error: String,
}

#[derive(Serialize)]
struct Got {
    entries: Vec<ShownEntry>,
    nodes: Vec<String>,
    failed: Vec<Failed>,
    /// Where to continue at the node, if one alone was asked.
    next: Option<String>,
}

impl Answer for Got {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        for entry in &self.entries {
            entry.write_text(to)?;
        }
        let entries = format::some(self.entries.len(), "entry", "entries");
        writeln!(to, "{entries} from {}", format::some(self.nodes.len(), "node", "nodes"))?;
        self.next.as_ref().map_or(Ok(()), |next| writeln!(to, "continue with --cursor {next}"))
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let mut filter = args.filter.filter(context, &context.network()?.network)?;
    filter.limit = usize::try_from(args.limit)?;
    filter.cursor = args.cursor.map(|cursor| cursor.0);
    filter::check(&filter)?;
    let mut opener = Opener::new(&context.home()?, &args.passphrase)?;
    context.block_on(async {
        let client = args.reach.client(context).await?;
        let fetched = fetch(args, &client, &filter).await;
        client.stop().await;
        let (fetched, next) = fetched?;
        for NodeError { node, error } in &fetched.failed {
            note(&format!("{node} did not answer: {error}"));
        }
        let entries: Vec<ShownEntry> =
            tokio::task::block_in_place(|| fetched.entries.iter().map(|entry| opener.show(entry)).collect());
        if args.raw {
            entries.iter().filter_map(ShownEntry::data).try_for_each(|data| context.output().write(data))?;
            return Ok(Exit::Success);
        }
        let failed = |NodeError { node, error }: NodeError| Failed {
            node: node.to_string(),
            error: error.to_string(),
        };
        context.output().print(&Got {
            entries,
            nodes: fetched.nodes.iter().map(PeerId::to_string).collect(),
            failed: fetched.failed.into_iter().map(failed).collect(),
            next: next.map(|cursor| CursorText(cursor).to_string()),
        })?;
        Ok(Exit::Success)
    })
}

/// The entries, and where to continue if one node alone is asked: places mean nothing to another.
async fn fetch(args: &Args, client: &Client, filter: &Filter) -> Result<(Fetched, Option<Cursor>)> {
    if !args.reach.names_nodes() {
        return Ok((client.get(filter).await?, None));
    }
    let nodes = args.reach.nodes(client, &filter.tables).await?;
    if filter.cursor.is_some() && nodes.len() > 1 {
        return Err(anyhow!("a cursor belongs to one node, got {}", nodes.len())).hint("pass one --peer");
    }
    let mut fetched = Fetched { entries: Vec::new(), nodes: Vec::new(), failed: Vec::new() };
    let mut merged: BTreeMap<_, Entry> = BTreeMap::new();
    let mut next = None;
    for node in nodes {
        match client.get_all(node, filter).await {
            Ok(entries) => {
                next = match entries.last() {
                    Some(newest) => place(client, node, newest).await?,
                    None => filter.cursor,
                };
                merged.extend(entries.into_iter().map(|entry| ((entry.header().created, entry.id()), entry)));
                fetched.nodes.push(node);
            }
            Err(ClientError::Request(error)) => fetched.failed.push(NodeError { node, error }),
            Err(other) => return Err(other.into()),
        }
    }
    if fetched.nodes.is_empty()
        && let Some(NodeError { error, .. }) = fetched.failed.pop()
    {
        return Err(error.into());
    }
    fetched.entries = merged.into_values().collect();
    let next = next.filter(|_| fetched.nodes.len() == 1);
    Ok((fetched, next))
}

/// The place of an entry in the order in which entries arrived at a node, if it has not dropped it meanwhile.
async fn place(client: &Client, node: PeerId, entry: &Entry) -> Result<Option<Cursor>> {
    let request = Filter::ids(vec![entry.id()]).with_table(entry.header().table).to_request()?;
    let response = client.swarm().request::<Get>(node, request).await?;
    let arrivals = response.entries.iter().map(|(arrival, _)| *arrival);
    Ok(arrivals.max().map(|arrival| Cursor { arrival, ..response.next }))
}
