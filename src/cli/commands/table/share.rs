//! `table share`: writes a card with as much as its holder is to be able to do.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use p2pdb_protocol::{card::TableCard, id::TableId};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        output::{Answer, note, write_fields},
        tables,
    },
    config::{
        HomeError,
        home::{self, Overwrite},
    },
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name or id of the table
    table: String,
    /// The card to write; `-` for stdout
    file: PathBuf,
    /// What the card's holder can do [default: find the table, and address its shared recipient]
    #[arg(long, value_enum, value_name = "WHAT")]
    with: Option<Grant>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Which private keys go with a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grant {
    /// Read what is posted to the shared recipient
    Read,
    /// Post to the table
    Post,
    /// All that this home's card can do
    All,
}

#[derive(Serialize)]
struct Shared {
    table: TableId,
    file: PathBuf,
    with: Option<Grant>,
}

impl Answer for Shared {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(to, &[("table", self.table.to_string()), ("card", self.file.display().to_string())])
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let table = tables::find(&context.home()?, &args.table)?;
    let id = table.id();
    let mut card = reduced(table.card, args.with)?;
    // The nodes that this home begins with now, rather than those of the day the card came.
    let network = context.network()?;
    if network.network == card.network.network && !network.bootstrap.is_empty() {
        card.network.bootstrap = network.bootstrap;
    }
    let (posts, reads) = (card.table_private.is_some(), card.recipient_private.is_some());
    let text = card.to_toml()?;
    if args.file == Path::new("-") {
        context.output().write(text.as_bytes())?;
    } else {
        let overwrite = if args.force { Overwrite::Yes } else { Overwrite::No };
        let write = if posts || reads { home::write_secret } else { home::write_public };
        match write(&args.file, text.as_bytes(), overwrite) {
            Err(error @ HomeError::Exists { .. }) => {
                Err(error).hint("choose another file, or pass --force")?
            }
            written => written?,
        }
        context.output().print(&Shared { table: id, file: args.file.clone(), with: args.with })?;
    }
    warn(posts, reads);
    Ok(Exit::Success)
}

/// The card with no more private keys than asked for.
fn reduced(card: TableCard, with: Option<Grant>) -> Result<TableCard> {
    let lacks = |what: &str, how: &str| Err(anyhow!("this card cannot grant {what}")).hint(how);
    match with {
        Some(Grant::Read) if card.recipient_private.is_none() => lacks(
            "reading: it has no shared recipient's private key",
            "make a table with `p2pdb table new NAME --shared-recipient`, or have readers make keys of their own and post to \
             those with `p2pdb put --to`",
        )?,
        Some(Grant::Post) if card.table_private.is_none() => {
            lacks("posting: it has no table's private key", "ask whoever made the table")?
        }
        Some(Grant::All) if card.table_private.is_none() && card.recipient_private.is_none() => {
            lacks("anything: it has no private key", "leave out --with to pass on what it has")?
        }
        _ => {}
    }
    let posts = matches!(with, Some(Grant::Post | Grant::All));
    let reads = matches!(with, Some(Grant::Read | Grant::All));
    Ok(TableCard {
        table_private: card.table_private.filter(|_| posts),
        recipient_private: card.recipient_private.filter(|_| reads),
        ..card
    })
}

/// Says what the card gives away: nothing of it can be taken back.
fn warn(posts: bool, reads: bool) {
    if posts {
        note(
            "warning: whoever has this card can post to the table, as anybody who holds its key can. This cannot be undone.",
        );
    }
    if reads {
        note(
            "warning: whoever has this card can read all that was and will be posted to its shared recipient. This cannot be undone.",
        );
    }
    if posts || reads {
        note("Pass it on over a channel that you trust, and delete the file afterwards.");
    }
}
