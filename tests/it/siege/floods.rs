//! Who asks without end, for what there is, for what is there already, for what nobody has.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use p2pdb::protocol::{
    codec::bounded::{Blob, List},
    id::EntryId,
    message::{
        Operation, Status,
        get::Get,
        hello::{Hello, HelloResponse},
        put::Put,
    },
    network::Network,
};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};

use super::{ATTACKERS, Blame, Siege, everything, ids, put_request, random_bytes};
use crate::{
    announce::served,
    peer::{Answer, Peer, ok, signed_bytes, status},
    support::{eventually, table, table_id, until},
};

/// Something that attackers do again and again until they are told to stop.
pub(super) struct Flood {
    /// Who began it.
    pub(super) ids: Vec<PeerId>,
    /// What it is called to have done, when it had no other answer.
    done: &'static str,
    pub(super) counts: Arc<Counts>,
    work: JoinSet<()>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    is_over: AtomicBool,
    ok: AtomicUsize,
    busy: AtomicUsize,
    refused: AtomicUsize,
    /// Peers that took part.
    peers: AtomicUsize,
}

impl Counts {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    pub(super) fn add_done(&self, count: usize) {
        self.ok.fetch_add(count, Relaxed);
    }

    /// All but those that were put off.
    fn struck(&self) -> usize {
        self.ok.load(Relaxed) + self.refused.load(Relaxed)
    }

    /// Whether each was refused that had an answer.
    pub(super) fn are_refused(&self) -> bool {
        self.refused.load(Relaxed) > 0 && self.ok.load(Relaxed) + self.busy.load(Relaxed) == 0
    }
}

/// The place of an attacker: when it is thrown out, another peer takes it.
struct Place<R> {
    node: PeerId,
    address: Multiaddr,
    peer: Mutex<Arc<Peer>>,
    recruit: R,
}

impl<R: Fn() -> Peer> Place<R> {
    /// Who goes on when this one had no answer: itself, if it was just not answered.
    async fn after(&self, last: Arc<Peer>, counts: &Counts) -> Arc<Peer> {
        let mut peer = self.peer.lock().await;
        if Arc::ptr_eq(&peer, &last) && !peer.is_connected(self.node).await {
            *peer = Arc::new((self.recruit)());
            counts.peers.fetch_add(1, Relaxed);
            while peer.connect(&self.address).await.is_none() && !counts.is_over() {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Arc::clone(&peer)
    }
}

impl Flood {
    /// One that is nobody's yet; see [`Self::spawn`].
    pub(super) fn new(attackers: &[Peer], done: &'static str) -> Self {
        let counts = Arc::<Counts>::default();
        counts.peers.store(attackers.len(), Relaxed);
        Self { ids: ids(attackers), done, counts, work: JoinSet::new() }
    }

    /// Has somebody take part until it is over.
    pub(super) fn spawn<F>(&mut self, work: impl FnOnce(Arc<Counts>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.work.spawn(work(Arc::clone(&self.counts)));
    }

    /// Each attacker does it so many times at a time; whoever is thrown out has a recruit take his place.
    pub(super) fn begin<F>(
        siege: &Siege,
        attackers: Vec<Peer>,
        at_a_time: usize,
        done: &'static str,
        recruit: impl Fn() -> Peer + Clone + Send + Sync + 'static,
        strike: impl Fn(Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<Status>> + Send,
    {
        let mut flood = Self::new(&attackers, done);
        for attacker in attackers.into_iter().map(Arc::new) {
            let place = Arc::new(Place {
                node: siege.peer,
                address: siege.address.clone(),
                peer: Mutex::new(Arc::clone(&attacker)),
                recruit: recruit.clone(),
            });
            for _ in 0..at_a_time {
                let (mut attacker, place, strike) =
                    (Arc::clone(&attacker), Arc::clone(&place), strike.clone());
                flood.spawn(|counts| async move {
                    while !counts.is_over() {
                        let count = match strike(Arc::clone(&attacker)).await {
                            Some(Status::Ok) => &counts.ok,
                            Some(Status::Busy) => &counts.busy,
                            Some(_) => &counts.refused,
                            None => {
                                attacker = place.after(attacker, &counts).await;
                                continue;
                            }
                        };
                        count.fetch_add(1, Relaxed);
                    }
                });
            }
        }
        flood
    }

    /// A flood of requests.
    pub(super) fn of<O: Operation>(
        siege: &Siege,
        attackers: Vec<Peer>,
        at_a_time: usize,
        request: Vec<u8>,
    ) -> Self {
        let (request, node, network) = (Bytes::from(request), siege.peer, siege.network.clone());
        let recruit = move || Peer::start(&network);
        Self::begin(siege, attackers, at_a_time, "answered", recruit, move |attacker| {
            let request = request.to_vec();
            async move { attacker.ask::<O>(node, request).await.map(|answer| status(&answer)) }
        })
    }

    /// Measures honest peers meanwhile; see [`Siege::judge`].
    pub(super) async fn against(&self, siege: &mut Siege, attack: &str, blame: Blame) {
        until(&format!("{attack}: it has begun"), || async { self.counts.struck() > 0 }).await;
        let before = self.counts.struck();
        let times = siege.honest().await;
        let after = self.counts.struck();
        assert!(after > before, "{attack}: it goes on while honest peers are measured");
        until(&format!("{attack}: it is not over"), || async { self.counts.struck() > after }).await;
        siege.judge(attack, self, &self.ids, blame, times).await;
    }

    /// What came of it, once it is over.
    pub(super) async fn stop(mut self) -> Arc<Counts> {
        self.counts.is_over.store(true, Relaxed);
        while let Some(end) = self.work.join_next().await {
            end.unwrap();
        }
        self.counts
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { ok, busy, refused, peers, .. } = &*self.counts;
        for (count, what) in [(ok, self.done), (busy, "busy"), (refused, "refused")] {
            if count.load(Relaxed) > 0 {
                write!(f, "{} {what}, ", count.load(Relaxed))?;
            }
        }
        write!(f, "{} peers", peers.load(Relaxed))
    }
}

pub(super) async fn gets(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let flood = Flood::of::<Get>(siege, attackers, 100, everything());
    flood.against(siege, "gets of a megabyte, 600 at a time", Blame::None).await;
    let counts = flood.stop().await;
    assert!(counts.ok.load(Relaxed) > 0 && counts.busy.load(Relaxed) > 0, "{counts:?}");
    assert_eq!(counts.refused.load(Relaxed), 0);
}

pub(super) async fn known_entries(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let known = siege.entries[40..80].iter().map(|entry| entry.encoded().clone());
    let put = put_request(known);
    let flood = Flood::of::<Put>(siege, attackers, 50, put);
    flood.against(siege, "puts of 40 entries that are known", Blame::None).await;
    let counts = flood.stop().await;
    assert!(counts.ok.load(Relaxed) > 0, "{counts:?}");
    assert_eq!(counts.refused.load(Relaxed), 0);
}

/// Of what nobody has, and of what is put by somebody else just then.
pub(super) async fn announces(siege: &mut Siege) {
    siege.mark().await;
    let network = siege.network.clone();
    let recruit = move || liar(&network);
    let attackers: Vec<Peer> = (0..ATTACKERS).map(|_| recruit()).collect();
    siege.besiege(&attackers).await;
    let coming: Vec<EntryId> = siege.coming.iter().map(|entry| entry.id()).collect();
    let node = siege.peer;
    // As often as it can until it is thrown out.
    let flood = Flood::begin(siege, attackers, 1, "of 64 ids", recruit, move |attacker| {
        let mut ids: Vec<EntryId> = (0..64).map(|_| EntryId::from_bytes(random_bytes())).collect();
        ids[..coming.len()].copy_from_slice(&coming);
        async move {
            attacker.subscribe(table_id(table())).await;
            if attacker.shout(table_id(table()), &ids).await {
                return Some(Status::Ok);
            }
            // Nobody listens yet, or what was said before is still on its way.
            sleep(Duration::from_millis(10)).await;
            attacker.is_connected(node).await.then_some(Status::Busy)
        }
    });
    flood.against(siege, "announces of what nobody has", Blame::Ban).await;
    assert!(flood.stop().await.ok.load(Relaxed) > ATTACKERS);
}

/// A peer that introduces itself well and has nothing.
fn liar(network: &Network) -> Peer {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let answer: Answer = Arc::new(move |operation, _| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Get::NAME => ok(served(&[], &[])),
        _ => Vec::new(),
    });
    Peer::serving(network, key, answer)
}

/// Tables that an attacker provides before anything is measured.
const TABLES: usize = 300;

pub(super) async fn provided_tables(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let mut last = Vec::new();
    for attacker in &attackers {
        attacker.know(siege.peer, &siege.address).await;
        let keys: Vec<[u8; 32]> = (0..TABLES).map(|_| random_bytes()).collect();
        last.push((attacker.id(), keys[TABLES - 1]));
        attacker.provide(keys).await;
    }
    let observer = Peer::start(&siege.network);
    observer.connect(&siege.address).await.unwrap();
    observer.know(siege.peer, &siege.address).await;
    for (attacker, key) in last {
        until("the DHT names the attacker", || async {
            observer.providers(key).await.is_some_and(|found| found.contains(&attacker))
        })
        .await;
    }
    let network = siege.network.clone();
    let recruit = move || Peer::start(&network);
    // A question after each, since nobody answers what is only told.
    let flood = Flood::begin(siege, attackers, 8, "provided", recruit, |attacker| async move {
        attacker.provide(vec![random_bytes()]).await;
        Some(if attacker.closest(random_bytes()).await.is_some() { Status::Ok } else { Status::Busy })
    });
    flood.counts.add_done(TABLES * ATTACKERS);
    flood.against(siege, "tables provided in the DHT", Blame::None).await;
    assert!(flood.stop().await.ok.load(Relaxed) > TABLES * ATTACKERS);
}

pub(super) async fn questions_to_the_dht(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    for attacker in &attackers {
        attacker.know(siege.peer, &siege.address).await;
    }
    // Of a connection the DHT answers 32 at a time.
    let network = siege.network.clone();
    let recruit = move || Peer::start(&network);
    let flood = Flood::begin(siege, attackers, 8, "answered", recruit, |attacker| async move {
        let (of, closest) = (random_bytes(), random_bytes());
        let found = futures::future::join(attacker.providers(of), attacker.closest(closest)).await;
        Some(if found.0.is_some() && found.1.is_some() { Status::Ok } else { Status::Busy })
    });
    eventually("the DHT answers a thousand of each", || async {
        (flood.counts.ok.load(Relaxed) >= 1000).then_some(())
    })
    .await;
    flood.against(siege, "questions to the DHT, two each", Blame::None).await;
    flood.stop().await;
}
