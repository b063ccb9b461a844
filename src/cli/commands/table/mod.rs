//! `table`: the tables of a home and the cards that share them.

mod import;
mod list;
mod new;
mod share;
mod show;

use std::io::{self, Write};

use anyhow::Result;
use clap::Subcommand;
use p2pdb_protocol::{
    card::TableCard,
    id::{RecipientId, TableId},
    keys::PublicKey,
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        format,
        output::{Answer, write_fields},
    },
    config::Name,
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a table: the key that posts to it, and its card
    New(new::Args),
    /// List the tables that this home has cards of
    List,
    /// Show a table
    Show(show::Args),
    /// Write a card of a table, for somebody else to import
    Share(share::Args),
    /// Keep the card of a table
    Import(import::Args),
}

pub(in crate::cli) fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::New(args) => new::run(&args, context),
        Command::List => list::run(context),
        Command::Show(args) => show::run(&args, context),
        Command::Share(args) => share::run(&args, context),
        Command::Import(args) => import::run(&args, context),
    }
}

/// What is told of a table.
#[derive(Serialize)]
struct Description {
    name: String,
    title: String,
    id: TableId,
    bits: usize,
    network: String,
    can_post: bool,
    shared_recipient: Option<RecipientId>,
    can_read: bool,
}

impl Description {
    fn new(name: &Name, card: &TableCard) -> Self {
        Self {
            name: name.to_string(),
            title: card.name.clone(),
            id: card.table_public.table_id(),
            bits: card.table_public.bits(),
            network: card.network.network.name.clone(),
            can_post: card.table_private.is_some(),
            shared_recipient: card.recipient_public.as_ref().map(PublicKey::recipient_id),
            can_read: card.recipient_private.is_some(),
        }
    }

    /// What the holder of the card can do.
    fn abilities(&self) -> &'static str {
        match (self.can_post, self.can_read) {
            (true, true) => "post, read",
            (true, false) => "post",
            (false, true) => "read",
            (false, false) => "find",
        }
    }
}

impl Answer for Description {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let recipient = self.shared_recipient.map_or_else(|| "none".to_owned(), |id| id.to_string());
        write_fields(
            to,
            &[
                ("name", self.name.clone()),
                ("title", format::harmless(&self.title).into_owned()),
                ("id", self.id.to_string()),
                ("key", format!("RSA {} bits", self.bits)),
                ("network", self.network.clone()),
                ("card lets you", self.abilities().to_owned()),
                ("shared recipient", recipient),
            ],
        )
    }
}
