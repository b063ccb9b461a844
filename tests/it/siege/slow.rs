//! Who is slow: requests that are never finished, answers that are never read, streams on which nothing is said.

use p2pdb::protocol::{
    limits,
    message::{get::Get, put::Put},
};

use super::{ATTACKERS, Blame, Siege, everything, ids};
use crate::{
    peer::{Peer, prefix},
    support::{eventually, until},
};

/// Streams of a connection that a node listens on (`MAX_INBOUND`), and nearly as many.
const MAX_STREAMS: usize = 224;
const MANY_STREAMS: usize = 200;
/// As many as show that an attack has begun.
const SOME_STREAMS: usize = 32;

/// Waits until the node listens on so many streams more than before, and says how many were opened and how many it took.
async fn arrive(siege: &Siege, before: usize, opened: usize, least: usize) -> String {
    let taken = eventually("what the attackers send arrives", || async {
        siege.streams().await.checked_sub(before).filter(|taken| *taken >= least)
    });
    format!("{opened} opened, {} listened to", taken.await)
}

/// As [`Siege::under`], of an attack that is over when the node has given up the streams that it opened.
async fn while_held(
    siege: &mut Siege,
    attack: &str,
    trials: &str,
    before: usize,
    attackers: &[Peer],
    blame: Blame,
) {
    let times = siege.honest().await;
    let held = siege.streams().await.saturating_sub(before);
    assert!(held >= SOME_STREAMS, "{attack}: {held} streams when honest peers have been measured");
    siege.judge(attack, &trials, &ids(attackers), blame, times).await;
}

pub(super) async fn unfinished_puts(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let before = siege.streams().await;
    let half = [prefix(limits::PUT_REQUEST_BYTES), vec![0; limits::PUT_REQUEST_BYTES / 2]].concat();
    let mut held = Vec::new();
    for attacker in &attackers {
        for _ in 0..64 {
            held.push(attacker.hold::<Put>(siege.peer, half.clone()).await);
        }
    }
    let trials = arrive(siege, before, held.len(), SOME_STREAMS).await;
    while_held(siege, "unfinished puts", &trials, before, &attackers, Blame::Score).await;
}

/// Answers of a megabyte that nobody reads, to `questions` of each stream, of which every attacker opens `streams`.
async fn unread(siege: &mut Siege, attack: &str, streams: usize, questions: usize) {
    let attackers = siege.attackers().await;
    let before = siege.streams().await;
    let (questions, mut held) = (everything().repeat(questions), Vec::new());
    for attacker in &attackers {
        for _ in 0..streams {
            held.push(attacker.ignore::<Get>(siege.peer, questions.clone()).await);
        }
    }
    let trials = arrive(siege, before, held.len(), SOME_STREAMS).await;
    while_held(siege, attack, &trials, before, &attackers, Blame::None).await;
}

pub(super) async fn unread_answers(siege: &mut Siege) {
    unread(siege, "answers that nobody reads", 64, 1).await;
}

/// As many questions on each stream as may be sent before anything is read.
pub(super) async fn questions_without_end(siege: &mut Siege) {
    unread(siege, "questions and no end", MANY_STREAMS, (250 << 10) / everything().len()).await;
}

pub(super) async fn silent_streams(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let before = siege.streams().await;
    let mut held = Vec::new();
    for attacker in &attackers {
        for _ in 0..500 {
            held.push(attacker.hold::<Get>(siege.peer, Vec::new()).await);
        }
    }
    let trials = arrive(siege, before, held.len(), ATTACKERS * MANY_STREAMS).await;
    // A stream each of those who are honest may have come.
    let most = before + ATTACKERS * MAX_STREAMS + ATTACKERS;
    let streams = siege.streams().await;
    assert!(streams <= most, "{streams} streams, at most {most}");
    while_held(siege, "streams on which nothing is said", &trials, before, &attackers, Blame::None).await;
    // It gives up what it listens to.
    until("the silent streams are closed", || async { siege.streams().await <= before + ATTACKERS }).await;
}
