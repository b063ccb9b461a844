//! Padding, which hides all but the rough size of a content (SPEC 4.5).

/// Begins the padding.
const MARK: u8 = 0x80;
/// The least padded length.
const LEAST: usize = 256;

/// The padded length of `length` bytes, P(L) of SPEC 4.5: 256 at least, and at most 12 % more than `length` from there on.
#[must_use]
pub fn padme(length: usize) -> usize {
    if length <= LEAST {
        return LEAST;
    }
    let exponent = length.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1_usize << (exponent - kept_bits)) - 1;
    // Saturates only where no content can be: at the end of the address space.
    length.saturating_add(mask) & !mask
}

/// Pads a content to its padded length.
pub(super) fn pad(content: &mut Vec<u8>) {
    content.push(MARK);
    content.resize(padme(content.len()), 0);
}

/// The content without its padding, or `None` if there is no padding.
pub(super) fn unpad(plaintext: &[u8]) -> Option<&[u8]> {
    let end = plaintext.iter().rposition(|byte| *byte != 0)?;
    let (content, padding) = plaintext.split_at_checked(end)?;
    (padding.first() == Some(&MARK)).then_some(content)
}
