//! Every message: what is decoded encodes to something that decodes to the same, and fits its frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::{
    codec::lenient,
    filter::Filter,
    message::{Operation, Reply, announce, get::Get, hello::Hello, index::Index, put::Put},
    network::Network,
};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    max: usize,
) -> Option<T> {
    // The length of a frame is checked before it is decoded.
    let message: T = lenient::from_slice(bytes.get(..max).unwrap_or(bytes)).ok()?;
    let encoded = lenient::to_vec(&message).expect("a message can be encoded");
    let again: T = lenient::from_slice(&encoded).expect("what is encoded can be decoded");
    assert_eq!(again, message);
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

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let is_request = choice & 8 == 0;
    match choice & 7 {
        0 => drop(operation::<Hello>(bytes, is_request)),
        1 => drop(operation::<Put>(bytes, is_request)),
        2 => drop(operation::<Index>(bytes, is_request)),
        3 => drop(announce::decode(bytes)),
        _ => {
            let network = Network::default();
            let Some(request) = operation::<Get>(bytes, is_request) else { return };
            let Ok(filter) = Filter::from_request(request, &network) else { return };
            let request = filter.to_request().expect("a filter of a request is a request");
            assert_eq!(Filter::from_request(request, &network).ok(), Some(filter));
        }
    }
});
