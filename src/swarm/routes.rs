//! Who is out there: the signed records of nodes that were met or heard of (SPEC 7, 8.3).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2pdb_protocol::{
    codec::{
        bounded::{Blob, List},
        lenient,
    },
    id::{NetworkId, TableId},
    limits,
    record::{NodeRecord, RecordError, SignedRecord},
};

use crate::swarm::{
    address::{Scope, is_reachable_from, scope},
    ip_limits::Origin,
};

/// Records that are kept.
const MAX_ROUTES: usize = 4096;
/// Bytes of them: a record can be 12 KiB, and records are free to make.
const MAX_BYTES: usize = 16 << 20;
/// A node that nobody met for so long is forgotten, in seconds.
const EXPIRY: u64 = 14 * 86_400;
/// Nodes seen less than this before the one seen last are as good as it, in seconds.
const LATELY: u64 = 3600;
/// A record that claims to be made later than this from now is refused, in seconds.
const MAX_AHEAD: u64 = 86_400;

/// A node, as its own signed record describes it.
#[derive(Debug, Clone)]
pub struct Route {
    /// The node.
    pub peer: PeerId,
    /// What it says of itself, signed.
    pub signed: SignedRecord,
    /// When it was last met, or first heard of, in unix seconds.
    pub seen: u64,
    /// Whether it was met, and not only heard of.
    pub met: bool,
    /// Where the node is seen that told of it: from the internet nobody tells of private addresses.
    pub teller: Option<Multiaddr>,
}

impl Route {
    /// The addresses of the record that may lead to the node from here.
    pub fn addresses(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        let told =
            self.record().addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok());
        told.filter(|address| match &self.teller {
            Some(seen_at) => is_reachable_from(address, seen_at),
            None => scope(address) == Some(Scope::World),
        })
    }

    /// What it takes as it was signed; about as much once more as it was read.
    fn bytes(&self) -> usize {
        self.signed.encoded().len()
    }

    /// What it says of itself.
    #[must_use]
    pub const fn record(&self) -> &NodeRecord {
        self.signed.record()
    }
}

/// Why a record does not become a route.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// It is not a valid record of this network.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is of another node than the one that showed it as its own.
    #[error("the record is not that of the node that shows it")]
    WrongPeer,
    /// It claims to be made in the future.
    #[error("the record is from the future")]
    FromTheFuture,
}

/// The nodes that this one knows of.
#[derive(Debug)]
pub struct Routes {
    network: NetworkId,
    local: PeerId,
    routes: Mutex<HashMap<PeerId, Route>>,
}

impl Routes {
    /// An empty table of routes of a network; the record of `local` itself is never kept.
    #[must_use]
    pub fn new(network: NetworkId, local: PeerId) -> Self {
        Self { network, local, routes: Mutex::new(HashMap::new()) }
    }

    /// Keeps a record that `owner`, whom we see at `teller`, showed as its own.
    ///
    /// # Errors
    /// If it is not valid, or not of `owner`.
    pub fn met(
        &self,
        owner: PeerId,
        encoded: Bytes,
        teller: Option<Multiaddr>,
        now: u64,
    ) -> Result<Route, RouteError> {
        let mut route = Route { teller, ..self.check(encoded, now)? };
        if route.peer != owner {
            return Err(RouteError::WrongPeer);
        }
        route.met = true;
        let mut routes = self.lock();
        if let Some(known) =
            routes.get(&owner).filter(|known| known.record().sequence > route.record().sequence)
        {
            // An old record, but the node is there: keep the newer one.
            route = Route { seen: now, met: true, teller: route.teller, ..known.clone() };
        }
        Self::keep(&mut routes, route.clone());
        Ok(route)
    }

    /// Keeps a record that somebody whom we see at `teller` passed on, and says whether it is news.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn heard(
        &self,
        encoded: Bytes,
        teller: Option<Multiaddr>,
        now: u64,
    ) -> Result<Option<Route>, RouteError> {
        let mut route = Route { teller, ..self.check(encoded, now)? };
        if route.peer == self.local {
            return Ok(None);
        }
        let mut routes = self.lock();
        if let Some(known) = routes.get(&route.peer) {
            if known.record().sequence >= route.record().sequence {
                return Ok(None);
            }
            // Hearsay does not keep a route alive.
            route.seen = known.seen;
            route.met = known.met;
        }
        Self::keep(&mut routes, route.clone());
        Ok(Some(route))
    }

    fn check(&self, encoded: Bytes, now: u64) -> Result<Route, RouteError> {
        let signed = SignedRecord::verify(encoded, &self.network)?;
        let record = signed.record();
        if record.sequence > now.saturating_add(MAX_AHEAD) {
            return Err(RouteError::FromTheFuture);
        }
        let peer = PeerId::from_bytes(&record.peer_id_bytes()).map_err(|_| RecordError::Malformed)?;
        Ok(Route { peer, signed, seen: now, met: false, teller: None })
    }

    fn keep(routes: &mut HashMap<PeerId, Route>, route: Route) {
        let earlier = routes.remove(&route.peer);
        let mut bytes = routes.values().map(Route::bytes).sum::<usize>() + route.bytes();
        let mut crowds = None;
        while routes.len() >= MAX_ROUTES || bytes > MAX_BYTES {
            let crowds = crowds.get_or_insert_with(|| Crowds::of(routes.values()));
            // Hearsay must not push out nodes that were met, nor one address those of others.
            let worth = |route: &&Route| (route.met, std::cmp::Reverse(crowds.with(route)), route.seen);
            let worst = routes.values().min_by_key(worth).map(|route| (route.peer, route.met));
            let Some(gone) =
                worst.and_then(|(peer, met)| (route.met || !met).then(|| routes.remove(&peer))?)
            else {
                if let Some(earlier) = earlier {
                    routes.insert(earlier.peer, earlier);
                }
                return;
            };
            bytes -= gone.bytes();
            crowds.leave(&gone);
        }
        routes.insert(route.peer, route);
    }

    /// At most `limit` nodes that mirror one of the tables; of any, if no tables are named. Those met come first, then
    /// the newest; those of the last hour in an order that is another each time: a few that show themselves again and again would
    /// be all that anybody hears of otherwise.
    #[must_use]
    pub fn mirrors(&self, tables: Option<&[TableId]>, limit: usize) -> Vec<Route> {
        let routes = self.lock();
        let wanted =
            |route: &&Route| tables.is_none_or(|tables| tables.iter().any(|t| route.record().mirrors(t)));
        let found: HashMap<PeerId, &Route> =
            routes.values().filter(wanted).map(|route| (route.peer, route)).collect();
        let lately = found.values().map(|route| route.seen).max().unwrap_or(0).saturating_sub(LATELY);
        let mut found: Vec<&Route> = found.into_values().collect();
        found.sort_by_key(|route| std::cmp::Reverse((route.met, route.seen.min(lately))));
        found.truncate(limit);
        found.into_iter().cloned().collect()
    }

    /// Says that these nodes are connected now: they are neither forgotten nor pushed out.
    pub fn renew(&self, connected: &[PeerId], now: u64) {
        let mut routes = self.lock();
        for peer in connected {
            if let Some(route) = routes.get_mut(peer) {
                route.seen = now;
            }
        }
    }

    /// What is known of a node.
    #[must_use]
    pub fn of(&self, peer: &PeerId) -> Option<Route> {
        self.lock().get(peer).cloned()
    }

    /// How many nodes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Forgets nodes that nobody met for two weeks.
    pub fn expire(&self, now: u64) {
        self.lock().retain(|_, route| route.seen.saturating_add(EXPIRY) > now);
    }

    /// The routes as bytes for a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let records = self.lock();
        let row = |route: &Route| {
            let record = Row::try_from(route.signed.encoded().clone()).ok()?;
            let teller = route.teller.as_ref().map_or_else(Vec::new, Multiaddr::to_vec);
            Some((route.seen, route.met, record, Teller::try_from(teller).ok()?))
        };
        let rows: Vec<_> = records.values().filter_map(row).collect();
        List::<_, MAX_ROUTES>::try_from(rows)
            .ok()
            .and_then(|rows| lenient::to_vec(&rows).ok())
            .unwrap_or_default()
    }

    /// Takes routes back from a file; what does not verify is left out. Says how many were good.
    pub fn load(&self, bytes: &[u8], now: u64) -> usize {
        let Ok(rows) = lenient::from_slice::<List<(u64, bool, Row, Teller), MAX_ROUTES>>(bytes) else {
            return 0;
        };
        let mut good = 0;
        for (seen, met, encoded, teller) in rows.into_inner() {
            let teller = Multiaddr::try_from(teller.to_vec()).ok().filter(|teller| !teller.is_empty());
            if let Ok(route) = self.check(encoded.into_inner(), now)
                && seen.saturating_add(EXPIRY) > now
            {
                Self::keep(&mut self.lock(), Route { seen: seen.min(now), met, teller, ..route });
                good += 1;
            }
        }
        good
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many routes come from each origin; those that come through relays and by names, which cost nothing, are one.
struct Crowds(HashMap<(bool, Option<Origin>), usize>);

impl Crowds {
    fn of<'a>(routes: impl Iterator<Item = &'a Route>) -> Self {
        let mut crowds = Self(HashMap::new());
        for route in routes {
            if let Some(key) = Self::key(route) {
                *crowds.0.entry(key).or_default() += 1;
            }
        }
        crowds
    }

    /// Where who told of it is, and whether he told of himself. This machine is shared by all its users.
    fn key(route: &Route) -> Option<(bool, Option<Origin>)> {
        let origin = route.teller.as_ref().and_then(Origin::of_multiaddr);
        origin.is_none_or(|origin| !origin.is_loopback()).then_some((route.met, origin))
    }

    /// How many there are like this one.
    fn with(&self, route: &Route) -> usize {
        Self::key(route).and_then(|key| self.0.get(&key).copied()).unwrap_or(1)
    }

    fn leave(&mut self, route: &Route) {
        if let Some(count) = Self::key(route).and_then(|key| self.0.get_mut(&key)) {
            *count -= 1;
        }
    }
}

type Row = Blob<{ limits::MAX_RECORD_BYTES }>;
type Teller = Blob<{ limits::MAX_ADDRESS_BYTES }>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::identity::Keypair;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    /// A record as long as may be, or short.
    fn record(network: &NetworkId, is_long: bool) -> (PeerId, Bytes) {
        let key = Keypair::generate_ed25519();
        (key.public().to_peer_id(), made(network, &key, NOW, is_long))
    }

    fn made(network: &NetworkId, key: &Keypair, sequence: u64, is_long: bool) -> Bytes {
        let (addresses, tables) = if is_long { (8, 256) } else { (0, 1) };
        let table = |number: u64| {
            let mut id = [0; 32];
            id.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            TableId::from_bytes(id)
        };
        let record = NodeRecord {
            key: key.clone().try_into_ed25519().unwrap().public().to_bytes(),
            sequence,
            addresses: vec![vec![7; limits::MAX_ADDRESS_BYTES]; addresses],
            tables: Some((0..tables).map(table).collect()),
            horizon: 0,
            puts_per_minute: 1,
        };
        let signed = record.sign(network, |message| key.sign(message).unwrap().try_into().unwrap()).unwrap();
        signed.encoded().clone()
    }

    #[test]
    fn an_older_record_played_again_does_not_take_the_place_of_a_newer_one() {
        let (network, key) = (NetworkId::from_bytes([1; 32]), Keypair::generate_ed25519());
        let peer = key.public().to_peer_id();
        let of = |sequence| made(&network, &key, sequence, false);
        let routes = Routes::new(network, PeerId::random());
        let sequence = || routes.of(&peer).unwrap().record().sequence;
        let heard = |sequence, at| routes.heard(of(sequence), None, at).unwrap();
        assert!(heard(NOW, NOW).is_some());
        // Nor is it news, or the same once more, so that nobody passes it on.
        assert!(heard(NOW - 1, NOW + 1).is_none() && heard(NOW, NOW + 1).is_none());
        assert_eq!((sequence(), routes.of(&peer).unwrap().seen), (NOW, NOW));
        // Who shows it himself is there all the same.
        let route = routes.met(peer, of(NOW - 1), None, NOW + 2).unwrap();
        assert_eq!((route.record().sequence, route.seen, route.met), (NOW, NOW + 2, true));
        assert_eq!((sequence(), routes.of(&peer).unwrap().seen), (NOW, NOW + 2));
        // A newer one does, and does not make the node one that was met at that time.
        assert!(heard(NOW + 5, NOW + 9).is_some());
        let route = routes.of(&peer).unwrap();
        assert_eq!((route.record().sequence, route.seen, route.met), (NOW + 5, NOW + 2, true));
        assert_eq!(routes.met(peer, of(NOW + 6), None, NOW + 9).unwrap().record().sequence, NOW + 6);
        assert_eq!(sequence(), NOW + 6);
    }

    #[test]
    fn many_long_records_push_out_each_other_and_nobody_who_was_met() {
        let network = NetworkId::from_bytes([1; 32]);
        let routes = Routes::new(network, PeerId::random());
        let (honest, encoded) = record(&network, false);
        routes.met(honest, encoded, None, NOW - 10).unwrap();
        let flood: Vec<_> = (0..1700).map(|_| record(&network, true)).collect();
        for (_, encoded) in &flood {
            routes.heard(encoded.clone(), None, NOW).unwrap();
        }
        let bytes = || routes.lock().values().map(Route::bytes).sum::<usize>();
        assert!(bytes() <= MAX_BYTES && bytes() > MAX_BYTES - limits::MAX_RECORD_BYTES);
        assert!(routes.of(&honest).is_some());
        // Who is met has room, and is not pushed out by one of those that nobody met.
        let (peer, encoded) = flood.first().unwrap();
        routes.met(*peer, encoded.clone(), None, NOW).unwrap();
        assert!(routes.of(peer).is_some_and(|route| route.met) && bytes() <= MAX_BYTES);
    }

    #[test]
    fn one_address_pushes_out_its_own_nodes_and_is_not_all_that_anybody_hears_of() {
        let network = NetworkId::from_bytes([1; 32]);
        let routes = Routes::new(network, PeerId::random());
        let at = |last: u8| Some(format!("/ip4/192.0.2.{last}/tcp/1").parse().unwrap());
        let honest: Vec<_> = (1..=20).map(|last| (record(&network, false), at(last))).collect();
        for ((peer, encoded), teller) in &honest {
            routes.met(*peer, encoded.clone(), teller.clone(), NOW - 10).unwrap();
        }
        for _ in 0..1700 {
            let (peer, encoded) = record(&network, true);
            routes.met(peer, encoded, at(200), NOW).unwrap();
        }
        assert!(honest.iter().all(|((peer, _), _)| routes.of(peer).is_some()));
        let told = |_| routes.mirrors(None, 100).into_iter().map(|route| route.peer).collect::<Vec<_>>();
        let told: Vec<_> = (0..100).map(told).collect();
        let is_told = |peer: &PeerId| told.iter().any(|told| told.contains(peer));
        assert!(honest.iter().all(|((peer, _), _)| is_told(peer)));
    }
}
