//! Spaces: the table cards of the home under the names that apps are pointed at.
//!
//! Another card under the same name is another table: an app that is pointed at the space has forked.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, PoisonError, RwLock},
};

use p2pdb_protocol::{card::TableCard, id::TableId, keys::PrivateKey, network::Network};
use tokio::sync::watch;

use crate::{
    config::{
        Home, HomeError, Name,
        home::{self, Overwrite},
    },
    gateway::problem::{Kind, Problem},
};

/// Spaces at the same time, at most: each is followed.
const MAX_SPACES: usize = 256;

/// A table under a name.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) name: Name,
    pub(super) card: TableCard,
}

impl Space {
    pub(super) fn table(&self) -> TableId {
        self.card.table_public.table_id()
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
        let mut found = BTreeMap::new();
        for name in self.home.table_names()?.into_iter().take(MAX_SPACES) {
            match self.load(&name) {
                Ok(card) => _ = found.insert(name.clone(), Arc::new(Space { name, card })),
                Err(reason) => tracing::warn!(%name, reason, "a table card is left out"),
            }
        }
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let tables = |spaces: &BTreeMap<Name, Arc<Space>>| -> Vec<_> {
            spaces.iter().map(|(name, space)| (name.clone(), space.table())).collect()
        };
        let is_news = tables(&spaces) != tables(&found);
        *spaces = found;
        drop(spaces);
        if is_news {
            self.changed.send_replace(());
        }
        Ok(())
    }

    fn load(&self, name: &Name) -> Result<TableCard, String> {
        let secret = home::read_secret(&self.home.table(name)).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&secret).map_err(|_| "expected a text file in UTF-8".to_owned())?;
        let card = TableCard::parse(text).map_err(|error| error.to_string())?;
        foreign(&card, &self.network).map_or(Ok(card), |problem| Err(problem.detail().to_owned()))
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
        let space = Arc::new(Space { name: name.clone(), card });
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
