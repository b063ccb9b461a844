//! `table new`: makes a table.

use anyhow::Result;
use p2pdb_protocol::{card::TableCard, keys::PrivateKey, limits::DEFAULT_RSA_BITS};

use super::Description;
use crate::{
    cli::{
        Exit,
        commands::key::bits,
        context::{Context, rng},
        tables,
    },
    config::{HomeError, Name},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What to call it
    name: Name,
    /// Length of the modulus
    #[arg(long, default_value_t = DEFAULT_RSA_BITS, value_parser = bits)]
    bits: usize,
    /// Also make a recipient key that all readers share: who gets it with a card reads all that is posted to it
    #[arg(long, alias = "shared-key")]
    shared_recipient: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let network = context.network()?;
    let path = home.table(&args.name);
    if path.exists() {
        return Err(HomeError::Exists { path }.into());
    }
    let table = PrivateKey::generate(&mut rng(), args.bits)?;
    let recipient = args.shared_recipient.then(|| PrivateKey::generate(&mut rng(), args.bits)).transpose()?;
    let card = TableCard {
        name: args.name.to_string(),
        network,
        table_public: table.public_key().clone(),
        table_private: Some(table),
        recipient_public: recipient.as_ref().map(|key| key.public_key().clone()),
        recipient_private: recipient,
    };
    tables::add(&home, &args.name, &card)?;
    context.output().print(&Description::new(&args.name, &card))?;
    Ok(Exit::Success)
}
