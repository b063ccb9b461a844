//! When to reconcile with whom.

use std::{collections::BTreeMap, time::Duration};

use rand_core::Rng;

use crate::reconcile::{Report, Verdict};

#[cfg(test)]
mod tests;

/// Mean time between two rounds with a random peer; each waits half of it to one and a half times it.
pub const PERIOD: Duration = Duration::from_secs(30);
/// Shortest time between two beginnings with the same peer, whatever the reason.
pub const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Peers with which to reconcile at the same time.
pub const MAX_RUNNING: usize = 4;
/// The first time that a peer is avoided; it doubles with every further useless session.
pub const FIRST_BACK_OFF: Duration = Duration::from_secs(30);
/// The longest time that a peer is avoided.
pub const MAX_BACK_OFF: Duration = Duration::from_secs(24 * 3600);
/// The longest time that a peer is avoided which could not be reached, unless it asks for more.
pub const MAX_FAILED_BACK_OFF: Duration = Duration::from_secs(600);
/// The longest time that a peer is avoided which only had nothing new.
pub const MAX_QUIET_BACK_OFF: Duration = Duration::from_secs(3600);
/// Bytes per second that sessions with one peer may cost on average when nothing comes of them.
pub const QUIET_RATE: u64 = 16 << 10;
/// Peers remembered although they are not connected: those to be avoided still, else a liar would only have to reconnect.
pub const MAX_DISCONNECTED: usize = 1024;

/// Says with which peer to reconcile next: on connecting, when something shows that a peer has more, and periodically
/// with a random one. `P` identifies a peer. Connected peers are bounded by the connection limits of the node.
///
/// A peer is avoided for a while by what came of the last session ([`Verdict`]):
///
/// | Verdict | Wait | Back-off level |
/// |---|---|---|
/// | useful | none; goes on at once if it was cut | to 0 |
/// | quiet | what it cost, at [`QUIET_RATE`], up to [`MAX_QUIET_BACK_OFF`] | one down |
/// | failed | as useless, up to [`MAX_FAILED_BACK_OFF`] or until it connects anew; or what the peer asked for | one up |
/// | useless | [`FIRST_BACK_OFF`], doubled for each level, up to [`MAX_BACK_OFF`] | one up |
/// | misbehaved | [`MAX_BACK_OFF`] | stays |
///
/// `now` is the time since any fixed moment, the same for all calls.
#[derive(Debug)]
pub struct Schedule<P> {
    peers: BTreeMap<P, Peer>,
    running: usize,
    period: Duration,
    next_round: Duration,
}

#[derive(Debug, Default)]
struct Peer {
    connected: bool,
    running: bool,
    /// Since when there is a reason to reconcile.
    wanted: Option<Duration>,
    last_begin: Option<Duration>,
    not_before: Duration,
    /// Until when it is avoided since it could not be reached: a new connection may reach it.
    unreachable_until: Duration,
    /// The running session began before the newest connection was there.
    reconnected: bool,
    level: u32,
}

impl Peer {
    fn free_at(&self) -> Duration {
        let interval = self.last_begin.map_or(Duration::ZERO, |last| last.saturating_add(MIN_INTERVAL));
        interval.max(self.avoided_until())
    }

    fn avoided_until(&self) -> Duration {
        self.not_before.max(self.unreachable_until)
    }

    /// When the wanted session may begin.
    fn due_at(&self) -> Option<Duration> {
        let wanted = self.wanted.filter(|_| self.connected && !self.running)?;
        Some(wanted.max(self.free_at()))
    }

    /// There is a connection that nothing has failed on.
    fn connects_anew(&mut self) {
        self.reconnected = self.running;
        self.unreachable_until = Duration::ZERO;
    }

    /// How long to avoid the peer now; twice as long the next time, up to a longest.
    fn back_off(&mut self, longest: Duration) -> Duration {
        let wait = FIRST_BACK_OFF.saturating_mul(1_u32.checked_shl(self.level).unwrap_or(u32::MAX));
        if wait < longest {
            self.level += 1;
        }
        wait.min(longest)
    }

    fn is_free(&self, now: Duration) -> bool {
        self.connected && !self.running && self.free_at() <= now
    }
}

impl<P: Ord + Clone> Schedule<P> {
    /// A schedule without peers, with a round every [`PERIOD`].
    pub fn new(now: Duration, rng: &mut impl Rng) -> Self {
        Self::with_period(PERIOD, now, rng)
    }

    /// A schedule without peers. Rounds with a random peer come every `period` on average.
    pub fn with_period(period: Duration, now: Duration, rng: &mut impl Rng) -> Self {
        let next_round = next_round(period, now, rng);
        Self { peers: BTreeMap::new(), running: 0, period, next_round }
    }

    /// A peer connected and said which tables it mirrors: reconcile with it soon.
    pub fn connected(&mut self, peer: P, now: Duration) {
        let peer = self.peers.entry(peer).or_default();
        if !peer.connected {
            peer.connected = true;
            peer.connects_anew();
        }
        peer.wanted.get_or_insert(now);
    }

    /// A connected peer has a further connection: it may be reached, if it could not be on the others.
    pub fn reconnected(&mut self, peer: &P, now: Duration) {
        let peer = self.peers.get_mut(peer).filter(|peer| peer.connected);
        if let Some(peer) = peer.filter(|peer| peer.running || peer.unreachable_until > now) {
            peer.connects_anew();
            peer.wanted.get_or_insert(now);
        }
    }

    /// A peer has no connection any more. Its running session still has to be [`finished`](Self::finished).
    pub fn disconnected(&mut self, peer: &P, now: Duration) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.connected = false;
            peer.wanted = None;
        }
        self.prune(now);
    }

    /// Something shows that the peer has what this node lacks, say an announce whose entries were not had.
    pub fn mismatched(&mut self, peer: &P, now: Duration) {
        if let Some(peer) = self.peers.get_mut(peer).filter(|peer| peer.connected) {
            peer.wanted.get_or_insert(now);
        }
    }

    /// The next peer to reconcile with now, if any. Call until none; each peer returned has to be
    /// [`finished`](Self::finished) or [`passed over`](Self::passed_over) once.
    pub fn poll(&mut self, now: Duration, rng: &mut impl Rng) -> Option<P> {
        if self.running >= MAX_RUNNING {
            return None;
        }
        let due = self.peers.iter().filter_map(|(peer, state)| Some((state.due_at()?, peer)));
        let wanted = due.filter(|(at, _)| *at <= now).min().map(|(_, peer)| peer.clone());
        let chosen = wanted.or_else(|| self.random(now, rng))?;
        let peer = self.peers.get_mut(&chosen)?;
        peer.running = true;
        peer.reconnected = false;
        peer.wanted = None;
        peer.last_begin = Some(now);
        self.running += 1;
        Some(chosen)
    }

    /// The sessions with this peer ended. `report` is of all its tables, [merged](Report::merge).
    pub fn finished(&mut self, peer: &P, report: &Report, now: Duration) {
        let Some(peer) = self.peers.get_mut(peer).filter(|peer| peer.running) else { return };
        peer.running = false;
        self.running -= 1;
        let wait = match report.verdict() {
            Verdict::Useful { unfinished } => {
                peer.level = 0;
                if unfinished && peer.connected {
                    peer.wanted.get_or_insert(now);
                }
                Duration::ZERO
            }
            Verdict::Quiet => {
                peer.level = peer.level.saturating_sub(1);
                Duration::from_secs(report.received_bytes / QUIET_RATE).min(MAX_QUIET_BACK_OFF)
            }
            Verdict::Failed { retry_after } => {
                if !peer.reconnected {
                    peer.unreachable_until = now.saturating_add(peer.back_off(MAX_FAILED_BACK_OFF));
                }
                retry_after.unwrap_or_default().min(MAX_BACK_OFF)
            }
            Verdict::Useless => peer.back_off(MAX_BACK_OFF),
            Verdict::Misbehaved => MAX_BACK_OFF,
        };
        peer.not_before = now.saturating_add(wait);
        self.prune(now);
    }

    /// Nothing was begun with this peer although it was its turn: that says nothing of it.
    pub fn passed_over(&mut self, peer: &P) {
        if let Some(peer) = self.peers.get_mut(peer).filter(|peer| peer.running) {
            peer.running = false;
            self.running -= 1;
        }
    }

    /// When to [`poll`](Self::poll) again at the latest; none while as many run as may, until one is finished.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        if self.running >= MAX_RUNNING {
            return None;
        }
        let due = self.peers.values().filter_map(Peer::due_at).min();
        Some(due.map_or(self.next_round, |due| due.min(self.next_round)))
    }

    /// Until when a peer is avoided.
    #[must_use]
    pub fn avoided_until(&self, peer: &P) -> Option<Duration> {
        self.peers.get(peer).map(Peer::avoided_until)
    }

    /// A random peer, if the time of a round has come.
    fn random(&mut self, now: Duration, rng: &mut impl Rng) -> Option<P> {
        if now < self.next_round {
            return None;
        }
        self.next_round = next_round(self.period, now, rng);
        let free = || self.peers.iter().filter(|(_, peer)| peer.is_free(now));
        let count = free().count() as u64;
        // Of a 64-bit number the rest is even enough.
        let index = rng.next_u64().checked_rem(count)?;
        free().nth(index as usize).map(|(peer, _)| peer.clone())
    }

    /// Forgets disconnected peers that need not be avoided, and beyond the limit those that need it least.
    fn prune(&mut self, now: Duration) {
        self.peers.retain(|_, peer| peer.connected || peer.running || peer.free_at() > now);
        let gone = || self.peers.iter().filter(|(_, peer)| !peer.connected && !peer.running);
        if gone().count() > MAX_DISCONNECTED
            && let Some(first) = gone().min_by_key(|(_, peer)| peer.free_at()).map(|(peer, _)| peer.clone())
        {
            self.peers.remove(&first);
        }
    }
}

fn next_round(period: Duration, now: Duration, rng: &mut impl Rng) -> Duration {
    let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX / 2);
    let jitter = rng.next_u64() % period.saturating_add(1);
    now.saturating_add(Duration::from_millis(period / 2 + jitter))
}
