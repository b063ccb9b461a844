use proptest::prelude::*;

use crate::seal::padme::{pad, padme, unpad};

#[test]
fn lengths_are_those_of_the_specification() {
    for (length, padded) in [
        (0, 256),
        (1, 256),
        (256, 256),
        (257, 272),
        (272, 272),
        (273, 288),
        (512, 512),
        (513, 544),
        (1000, 1024),
        (1025, 1088),
        (65_535, 65_536),
        (65_537, 67_584),
        (100_000, 100_352),
        (262_143, 262_144),
    ] {
        assert_eq!(padme(length), padded, "of {length}");
    }
    assert!(padme(usize::MAX) >= usize::MAX / 2, "no overflow");
}

#[test]
fn what_has_no_mark_is_not_padded() {
    for plaintext in [&[][..], &[0], &[0; 256], &[1], &[0x80, 1], &[0x80, 0, 0x81, 0]] {
        assert_eq!(unpad(plaintext), None, "{plaintext:02x?}");
    }
    assert_eq!(unpad(&[0x80]), Some(&[][..]));
    assert_eq!(unpad(&[0x80, 0x80, 0]), Some(&[0x80][..]));
}

proptest! {
    #[test]
    fn padding_hides_the_length_for_little(length in 0_usize..1 << 20) {
        let padded = padme(length);
        prop_assert!(padded >= length);
        prop_assert!(padded <= 256.max(length + length * 12 / 100));
        prop_assert_eq!(padme(padded), padded, "a padded length is one");
        prop_assert!(padme(length + 1) >= padded);
        // So few lengths are left that they tell little: the bits below the top log2(log2) + 1 are zero.
        prop_assert!(padded <= 256 || padded.ilog2() - padded.trailing_zeros() <= padded.ilog2().ilog2() + 1);
    }

    #[test]
    fn padding_comes_off_again(mut content: Vec<u8>, zeros in 0_usize..4) {
        content.resize(content.len() + zeros, 0);
        let mut padded = content.clone();
        pad(&mut padded);
        prop_assert_eq!(padded.len(), padme(content.len() + 1));
        prop_assert_eq!(unpad(&padded), Some(content.as_slice()));
    }
}
