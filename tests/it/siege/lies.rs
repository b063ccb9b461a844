//! Who sends what is not true: garbage, entries with spoiled signatures, records of others.

use p2pdb::protocol::{
    codec::{bounded::Blob, lenient},
    message::{
        get::Get,
        hello::{Hello, HelloRequest},
        put::Put,
    },
};

use super::{ATTACKERS, Blame, ROUNDS, Siege, floods::Flood, put_request};
use crate::{
    peer::{framed, signed_bytes},
    refusals::Parts,
};

pub(super) async fn garbage(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let flood = Flood::of::<Get>(siege, attackers, 2, framed(&[0xff; 5000]));
    flood.against(siege, "garbage", Blame::Ban).await;
    assert!(flood.stop().await.are_refused());
}

/// Copies of what the honest client is about to put, and of what nobody puts, with work and without a signature that is good.
pub(super) async fn forged_entries(siege: &mut Siege) {
    let attackers = siege.attackers().await;
    let nobodys: Vec<_> = (0..10).map(|number| siege.entry(&format!("nobody's {number}"))).collect();
    let spoiled = siege.coming.iter().chain(&nobodys);
    let spoiled = spoiled.map(|entry| Parts::of(entry).change(|parts| parts.signature[9] ^= 1).bytes());
    let put = put_request(spoiled);
    let verified = siege.verified().await;
    let flood = Flood::of::<Put>(siege, attackers, 1, put);
    flood.against(siege, "puts of 25 entries with spoiled signatures", Blame::Ban).await;
    flood.stop().await;
    // Each is refused for its signature, so that it was looked at; three such requests are a reason for a ban.
    let verified = siege.verified().await - verified;
    assert!(verified >= ROUNDS + 3 * ATTACKERS * nobodys.len(), "{verified} signatures");
}

pub(super) async fn records_of_others(siege: &mut Siege) {
    let mut attackers = siege.attackers().await;
    let victim = attackers.pop().unwrap();
    let forged = signed_bytes(&victim.key, &siege.network);
    let hello = HelloRequest { record: Some(Blob::try_from(forged).unwrap()), tables: None };
    let hello = framed(&lenient::to_vec(&hello).unwrap());
    let flood = Flood::of::<Hello>(siege, attackers, 2, hello);
    flood.against(siege, "records of another peer", Blame::Ban).await;
    assert!(flood.stop().await.are_refused());
    assert!(victim.is_connected(siege.peer).await, "who is lied about is not to blame");
}
