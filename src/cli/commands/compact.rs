//! `compact`: gives back the disk space that the store does not need any more.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    format,
    output::{Answer, write_fields},
};

#[derive(Serialize)]
struct Compacted {
    dropped: u64,
    bytes_before: u64,
    bytes_after: u64,
}

impl Answer for Compacted {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(
            to,
            &[
                ("dropped", format::count(self.dropped)),
                ("before", format::bytes(self.bytes_before)),
                ("after", format::bytes(self.bytes_after)),
            ],
        )
    }
}

pub(in crate::cli) fn run(context: &Context) -> Result<Exit> {
    let compacted = context.block_on(async {
        let store = context.store()?;
        let bytes_before = store.stats().await?.disk_bytes;
        // After a limit was lowered there is more than it allows, which only a sweep drops.
        let swept = store.sweep().await?;
        store.compact().await?;
        let bytes_after = store.stats().await?.disk_bytes;
        store.close().await?;
        let dropped = swept.expired + swept.beyond_horizon + swept.evicted;
        Ok(Compacted { dropped, bytes_before, bytes_after })
    })?;
    context.output().print(&compacted)?;
    Ok(Exit::Success)
}
