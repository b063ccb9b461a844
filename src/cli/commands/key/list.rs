//! `key list`: the keys of a home.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::Description;
use crate::cli::{
    Exit,
    context::Context,
    keyring::Keyring,
    output::{Answer, write_table},
};

#[derive(Serialize)]
struct List {
    keys: Vec<Description>,
}

impl Answer for List {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |key: &Description| {
            [key.name.clone(), key.bits.to_string(), key.private.describe().to_owned(), key.id.to_string()]
        };
        let rows: Vec<_> = self.keys.iter().map(row).collect();
        write_table(to, ["NAME", "BITS", "KEY", "ID"], &rows, "no keys; make one with `p2pdb key new NAME`")
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let keys = Keyring::new(context.home()?).all()?;
    context.output().print(&List { keys: keys.iter().map(Description::from).collect() })?;
    Ok(Exit::Success)
}
