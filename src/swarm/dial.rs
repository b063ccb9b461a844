//! What becomes of a dial.

use std::error::Error;

use libp2p::{PeerId, TransportError, swarm::DialError};
use tokio::sync::oneshot;

/// Who was reached, or why nobody was.
pub(super) type Dialer = oneshot::Sender<Result<PeerId, String>>;

/// Addresses of which is said what happened there.
const MAX_ADDRESSES: usize = 3;

/// Bytes of what is said.
const MAX_BYTES: usize = 1000;

/// Why nobody was reached. It has addresses that others told, and may be shown on a terminal: nothing but what ASCII prints.
pub(super) fn why(error: &DialError) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let text = reason(error);
    text.chars().map(|c| if is_plain(&c) { c } else { '?' }).take(MAX_BYTES).collect()
}

fn reason(error: &DialError) -> String {
    match error {
        DialError::NoAddresses => "no address of it is known".to_owned(),
        DialError::LocalPeerId { .. } => "that is this end itself".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("another peer is there: {obtained}"),
        DialError::Transport(errors) => {
            let at = |(address, error): &(_, TransportError<std::io::Error>)| match error {
                TransportError::MultiaddrNotSupported(_) => format!("{address}: no such transport"),
                TransportError::Other(error) => format!("{address}: {}", root(error)),
            };
            errors.iter().take(MAX_ADDRESSES).map(at).collect::<Vec<_>>().join("; ")
        }
        other => root(other).to_string(),
    }
}

/// What it comes from: those above say the same less clearly.
fn root<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::{Multiaddr, swarm::ConnectionDenied};

    use super::*;

    #[test]
    fn it_is_said_what_is_wrong_and_where() {
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let text = why(&DialError::Transport(vec![
            (address.clone(), TransportError::Other(std::io::Error::other(refused))),
            (
                "/ip4/192.0.2.1/sctp/1".parse().unwrap(),
                TransportError::MultiaddrNotSupported(address.clone()),
            ),
        ]));
        assert_eq!(
            text,
            "/ip4/192.0.2.1/tcp/1: connection refused; /ip4/192.0.2.1/sctp/1: no such transport"
        );
        let peer = PeerId::random();
        assert!(why(&DialError::WrongPeerId { obtained: peer, address }).contains(&peer.to_string()));
        let limit = ConnectionDenied::new(std::io::Error::other("enough"));
        assert_eq!(why(&DialError::Denied { cause: limit }), "enough");
        let named = format!("/dns4/\u{1b}]0;\n\u{202e}{}/tcp/1", "a".repeat(10_000)).parse().unwrap();
        let text =
            why(&DialError::Transport(vec![(named, TransportError::Other(std::io::Error::other("no")))]));
        assert!(text.starts_with("/dns4/?]0;??aaa") && text.len() == MAX_BYTES);
    }
}
