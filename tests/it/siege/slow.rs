//! Who is slow: requests that are never finished, answers that are never read, streams on which nothing is said.

use p2pdb::protocol::{
    limits,
    message::{get::Get, put::Put},
};

use super::{ATTACKERS, Blame, Siege, everything, ids};
use crate::{peer::prefix, support::until};

pub(super) async fn unfinished_puts(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let half = [prefix(limits::PUT_REQUEST_BYTES), vec![0; limits::PUT_REQUEST_BYTES / 2]].concat();
    let mut held = Vec::new();
    for attacker in &attackers {
        for _ in 0..64 {
            held.push(attacker.hold::<Put>(siege.peer, half.clone()).await);
        }
    }
    siege.under("unfinished puts", &"384 of half a megabyte each", &ids(&attackers), Blame::Score).await;
}

pub(super) async fn unread_answers(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let (everything, mut held) = (everything(), Vec::new());
    for attacker in &attackers {
        for _ in 0..64 {
            held.push(attacker.ignore::<Get>(siege.peer, everything.clone()).await);
        }
    }
    siege.under("answers that nobody reads", &"384 of a megabyte", &ids(&attackers), Blame::None).await;
}

/// As many questions on each stream as may be sent before anything is read.
pub(super) async fn questions_without_end(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let (everything, mut held) = (everything(), Vec::new());
    let more = everything.repeat((250 << 10) / everything.len());
    for attacker in &attackers {
        for _ in 0..200 {
            held.push(attacker.ignore::<Get>(siege.peer, more.clone()).await);
        }
    }
    siege.under("questions and no end", &"1,200 streams of 250 KiB", &ids(&attackers), Blame::None).await;
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
    until("the node listens on as many streams as it does of a peer", || async {
        siege.streams().await >= ATTACKERS * 100
    })
    .await;
    siege.under("streams on which nothing is said", &"3,000", &ids(&attackers), Blame::None).await;
    // It gives up what it listens to.
    until("the silent streams are closed", || async { siege.streams().await <= before + ATTACKERS }).await;
}
