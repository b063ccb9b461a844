//! Making entries: sealing, and the proof of work under a progress bar.

use std::{fs, num::NonZeroUsize, path::Path, sync::atomic::AtomicBool, thread::available_parallelism};

use anyhow::{Context as _, Result, anyhow};
use p2pdb_protocol::{
    entry::Entry, id::RecipientId, keys::PublicKey, limits::MAX_RECIPIENTS, network::Network, pow::Solver,
    seal::Draft,
};

use crate::cli::{
    context::{Context, rng},
    failure::Advise as _,
    keyring::Keyring,
    progress::WorkBar,
    tables::Table,
};

/// Seals a draft and does its work on so many threads, all if it is not said how many.
pub(super) fn make(
    context: &Context,
    network: &Network,
    draft: &Draft<'_>,
    threads: Option<NonZeroUsize>,
) -> Result<Entry> {
    let sealed = draft
        .seal(&mut rng(), network)
        .hint("an entry has 1 to 16 recipients and has to fit the network's `max_entry_bytes`")?;
    let threads = threads.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    // What is priced is header and body (SPEC 5.1).
    let size = sealed.header().encode().len() as u64 + sealed.header().body_length;
    let bar = WorkBar::new(context, network, size);
    let solver = Solver::new(sealed.puzzle(network));
    let work = solver.solve(threads, &AtomicBool::new(false), &|progress| bar.show(progress));
    bar.finish();
    Ok(sealed.finish(&work?, network)?)
}

/// The public keys of recipients, each given as the name or id of a key of this home, or as a PEM file; without any, the
/// recipient that the readers of the table share.
pub(super) fn recipients(keyring: &Keyring, table: &Table, given: &[String]) -> Result<Vec<PublicKey>> {
    if given.is_empty() {
        let shared = table.card.recipient_public.clone();
        return shared
            .map(|key| vec![key])
            .ok_or_else(|| {
                anyhow!("nobody could read this: the table {} has no shared recipient", table.name)
            })
            .hint("name a recipient with --to KEY; --to with a key of your own lets yourself read it");
    }
    if given.len() > MAX_RECIPIENTS {
        return Err(anyhow!("expected at most {MAX_RECIPIENTS} recipients, got {}", given.len()))
            .hint("post the entry several times, or use a table with a shared recipient");
    }
    given.iter().map(|text| recipient(keyring, text)).collect()
}

fn recipient(keyring: &Keyring, text: &str) -> Result<PublicKey> {
    let looks_like_file =
        text.contains('/') || Path::new(text).extension().is_some_and(|e| e == "pem" || e == "pub");
    if text.parse::<RecipientId>().is_ok() || !looks_like_file {
        return Ok(keyring.find(text)?.public);
    }
    let pem = fs::read_to_string(text)
        .with_context(|| format!("cannot read the PEM file {text}"))
        .hint("name the PEM file of a public key, or a key of `p2pdb key list`")?;
    PublicKey::from_pem(&pem).with_context(|| format!("cannot use {text}"))
}
