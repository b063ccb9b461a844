#![allow(clippy::unwrap_used)]

use libp2p::core::ConnectedPoint;
use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::*;

#[derive(Debug)]
struct Nobody;

impl Accept for Nobody {
    fn accept(self: Arc<Self>, _: usize, _: Asker, _: Stream, _: OwnedSemaphorePermit) {}
}

type Answer = Receiver<Result<Stream, OpenError>>;

fn behaviour() -> Behaviour {
    Behaviour::new(Vec::new(), Arc::new(Nobody))
}

fn ask(behaviour: &mut Behaviour, peer: PeerId) -> Answer {
    let (answer, answered) = oneshot::channel();
    behaviour.open(peer, StreamProtocol::new("/test"), answer);
    answered
}

fn point(address: &str) -> ConnectedPoint {
    let address: Multiaddr = address.parse().unwrap();
    ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse }
}

fn direct() -> ConnectedPoint {
    point("/ip4/192.0.2.1/tcp/1")
}

fn relayed() -> ConnectedPoint {
    point("/ip4/192.0.2.2/tcp/1/p2p-circuit")
}

fn connect(behaviour: &mut Behaviour, peer_id: PeerId, number: usize, endpoint: &ConnectedPoint) {
    let connection_id = ConnectionId::new_unchecked(number);
    let (failed_addresses, other_established) = (&[][..], 0);
    behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id,
        connection_id,
        endpoint,
        failed_addresses,
        other_established,
    }));
}

fn close(behaviour: &mut Behaviour, peer_id: PeerId, number: usize) {
    let connection_id = ConnectionId::new_unchecked(number);
    let (cause, remaining_established) = (None, 0);
    behaviour.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id,
        connection_id,
        endpoint: &direct(),
        cause,
        remaining_established,
    }));
}

fn fail(behaviour: &mut Behaviour, peer: PeerId, error: &DialError) {
    let (peer_id, connection_id) = (Some(peer), ConnectionId::new_unchecked(0));
    behaviour.on_swarm_event(FromSwarm::DialFailure(DialFailure { peer_id, error, connection_id }));
}

/// What the behaviour wants of the swarm: the connections on which it wants streams, and how often it dials.
fn wants(behaviour: &mut Behaviour) -> (Vec<ConnectionId>, usize) {
    let (mut streams, mut dials) = (Vec::new(), 0);
    for event in behaviour.events.drain(..) {
        match event {
            ToSwarm::NotifyHandler { handler: NotifyHandler::One(connection), .. } => {
                streams.push(connection)
            }
            ToSwarm::Dial { .. } => dials += 1,
            other => panic!("{other:?}"),
        }
    }
    (streams, dials)
}

fn connections(numbers: &[usize]) -> Vec<ConnectionId> {
    numbers.iter().map(|number| ConnectionId::new_unchecked(*number)).collect()
}

#[test]
fn streams_are_opened_on_the_latest_direct_connection_and_on_a_relayed_one_if_there_is_no_other() {
    let (mut behaviour, peer) = (behaviour(), PeerId::random());
    connect(&mut behaviour, peer, 1, &relayed());
    let _on_relay = ask(&mut behaviour, peer);
    connect(&mut behaviour, peer, 2, &direct());
    connect(&mut behaviour, peer, 3, &direct());
    connect(&mut behaviour, peer, 4, &relayed());
    let _latest = ask(&mut behaviour, peer);
    close(&mut behaviour, peer, 3);
    let _other = ask(&mut behaviour, peer);
    close(&mut behaviour, peer, 2);
    close(&mut behaviour, peer, 4);
    let _last = ask(&mut behaviour, peer);
    assert_eq!(wants(&mut behaviour), (connections(&[1, 3, 2, 1]), 0));
    close(&mut behaviour, peer, 1);
    let _waits = ask(&mut behaviour, peer);
    assert_eq!(wants(&mut behaviour), (Vec::new(), 1));
    assert!(behaviour.connections.is_empty());
}

#[test]
fn who_asks_for_a_peer_that_is_not_connected_waits_for_the_dial() {
    let (mut behaviour, peer, other) = (behaviour(), PeerId::random(), PeerId::random());
    let mut waiting = [ask(&mut behaviour, peer), ask(&mut behaviour, peer)];
    let mut unreachable = ask(&mut behaviour, other);
    assert_eq!(wants(&mut behaviour), (Vec::new(), 3));
    // Of two dials at a time the swarm refuses one, which says nothing of the other.
    let twice = DialError::DialPeerConditionFalse(libp2p::swarm::dial_opts::PeerCondition::NotDialing);
    fail(&mut behaviour, peer, &twice);
    fail(&mut behaviour, other, &DialError::NoAddresses);
    assert!(matches!(unreachable.try_recv(), Ok(Err(OpenError::Unreachable(_)))));
    connect(&mut behaviour, peer, 1, &direct());
    assert_eq!(wants(&mut behaviour), (connections(&[1, 1]), 0));
    assert!(waiting.iter_mut().all(|answer| matches!(answer.try_recv(), Err(TryRecvError::Closed))));
    assert!(behaviour.waiting.is_empty());
}

#[test]
fn no_more_wait_for_a_peer_than_there_is_room_for_and_who_gave_up_takes_none() {
    let (mut behaviour, peer) = (behaviour(), PeerId::random());
    let mut waiting: Vec<Answer> = (0..MAX_WAITING).map(|_| ask(&mut behaviour, peer)).collect();
    assert!(matches!(ask(&mut behaviour, peer).try_recv(), Ok(Err(OpenError::Unreachable(_)))));
    waiting.truncate(MAX_WAITING / 2);
    assert!(matches!(ask(&mut behaviour, peer).try_recv(), Err(TryRecvError::Empty)));
    assert!(waiting.iter_mut().all(|answer| matches!(answer.try_recv(), Err(TryRecvError::Empty))));
}
