//! Keeps a few connections to nodes open: by the bootstrap list first, then by what was heard.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::swarm::{Event, Handle, routes::Routes};

/// Shortest and longest pause between looks.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Nodes that were heard of among which is looked.
const MAX_HEARD: usize = 256;
/// Nodes of the list, and of those heard of, dialed at once.
const MAX_DIALS: usize = 4;

/// Keeps connections to nodes open.
#[derive(Debug, Clone)]
pub struct Upkeep {
    swarm: Handle,
    routes: Arc<Routes>,
    bootstrap: Arc<[Multiaddr]>,
    target: usize,
}

impl Upkeep {
    /// Aims at `target` connected nodes, beginning with those of `bootstrap`.
    #[must_use]
    pub fn new(swarm: Handle, routes: Arc<Routes>, bootstrap: Vec<Multiaddr>, target: usize) -> Self {
        Self { swarm, routes, bootstrap: bootstrap.into(), target }
    }

    /// How many nodes' addresses are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.bootstrap.len() + self.routes.len()
    }

    /// Looks after the connections until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.look_after() => {}
        }
    }

    async fn look_after(&self) {
        let mut events = self.swarm.events();
        let mut pause = SHORTEST_PAUSE;
        let mut pass = 0_usize;
        loop {
            let Ok(connected) = self.swarm.serving_peers().await else { return };
            if connected.len() < self.target {
                self.dial_some(&connected, pass).await;
                pass = pass.wrapping_add(1);
                self.swarm.refresh_dht().await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            } else {
                pause = LONGEST_PAUSE;
            }
            let is_short = connected.len() < self.target;
            let reason = async {
                loop {
                    match events.recv().await {
                        Ok(Event::Lost { .. }) => return SHORTEST_PAUSE,
                        // Whoever it is may have told of others.
                        Ok(Event::Introduced { .. }) if is_short => return pause,
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            if let Ok(next) = tokio::time::timeout(pause, reason).await {
                pause = next;
                tokio::time::sleep(SHORTEST_PAUSE).await;
            }
        }
    }

    /// Dials a few that are not connected; others with each pass, since some may be gone for good.
    async fn dial_some(&self, connected: &[PeerId], pass: usize) {
        let fresh = |peer: &PeerId| !connected.contains(peer) && *peer != self.swarm.local_peer();
        let listed = self.bootstrap.iter().filter(|address| peer_of(address).is_none_or(|peer| fresh(&peer)));
        let listed: Vec<_> = listed.collect();
        let listed = rotated(&listed, pass).map(|address| async move {
            (address.to_string(), self.swarm.connect_to((*address).clone()).await)
        });
        let mut heard = self.routes.mirrors(None, MAX_HEARD);
        heard.retain(|route| fresh(&route.peer));
        // In the same order each time, however they come.
        heard.sort_by_key(|route| route.peer);
        let heard = rotated(&heard, pass).map(|route| async move {
            let dialed = self.swarm.connect(route.peer, route.addresses().collect()).await;
            (route.peer.to_string(), dialed)
        });
        let (listed, heard) = futures::join!(join_all(listed), join_all(heard));
        for (target, dialed) in listed.into_iter().chain(heard) {
            if let Err(error) = dialed {
                tracing::debug!(target, %error, "a node cannot be reached");
            }
        }
    }
}

/// A few of a list, beginning further on with each pass.
fn rotated<T>(list: &[T], pass: usize) -> impl Iterator<Item = &T> {
    let start = pass.wrapping_mul(MAX_DIALS).checked_rem(list.len()).unwrap_or(0);
    list.iter().cycle().skip(start).take(MAX_DIALS.min(list.len()))
}

/// The peer at the end of an address.
#[must_use]
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}
