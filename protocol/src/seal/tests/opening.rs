//! Entries that a holder of the table's key forged: everything around the content is right, the content is not.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    codec::strict::{self, Writer},
    entry::{Header, WrappedKey, encode, entry_id},
    id::TableId,
    seal::{
        body::ContentKey,
        content::{Claim, author_message},
        padme::pad,
    },
};

/// The parts of an entry to key 1, each of which a test can spoil.
struct Forgery {
    plaintext: Vec<u8>,
    /// The table the body is encrypted for.
    body_table: TableId,
    table: TableId,
    created: u64,
    recipients: Vec<PublicKey>,
    /// What is wrapped in place of the content key.
    wrapped_bytes: Option<Vec<u8>>,
    label: &'static [u8],
}

impl Forgery {
    fn of(content: &[u8]) -> Self {
        let mut plaintext = content.to_vec();
        pad(&mut plaintext);
        let table = public(0).table_id();
        Self {
            plaintext,
            body_table: table,
            table,
            created: CREATED,
            recipients: vec![public(1)],
            wrapped_bytes: None,
            label: WRAP_LABEL,
        }
    }

    fn entry(self) -> Entry {
        let key = ContentKey::generate(&mut rng());
        let bytes = self.wrapped_bytes.unwrap_or_else(|| key.as_bytes().to_vec());
        let mut recipients: Vec<_> = (self.recipients.iter())
            .map(|public| WrappedKey {
                recipient: public.recipient_id(),
                wrapped: public.encrypt(&mut rng(), self.label, &bytes).unwrap(),
            })
            .collect();
        recipients.sort_by_key(|wrapped| wrapped.recipient);
        let mut body = self.plaintext;
        key.encrypt(&self.body_table, &mut body).unwrap();
        let header = Header {
            table: self.table,
            created: self.created,
            expires: None,
            recipients,
            body_hash: Sha256::digest(&body).into(),
            body_length: body.len() as u64,
        };
        let header = header.encode();
        let puzzle =
            Puzzle::for_entry(&network(), &entry_id(&header, &body), (header.len() + body.len()) as u64);
        Entry::from_trusted(encode(&header, &body, &[0; 256], &solve(puzzle)), &network()).unwrap()
    }

    fn open(self) -> Result<Opened, OpenError> {
        open(&self.entry(), key(1))
    }
}

/// The content with a claim of key 2 as its author that holds for an entry of [`Forgery::of`].
fn signed_content() -> Vec<u8> {
    let recipients = [public(1).recipient_id()].into_iter();
    let message = author_message(&public(0).table_id(), CREATED, recipients, &content());
    let signature = key(2).sign(&mut rng(), &message).unwrap();
    content().encode(Some(&Claim { key: public(2).der(), signature: &signature }))
}

#[test]
fn a_forgery_without_a_fault_opens() {
    assert_eq!(Forgery::of(&content().encode(None)).open().unwrap().content, content());
    assert_eq!(Forgery::of(&signed_content()).open().unwrap().author, Some(public(2)));
}

#[test]
fn a_key_that_does_not_unwrap_is_refused() {
    let good = content().encode(None);
    let unlabelled = Forgery { label: b"", ..Forgery::of(&good) };
    assert_eq!(unlabelled.open(), Err(OpenError::WrappedKey));
    for length in [0, 31, 33] {
        let forgery = Forgery { wrapped_bytes: Some(vec![0; length]), ..Forgery::of(&good) };
        assert_eq!(forgery.open(), Err(OpenError::WrappedKey), "{length} bytes");
    }
}

#[test]
fn a_body_of_another_key_or_table_is_refused() {
    let good = content().encode(None);
    let other_key = Forgery { wrapped_bytes: Some(vec![0; 32]), ..Forgery::of(&good) };
    assert_eq!(other_key.open(), Err(OpenError::Body));
    let moved = Forgery { table: public(3).table_id(), ..Forgery::of(&good) };
    assert_eq!(moved.open(), Err(OpenError::Body));
}

#[test]
fn wrong_padding_is_refused() {
    for plaintext in [vec![], vec![0; 256], content().encode(None)] {
        let forgery = Forgery { plaintext, ..Forgery::of(b"") };
        assert_eq!(forgery.open(), Err(OpenError::Padding));
    }
}

#[test]
fn a_content_that_is_not_strictly_encoded_is_refused() {
    let good = content().encode(None);
    let with_type = |text: &str| Writer::new().array(3).text(text).bytes(b"data").null().take();
    assert!(Forgery::of(&with_type(&"t".repeat(255))).open().is_ok());
    let mut indefinite = good.clone();
    indefinite[0] = 0x9f;
    for (content, error) in [
        (vec![], strict::Error::Malformed),
        (vec![0xf6], strict::Error::Malformed),
        (good[..good.len() - 1].to_vec(), strict::Error::Malformed),
        ([good.as_slice(), &[0xf6]].concat(), strict::Error::Malformed),
        (indefinite, strict::Error::NonCanonical),
        (with_type(""), strict::Error::Malformed),
        (with_type(&"t".repeat(256)), strict::Error::TooLong),
        (Writer::new().array(2).text("t").bytes(b"").take(), strict::Error::Malformed),
        (Writer::new().array(3).text("t").bytes(b"").array(1).bytes(b"").take(), strict::Error::Malformed),
        (
            Writer::new().array(3).text("t").bytes(b"").array(2).bytes(&[0; 641]).bytes(b"").take(),
            strict::Error::TooLong,
        ),
    ] {
        assert_eq!(Forgery::of(&content).open(), Err(OpenError::Content(error)), "{content:02x?}");
    }
}

#[test]
fn an_author_who_did_not_sign_this_is_refused() {
    let opened = |forgery: Forgery| forgery.open().map(|opened| opened.author);
    let claimed =
        |key: &[u8], signature: &[u8]| Forgery::of(&content().encode(Some(&Claim { key, signature })));
    let nobody = opened(claimed(b"not a key", &[0; 256]));
    assert!(matches!(nobody, Err(OpenError::AuthorKey(_))), "{nobody:?}");
    assert_eq!(opened(claimed(public(2).der(), &[0; 256])), Err(OpenError::AuthorSignature));
    assert_eq!(opened(claimed(public(2).der(), &[])), Err(OpenError::AuthorSignature));

    // Words that were signed once, sealed anew at another time, to others, to another table, or altered.
    let signed = signed_content();
    let later = Forgery { created: CREATED + 1, ..Forgery::of(&signed) };
    assert_eq!(opened(later), Err(OpenError::AuthorSignature));
    let shared = Forgery { recipients: vec![public(1), public(3)], ..Forgery::of(&signed) };
    assert_eq!(opened(shared), Err(OpenError::AuthorSignature));
    let table = public(3).table_id();
    let moved = Forgery { table, body_table: table, ..Forgery::of(&signed) };
    assert_eq!(opened(moved), Err(OpenError::AuthorSignature));
    let at = signed.windows(5).position(|window| window == b"hello").unwrap();
    let mut altered = signed;
    altered[at] = b'j';
    assert_eq!(opened(Forgery::of(&altered)), Err(OpenError::AuthorSignature));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_as_a_content_are_refused_or_are_the_one_encoding_of_what_was_read(
        start in 0_usize..30, noise in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = content().encode(None);
        for (place, byte) in bytes.iter_mut().skip(start).zip(&noise) {
            *place = *byte;
        }
        if let Ok((content, claim)) = Content::decode(&bytes) {
            prop_assert_eq!(content.encode(claim.as_ref()), bytes);
        }
    }
}
