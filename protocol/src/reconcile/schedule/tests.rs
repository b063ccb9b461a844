#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::*;
use crate::reconcile::{Cut, End, Misbehaviour, random::Random};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn quiet() -> Report {
    Report::default()
}

fn useful() -> Report {
    Report { listed: 5, fetched: 5, ..Report::default() }
}

fn useless() -> Report {
    Report { listed: 5, missing: 5, ..Report::default() }
}

fn schedule() -> (Schedule<u32>, Random) {
    let mut rng = Random::new(1);
    (Schedule::new(Duration::ZERO, &mut rng), rng)
}

#[test]
fn peers_that_cannot_be_reached_are_avoided_for_ten_minutes_at_most() {
    let (mut schedule, mut rng) = schedule();
    let failed = Report { end: End::Cut(Cut::Failures), ..Report::default() };
    schedule.connected(7, Duration::ZERO);
    let begun = run(&mut schedule, &mut rng, 3 * 3600, &failed);
    let gaps: Vec<u64> = begun.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps[..3].iter().zip([30, 60, 120]).all(|(gap, least)| (least..least + 45).contains(gap)));
    assert!(gaps.iter().all(|gap| *gap <= 645), "{gaps:?}");
}

#[test]
fn a_new_connection_to_a_peer_that_could_not_be_reached_is_tried() {
    let (mut schedule, mut rng) = schedule();
    let failed = Report { end: End::Cut(Cut::Failures), ..Report::default() };
    schedule.connected(7, Duration::ZERO);
    run(&mut schedule, &mut rng, 3600, &failed);
    assert!(schedule.avoided_until(&7).unwrap() > seconds(3600));
    // To be told of the same connection again is no reason.
    schedule.connected(7, seconds(3600));
    assert_eq!(schedule.poll(seconds(3600), &mut rng), None);
    schedule.disconnected(&7, seconds(3601));
    schedule.connected(7, seconds(3602));
    assert_eq!(schedule.poll(seconds(3600) + MIN_INTERVAL, &mut rng), Some(7));
    // What is still on its way on the old connection fails, and says nothing of the new one.
    schedule.disconnected(&7, seconds(3700));
    schedule.connected(7, seconds(3701));
    schedule.finished(&7, &failed, seconds(3702));
    assert_eq!(schedule.poll(seconds(3702), &mut rng), Some(7));
    schedule.finished(&7, &failed, seconds(3703));
    assert!(schedule.avoided_until(&7).unwrap() > seconds(4000));
    // So is a further one, which comes before the others are given up; it is no reason to ask anew who can be reached.
    schedule.reconnected(&7, seconds(3720));
    assert_eq!(schedule.poll(seconds(3720), &mut rng), Some(7));
    schedule.finished(&7, &useful(), seconds(3730));
    schedule.reconnected(&7, seconds(3730));
    assert_eq!(schedule.peers[&7].wanted, None);
    // What it asked for holds on any connection.
    let busy = Report { end: End::Cut(Cut::Busy(seconds(900))), ..Report::default() };
    schedule.mismatched(&7, seconds(3730));
    assert_eq!(schedule.poll(seconds(3740), &mut rng), Some(7));
    schedule.finished(&7, &busy, seconds(3742));
    schedule.disconnected(&7, seconds(3743));
    schedule.connected(7, seconds(3744));
    assert_eq!(schedule.poll(seconds(4641), &mut rng), None);
    assert_eq!(schedule.poll(seconds(4642), &mut rng), Some(7));
}

/// Lets one second pass after the other, with sessions that end at once, and tells the times of the beginnings.
fn run(schedule: &mut Schedule<u32>, rng: &mut Random, until: u64, report: &Report) -> Vec<(u64, u32)> {
    let mut begun = Vec::new();
    for second in 0..=until {
        let now = seconds(second);
        while let Some(peer) = schedule.poll(now, rng) {
            begun.push((second, peer));
            schedule.finished(&peer, report, now);
        }
    }
    begun
}

#[test]
fn a_new_peer_is_due_at_once_and_not_twice() {
    let (mut schedule, mut rng) = schedule();
    assert_eq!(schedule.poll(Duration::ZERO, &mut rng), None);
    schedule.connected(7, Duration::ZERO);
    assert_eq!(schedule.next_wake(), Some(Duration::ZERO));
    assert_eq!(schedule.poll(Duration::ZERO, &mut rng), Some(7));
    assert_eq!(schedule.poll(Duration::ZERO, &mut rng), None);
    schedule.finished(&7, &quiet(), seconds(1));
    // A flapping connection does not make it due earlier.
    schedule.disconnected(&7, seconds(2));
    schedule.connected(7, seconds(3));
    assert_eq!(schedule.poll(seconds(9), &mut rng), None);
    assert_eq!(schedule.next_wake(), Some(seconds(10)));
    assert_eq!(schedule.poll(seconds(10), &mut rng), Some(7));
}

#[test]
fn mismatches_lead_to_one_session_per_ten_seconds() {
    let (mut schedule, mut rng) = schedule();
    schedule.connected(7, Duration::ZERO);
    let mut begun = Vec::new();
    for millis in (0..60_000).step_by(100) {
        let now = Duration::from_millis(millis);
        schedule.mismatched(&7, now);
        schedule.mismatched(&8, now);
        if let Some(peer) = schedule.poll(now, &mut rng) {
            begun.push((now, peer));
            schedule.finished(&peer, &quiet(), now);
        }
    }
    assert_eq!(begun, (0..6).map(|n| (seconds(n * 10), 7)).collect::<Vec<_>>());
}

#[test]
fn a_mismatch_during_a_session_is_not_lost() {
    let (mut schedule, mut rng) = schedule();
    schedule.connected(7, Duration::ZERO);
    schedule.poll(Duration::ZERO, &mut rng).unwrap();
    schedule.mismatched(&7, seconds(1));
    schedule.finished(&7, &useful(), seconds(2));
    assert_eq!(schedule.next_wake(), Some(seconds(10)));
    assert_eq!(schedule.poll(seconds(10), &mut rng), Some(7));
}

#[test]
fn rounds_come_every_fifteen_to_forty_five_seconds_and_reach_everyone() {
    let (mut schedule, mut rng) = schedule();
    (0..8).for_each(|peer| schedule.connected(peer, Duration::ZERO));
    let begun = run(&mut schedule, &mut rng, 6000, &quiet());
    let rounds: Vec<_> = begun.iter().skip(8).collect();
    for pair in rounds.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!((15..=46).contains(&gap), "expected 15-46 s, got {gap}");
    }
    assert!((180..=220).contains(&rounds.len()), "expected about 200 rounds, got {}", rounds.len());
    let reached: BTreeSet<u32> = rounds.iter().map(|(_, peer)| *peer).collect();
    assert_eq!(reached, (0..8).collect());
}

#[test]
fn only_so_many_run_at_once_and_the_longest_waiting_goes_first() {
    let (mut schedule, mut rng) = schedule();
    for peer in 0..10 {
        schedule.connected(peer, seconds(u64::from(peer)));
    }
    let now = seconds(14);
    let begun: Vec<_> = std::iter::from_fn(|| schedule.poll(now, &mut rng)).collect();
    assert_eq!(begun, [0, 1, 2, 3]);
    assert_eq!(schedule.next_wake(), None);
    schedule.finished(&2, &quiet(), now);
    assert_eq!(schedule.poll(now, &mut rng), Some(4));
}

#[test]
fn useless_peers_are_avoided_twice_as_long_each_time_up_to_a_day() {
    let (mut schedule, mut rng) = schedule();
    let mut now = Duration::ZERO;
    schedule.connected(7, now);
    let mut waits = Vec::new();
    for _ in 0..15 {
        schedule.mismatched(&7, now);
        now = schedule.avoided_until(&7).unwrap();
        assert_eq!(schedule.poll(now, &mut rng), Some(7));
        schedule.finished(&7, &useless(), now);
        let until = schedule.avoided_until(&7).unwrap();
        waits.push((until - now).as_secs());
        schedule.mismatched(&7, now);
        // Reconnecting does not help.
        schedule.disconnected(&7, now);
        schedule.connected(7, now);
        assert_eq!(schedule.poll(until - Duration::from_millis(1), &mut rng), None);
    }
    assert_eq!(waits[..4], [30, 60, 120, 240]);
    assert_eq!(waits[11..], [61_440, 86_400, 86_400, 86_400]);

    now = schedule.avoided_until(&7).unwrap();
    schedule.poll(now, &mut rng).unwrap();
    schedule.finished(&7, &useful(), now);
    assert_eq!(schedule.avoided_until(&7), Some(now), "a useful session makes up for all");
    schedule.mismatched(&7, now);
    now += MIN_INTERVAL;
    schedule.poll(now, &mut rng).unwrap();
    schedule.finished(&7, &useless(), now);
    assert_eq!(schedule.avoided_until(&7), Some(now + FIRST_BACK_OFF));
}

#[test]
fn who_is_passed_over_is_judged_as_before_and_has_its_turn_again() {
    let (mut schedule, mut rng) = schedule();
    schedule.connected(7, Duration::ZERO);
    assert_eq!(schedule.poll(Duration::ZERO, &mut rng), Some(7));
    schedule.finished(&7, &useless(), Duration::ZERO);
    schedule.mismatched(&7, seconds(1));
    assert_eq!(schedule.poll(seconds(30), &mut rng), Some(7));
    schedule.passed_over(&7);
    schedule.mismatched(&7, seconds(31));
    assert_eq!(schedule.poll(seconds(40), &mut rng), Some(7));
    schedule.finished(&7, &useless(), seconds(40));
    assert_eq!(schedule.avoided_until(&7), Some(seconds(100)), "the second useless one");
}

#[test]
fn each_verdict_has_its_wait() {
    let cases = [
        (quiet(), 0),
        (useful(), 0),
        (Report { listed: 9, received_bytes: QUIET_RATE * 77, ..Report::default() }, 77),
        (Report { listed: 9, received_bytes: u64::MAX, ..Report::default() }, 3600),
        (Report { end: End::Cut(Cut::Failures), ..Report::default() }, 30),
        (Report { end: End::Cut(Cut::Closed), ..Report::default() }, 0),
        (Report { end: End::Cut(Cut::Refused), refused: 9, ..Report::default() }, 0),
        (Report { end: End::Cut(Cut::Busy(seconds(500))), ..Report::default() }, 500),
        (Report { end: End::Cut(Cut::Busy(Duration::MAX)), ..Report::default() }, 86_400),
        (Report { end: End::Cut(Cut::TooSlow), ..Report::default() }, 30),
        (Report { listed: 9, fetched: 3, false_claims: 4, ..Report::default() }, 30),
        (Report { end: End::Misbehaved(Misbehaviour::Unsolicited), ..useful() }, 86_400),
    ];
    for (report, expected) in cases {
        let (mut schedule, mut rng) = schedule();
        schedule.connected(7, Duration::ZERO);
        schedule.poll(Duration::ZERO, &mut rng).unwrap();
        schedule.finished(&7, &report, Duration::ZERO);
        assert_eq!(schedule.avoided_until(&7), Some(seconds(expected)), "{report:?}");
    }
}

#[test]
fn what_was_cut_and_useful_goes_on() {
    let (mut schedule, mut rng) = schedule();
    schedule.connected(7, Duration::ZERO);
    schedule.poll(Duration::ZERO, &mut rng).unwrap();
    schedule.finished(&7, &Report { end: End::Cut(Cut::TooSlow), ..useful() }, seconds(14));
    assert_eq!(schedule.poll(seconds(14), &mut rng), Some(7));
}

#[test]
fn peers_that_are_gone_are_forgotten_unless_they_are_to_be_avoided() {
    let (mut schedule, mut rng) = schedule();
    for peer in 0..MAX_DISCONNECTED as u32 + 100 {
        let now = seconds(u64::from(peer));
        schedule.connected(peer, now);
        assert_eq!(schedule.poll(now, &mut rng), Some(peer));
        schedule.finished(&peer, &Report { end: End::Misbehaved(Misbehaviour::Unsolicited), ..quiet() }, now);
        schedule.disconnected(&peer, now);
        assert!(schedule.peers.len() <= MAX_DISCONNECTED);
    }
    assert_eq!(schedule.avoided_until(&99), None, "the one that needs it least goes first");
    assert!(schedule.avoided_until(&100).is_some());
    schedule.disconnected(&0, MAX_BACK_OFF + seconds(5000));
    assert!(schedule.peers.is_empty());
}
