//! `follow`: prints entries as they come in.

use anyhow::Result;
use p2pdb_protocol::filter::Filter;

use crate::cli::{
    Exit,
    context::Context,
    entries::Opener,
    filter::{self, FilterArgs},
    passphrase::PassphraseArgs,
    reach::ReachArgs,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only entries that arrive from now on
    #[arg(long, conflicts_with = "since")]
    new: bool,
    /// End after so many entries
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Write the bare contents of the entries that open
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    reach: ReachArgs,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let mut filter = args.filter.filter(context, &context.network()?.network)?;
    if args.new {
        filter.seconds_since = Some(0);
    }
    filter::check(&filter)?;
    let opener = Opener::new(&context.home()?, &args.passphrase)?;
    context.block_on(follow(args, context, filter, opener))
}

async fn follow(args: &Args, context: &Context, filter: Filter, mut opener: Opener) -> Result<Exit> {
    let client = args.reach.client(context).await?;
    let followed = async {
        // Says at once that nobody can be reached; a follower itself tries on for ever.
        args.reach.nodes(&client, &filter.tables).await?;
        let mut entries = client.follow(filter)?;
        let mut left = args.count.unwrap_or(u64::MAX);
        while left > 0 {
            let entry = tokio::select! {
                entry = entries.next() => entry,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    None
                }
            };
            let Some(entry) = entry else { break };
            let shown = tokio::task::block_in_place(|| opener.show(&entry));
            match (args.raw, shown.data()) {
                (false, _) => context.output().print_line(&shown)?,
                (true, Some(data)) => context.output().write(data)?,
                (true, None) => {}
            }
            left -= 1;
        }
        Ok(Exit::Success)
    };
    let followed = followed.await;
    client.stop().await;
    followed
}
