//! Spaces: the table cards of the home under the names that apps are pointed at.
//!
//! Another card under the same name is another table: an app that is pointed at the space has forked.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use p2pdb_protocol::{
    card::TableCard,
    id::{RecipientId, TableId},
    keys::PrivateKey,
    network::Network,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{
        Home, HomeError, Name,
        home::{self, Overwrite},
    },
    gateway::problem::{Kind, Problem},
};

/// Spaces at the same time, at most: each is followed.
const MAX_SPACES: usize = 256;

/// How often it is looked whether `p2pdb table` has changed cards.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A table under a name.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) name: Name,
    pub(super) card: TableCard,
    /// SHA-256 of the card's text.
    digest: [u8; 32],
}

impl Space {
    /// Whether it has the same card as another one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    pub(super) fn table(&self) -> TableId {
        self.card.table_public.table_id()
    }

    /// The recipient whose private key came with the card.
    pub(super) fn shared_reader(&self) -> Option<RecipientId> {
        self.card.recipient_private.as_ref().map(|key| key.public_key().recipient_id())
    }

    /// The key to post with.
    pub(super) fn posting_key(&self) -> Result<&PrivateKey, Problem> {
        self.card.table_private.as_ref().ok_or_else(|| {
            let detail = format!("the card of {} does not let its holder post", self.name);
            let fix = "ask for a card made with `p2pdb table share NAME --with post`, and import that";
            Problem::new(Kind::Unfit, detail, fix)
        })
    }
}

/// The spaces of a home.
#[derive(Debug)]
pub(super) struct Spaces {
    home: Home,
    network: Network,
    spaces: RwLock<BTreeMap<Name, Arc<Space>>>,
    changed: watch::Sender<()>,
}

/// Why a card is not one of this home.
fn foreign(card: &TableCard, network: &Network) -> Option<Problem> {
    let theirs = &card.network.network;
    (theirs != network).then(|| {
        let detail = format!(
            "the card is of the network {} ({}), the daemon is on {} ({})",
            theirs.name,
            theirs.id(),
            network.name,
            network.id()
        );
        Problem::new(Kind::Unfit, detail, "run a daemon on a home of that network, made with `p2pdb init`")
    })
}

impl Spaces {
    /// Reads the cards of the home. One that cannot be used is left out with a warning: the others still can.
    pub(super) fn open(home: Home, network: Network) -> Result<Self, HomeError> {
        let spaces = Self { home, network, spaces: RwLock::default(), changed: watch::Sender::default() };
        spaces.reload()?;
        Ok(spaces)
    }

    /// Reads the cards again: `p2pdb table` may have changed them meanwhile. Blocks.
    pub(super) fn reload(&self) -> Result<(), HomeError> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a card that is put meanwhile would be missing from the list, and its space gone until the next time.
        let names = self.home.table_names()?;
        let mut found = BTreeMap::new();
        for name in names.into_iter().take(MAX_SPACES) {
            match self.load(&name, spaces.get(&name)) {
                Ok(space) => _ = found.insert(name, space),
                Err(reason) => tracing::warn!(%name, reason, "a table card is left out"),
            }
        }
        let same = |(a, b): (&Arc<Space>, &Arc<Space>)| Arc::ptr_eq(a, b);
        let is_news = spaces.len() != found.len() || !spaces.values().zip(found.values()).all(same);
        *spaces = found;
        drop(spaces);
        if is_news {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// The space of this name as its card says now; the one `before` if the card is the same.
    fn load(&self, name: &Name, before: Option<&Arc<Space>>) -> Result<Arc<Space>, String> {
        let secret = home::read_secret(&self.home.table(name)).map_err(|error| error.to_string())?;
        let digest = Sha256::digest(&*secret).into();
        if let Some(same) = before.filter(|before| before.digest == digest) {
            return Ok(Arc::clone(same));
        }
        let text = std::str::from_utf8(&secret).map_err(|_| "expected a text file in UTF-8".to_owned())?;
        let card = TableCard::parse(text).map_err(|error| error.to_string())?;
        match foreign(&card, &self.network) {
            Some(problem) => Err(problem.detail().to_owned()),
            None => Ok(Arc::new(Space { name: name.clone(), card, digest })),
        }
    }

    /// Reads the cards again when they have changed, until `shutdown`.
    pub(super) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        let mut before = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => {}
            }
            // Cards are written beside their place and moved there, so that the directory changes with them.
            let modified = fs::metadata(self.home.tables()).and_then(|tables| tables.modified()).ok();
            if std::mem::replace(&mut before, modified) == modified {
                continue;
            }
            let spaces = Arc::clone(&self);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || spaces.reload()).await {
                tracing::warn!(%error, "the table cards cannot be read");
            }
        }
    }

    /// Says when spaces come, go or get another table.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn all(&self) -> Vec<Arc<Space>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The space with this name.
    pub(super) fn find(&self, text: &str) -> Result<Arc<Space>, Problem> {
        let name = text.parse::<Name>().ok();
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        name.and_then(|name| spaces.get(&name).cloned()).ok_or_else(|| {
            Problem::not_found(
                "space",
                text,
                "list the spaces with GET /v1/spaces, or import a card under this name",
            )
        })
    }

    /// Imports a card under a name; one that is there is replaced. Blocks.
    pub(super) fn put(&self, name: &Name, card: &str) -> Result<Arc<Space>, Problem> {
        let card = TableCard::parse(card)
            .map_err(|error| Problem::new(Kind::Unfit, error.to_string(), "send the text of a table card"))?;
        if let Some(problem) = foreign(&card, &self.network) {
            return Err(problem);
        }
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        if spaces.len() >= MAX_SPACES && !spaces.contains_key(name) {
            let detail = format!("there are {MAX_SPACES} spaces already");
            return Err(Problem::new(Kind::Conflict, detail, "remove one with DELETE /v1/spaces/NAME"));
        }
        let table = card.table_public.table_id();
        if let Some(other) = spaces.values().find(|space| space.table() == table && space.name != *name) {
            let detail = format!("the table is in the daemon already, as the space {}", other.name);
            return Err(Problem::new(Kind::Conflict, detail, "use that space, or remove it first"));
        }
        let text = card.to_toml().map_err(|error| Problem::internal(&error))?;
        home::write_secret(&self.home.table(name), text.as_bytes(), Overwrite::Yes)
            .map_err(|error| Problem::internal(&error))?;
        let digest = Sha256::digest(text.as_bytes()).into();
        let space = Arc::new(Space { name: name.clone(), card, digest });
        spaces.insert(name.clone(), Arc::clone(&space));
        drop(spaces);
        self.changed.send_replace(());
        Ok(space)
    }

    /// Removes the card of a space; what the mirror has of its table stays until it is swept. Blocks.
    pub(super) fn remove(&self, name: &Name) -> Result<(), Problem> {
        self.find(name.as_ref())?;
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        fs::remove_file(self.home.table(name)).map_err(|error| Problem::internal(&error))?;
        spaces.remove(name);
        drop(spaces);
        self.changed.send_replace(());
        Ok(())
    }
}
