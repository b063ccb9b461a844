//! `table import`: keeps a card that somebody shared.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use p2pdb_protocol::network::NetworkFile;

use super::Description;
use crate::{
    cli::{Exit, context::Context, failure::Advise as _, output::note, tables},
    config::{
        Home, Name,
        home::{self, Overwrite},
    },
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The card; `-` for stdin
    file: PathBuf,
    /// What to call the table [default: its name on the card]
    #[arg(long)]
    name: Option<Name>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let card = tables::read_card(&args.file)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => card
            .name
            .parse()
            .context("the card's name cannot be a file's name")
            .hint("choose one with --name")?,
    };
    let network = context.network()?;
    let (theirs, ours) = (&card.network.network, &network.network);
    if theirs != ours {
        return Err(anyhow!(
            "the card is of the network {} ({}), this home is of {} ({})",
            theirs.name,
            theirs.id(),
            ours.name,
            ours.id()
        ))
        .hint(format!(
            "make a home for that network: `p2pdb --home DIRECTORY init --network {}`",
            args.file.display()
        ));
    }
    tables::add(&home, &name, &card)?;
    take_bootstrap(&home, network, &card.network)?;
    context.output().print(&Description::new(&name, &card))?;
    Ok(Exit::Success)
}

/// Adds the bootstrap addresses of the card to those of the home.
fn take_bootstrap(home: &Home, mut network: NetworkFile, card: &NetworkFile) -> Result<()> {
    let known = network.bootstrap.len();
    for address in &card.bootstrap {
        if !network.bootstrap.contains(address) {
            network.bootstrap.push(address.clone());
        }
    }
    let new = network.bootstrap.len() - known;
    if new > 0 {
        home::write_public(&home.network(), network.to_toml().as_bytes(), Overwrite::Yes)?;
        note(&format!("added {new} bootstrap addresses of the card to {}", home.network().display()));
    }
    Ok(())
}
