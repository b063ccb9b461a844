//! `verify`: whether the store's indexes are its data.

use std::{
    io::{self, Write},
    sync::Arc,
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        format,
        output::{Answer, note, write_fields},
        progress,
    },
    store::Report,
};

#[derive(Serialize)]
struct Verified {
    clean: bool,
    entries: u64,
    dropped: u64,
    buckets: u64,
    problems: u64,
    /// The first of them in words.
    spelled_out: Vec<String>,
}

impl Answer for Verified {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(
            to,
            &[
                ("store", if self.clean { "clean" } else { "damaged" }.to_owned()),
                ("entries", format::count(self.entries)),
                ("dropped ids", format::count(self.dropped)),
                ("buckets", format::count(self.buckets)),
                ("problems", format::count(self.problems)),
            ],
        )?;
        self.spelled_out.iter().try_for_each(|problem| writeln!(to, "  {problem}"))
    }
}

pub(in crate::cli) fn run(context: &Context) -> Result<Exit> {
    let report: Report = context.block_on(async {
        let store = context.store()?;
        let bar = Arc::new(progress::rows(context, "verify"));
        let shown = Arc::clone(&bar);
        let verified = store
            .verify(move |progress| {
                shown.set_length(progress.of);
                shown.set_position(progress.done);
            })
            .await;
        bar.finish_and_clear();
        store.close().await?;
        Ok(verified?)
    })?;
    let clean = report.is_clean();
    context.output().print(&Verified {
        clean,
        entries: report.entries,
        dropped: report.dropped,
        buckets: report.buckets,
        problems: report.problems,
        spelled_out: report.spelled_out,
    })?;
    if clean {
        return Ok(Exit::Success);
    }
    note(
        "hint: keep a copy of the store, check the disk, `p2pdb export` what can be read and import it into a new home",
    );
    Ok(Exit::Unhealthy)
}
