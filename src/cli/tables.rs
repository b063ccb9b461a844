//! The tables of a home: cards in `tables/NAME.toml`.

use std::{fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result, anyhow};
use p2pdb_protocol::{card::TableCard, id::TableId};
use zeroize::Zeroizing;

use crate::{
    cli::{failure::Advise as _, keyring::to_text},
    config::{
        Home, Name,
        home::{self, Overwrite},
    },
};

/// Largest card that is read, in bytes.
const MAX_CARD_BYTES: u64 = 1 << 20;

/// A table that the home has the card of.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: Name,
    pub(super) card: TableCard,
}

impl Table {
    pub(super) fn id(&self) -> TableId {
        self.card.table_public.table_id()
    }
}

/// Every table of the home, by name.
pub(super) fn all(home: &Home) -> Result<Vec<Table>> {
    home.table_names()?.into_iter().map(|name| load(home, name)).collect()
}

/// The table with this name or id.
pub(super) fn find(home: &Home, text: &str) -> Result<Table> {
    if let Ok(id) = text.parse::<TableId>() {
        return all(home)?
            .into_iter()
            .find(|table| table.id() == id)
            .ok_or_else(|| anyhow!("this home has no card of the table {id}"))
            .hint("import its card with `p2pdb table import FILE`");
    }
    let name: Name = text.parse()?;
    if !home.table(&name).exists() {
        return Err(anyhow!("this home has no table named {name}")).hint(
            "list the tables with `p2pdb table list`; make one with `p2pdb table new`, or import its card",
        );
    }
    load(home, name)
}

/// The id of a table, whose card need not be here if it is named by its id.
pub(super) fn id_of(home: &Home, text: &str) -> Result<TableId> {
    text.parse().or_else(|_| find(home, text).map(|table| table.id()))
}

/// Keeps a card under a name that is free.
pub(super) fn add(home: &Home, name: &Name, card: &TableCard) -> Result<()> {
    let known = all(home)?.into_iter().find(|table| table.card.table_public == card.table_public);
    if let Some(known) = known.filter(|known| known.name != *name) {
        return Err(anyhow!("this home has the table {} already, as {}", known.id(), known.name)).hint(
            format!("use it as {}, or remove {} first", known.name, home.table(&known.name).display()),
        );
    }
    Ok(home::write_secret(&home.table(name), card.to_toml()?.as_bytes(), Overwrite::No)?)
}

/// Reads a card from a file, or from stdin if it is `-`. Anyone may be able to read it: it was handed around.
pub(super) fn read_card(path: &Path) -> Result<TableCard> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_CARD_BYTES).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_CARD_BYTES).read_to_string(&mut text))
    };
    let shown = path.display();
    read.with_context(|| format!("cannot read the table card {shown}")).hint("check the path")?;
    TableCard::parse(&text).with_context(|| format!("cannot use the table card {shown}"))
}

fn load(home: &Home, name: Name) -> Result<Table> {
    let path = home.table(&name);
    let text = to_text(home::read_secret(&path)?)?;
    let card =
        TableCard::parse(&text).with_context(|| format!("cannot use the table card {}", path.display()))?;
    Ok(Table { name, card })
}
