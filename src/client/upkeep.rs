//! Keeps a few connections to nodes open: by the bootstrap list first, then by what was heard.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio_util::sync::CancellationToken;

use crate::swarm::{Event, Handle, routes::Routes};

/// Shortest and longest pause between looks.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Nodes dialed at once.
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
        let mut events = self.swarm.events();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let Ok(connected) = self.swarm.serving_peers().await else { return };
            if connected.len() < self.target {
                self.dial_some(&connected).await;
                self.swarm.refresh_dht().await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            } else {
                pause = LONGEST_PAUSE;
            }
            let lost_one = async {
                loop {
                    match events.recv().await {
                        Ok(Event::Lost { .. }) => return SHORTEST_PAUSE,
                        Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                        Err(_) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                short = lost_one => {
                    pause = short;
                    tokio::time::sleep(short).await;
                }
            }
        }
    }

    async fn dial_some(&self, connected: &[PeerId]) {
        let listed = self.bootstrap.iter().filter(|address| {
            peer_of(address).is_none_or(|peer| !connected.contains(&peer) && peer != self.swarm.local_peer())
        });
        let listed = listed.map(|address| (peer_of(address), vec![address.clone()]));
        let heard = self.routes.mirrors(None, self.target + connected.len() + MAX_DIALS);
        let heard = heard.into_iter().filter(|route| !connected.contains(&route.peer));
        let heard = heard.map(|route| (Some(route.peer), route.addresses().collect::<Vec<_>>()));
        // A bootstrap list may be long, or dead: some of each.
        let mut targets: Vec<_> = listed.take(MAX_DIALS).chain(heard.take(MAX_DIALS)).collect();
        targets.dedup_by_key(|(peer, _)| *peer);
        let dials = targets.into_iter().map(|(peer, addresses)| async move {
            let named = peer.filter(|_| addresses.iter().all(|address| peer_of(address).is_none()));
            let dialed = self.swarm.connect(named, addresses).await;
            if let Err(error) = dialed {
                tracing::debug!(?peer, %error, "a node cannot be reached");
            }
        });
        futures::future::join_all(dials).await;
    }
}

/// The peer at the end of an address.
#[must_use]
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}
