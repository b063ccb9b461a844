//! `table list`: the tables of a home.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::Description;
use crate::cli::{
    Exit,
    context::Context,
    output::{Answer, write_table},
    tables,
};

#[derive(Serialize)]
struct List {
    tables: Vec<Description>,
}

impl Answer for List {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |table: &Description| {
            [table.name.clone(), table.network.clone(), table.abilities().to_owned(), table.id.to_string()]
        };
        let rows: Vec<_> = self.tables.iter().map(row).collect();
        let none = "no tables; make one with `p2pdb table new NAME`, or import a card";
        write_table(to, ["NAME", "NETWORK", "CARD LETS YOU", "ID"], &rows, none)
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let tables = tables::all(&context.home()?)?;
    let describe = |table: &tables::Table| Description::new(&table.name, &table.card);
    context.output().print(&List { tables: tables.iter().map(describe).collect() })?;
    Ok(Exit::Success)
}
