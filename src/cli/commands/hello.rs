//! `hello`: what a node says of itself, and whom it knows.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result};
use libp2p::{Multiaddr, PeerId};
use p2pdb_protocol::{
    id::{NetworkId, TableId},
    message::hello::RecordBytes,
    record::SignedRecord,
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        format,
        output::{Answer, write_fields},
        reach::ReachArgs,
        tables,
    },
    client::Client,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Ask for nodes that mirror this table, by name or id; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    #[command(flatten)]
    reach: ReachArgs,
}

/// What a node says of itself, its signature verified.
#[derive(Serialize)]
struct Record {
    peer: String,
    sequence: u64,
    addresses: Vec<String>,
    /// None: every table.
    tables: Option<Vec<TableId>>,
    /// Seconds; 0: no limit by age.
    horizon: u64,
    puts_per_minute: u64,
}

#[derive(Serialize)]
struct Node {
    node: Record,
    knows: Vec<Record>,
}

#[derive(Serialize)]
struct Hellos {
    nodes: Vec<Node>,
}

impl Answer for Hellos {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        for Node { node, knows } in &self.nodes {
            let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
            let horizon = match node.horizon {
                0 => "entries of any age".to_owned(),
                seconds => format!("entries of {}", format::duration(Duration::from_secs(seconds))),
            };
            write_fields(
                to,
                &[
                    ("node", node.peer.clone()),
                    ("since", format::time(node.sequence)),
                    ("addresses", none(node.addresses.join(" "))),
                    ("mirrors", node.describe_tables()),
                    ("keeps", horizon),
                    ("takes", format!("{} entries a minute from a peer", node.puts_per_minute)),
                    ("knows", format::some(knows.len(), "node", "nodes")),
                ],
            )?;
            for known in knows {
                writeln!(to, "  {}  {}", known.peer, none(known.addresses.join(" ")))?;
            }
        }
        Ok(())
    }
}

impl Record {
    fn read(encoded: RecordBytes, network: &NetworkId) -> Result<Self> {
        let signed = SignedRecord::verify(encoded.into_inner(), network)?;
        let record = signed.record();
        let peer = PeerId::from_bytes(&record.peer_id_bytes()).context("its key is not that of a peer")?;
        let addresses = record.addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok());
        Ok(Self {
            peer: peer.to_string(),
            sequence: record.sequence,
            addresses: addresses.map(|address| address.to_string()).collect(),
            tables: record.tables.clone(),
            horizon: record.horizon,
            puts_per_minute: record.puts_per_minute,
        })
    }

    fn describe_tables(&self) -> String {
        match &self.tables {
            None => "every table".to_owned(),
            Some(tables) => tables.iter().map(TableId::to_string).collect::<Vec<_>>().join(" "),
        }
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let wanted = args.tables.iter().map(|text| tables::id_of(&home, text)).collect::<Result<Vec<_>>>()?;
    let wanted = Some(wanted).filter(|wanted| !wanted.is_empty());
    context.block_on(async {
        let client = args.reach.client(context).await?;
        let greeted = greet(args, wanted, &client).await;
        client.stop().await;
        context.output().print(&greeted?)?;
        Ok(Exit::Success)
    })
}

async fn greet(args: &Args, wanted: Option<Vec<TableId>>, client: &Client) -> Result<Hellos> {
    let network = client.network().id();
    let mut nodes = Vec::new();
    for node in args.reach.nodes(client, &[]).await? {
        let response = client.hello(node, wanted.clone()).await?;
        // One that cannot be verified is not worth showing.
        let knows = response.records.into_inner().into_iter();
        let knows = knows.filter_map(|record| Record::read(record, &network).ok()).collect();
        nodes.push(Node { node: Record::read(response.record, &network)?, knows });
    }
    Ok(Hellos { nodes })
}
