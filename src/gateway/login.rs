//! Login by recipient key: whoever can open a challenge for a key has the key.
//!
//! An app encrypts a challenge to the public key that somebody claims to have, under the OAEP label
//! `p2pdb-login-v1|ORIGIN`. The label is not in any entry's wrapped key, so that the daemon cannot be made to open entries
//! for an app; and it names the app, so that no app can pass on the challenge of another.
//!
//! The challenge is the time in 8 bytes, big-endian unix seconds, and 32 random bytes; the answer is SHA-256 over
//! `p2pdb login answer v1` and the 40 bytes: it shows that the challenge was opened and is good for nothing else.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;
use p2pdb_protocol::keys::PrivateKey;
use sha2::{Digest as _, Sha256};

use crate::gateway::problem::{Kind, Problem};

/// A challenge that is older is stale, and so is one from further in the future, in seconds.
pub(super) const MAX_AGE: u64 = 120;
/// Challenges within [`MAX_AGE`] that are remembered as answered. Further ones are refused until some are stale.
const MAX_ANSWERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Length of a challenge, in bytes.
const CHALLENGE_BYTES: usize = 40;

/// The challenges that were answered lately, with their times.
#[derive(Debug)]
pub(super) struct Answered(Mutex<LruCache<[u8; 32], u64>>);

impl Default for Answered {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_ANSWERED)))
    }
}

/// The OAEP label of the challenges of an origin.
fn label(origin: &str) -> Vec<u8> {
    [b"p2pdb-login-v1|", origin.as_bytes()].concat()
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::BadChallenge, detail, "get a fresh challenge from the app that you want to log in to")
}

impl Answered {
    /// The answer to a challenge for this key and origin. Each is answered once. Takes about a millisecond.
    pub(super) fn answer(
        &self,
        key: &PrivateKey,
        origin: &str,
        challenge: &[u8],
        now: u64,
    ) -> Result<[u8; 32], Problem> {
        let opened = key.decrypt(&label(origin), challenge).map_err(|_| {
            refused("the challenge was not made for this key and this origin, or was altered")
        })?;
        let issued = opened.first_chunk::<8>().filter(|_| opened.len() == CHALLENGE_BYTES);
        let Some(issued) = issued.map(|bytes| u64::from_be_bytes(*bytes)) else {
            return Err(refused("the challenge has a wrong form"));
        };
        if now.abs_diff(issued) > MAX_AGE {
            return Err(refused(
                "the challenge is stale, or the clock of the app or of this machine is wrong",
            ));
        }
        let answer: [u8; 32] =
            Sha256::new().chain_update("p2pdb login answer v1").chain_update(&*opened).finalize().into();
        let mut answered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.contains(&answer) {
            return Err(refused("the challenge was answered before"));
        }
        // Those that leave first were answered first: while the oldest could be replayed, nothing may push it out.
        if answered.len() == MAX_ANSWERED.get()
            && answered.peek_lru().is_some_and(|(_, issued)| now.abs_diff(*issued) <= MAX_AGE)
        {
            return Err(Problem::new(Kind::Busy, "too many logins at once", "try again in two minutes"));
        }
        answered.put(answer, issued);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use rand_core::UnwrapErr;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key() -> &'static PrivateKey {
        static KEY: OnceLock<PrivateKey> = OnceLock::new();
        KEY.get_or_init(|| PrivateKey::generate(&mut UnwrapErr(getrandom::SysRng), 2048).unwrap())
    }

    fn encrypted(label: &[u8], plain: &[u8]) -> Vec<u8> {
        key().public_key().encrypt(&mut UnwrapErr(getrandom::SysRng), label, plain).unwrap()
    }

    fn challenge(origin: &str, issued: u64) -> Vec<u8> {
        encrypted(&label(origin), &[&issued.to_be_bytes()[..], &[7; 32]].concat())
    }

    #[test]
    fn a_challenge_is_answered_once() {
        let answered = Answered::default();
        let challenge = challenge("http://forum.example", NOW);
        let answer = answered.answer(key(), "http://forum.example", &challenge, NOW).unwrap();
        let expected = Sha256::new()
            .chain_update("p2pdb login answer v1")
            .chain_update(NOW.to_be_bytes())
            .chain_update([7; 32])
            .finalize();
        assert_eq!(answer[..], expected[..]);
        let again = answered.answer(key(), "http://forum.example", &challenge, NOW).unwrap_err();
        assert_eq!(again.detail(), "the challenge was answered before");
    }

    #[test]
    fn foreign_and_stale_challenges_and_wrapped_keys_fail() {
        let answered = Answered::default();
        let own = "http://forum.example";
        for (bad, what) in [
            (challenge("http://evil.example", NOW), "another origin"),
            (challenge(own, NOW - MAX_AGE - 1), "stale"),
            (challenge(own, NOW + MAX_AGE + 1), "of the future"),
            (encrypted(&label(own), &[0; 32]), "of another form"),
            (encrypted(b"p2pdb content key v1", &[0; 40]), "the content key of an entry"),
            (vec![0; 256], "noise"),
            (Vec::new(), "nothing"),
        ] {
            assert_eq!(
                answered.answer(key(), own, &bad, NOW).unwrap_err().kind(),
                Kind::BadChallenge,
                "{what}"
            );
        }
        for issued in [NOW - MAX_AGE, NOW + MAX_AGE] {
            assert!(answered.answer(key(), own, &challenge(own, issued), NOW).is_ok());
        }
    }
}
