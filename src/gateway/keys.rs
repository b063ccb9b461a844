//! The RSA keys that the daemon opens, signs and logs in with.

use std::collections::{BTreeMap, HashMap};

use p2pdb_protocol::{
    id::RecipientId,
    keys::{PrivateKey, PublicKey},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    config::Name,
    gateway::problem::{Kind, Problem},
};

/// A key under the name that its owner calls it by.
#[derive(Debug, Clone)]
pub struct NamedKey {
    /// Its name in the home.
    pub name: Name,
    /// The public half.
    pub public: PublicKey,
    /// The private half, unlocked; none if it is the key of somebody else.
    pub private: Option<PrivateKey>,
}

/// Every key of the home.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_name: BTreeMap<Name, NamedKey>,
    by_id: HashMap<RecipientId, Name>,
}

/// A key as apps see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct KeyShown {
    /// Its id, `p2key1...`.
    pub(super) id: String,
    /// What the user calls it; absent if he does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

impl Keys {
    pub(super) fn new(keys: Vec<NamedKey>) -> Self {
        let by_id = keys.iter().map(|key| (key.public.recipient_id(), key.name.clone())).collect();
        Self { by_name: keys.into_iter().map(|key| (key.name.clone(), key)).collect(), by_id }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &NamedKey> {
        self.by_name.values()
    }

    /// The key with this name or id.
    pub(super) fn find(&self, text: &str) -> Result<&NamedKey, Problem> {
        let found = match text.parse::<RecipientId>() {
            Ok(id) => self.by_id(&id),
            Err(_) => text.parse::<Name>().ok().and_then(|name| self.by_name.get(&name)),
        };
        found.ok_or_else(|| {
            Problem::not_found("key", text, "list the keys with GET /v1/keys, or `p2pdb key import` it")
        })
    }

    pub(super) fn by_id(&self, id: &RecipientId) -> Option<&NamedKey> {
        self.by_id.get(id).and_then(|name| self.by_name.get(name))
    }

    /// The private half of a key.
    pub(super) fn private(&self, text: &str) -> Result<&PrivateKey, Problem> {
        self.find(text)?.private.as_ref().ok_or_else(|| {
            let detail = format!("of the key {text} the daemon has the public half only");
            Problem::new(Kind::Unfit, detail, "name a key of your own")
        })
    }

    pub(super) fn shown(&self, id: &RecipientId) -> KeyShown {
        KeyShown { id: id.to_string(), name: self.by_id.get(id).map(Name::to_string) }
    }
}
