//! From a draft to an entry that nodes hold: sealing, the proof of work, and the put.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use p2pdb_protocol::{
    entry::Entry,
    keys::{PrivateKey, PublicKey},
    pow::Solver,
    seal::{Content, Draft},
};
use rand_core::UnwrapErr;

use crate::client::{Client, ClientError, PutReport};

/// What to post, created now.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// The key of the table to post to.
    pub table: &'a PrivateKey,
    /// Who is to read it: 1-16.
    pub recipients: &'a [PublicKey],
    /// What they are to read.
    pub content: &'a Content,
    /// After how long nodes may drop it; `None`: when they have to.
    pub expires_after: Option<Duration>,
    /// Who vouches for having written it; `None` leaves open which holder of the table's key did.
    pub author: Option<&'a PrivateKey>,
}

impl<'a> Post<'a> {
    /// A post without an end or an author.
    #[must_use]
    pub const fn new(table: &'a PrivateKey, recipients: &'a [PublicKey], content: &'a Content) -> Self {
        Self { table, recipients, content, expires_after: None, author: None }
    }
}

/// Stops the work of an entry that nobody waits for any more.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Client {
    /// Seals a post, does its proof of work on all cores, and puts the entry to several nodes as [`Client::put`] does.
    ///
    /// On the default network the work takes some 30 s of one core; dropping the future stops it. An app that wants to
    /// show progress, or to go on after a restart, uses [`Draft::seal`], [`Solver`] and [`Client::put`] itself.
    ///
    /// # Errors
    /// If it cannot be sealed, or no mirror of its table can be reached. That nodes refuse the entry is no error, but in the
    /// report.
    pub async fn post(&self, post: Post<'_>) -> Result<(Entry, PutReport), ClientError> {
        let Post { table, recipients, content, expires_after, author } = post;
        let created = self.inner.clock.now();
        let expires = expires_after.map(|period| created.saturating_add(period.as_secs()));
        let draft = Draft { table, recipients, created, expires, content, author };
        let network = self.network();
        let sealed = draft.seal(&mut UnwrapErr(getrandom::SysRng), network)?;
        let solver = Solver::new(sealed.puzzle(network));
        let cancel = Cancel(Arc::default());
        let cancelled = Arc::clone(&cancel.0);
        let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let solving = tokio::task::spawn_blocking(move || solver.solve(cores, &cancelled, &|_| {}));
        // It fails only when the runtime shuts down, which ends this future too.
        let Ok(Ok(work)) = solving.await else { return Err(ClientError::Stopped) };
        let entry = sealed.finish(&work, network)?;
        let report = self.put(&entry, table.public_key()).await?;
        Ok((entry, report))
    }
}
