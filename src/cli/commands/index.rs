//! `index`: what a node holds, bucket by bucket.

use std::io::{self, Write};

use anyhow::Result;
use p2pdb_protocol::{
    id::{EntryId, TableId},
    message::index::IndexRequest,
};
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    format::{self, Time},
    output::{Answer, write_table},
    reach::ReachArgs,
    tables,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Table by name or id; without one, the tables that the node holds entries of
    table: Option<String>,
    /// Only entries created at this time or later, rounded up to an epoch of the network
    #[arg(long, value_name = "TIME", default_value = "0", requires = "table")]
    since: Time,
    /// List the ids of this bucket
    #[arg(long, value_name = "NUMBER", requires = "table")]
    bucket: Option<u64>,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Serialize)]
struct BucketRow {
    bucket: u16,
    count: u64,
    digest: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Held {
    Tables { tables: Vec<TableId> },
    Buckets { table: TableId, since: u64, entries: u64, buckets: Vec<BucketRow> },
    Ids { table: TableId, since: u64, bucket: u64, ids: Vec<EntryId> },
}

#[derive(Serialize)]
struct Index {
    node: String,
    #[serde(flatten)]
    held: Held,
}

impl Answer for Index {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        match &self.held {
            Held::Tables { tables } => tables.iter().try_for_each(|table| writeln!(to, "{table}")),
            Held::Ids { ids, .. } => ids.iter().try_for_each(|id| writeln!(to, "{id}")),
            Held::Buckets { since, entries, buckets, .. } => {
                let row =
                    |row: &BucketRow| [row.bucket.to_string(), row.count.to_string(), row.digest.clone()];
                let rows: Vec<_> = buckets.iter().map(row).collect();
                write_table(to, ["BUCKET", "ENTRIES", "DIGEST"], &rows, "no entries")?;
                let (entries, buckets) = (format::count(*entries), buckets.len());
                write!(to, "{entries} entries in {buckets} buckets at {}", self.node)?;
                if *since > 0 {
                    writeln!(to, ", created since {}", format::time(*since))
                } else {
                    writeln!(to)
                }
            }
        }
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let table = args.table.as_ref().map(|text| tables::id_of(&home, text)).transpose()?;
    context.block_on(async {
        let client = args.reach.client(context).await?;
        let asked = ask(args, table, &client).await;
        client.stop().await;
        context.output().print(&asked?)?;
        Ok(Exit::Success)
    })
}

async fn ask(args: &Args, table: Option<TableId>, client: &crate::client::Client) -> Result<Index> {
    let nodes = args.reach.nodes(client, table.as_slice()).await?;
    let node = *nodes.first().ok_or_else(|| anyhow::anyhow!("no node was found"))?;
    let mut request =
        IndexRequest { table, since: args.since.0, bucket: args.bucket, ..IndexRequest::default() };
    let (mut ids, mut tables) = (Vec::new(), Vec::new());
    let (since, summaries) = loop {
        let page = client.index(node, request.clone()).await?;
        ids.extend(page.ids.into_inner());
        tables.extend(page.tables.into_inner());
        // Pages ascend; one that does not is the last that is asked for.
        let next = (ids.last().copied(), tables.last().copied());
        if !page.more || next <= (request.after, request.after_table) {
            break (page.since, page.buckets.into_inner());
        }
        (request.after, request.after_table) = next;
    };
    let held = match (table, args.bucket) {
        (None, _) => Held::Tables { tables },
        (Some(table), Some(bucket)) => Held::Ids { table, since, bucket, ids },
        (Some(table), None) => {
            let row = |summary: &p2pdb_protocol::bucket::BucketSummary| BucketRow {
                bucket: summary.bucket,
                count: summary.count,
                digest: summary.digest.to_string(),
            };
            let entries = summaries.iter().map(|summary| summary.count).fold(0, u64::saturating_add);
            Held::Buckets { table, since, entries, buckets: summaries.iter().map(row).collect() }
        }
    };
    Ok(Index { node: node.to_string(), held })
}
