#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    num::NonZeroUsize,
    sync::{OnceLock, atomic::AtomicBool},
};

use getrandom::SysRng;
use p2pdb_protocol::{
    entry::{Entry, Header, encode, entry_id},
    keys::PrivateKey,
    pow::{Puzzle, Solver},
    seal::{Content, Draft, SealedEntry},
};
use rand_core::UnwrapErr;
use tempfile::TempDir;

use super::*;
use crate::store::{Presence, StoreOptions};

const NOW: u64 = 2_000_000_000;
const DAY: u64 = 86_400;

fn network() -> Network {
    Network { name: "ingest".to_owned(), work_price: 1 << 10, work_puzzles: 4, ..Network::default() }
}

fn key(index: usize) -> &'static PrivateKey {
    static KEYS: [OnceLock<PrivateKey>; 2] = [const { OnceLock::new() }; 2];
    KEYS[index].get_or_init(|| PrivateKey::generate(&mut UnwrapErr(SysRng), 2048).unwrap())
}

fn der(index: usize) -> Bytes {
    Bytes::copy_from_slice(key(index).public_key().der())
}

fn sealed(table: usize, created: u64) -> SealedEntry {
    let content = Content { media_type: "text/plain".to_owned(), data: b"an entry".to_vec() };
    let recipients = [key(table).public_key().clone()];
    Draft {
        table: key(table),
        recipients: &recipients,
        created,
        expires: None,
        content: &content,
        author: None,
    }
    .seal(&mut UnwrapErr(SysRng), &network())
    .unwrap()
}

fn solve(puzzle: Puzzle) -> Vec<u8> {
    Solver::new(puzzle).solve(NonZeroUsize::MIN, &AtomicBool::new(false), &|_| {}).unwrap()
}

fn entry(table: usize, created: u64) -> Entry {
    let sealed = sealed(table, created);
    sealed.finish(&solve(sealed.puzzle(&network())), &network()).unwrap()
}

struct Fixture {
    gate: Gate,
    store: Store,
    clock: Clock,
    _directory: TempDir,
}

fn fixture(mirror: Mirror, max_tables: usize, horizon: Option<u64>) -> Fixture {
    let directory = TempDir::new().unwrap();
    let clock = Clock::manual(NOW);
    let options = StoreOptions { horizon, ..StoreOptions::default() };
    let store = Store::open(&directory.path().join("store.redb"), network(), options, clock.clone()).unwrap();
    let gate = Gate::new(store.clone(), network(), mirror, max_tables, clock.clone());
    Fixture { gate, store, clock, _directory: directory }
}

impl Fixture {
    async fn admit(&self, encoded: Bytes, keys: Vec<Bytes>) -> Judgement {
        let judgements = self.gate.admit(Way::Put, vec![encoded], keys).await;
        assert_eq!(judgements.len(), 1);
        judgements[0]
    }
}

#[tokio::test]
async fn the_first_step_that_fails_gives_the_reason() {
    let other = *key(1).public_key().table_id().as_bytes();
    let mirror = Mirror::Only(Arc::new([key(0).public_key().table_id()].into()));
    let fixture = fixture(mirror, 10, Some(30 * DAY));
    let honest = sealed(0, NOW);
    let body = entry(0, NOW).body().to_vec();
    let mut header = Header { body_length: 1, created: 0, ..honest.header().clone() };
    header.body_hash = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&body)).into();
    header.table = TableId::from_bytes(other);
    let (mut signature, mut work) = (vec![0; 255], Vec::new());
    let mut extra = vec![0];
    // An entry at fault in every step; each fault is mended in turn, and the next step speaks.
    let build = |header: &Header, signature: &[u8], work: &[u8], extra: &[u8]| -> Bytes {
        [&encode(&header.encode(), &body, signature, work)[..], extra].concat().into()
    };
    let puzzle = |header: &Header| {
        let header = header.encode();
        Puzzle::for_entry(&network(), &entry_id(&header, &body), (header.len() + body.len()) as u64)
    };
    macro_rules! expect {
        ($refusal:ident, $keys:expr) => {{
            let encoded = build(&header, &signature, &work, &extra);
            let judgement = fixture.admit(encoded, $keys).await;
            assert_eq!(judgement.outcome, Outcome::Refused(Refusal::$refusal));
            judgement.id
        }};
    }
    extra.resize(network().max_entry_bytes as usize, 0);
    assert_eq!(expect!(TooLarge, vec![]), None);
    extra.truncate(1);
    assert_eq!(expect!(Malformed, vec![]), None);
    extra.clear();
    assert_eq!(expect!(Malformed, vec![]), None);
    signature.push(0);
    assert_eq!(expect!(BodyMismatch, vec![]), None);
    header.body_length = body.len() as u64;
    // From here on the id is known, and said even where the entry is refused: who asked for it can tell.
    let id = |header: &Header| Some(entry_id(&header.encode(), &body));
    assert_eq!(expect!(BeyondHorizon, vec![]), id(&header));
    header.created = NOW + DAY;
    assert_eq!(expect!(CreatedInFuture, vec![]), id(&header));
    (header.created, header.expires) = (NOW - 2, Some(NOW - 1));
    assert_eq!(expect!(Expired, vec![]), id(&header));
    header.expires = None;
    assert_eq!(expect!(WorkMalformed, vec![]), id(&header));
    work = vec![0; 32];
    assert_eq!(expect!(WorkInsufficient, vec![]), id(&header));
    work = solve(puzzle(&header));
    assert_eq!(expect!(TableNotMirrored, vec![]), id(&header));
    header.table = key(0).public_key().table_id();
    work = solve(puzzle(&header));
    assert_eq!(expect!(TableKeyMissing, vec![]), id(&header));
    assert_eq!(expect!(TableKeyMissing, vec![der(1)]), id(&header));
    assert_eq!(expect!(TableKeyInvalid, vec![Bytes::from_static(b"no key"), der(1)]), id(&header));
    assert_eq!(expect!(SignatureInvalid, vec![der(1), der(0)]), id(&header));
    let stats = fixture.store.stats().await.unwrap();
    assert_eq!((stats.entries, stats.dropped), (0, 0));
}

#[tokio::test]
async fn what_was_refused_for_its_signature_or_its_time_is_taken_when_it_comes_right() {
    let fixture = fixture(Mirror::All, 10, None);
    let good = entry(0, NOW + DAY);
    assert_eq!(
        fixture.admit(good.encoded().clone(), vec![der(0)]).await,
        Judgement { id: Some(good.id()), outcome: Outcome::Refused(Refusal::CreatedInFuture) }
    );
    fixture.clock.set(NOW + DAY);
    let mut spoiled = good.encoded().to_vec();
    let work_and_its_head = 34;
    let in_the_signature = spoiled.len() - work_and_its_head - 1;
    spoiled[in_the_signature] ^= 1;
    assert_eq!(
        fixture.admit(spoiled.into(), vec![der(0)]).await,
        Judgement { id: Some(good.id()), outcome: Outcome::Refused(Refusal::SignatureInvalid) }
    );
    let known = fixture.store.known(good.header().table, vec![good.id()]).await.unwrap();
    assert_eq!(known, [Presence::Unknown]);
    assert_eq!(fixture.admit(good.encoded().clone(), vec![der(0)]).await.outcome, Outcome::Stored);
}

#[tokio::test]
async fn one_of_many_copies_is_stored_and_told_of() {
    let fixture = fixture(Mirror::All, 10, None);
    let mut admitted = fixture.gate.admitted();
    let good = entry(0, NOW);
    let copies = || vec![good.encoded().clone(); 40];
    let ways =
        [Way::Put, Way::Announce, Way::Sync].map(|way| fixture.gate.admit(way, copies(), vec![der(0)]));
    let outcomes: Vec<_> = futures::future::join_all(ways)
        .await
        .into_iter()
        .flatten()
        .map(|judgement| judgement.outcome)
        .collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Known).count(), 119);
    assert_eq!(fixture.gate.totals().verified, 1);
    assert_eq!(admitted.recv().await.unwrap().id, good.id());
    assert!(admitted.try_recv().is_err());
}

#[tokio::test]
async fn new_tables_do_not_race_past_the_quota() {
    let fixture = fixture(Mirror::All, 1, None);
    let admit = |table| fixture.admit(entry(table, NOW).encoded().clone(), vec![der(table)]);
    let (one, other) = tokio::join!(admit(0), admit(1));
    let mut outcomes = [one.outcome.name(), other.outcome.name()];
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["quota_exceeded", "stored"]);
    assert_eq!(fixture.store.tables().await.unwrap().len(), 1);
}

#[tokio::test]
async fn more_than_may_wait_is_answered_busy_and_the_next_is_not() {
    let fixture = fixture(Mirror::All, 10, None);
    let flood = vec![Bytes::new(); MAX_WAITING + 1];
    let judgements = fixture.gate.admit(Way::Put, flood, Vec::new()).await;
    assert_eq!(judgements.len(), MAX_WAITING + 1);
    assert!(judgements.iter().all(|judgement| *judgement == Judgement::busy()));
    // Somebody else's entries wait at the gate: there is no room until they are through.
    let places = Arc::clone(&fixture.gate.live).try_acquire_many_owned(MAX_WAITING as u32).unwrap();
    let good = entry(0, NOW);
    assert_eq!(fixture.admit(good.encoded().clone(), vec![der(0)]).await, Judgement::busy());
    drop(places);
    let places = Arc::clone(&fixture.gate.bulk).try_acquire_many_owned(MAX_WAITING as u32).unwrap();
    let patient = fixture.gate.admit_patiently(Way::Sync, vec![good.encoded().clone()], vec![der(0)]);
    tokio::pin!(patient);
    assert!(futures::poll!(&mut patient).is_pending());
    drop(places);
    assert_eq!(patient.await[0].outcome, Outcome::Stored);
}

#[tokio::test]
async fn what_two_bring_at_once_is_verified_once_and_a_spoiled_copy_does_not_keep_out_the_good_one() {
    let fixture = fixture(Mirror::All, 10, None);
    let entries: Vec<_> = (0..2 * CHUNK).map(|_| entry(0, NOW)).collect();
    let encoded: Vec<_> = entries.iter().map(|entry| entry.encoded().clone()).collect();
    let brought = || fixture.gate.admit_patiently(Way::Sync, encoded.clone(), vec![der(0)]);
    let (one, other) = tokio::join!(brought(), brought());
    for (one, other) in one.iter().zip(&other) {
        let mut outcomes = [one.outcome.name(), other.outcome.name()];
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["known", "stored"]);
    }
    assert_eq!(fixture.gate.totals().verified, entries.len() as u64);
    assert_eq!(brought().await[0].outcome, Outcome::Known);
    assert_eq!(fixture.gate.totals().verified, entries.len() as u64);

    let good = entry(0, NOW);
    let mut spoiled = good.encoded().to_vec();
    let in_the_signature = spoiled.len() - 35;
    spoiled[in_the_signature] ^= 1;
    let copies = vec![spoiled.into(), good.encoded().clone()];
    let outcomes = fixture.gate.admit(Way::Put, copies, Vec::new()).await;
    assert_eq!(outcomes[0].outcome, Outcome::Refused(Refusal::SignatureInvalid));
    assert_eq!(outcomes[1].outcome, Outcome::Stored);
    assert_eq!(fixture.gate.totals().verified, entries.len() as u64 + 2);
}

#[tokio::test]
async fn a_put_does_not_wait_for_a_long_reconciliation() {
    let fixture = fixture(Mirror::All, 10, None);
    let put = entry(0, NOW);
    let bulk: Vec<_> = (0..16 * CHUNK).map(|_| entry(0, NOW).encoded().clone()).collect();
    let bulk = fixture.gate.admit_patiently(Way::Sync, bulk, vec![der(0)]);
    tokio::pin!(bulk);
    // All of it is queued by the first poll.
    assert!(futures::poll!(&mut bulk).is_pending());
    tokio::select! {
        biased;
        _ = &mut bulk => panic!("the put was behind all of the reconciliation"),
        judgement = fixture.admit(put.encoded().clone(), vec![der(0)]) => {
            assert_eq!(judgement.outcome, Outcome::Stored);
        }
    }
    assert!(bulk.await.iter().all(|judgement| judgement.outcome == Outcome::Stored));
}
