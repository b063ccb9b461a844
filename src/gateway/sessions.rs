//! Who may see the page: whoever opened a link that works once.
//!
//! A browser sends the cookies of 127.0.0.1 to all its ports, and so to other apps of this machine. Hence a session has a
//! path of its own that the cookie is confined to, and neither is enough without the other.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::gateway::tokens::{fresh, hex};

/// Links that were made and not opened, and browsers that opened one, at most; the oldest gives way.
const MAX_KEPT: usize = 8;

/// The name of the cookie.
pub(super) const COOKIE: &str = "p2pdb-page";

/// Links and the sessions that they became, as hashes.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    links: Vec<[u8; 32]>,
    sessions: Vec<[u8; 32]>,
}

fn keep(kept: &mut Vec<[u8; 32]>, secret: &str) {
    if kept.len() >= MAX_KEPT {
        kept.remove(0);
    }
    kept.push(Sha256::digest(secret).into());
}

/// Where in the path the session with this hash is.
fn place(hash: &[u8; 32]) -> String {
    hex(hash.first_chunk::<16>().map_or(&[], |place| &place[..]))
}

impl Sessions {
    /// The secret of a new link.
    pub(super) fn link(&self) -> Zeroizing<String> {
        let secret = fresh();
        keep(&mut self.lock().links, &secret);
        secret
    }

    /// Opens a link, once: the secret of the session that it becomes, and its place in the path.
    pub(super) fn open(&self, link: &str) -> Option<(Zeroizing<String>, String)> {
        let hash: [u8; 32] = Sha256::digest(link).into();
        let mut kept = self.lock();
        let at = kept.links.iter().position(|known| *known == hash)?;
        kept.links.remove(at);
        let secret = fresh();
        keep(&mut kept.sessions, &secret);
        let place = kept.sessions.last().map(place)?;
        Some((secret, place))
    }

    /// Whether one of the cookies of a request is that of the session at this place.
    pub(super) fn knows(&self, at: &str, cookies: &str) -> bool {
        let secrets = cookies.split(';').filter_map(|cookie| cookie.trim().split_once('='));
        let mut hashes = secrets
            .filter(|(name, _)| *name == COOKIE)
            .map(|(_, secret)| -> [u8; 32] { Sha256::digest(secret).into() });
        let kept = self.lock();
        hashes.any(|hash| place(&hash) == at && kept.sessions.contains(&hash))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_once() {
        let sessions = Sessions::default();
        let link = sessions.link();
        assert!(sessions.open("0000").is_none());
        let (session, place) = sessions.open(&link).unwrap();
        assert!(sessions.open(&link).is_none());
        let good = format!("a=b; {COOKIE}={}", *session);
        assert!(sessions.knows(&place, &good));
        assert!(!sessions.knows("", &good) && !sessions.knows(&session, &good));
        for bad in ["", "=", &format!("{COOKIE}={}", *link), &format!("other={}", *session)] {
            assert!(!sessions.knows(&place, bad), "{bad}");
        }
    }

    #[test]
    fn the_oldest_give_way() {
        let sessions = Sessions::default();
        let links: Vec<_> = (0..=MAX_KEPT).map(|_| sessions.link()).collect();
        assert!(sessions.open(&links[0]).is_none());
        assert!(sessions.open(&links[1]).is_some());
    }
}
