//! Who may ask the daemon what: the owner with the token of this start, apps with tokens of their own.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    sync::{Arc, PoisonError, RwLock},
};

use rand_core::{Rng as _, UnwrapErr};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::gateway::{
    problem::{Kind, Problem},
    state::{State, StateError},
};

/// App tokens at the same time, at most.
const MAX_TOKENS: usize = 256;

/// What a token permits in its spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Permission {
    /// Reading entries, indexes and changes.
    Get,
    /// Posting entries, and looking after their jobs.
    Put,
    /// Signing entries as their author.
    Sign,
    /// Answering the login challenges of its origin.
    Login,
}

/// An app's token as it is kept: its hash stands for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AppToken {
    /// SHA-256 of the token, in hex.
    pub(super) hash: String,
    /// What the owner calls the app.
    pub(super) name: String,
    /// The spaces it is for.
    pub(super) spaces: BTreeSet<String>,
    /// What it permits there.
    pub(super) may: BTreeSet<Permission>,
    /// The origin whose login challenges it permits to answer.
    pub(super) origin: Option<String>,
    /// When it was made, in unix seconds.
    pub(super) created: u64,
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Access {
    /// The owner: everything.
    Owner,
    /// An app: what its token says.
    App(AppToken),
}

impl Access {
    /// Fails unless this may be done in this space.
    pub(super) fn permit(&self, permission: Permission, space: &str) -> Result<(), Problem> {
        let Self::App(token) = self else { return Ok(()) };
        if !token.spaces.contains(space) {
            // Which spaces there are is nothing an app is told.
            return Err(Problem::not_found("space", space, "use a space that the app's token is for"));
        }
        if !token.may.contains(&permission) {
            let detail = format!("the token of {} does not permit {permission:?} in {space}", token.name);
            return Err(Problem::new(Kind::OutOfScope, detail, "let the owner make a token that does"));
        }
        Ok(())
    }

    /// Fails unless it is the owner.
    pub(super) fn permit_owner(&self) -> Result<(), Problem> {
        match self {
            Self::Owner => Ok(()),
            Self::App(token) => Err(Problem::new(
                Kind::OutOfScope,
                format!("the token of {} is an app's", token.name),
                "only the owner may do this, with the token in the file beside the daemon's URL",
            )),
        }
    }

    /// Whether this space may be known to who asks.
    pub(super) fn sees(&self, space: &str) -> bool {
        match self {
            Self::Owner => true,
            Self::App(token) => token.spaces.contains(space),
        }
    }

    /// Keeps the idempotency keys and jobs of apps apart; empty for the owner.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Owner => "",
            Self::App(token) => &token.name,
        }
    }
}

/// All tokens, found by their hashes: comparing those tells nothing about a token by the time it takes.
#[derive(Debug)]
pub(super) struct Tokens {
    owner: [u8; 32],
    apps: RwLock<HashMap<[u8; 32], Arc<Access>>>,
    state: State,
}

impl Tokens {
    /// The tokens of the apps, and a new one for the owner, which is returned too.
    pub(super) fn open(state: State) -> Result<(Self, Zeroizing<String>), StateError> {
        let owner = fresh();
        let mut apps = HashMap::new();
        for token in state.tokens()? {
            apps.extend(parse_hash(&token.hash).map(|hash| (hash, Arc::new(Access::App(token)))));
        }
        Ok((Self { owner: hash(&owner), apps: RwLock::new(apps), state }, owner))
    }

    /// Who has this token.
    pub(super) fn access(&self, token: &str) -> Option<Arc<Access>> {
        let hash = hash(token);
        if hash == self.owner {
            return Some(Arc::new(Access::Owner));
        }
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }

    /// Whether a token that was valid still is.
    pub(super) fn is_valid(&self, access: &Arc<Access>) -> bool {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        matches!(**access, Access::Owner) || apps.values().any(|valid| Arc::ptr_eq(valid, access))
    }

    /// The apps' tokens, by name.
    pub(super) fn all(&self) -> Vec<AppToken> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        let token = |access: &Arc<Access>| match &**access {
            Access::App(token) => Some(token.clone()),
            Access::Owner => None,
        };
        let mut tokens: Vec<_> = apps.values().filter_map(token).collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    /// Makes a token, which nobody is told a second time; one of the same name stops being valid. Blocks.
    pub(super) fn make(&self, mut token: AppToken) -> Result<Zeroizing<String>, Problem> {
        let secret = fresh();
        let hash = hash(&secret);
        token.hash = hex(&hash);
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        if apps.len() >= MAX_TOKENS && !apps.values().any(|access| access.name() == token.name) {
            let detail = format!("there are {MAX_TOKENS} app tokens already");
            return Err(Problem::new(Kind::Conflict, detail, "remove one with DELETE /v1/tokens/NAME"));
        }
        self.state.keep_token(&token).map_err(|error| Problem::internal(&error))?;
        apps.retain(|_, access| access.name() != token.name);
        apps.insert(hash, Arc::new(Access::App(token)));
        Ok(secret)
    }

    /// Makes the app's token invalid; whether there was one. Blocks.
    pub(super) fn remove(&self, name: &str) -> Result<bool, StateError> {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        self.state.remove_token(name)?;
        let before = apps.len();
        apps.retain(|_, access| access.name() != name);
        Ok(apps.len() < before)
    }
}

/// 256 random bits, in hex.
pub(super) fn fresh() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    UnwrapErr(getrandom::SysRng).fill_bytes(&mut *bytes);
    Zeroizing::new(hex(&*bytes))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}
