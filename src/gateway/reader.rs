//! Opens entries for apps, and remembers a bounded number of those opened: RSA is what a query would cost otherwise.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use data_encoding::BASE64;
use lru::LruCache;
use p2pdb_protocol::{
    entry::Entry,
    id::{RecipientId, TableId},
    keys::PrivateKey,
    network::Network,
    seal::{self, Opened},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::gateway::{
    content::ContentJson,
    keys::{KeyShown, Keys},
    spaces::Space,
};

/// Opened entries that are remembered, at most.
const MAX_OPENED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();
/// What they may take in memory together, about, in bytes.
const MAX_OPENED_BYTES: usize = 64 << 20;
/// What an opened entry takes besides its content, and each of the keys that it names, about, in bytes.
const OVERHEAD: usize = 512;
const OF_KEY: usize = 192;

/// An entry as apps see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(super) struct EntryShown {
    /// Its id, `p2entry1...`.
    pub(super) id: String,
    /// When its poster claims to have made it, in unix seconds.
    created: u64,
    /// When nodes may drop it, in unix seconds; absent: when they have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    /// Who can read it.
    recipients: Vec<KeyShown>,
    /// Its length on the wire, in bytes.
    bytes: usize,
    /// What it says; absent if none of the daemon's keys opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<ContentJson>,
    /// The key that opened it; a key that comes with the space's card has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_by: Option<KeyShown>,
    /// Who wrote it, verified; absent if nobody signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<KeyShown>,
    /// The whole entry as nodes have it, in base64; only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

/// Table, the recipient whose key came with the card, and arrival, whose number is never given twice: another card may open
/// other entries of the same table.
type Key = (TableId, Option<RecipientId>, u64);

#[derive(Debug)]
struct Cache {
    opened: LruCache<Key, Arc<EntryShown>>,
    bytes: usize,
}

/// Opens entries.
#[derive(Debug)]
pub(super) struct Reader {
    keys: Arc<Keys>,
    network: Network,
    cache: Mutex<Cache>,
}

impl Reader {
    pub(super) fn new(keys: Arc<Keys>, network: Network) -> Self {
        let cache = Cache { opened: LruCache::new(MAX_OPENED), bytes: 0 };
        Self { keys, network, cache: Mutex::new(cache) }
    }

    /// Entries of the mirror, opened as far as the daemon has the keys. Blocks for about a millisecond for each that is
    /// not remembered. One that does not decode is left out: the disk is damaged, and the log says so.
    pub(super) fn open_stored(&self, entries: &[(u64, Bytes)], space: &Space) -> Vec<(u64, Arc<EntryShown>)> {
        let (table, shared) = (space.table(), space.shared_reader());
        let open = |(arrival, encoded): &(u64, Bytes)| {
            let key = (table, shared, *arrival);
            let remembered = self.lock().opened.get(&key).cloned();
            let shown = match remembered {
                Some(shown) => shown,
                None => {
                    let entry = Entry::from_trusted(encoded.clone(), &self.network)
                        .inspect_err(|error| tracing::error!(arrival, %error, "an entry is passed over"))
                        .ok()?;
                    let shown = Arc::new(self.open(&entry, space));
                    self.remember(key, &shown);
                    shown
                }
            };
            Some((*arrival, shown))
        };
        entries.iter().filter_map(open).collect()
    }

    /// An entry, opened if the daemon has a key of it.
    pub(super) fn open(&self, entry: &Entry, space: &Space) -> EntryShown {
        let header = entry.header();
        let recipients = || header.recipients.iter().map(|wrapped| wrapped.recipient);
        let own = recipients().find_map(|recipient| self.keys.by_id(&recipient)?.private.as_ref());
        let shared = space.card.recipient_private.as_ref();
        let key =
            own.or_else(|| shared.filter(|key| recipients().any(|id| id == key.public_key().recipient_id())));
        let opened = key.and_then(|key| Some((key, Self::open_with(entry, key)?)));
        let mut shown = EntryShown {
            id: entry.id().to_string(),
            created: header.created,
            expires: header.expires,
            recipients: recipients().map(|recipient| self.keys.shown(&recipient)).collect(),
            bytes: entry.encoded().len(),
            content: None,
            opened_by: None,
            author: None,
            raw: None,
        };
        if let Some((key, opened)) = opened {
            shown.opened_by = Some(self.keys.shown(&key.public_key().recipient_id()));
            shown.author = opened.author.map(|author| self.keys.shown(&author.recipient_id()));
            shown.content = Some(ContentJson::of(opened.content));
        }
        shown
    }

    fn open_with(entry: &Entry, key: &PrivateKey) -> Option<Opened> {
        // Whoever may post can post rubbish, which is shown as not readable.
        seal::open(entry, key)
            .inspect_err(|error| tracing::debug!(id = %entry.id(), %error, "an entry does not open"))
            .ok()
    }

    fn remember(&self, key: Key, shown: &Arc<EntryShown>) {
        let mut cache = self.lock();
        if let Some((_, old)) = cache.opened.push(key, Arc::clone(shown)) {
            cache.bytes = cache.bytes.saturating_sub(size(&old));
        }
        cache.bytes += size(shown);
        while cache.bytes > MAX_OPENED_BYTES
            && let Some((_, old)) = cache.opened.pop_lru()
        {
            cache.bytes = cache.bytes.saturating_sub(size(&old));
        }
    }

    /// How many entries are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.lock().opened.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(shown: &EntryShown) -> usize {
    shown.content.as_ref().map_or(0, ContentJson::size) + OVERHEAD + OF_KEY * shown.recipients.len()
}

impl EntryShown {
    /// The beginning of what it says, if it can be read.
    pub(super) fn excerpt(&self, characters: usize) -> Option<String> {
        self.content.as_ref().map(|content| content.excerpt(characters))
    }

    /// The same, with the whole entry as nodes have it.
    pub(super) fn with_raw(&self, encoded: &[u8]) -> Self {
        Self { raw: Some(BASE64.encode(encoded)), ..self.clone() }
    }
}
