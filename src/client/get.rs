//! Gets entries from several nodes, checks each of them, and merges.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;
use lru::LruCache;
use p2pdb_protocol::{
    entry::{Entry, UnverifiedEntry},
    filter::{Cursor, Filter},
    id::{EntryId, TableId},
    keys::PublicKey,
    limits,
    message::get::Get,
    refusal::Refusal,
};
use sha2::{Digest as _, Sha256};

use crate::{
    client::{Client, ClientError},
    swarm::{Conduct, RequestError},
};

/// Pages without an entry, one after the other, after which a node has nothing more that is worth the wait.
pub const MAX_EMPTY_PAGES: u32 = 64;
/// A node that takes longer than this for all its pages is left behind.
const NODE_DEADLINE: Duration = Duration::from_secs(60);

/// Parsed table keys that are kept.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Parsed keys of tables.
pub(super) type Keys = LruCache<TableId, PublicKey>;

pub(super) fn no_keys() -> Mutex<Keys> {
    Mutex::new(LruCache::new(MAX_KEYS))
}

/// A page of verified entries of one node.
#[derive(Debug)]
pub(crate) struct Page {
    /// The entries, in the order in which they arrived at the node.
    pub(crate) entries: Vec<Entry>,
    /// Entries that the node served, those left out included.
    pub(crate) served: usize,
    /// Continues behind everything that the node looked at.
    pub(crate) next: Cursor,
    /// Whether the node may have a further page already.
    pub(crate) more: bool,
}

/// A node that did not answer.
#[derive(Debug)]
pub struct NodeError {
    /// The node.
    pub node: PeerId,
    /// Why.
    pub error: RequestError,
}

/// What several nodes have together.
#[derive(Debug)]
pub struct Fetched {
    /// The entries, each verified and once, by creation time and id.
    pub entries: Vec<Entry>,
    /// The nodes that answered.
    pub nodes: Vec<PeerId>,
    /// The nodes that did not.
    pub failed: Vec<NodeError>,
}

impl Client {
    /// What the nodes have that passes the filter: at most `filter.limit` of each node, verified and merged.
    ///
    /// # Errors
    /// If no node can be reached, or none answers, or the filter has a cursor, which means something to one node
    /// only.
    pub async fn get(&self, filter: &Filter) -> Result<Fetched, ClientError> {
        if filter.cursor.is_some() {
            return Err(ClientError::CursorWithoutNode);
        }
        let nodes = self.nodes(&filter.tables, self.inner.nodes).await?;
        let gets = nodes.into_iter().map(|node| async move {
            let got = tokio::time::timeout(NODE_DEADLINE, self.get_all(node, filter)).await;
            (node, got.unwrap_or(Err(ClientError::Request(RequestError::Timeout))))
        });
        let mut merged: BTreeMap<(u64, EntryId), Entry> = BTreeMap::new();
        let (mut answered, mut failed) = (Vec::new(), Vec::new());
        for (node, result) in futures::future::join_all(gets).await {
            match result {
                Ok(entries) => {
                    answered.push(node);
                    merged.extend(entries.into_iter().map(|e| ((e.header().created, e.id()), e)));
                }
                Err(ClientError::Request(error)) => failed.push(NodeError { node, error }),
                Err(other) => return Err(other),
            }
        }
        if answered.is_empty()
            && let Some(NodeError { error, .. }) = failed.pop()
        {
            return Err(ClientError::Request(error));
        }
        Ok(Fetched { entries: merged.into_values().collect(), nodes: answered, failed })
    }

    /// Pages through what one node has that passes the filter, up to `filter.limit` entries.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn get_all(&self, node: PeerId, filter: &Filter) -> Result<Vec<Entry>, ClientError> {
        let mut filter = filter.clone();
        let mut entries = Vec::new();
        let mut empty_pages = 0;
        loop {
            let page = self.page(node, &filter, |_| false).await?;
            filter.limit = filter.limit.saturating_sub(page.entries.len());
            empty_pages = if page.served == 0 { empty_pages + 1 } else { 0 };
            entries.extend(page.entries);
            let progress = filter.cursor.is_none_or(|cursor| cursor.arrival < page.next.arrival);
            if !page.more || filter.limit == 0 || !progress || empty_pages == MAX_EMPTY_PAGES {
                return Ok(entries);
            }
            filter.cursor = Some(page.next);
        }
    }

    /// One page of one node, verified, without those that are `known` already, from `filter.cursor` on, which has to be
    /// one of this node. Entries that do not verify, or do not pass the filter, are left out, and count against the node.
    pub(crate) async fn page(
        &self,
        node: PeerId,
        filter: &Filter,
        known: impl Fn(&EntryId) -> bool + Send + 'static,
    ) -> Result<Page, ClientError> {
        let mut request = filter.clone();
        request.limit = filter.limit.clamp(1, limits::MAX_GET_ENTRIES);
        let request = request.to_request()?;
        let response = self.inner.swarm.request::<Get>(node, request).await?;
        let keys: Vec<PublicKey> = response.keys.iter().filter_map(|der| self.parsed(der)).collect();
        let encoded: Vec<Bytes> = response.entries.into_iter().map(|(_, entry)| entry.into_inner()).collect();
        let served = encoded.len();
        let network = self.inner.network.clone();
        let wanted = filter.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let verify = |encoded: Bytes| -> Result<Option<Entry>, Refusal> {
                let entry = UnverifiedEntry::decode(encoded, &network)?;
                if !wanted.matches(&entry.id(), entry.header(), &network) {
                    return Err(Refusal::Malformed);
                }
                if known(&entry.id()) {
                    return Ok(None);
                }
                let entry = entry.check_work(&network)?;
                let table = entry.header().table;
                let key = keys.iter().find(|key| key.table_id() == table).ok_or(Refusal::TableKeyMissing)?;
                entry.verify(key).map(Some)
            };
            encoded.into_iter().filter_map(|encoded| verify(encoded).transpose()).collect::<Vec<_>>()
        });
        let verified = verified.await.map_err(|e| RequestError::Invalid(e.to_string()))?;
        let mut entries = Vec::with_capacity(verified.len());
        for result in verified {
            match result {
                Ok(entry) => entries.push(entry),
                Err(refusal) => {
                    tracing::warn!(%node, reason = refusal.name(), "a node served what it was not asked for");
                    self.inner.swarm.report(node, Conduct::Misbehaviour).await;
                }
            }
        }
        Ok(Page { entries, served, next: response.next, more: response.more })
    }

    /// A table's key; parsing one costs more than verifying a signature with it.
    fn parsed(&self, der: &[u8]) -> Option<PublicKey> {
        let id = TableId::from_bytes(Sha256::digest(der).into());
        if let Some(key) = lock(&self.inner.keys).get(&id) {
            return Some(key.clone());
        }
        let key = PublicKey::from_der(der).ok()?;
        lock(&self.inner.keys).put(id, key.clone());
        Some(key)
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
