//! Who asks without end, for what there is, for what is there already, for what nobody has.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use libp2p::{PeerId, identity::Keypair};
use p2pdb::protocol::{
    codec::bounded::{Blob, List},
    id::EntryId,
    message::{
        Operation, Status,
        get::Get,
        hello::{Hello, HelloResponse},
        put::Put,
    },
};
use tokio::task::JoinSet;

use super::{ATTACKERS, Blame, Siege, everything, ids, put_request, random_bytes};
use crate::{
    announce::served,
    peer::{Answer, Peer, ok, signed_bytes, status},
    support::{eventually, table, table_id, until},
};

/// Something that attackers do again and again until they are told to stop or nobody answers.
pub(super) struct Flood {
    pub(super) ids: Vec<PeerId>,
    counts: Arc<Counts>,
    strikes: JoinSet<()>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    is_over: AtomicBool,
    ok: AtomicUsize,
    busy: AtomicUsize,
    refused: AtomicUsize,
}

impl Counts {
    /// Whether each was refused that had an answer.
    pub(super) fn are_refused(&self) -> bool {
        self.refused.load(Relaxed) > 0 && self.ok.load(Relaxed) + self.busy.load(Relaxed) == 0
    }
}

impl Flood {
    /// Each attacker does it so many times at a time.
    pub(super) fn begin<F>(
        attackers: Vec<Peer>,
        at_a_time: usize,
        strike: impl Fn(Arc<Peer>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Option<Status>> + Send,
    {
        let (counts, mut strikes) = (Arc::<Counts>::default(), JoinSet::new());
        let ids = ids(&attackers);
        for attacker in attackers.into_iter().map(Arc::new) {
            for _ in 0..at_a_time {
                let (attacker, strike, counts) = (Arc::clone(&attacker), strike.clone(), Arc::clone(&counts));
                strikes.spawn(async move {
                    while !counts.is_over.load(Relaxed) {
                        let count = match strike(Arc::clone(&attacker)).await {
                            Some(Status::Ok) => &counts.ok,
                            Some(Status::Busy) => &counts.busy,
                            Some(_) => &counts.refused,
                            None => return,
                        };
                        count.fetch_add(1, Relaxed);
                    }
                });
            }
        }
        Self { ids, counts, strikes }
    }

    /// A flood of requests.
    pub(super) fn of<O: Operation>(
        attackers: Vec<Peer>,
        node: PeerId,
        at_a_time: usize,
        request: Vec<u8>,
    ) -> Self {
        let request = Bytes::from(request);
        Self::begin(attackers, at_a_time, move |attacker| {
            let request = request.to_vec();
            async move { attacker.ask::<O>(node, request).await.map(|answer| status(&answer)) }
        })
    }

    /// What came of it, once it is over.
    pub(super) async fn stop(mut self) -> Arc<Counts> {
        self.counts.is_over.store(true, Relaxed);
        while self.strikes.join_next().await.is_some() {}
        self.counts
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { ok, busy, refused, .. } = &*self.counts;
        let (ok, busy, refused) = (ok.load(Relaxed), busy.load(Relaxed), refused.load(Relaxed));
        write!(f, "{ok} answered, {busy} busy, {refused} refused")
    }
}

pub(super) async fn gets(siege: &mut Siege) {
    let flood = Flood::of::<Get>(siege.attackers().await, siege.peer, 100, everything());
    siege.under("gets of a megabyte, 600 at a time", &flood, &flood.ids, Blame::None).await;
    let counts = flood.stop().await;
    assert!(counts.ok.load(Relaxed) > 0 && counts.busy.load(Relaxed) > 0, "{counts:?}");
    assert_eq!(counts.refused.load(Relaxed), 0);
}

pub(super) async fn known_entries(siege: &mut Siege) {
    let known = siege.entries[40..80].iter().map(|entry| entry.encoded().clone());
    let put = put_request(known);
    let flood = Flood::of::<Put>(siege.attackers().await, siege.peer, 50, put);
    siege.under("puts of 40 entries that are known", &flood, &flood.ids, Blame::None).await;
    let counts = flood.stop().await;
    assert!(counts.ok.load(Relaxed) > 0, "{counts:?}");
    assert_eq!(counts.refused.load(Relaxed), 0);
}

/// Of what nobody has, and of what is put by somebody else just then.
pub(super) async fn announces(siege: &mut Siege) {
    siege.mark().await;
    let attackers: Vec<Peer> = (0..ATTACKERS).map(|_| liar(siege)).collect();
    siege.besiege(&attackers).await;
    let coming: Vec<EntryId> = siege.coming.iter().map(|entry| entry.id()).collect();
    let lie = || {
        let mut ids: Vec<EntryId> = (0..64).map(|_| EntryId::from_bytes(random_bytes())).collect();
        ids[..coming.len()].copy_from_slice(&coming);
        ids
    };
    let mut told = 0;
    for attacker in &attackers {
        attacker.subscribe(table_id(table())).await;
        attacker.announce(table_id(table()), &lie()).await;
        told += 1;
        // As often as it can until it is thrown out.
        for _ in 1..60 {
            told += usize::from(attacker.shout(table_id(table()), &lie()).await);
        }
    }
    let (trials, ids) = (format!("{told} of 64 ids"), ids(&attackers));
    siege.under("announces of what nobody has", &trials, &ids, Blame::Ban).await;
}

/// A peer that introduces itself well and has nothing.
fn liar(siege: &Siege) -> Peer {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, &siege.network)).unwrap();
    let answer: Answer = Arc::new(move |operation, _| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Get::NAME => ok(served(&[], &[])),
        _ => Vec::new(),
    });
    Peer::serving(&siege.network, key, answer)
}

pub(super) async fn provided_tables(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let mut last = Vec::new();
    for attacker in &attackers {
        attacker.know(siege.peer, &siege.address).await;
        let keys: Vec<[u8; 32]> = (0..300).map(|_| random_bytes()).collect();
        last.push((attacker.id(), keys[299]));
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
    siege.under("tables provided in the DHT", &"1,800", &ids(&attackers), Blame::None).await;
}

pub(super) async fn questions_to_the_dht(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    for attacker in &attackers {
        attacker.know(siege.peer, &siege.address).await;
    }
    // Of a connection the DHT answers 32 at a time.
    let flood = Flood::begin(attackers, 8, |attacker| async move {
        let (of, closest) = (random_bytes(), random_bytes());
        let found = futures::future::join(attacker.providers(of), attacker.closest(closest)).await;
        Some(if found.0.is_some() && found.1.is_some() { Status::Ok } else { Status::Busy })
    });
    eventually("the DHT answers a thousand of each", || async {
        (flood.counts.ok.load(Relaxed) >= 1000).then_some(())
    })
    .await;
    siege.under("questions to the DHT, two each", &flood, &flood.ids, Blame::None).await;
    flood.stop().await;
}
