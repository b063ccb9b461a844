//! Who says by gossip what no implementation of it would say: frames made by hand.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use p2pdb::protocol::{
    codec::{bounded::List, lenient},
    id::EntryId,
    message::announce,
};

use super::{ATTACKERS, Blame, Siege, floods::Flood, random_bytes};
use crate::{
    peer::{Peer, field, framed, said},
    support::{table, table_id},
};

/// Frames of gossip: each takes part in topics that do not exist, or says something in such topics; `number` makes it another one.
fn rumours(number: u64) -> Vec<u8> {
    let name = |of: u64| format!("/p2pdb/dev/announce/1.0.0/{number:040}{of:040}");
    let (mut topics, mut messages) = (Vec::new(), Vec::new());
    for of in 0..200 {
        topics.extend(field(0x0a, &[&[0x08, 1][..], &field(0x12, name(of).as_bytes())].concat()));
    }
    for of in 0..16 {
        let data = [&number.to_be_bytes()[..], &[of as u8; 6000]].concat();
        messages.extend(said(&name(of), &data));
    }
    [framed(&topics), framed(&messages)].concat()
}

/// A frame of control messages about a topic: has, wants, joins and leaves.
fn controls(topic: &str) -> Vec<u8> {
    let topic = field(0x0a, topic.as_bytes());
    let messages = |tag| (0..1000).flat_map(move |_| field(tag, &random_bytes()[..20])).collect::<Vec<_>>();
    let mut control = Vec::new();
    control.extend(field(0x0a, &[&topic[..], &messages(0x12)].concat()));
    control.extend(field(0x12, &messages(0x0a)));
    for _ in 0..100 {
        control.extend(field(0x1a, &topic));
        // For half an hour.
        control.extend(field(0x22, &[&topic[..], &[0x18, 0x88, 0x0e]].concat()));
    }
    framed(&field(0x1a, &control))
}

/// Something true, which shows that the node heard all that was said before it on the same stream; `number` tells one from the
/// others.
fn truth(siege: &Siege, known: EntryId, number: usize) -> Vec<u8> {
    let topic = announce::topic(&siege.network, &table_id(table()));
    let ids: announce::Announce = List::try_from(vec![known; 2 + number]).unwrap();
    framed(&said(&topic, &lenient::to_vec(&ids).unwrap()))
}

/// Waits until the truth was heard so many times.
async fn hears_truth(observer: &mut Peer, known: EntryId, times: usize) {
    let mut heard = BTreeSet::new();
    while heard.len() < times {
        let ids = observer.hears().await;
        // What was put before is still announced.
        if ids.len() > 1 && ids.iter().all(|id| *id == known) {
            heard.insert(ids.len());
        }
    }
}

/// Each of the attackers says these again and again on one stream, and when it is over something true.
fn go_on(
    siege: &Siege,
    attackers: Vec<Peer>,
    frames: Vec<Vec<u8>>,
    truth: impl Fn(usize) -> Vec<u8>,
) -> Flood {
    let mut flood = Flood::new(&attackers, "frames");
    let frames: Arc<[Bytes]> = frames.into_iter().map(Bytes::from).collect();
    for (number, attacker) in attackers.into_iter().enumerate() {
        let (node, frames, truth) = (siege.peer, Arc::clone(&frames), Bytes::from(truth(number)));
        flood.spawn(|counts| async move {
            let (says, taken) = attacker.speak(node).await;
            for frame in frames.iter().cycle().take_while(|_| !counts.is_over()) {
                says.send(frame.clone()).await.expect("the node goes on to listen");
                counts.add_done(1);
            }
            says.send(truth).await.expect("the node goes on to listen");
            drop(says);
            assert!(taken.await, "the node takes all that is said");
        });
    }
    flood
}

/// Somebody who hears what the node passes on.
async fn observer(siege: &Siege) -> Peer {
    let observer = Peer::start(&siege.network);
    observer.connect(&siege.address).await.unwrap();
    observer.subscribe(table_id(table())).await;
    observer
}

/// Each of the attackers says these on so many streams, one after the other: a node takes four of a peer, and has one.
async fn spread(siege: &Siege, attackers: &[Peer], streams: Vec<Vec<Vec<u8>>>) {
    join_all(attackers.iter().zip(streams).map(|(attacker, streams)| async {
        for frames in streams {
            assert!(attacker.spread(siege.peer, frames).await, "the node takes all that is said");
        }
    }))
    .await;
}

pub(super) async fn of_what_nobody_has(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let mut observer = observer(siege).await;
    let known = siege.entries[0].id();
    let frames = |round: usize| {
        let first = 160 * round as u64;
        let rumours = (first..first + 160).flat_map(rumours);
        rumours.chain(truth(siege, known, round)).collect()
    };
    let streams = (0..ATTACKERS).map(|number| (2 * number..2 * number + 2).map(frames).collect()).collect();
    spread(siege, &attackers, streams).await;
    hears_truth(&mut observer, known, 2 * ATTACKERS).await;
    let more = (160 * 2 * ATTACKERS as u64..).take(32).map(rumours).collect();
    let flood = go_on(siege, attackers, more, |number| truth(siege, known, 2 * ATTACKERS + number));
    flood.counts.add_done(160 * 2 * ATTACKERS);
    flood.against(siege, "gossip in topics that nobody has", Blame::None).await;
    flood.stop().await;
    hears_truth(&mut observer, known, ATTACKERS).await;
}

pub(super) async fn control(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let mut observer = observer(siege).await;
    let known = siege.entries[1].id();
    let real = announce::topic(&siege.network, &table_id(table()));
    let frames = |number: usize| {
        let elsewhere = (0..100).flat_map(|of| controls(&format!("{real}{of}")));
        // Last those that the node takes seriously: it asks for what it was promised, and waits three seconds for it.
        elsewhere.chain(controls(&real)).chain(truth(siege, known, number)).collect()
    };
    let streams = (0..ATTACKERS).map(|number| vec![frames(number)]).collect();
    spread(siege, &attackers, streams).await;
    hears_truth(&mut observer, known, ATTACKERS).await;
    let more = (100..120).map(|of| controls(&format!("{real}{of}"))).collect();
    let flood = go_on(siege, attackers, more, |number| truth(siege, known, ATTACKERS + number));
    flood.counts.add_done(101 * ATTACKERS);
    flood.against(siege, "control messages of gossip", Blame::None).await;
    flood.stop().await;
    hears_truth(&mut observer, known, ATTACKERS).await;
}
