//! Every message: what is decoded encodes to something that decodes to the same.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::{
    codec::lenient,
    filter::Filter,
    message::{
        Operation, Reply, announce,
        get::Get,
        hello::Hello,
        index::Index,
        put::Put,
        sync::{GroupsRequest, Question, Sync, SyncRequest, word_bytes, words},
    },
    network::Network,
};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], max: usize) -> Option<T> {
    // The length of a frame is checked before it is decoded.
    check_with(|bytes| lenient::from_slice(bytes), bytes.get(..max).unwrap_or(bytes))
}

fn check_with<T: Serialize + PartialEq + Debug, E: Debug>(
    decode: impl Fn(&[u8]) -> Result<T, E>,
    bytes: &[u8],
) -> Option<T> {
    let message = decode(bytes).ok()?;
    let encoded = lenient::to_vec(&message).expect("a message can be encoded");
    let again = decode(&encoded).expect("what is encoded can be decoded");
    assert_eq!(again, message);
    assert_eq!(lenient::to_vec(&again).ok(), Some(encoded), "one encoding for each message");
    Some(message)
}

fn operation<O: Operation>(bytes: &[u8], is_request: bool) -> Option<O::Request>
where
    O::Request: PartialEq,
    O::Response: PartialEq,
{
    if is_request {
        return check::<O::Request>(bytes, O::MAX_REQUEST);
    }
    check::<Reply<O::Response>>(bytes, O::MAX_RESPONSE);
    None
}

fn filter(bytes: &[u8]) {
    let network = Network::default();
    let Some(request) = operation::<Get>(bytes, true) else { return };
    let Ok(filter) = Filter::from_request(request, &network) else { return };
    let request = filter.to_request().expect("a filter of a request is a request");
    assert_eq!(Filter::from_request(request, &network).ok(), Some(filter));
}

fn question(bytes: &[u8]) {
    let Some(request) = operation::<Sync>(bytes, true) else { return };
    let Some(Question::Groups(asked)) = request.question() else { return };
    let groups = Some(GroupsRequest::new(&asked));
    let again = SyncRequest { groups, ..SyncRequest::default() };
    assert_eq!(again.question(), Some(Question::Groups(asked)));
}

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let is_request = choice & 8 == 0;
    match choice & 7 {
        0 => drop(operation::<Hello>(bytes, is_request)),
        1 => drop(operation::<Put>(bytes, is_request)),
        2 => drop(operation::<Index>(bytes, is_request)),
        3 => drop(check_with(announce::decode, bytes)),
        4 if is_request => filter(bytes),
        4 => drop(operation::<Get>(bytes, false)),
        5 if is_request => question(bytes),
        5 => drop(operation::<Sync>(bytes, false)),
        6 => drop(check_with(announce::decode_new_tables, bytes)),
        _ => {
            if let Some(words) = words(bytes) {
                assert_eq!(word_bytes(words), bytes);
            }
        }
    }
});
