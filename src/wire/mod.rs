//! Frames on libp2p streams: what SPEC 8.1 says about bytes, before anything says what they mean.

pub mod frame;

use libp2p::StreamProtocol;
use p2pdb_protocol::{message::Operation, network::Network};

/// The libp2p protocol name of an operation in a network (SPEC 2.3).
#[must_use]
pub fn protocol_name<O: Operation>(network: &Network) -> StreamProtocol {
    named(network, &format!("/{}/1.0.0", O::NAME))
}

/// The name of the network's kad protocol (SPEC 2.3).
#[must_use]
pub fn kad_protocol_name(network: &Network) -> StreamProtocol {
    named(network, "/kad/1.0.0")
}

/// The protocol version that nodes of the network state through identify (SPEC 2.3).
#[must_use]
pub fn identify_protocol_version(network: &Network) -> String {
    format!("/p2pdb/{}/1.0.0", network.label())
}

#[expect(clippy::expect_used, reason = "only a name without its leading slash is refused")]
fn named(network: &Network, suffix: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/p2pdb/{}{suffix}", network.label()))
        .expect("begins with a slash")
}
