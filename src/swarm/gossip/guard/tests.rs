#![allow(clippy::unwrap_used)]

use super::*;

fn network() -> Network {
    Network::default()
}

fn table(number: u64) -> TableId {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    TableId::from_bytes(bytes)
}

fn topic(number: u64) -> TopicHash {
    TopicHash::from_raw(announce::topic(&network(), &table(number)))
}

fn message(topic: &TopicHash, length: usize) -> RawMessage {
    saying(topic, vec![7; length])
}

fn saying(topic: &TopicHash, data: Vec<u8>) -> RawMessage {
    RawMessage {
        source: None,
        data,
        sequence_number: None,
        topic: topic.clone(),
        signature: None,
        key: None,
        validated: false,
    }
}

#[test]
fn what_nobody_here_cares_for_and_what_is_too_long_does_not_reach_gossip() {
    let guard = Guard::default();
    guard.join(topic(1));
    let takes = |topic: &TopicHash, length| guard.inbound_transform(message(topic, length)).is_ok();
    assert!(takes(&topic(1), 100) && takes(&topic(1), MAX_BYTES));
    assert!(!takes(&topic(1), MAX_BYTES + 1));
    assert!(!takes(&topic(2), 100) && !takes(&TopicHash::from_raw(""), 0));
    guard.leave(&topic(1));
    assert!(!takes(&topic(1), 100));
    assert!(!guard.renew());
}

#[test]
fn no_more_messages_are_taken_than_gossip_may_remember() {
    let guard = Guard::default();
    guard.join(topic(1));
    let takes =
        |number: usize| guard.inbound_transform(saying(&topic(1), number.to_be_bytes().to_vec())).is_ok();
    assert!((0..2 * MAX_MESSAGES).all(|_| takes(0)), "copies are one message");
    assert_eq!((0..2 * MAX_MESSAGES).filter(|number| takes(*number)).count(), MAX_MESSAGES);
    assert!(takes(1) && !takes(MAX_MESSAGES));
    assert!(guard.renew());
    assert!(takes(MAX_MESSAGES));
    // All of it once more is nothing new, and leaves the places to others.
    assert!((0..MAX_MESSAGES).all(takes));
    assert!(takes(2 * MAX_MESSAGES));
    assert!(!guard.renew(), "there were not too many since");
    assert!((0..REMEMBERED).all(|_| !guard.renew()));
    assert!(guard.lock().taken.is_empty(), "it is forgotten");
}

#[test]
fn only_topics_of_the_network_are_remembered() {
    let mut topics = Topics::limited(network());
    let new_tables = TopicHash::from_raw(announce::new_tables_topic(&network()));
    assert!(topics.can_subscribe(&topic(1)) && topics.can_subscribe(&new_tables));
    let other_case = topic(1).as_str().to_uppercase();
    let longer = format!("{}/", topic(1));
    for name in ["", "/", "/p2pdb/else/tables/1.0.0", &table(1).to_string(), &other_case, &longer] {
        assert!(!topics.can_subscribe(&TopicHash::from_raw(name)), "{name}");
    }
}

#[test]
fn of_the_address_that_told_the_most_all_who_had_a_part_in_it_are_to_blame() {
    let told = |ip: &str, messages| Told {
        peer: PeerId::random(),
        origin: Some(Origin::of(ip.parse().unwrap())),
        messages,
    };
    let few = TOO_MANY / 2;
    let all = [
        told("192.0.2.1", TOO_MANY - 1),
        told("192.0.2.2", few),
        told("192.0.2.2", few),
        told("192.0.2.2", few),
        told("192.0.2.2", 1),
        // Users of this machine are not one.
        told("127.0.0.1", TOO_MANY),
        told("127.0.0.1", few),
    ];
    let guilty: Vec<_> = all.iter().skip(1).take(3).map(|told| told.peer).collect();
    assert_eq!(to_blame(all), guilty);
    assert!(to_blame([told("192.0.2.1", few), told("192.0.2.1", few)]).is_empty());
    let alone = told("127.0.0.1", TOO_MANY + 1);
    let peer = alone.peer;
    assert_eq!(to_blame([alone, told("127.0.0.1", TOO_MANY)]), [peer]);
}
