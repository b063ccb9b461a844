#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

#[test]
fn the_examples_of_rfc_8949_appendix_a() {
    for (value, encoded) in [
        (0, &[0x00][..]),
        (23, &[0x17]),
        (24, &[0x18, 0x18]),
        (1000, &[0x19, 0x03, 0xe8]),
        (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
        (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
        (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(Writer::new().uint(value).take(), encoded);
        assert_eq!(Reader::new(encoded).uint(), Ok(value));
    }
    assert_eq!(Writer::new().bytes(&[1, 2, 3, 4]).take(), [0x44, 1, 2, 3, 4]);
    assert_eq!(Writer::new().text("IETF").take(), b"\x64IETF");
    assert_eq!(Writer::new().array(2).null().uint(1).take(), [0x82, 0xf6, 0x01]);
}

#[test]
fn every_other_encoding_of_a_value_is_non_canonical() {
    for bytes in
        [&[0x18, 0x17][..], &[0x19, 0, 0xff], &[0x1a, 0, 0, 0xff, 0xff], &[0x1b, 0, 0, 0, 0, 1, 1, 1, 1]]
    {
        assert_eq!(Reader::new(bytes).uint(), Err(Error::NonCanonical));
    }
    assert_eq!(Reader::new(&[0x58, 0x01, 0xaa]).bytes(9), Err(Error::NonCanonical));
    assert_eq!(Reader::new(&[0x5f, 0x41, 0xaa, 0xff]).bytes(9), Err(Error::NonCanonical));
    assert_eq!(Reader::new(&[0x7f, 0x61, 0x61, 0xff]).text(9), Err(Error::NonCanonical));
    assert_eq!(Reader::new(&[0x9f, 0x01, 0xff]).array(9), Err(Error::NonCanonical));
    assert_eq!(Reader::new(&[0x98, 0x01, 0x01]).tuple(1), Err(Error::NonCanonical));
}

#[test]
fn other_types_truncation_and_trailing_bytes_are_malformed() {
    // Negative, tag, float, reserved head, indefinite integer, undefined.
    for bytes in [&[0x20][..], &[0xc2, 0x41, 0x01], &[0xf9, 0, 0], &[0x1c], &[0x1f], &[0xf7], &[], &[0x19, 1]]
    {
        assert_eq!(Reader::new(bytes).uint(), Err(Error::Malformed));
    }
    assert_eq!(Reader::new(&[0x42, 1]).bytes(9), Err(Error::Malformed));
    assert_eq!(Reader::new(&[0x61, 0xff]).text(9), Err(Error::Malformed));
    assert_eq!(Reader::new(&[0x81, 0x01]).tuple(2), Err(Error::Malformed));
    assert_eq!(Reader::new(&[0x42, 1, 2]).fixed::<3>(), Err(Error::Malformed));
    let mut reader = Reader::new(&[0x01, 0x00]);
    reader.uint().unwrap();
    assert_eq!(reader.finish(), Err(Error::Malformed));
}

#[test]
fn lengths_are_judged_before_the_bytes_are_there() {
    assert_eq!(
        Reader::new(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes(64),
        Err(Error::TooLong)
    );
    assert_eq!(Reader::new(&[0x9a, 0xff, 0xff, 0xff, 0xff]).array(16), Err(Error::TooLong));
    assert_eq!(Reader::new(&[0x62, 0x61, 0x61]).text(1), Err(Error::TooLong));
}

#[test]
fn null_is_told_from_a_value() {
    assert_eq!(Reader::new(&[0xf6]).nullable(Reader::uint), Ok(None));
    assert_eq!(Reader::new(&[0x05]).nullable(Reader::uint), Ok(Some(5)));
    assert_eq!(Reader::new(&[0xf7]).nullable(Reader::uint), Err(Error::Malformed));
}

proptest! {
    #[test]
    fn what_is_written_is_read(value: u64, bytes: Vec<u8>, text: String) {
        let encoded = Writer::new().array(3).uint(value).bytes(&bytes).text(&text).take();
        let mut reader = Reader::new(&encoded);
        reader.tuple(3).unwrap();
        prop_assert_eq!(reader.uint(), Ok(value));
        prop_assert_eq!(reader.bytes(bytes.len()), Ok(&bytes[..]));
        prop_assert_eq!(reader.text(text.len()), Ok(&text[..]));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    /// One value has one encoding: whatever is read as an integer is what the writer makes of it.
    #[test]
    fn an_accepted_integer_is_written_back_identically(bytes in prop::collection::vec(any::<u8>(), 1..10)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(value) = reader.uint() {
            let used = bytes.len() - reader.rest.len();
            prop_assert_eq!(Writer::new().uint(value).take(), &bytes[..used]);
        }
    }
}
