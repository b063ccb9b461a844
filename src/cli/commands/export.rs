//! `export`: the store's entries as a file (SPEC 12.2).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use p2pdb_protocol::{
    export::Writer,
    filter::{Cursor, Filter},
    limits::MAX_GET_ENTRIES,
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        format,
        output::{Answer, write_fields},
        progress, tables,
    },
    store::Store,
};

/// Bytes of entries that are read at a time.
const PAGE_BYTES: usize = 8 << 20;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The file to write; `-` for stdout
    file: PathBuf,
    /// Export this table only, by name or id; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    entries: u64,
    tables: usize,
    bytes: u64,
}

impl Answer for Exported {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(
            to,
            &[
                ("file", self.file.display().to_string()),
                ("entries", format!("{} of {} tables", format::count(self.entries), self.tables)),
                ("size", format::bytes(self.bytes)),
            ],
        )
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let tables = args.tables.iter().map(|text| tables::id_of(&home, text)).collect::<Result<Vec<_>>>()?;
    let filter = |store: &Store| Filter {
        tables: tables.clone(),
        // From the beginning, and thereby everything.
        cursor: Some(Cursor { store: store.id(), arrival: 0 }),
        limit: MAX_GET_ENTRIES,
        ..Filter::ids(Vec::new())
    };
    if args.file == Path::new("-") {
        context.block_on(async {
            let store = context.store()?;
            export(context, &store, filter(&store), io::stdout().lock()).await?;
            Ok(store.close().await?)
        })?;
        return Ok(Exit::Success);
    }
    let exported = context.block_on(async {
        let store = context.store()?;
        let exported = to_file(args, context, &store, filter(&store)).await?;
        store.close().await?;
        Ok(exported)
    })?;
    context.output().print(&exported)?;
    Ok(Exit::Success)
}

/// Writes to a file beside the one wanted first, so that it is whole if it is there.
async fn to_file(args: &Args, context: &Context, store: &Store, filter: Filter) -> Result<Exported> {
    let path = &args.file;
    let failed = || format!("cannot write {}", path.display());
    if path.exists() && !args.force {
        return Err(anyhow::anyhow!("{} exists already", path.display()))
            .hint("choose another file, or pass --force");
    }
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let file = File::create(&part).with_context(failed).hint("choose a directory that you may write to")?;
    let made = export(context, store, filter, &file).await.and_then(|counts| {
        written(file.sync_all().and_then(|()| fs::rename(&part, path)))?;
        Ok(counts)
    });
    let (entries, tables) = made.inspect_err(|_| {
        // What was written so far is of no use, and its removal not what failed.
        let _ = fs::remove_file(&part);
    })?;
    // Else a power failure may bring back what was there before. That of a bare name is empty, which is not the name of a
    // directory.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).with_context(failed)?;
    Ok(Exported { file: path.clone(), entries, tables, bytes: file.metadata().with_context(failed)?.len() })
}

/// Writes what passes the filter, and counts entries and tables.
async fn export(
    context: &Context,
    store: &Store,
    mut filter: Filter,
    to: impl Write,
) -> Result<(u64, usize)> {
    let bar = progress::bytes(context, "export", store.stats().await?.bytes);
    let mut writer = written(Writer::new(BufWriter::new(to)))?;
    let (mut entries, mut keys) = (0, BTreeSet::new());
    loop {
        let page = store.get(filter.clone(), None, PAGE_BYTES).await?;
        for key in page.keys {
            if !keys.contains(&key) {
                written(writer.table_key(&key))?;
                keys.insert(key);
            }
        }
        for (_, entry) in &page.entries {
            written(writer.entry(entry))?;
            entries += 1;
            bar.inc(entry.len() as u64);
        }
        bar.set_message(format::count(entries));
        if !page.more {
            break;
        }
        filter.cursor = Some(page.next);
    }
    written(writer.finish())?;
    bar.finish_and_clear();
    Ok((entries, keys.len()))
}

fn written<T>(result: io::Result<T>) -> Result<T> {
    result
        .context("cannot write the export")
        .hint("choose a disk with room that may be written to; a file that was there before is as it was")
}
