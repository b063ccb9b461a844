use proptest::prelude::*;

use super::*;
use crate::{entry::UnverifiedEntry, keys::PrivateKey, refusal::Refusal};

fn refused(draft: &Draft<'_>) -> SealError {
    draft.seal(&mut rng(), &network()).unwrap_err()
}

#[test]
fn what_is_sealed_is_admitted_by_a_node() {
    let entry = post(&draft(&[public(1)], &content()));
    let unverified = UnverifiedEntry::decode(entry.encoded().clone(), &network()).unwrap();
    unverified.check_clock(&network(), CREATED, 0).unwrap();
    let worked = unverified.check_work(&network()).unwrap();
    assert_eq!(worked.verify(key(0).public_key()).unwrap(), entry);
}

#[test]
fn no_content_key_is_used_twice() {
    let (content, recipients) = (content(), [public(1)]);
    let draft = draft(&recipients, &content);
    let [first, second] = [post(&draft), post(&draft)];
    assert_ne!(first.body(), second.body());
    assert_ne!(first.id(), second.id());
}

#[test]
fn recipients_are_ordered_and_count_once() {
    let forwards = post(&draft(&[public(1), public(2), public(3)], &content()));
    let backwards = post(&draft(&[public(3), public(2), public(1), public(3)], &content()));
    let ids = |entry: &Entry| entry.header().recipients.iter().map(|key| key.recipient).collect::<Vec<_>>();
    assert_eq!(ids(&forwards), ids(&backwards));
    assert_eq!(ids(&forwards).len(), 3);
}

#[test]
fn what_no_node_would_take_is_not_sealed() {
    let (good, one) = (content(), [public(1)]);
    assert_eq!(refused(&draft(&[], &good)), SealError::Recipients { got: 0 });
    let at_once = Draft { expires: Some(CREATED), ..draft(&one, &good) };
    assert_eq!(refused(&at_once), SealError::Expiry { created: CREATED, expires: CREATED });
    for got in [0, 256] {
        let content = Content { media_type: "t".repeat(got), ..content() };
        assert_eq!(refused(&draft(&one, &content)), SealError::MediaType { got });
    }
}

#[test]
fn seventeen_recipients_are_too_many() {
    // Public keys only, so their moduli need not be products of two primes.
    let template = public(1);
    let keys: Vec<PublicKey> = (0..17)
        .map(|number| {
            let mut der = template.der().to_vec();
            der[100] = number;
            PublicKey::from_der(&der).unwrap()
        })
        .collect();
    assert_eq!(refused(&draft(&keys, &content())), SealError::Recipients { got: 17 });
    assert_eq!(post(&draft(&keys[1..], &content())).header().recipients.len(), 16);
}

#[test]
fn the_limit_of_the_network_is_met_exactly() {
    let content = Content { data: vec![7; 3000], ..content() };
    let recipients = [public(1)];
    let draft = draft(&recipients, &content);
    let length = post(&draft).encoded().len() as u64;
    let fits = Network { max_entry_bytes: length, ..network() };
    let sealed = draft.seal(&mut rng(), &fits).unwrap();
    assert!(sealed.finish(&solve(sealed.puzzle(&fits)), &fits).is_ok());
    let short = Network { max_entry_bytes: length - 1, ..network() };
    let refused = draft.seal(&mut rng(), &short).unwrap_err();
    assert_eq!(refused, SealError::TooLarge { max: length - 1, got: length });
}

#[test]
fn an_outbox_gets_back_what_it_was_given() {
    let (content, recipients) = (content(), [public(1)]);
    let sealed = draft(&recipients, &content).seal(&mut rng(), &network()).unwrap();
    let bytes = sealed.to_bytes();
    let again = SealedEntry::from_bytes(&bytes).unwrap();
    assert_eq!(again, sealed);
    assert_eq!(again.puzzle(&network()), sealed.puzzle(&network()));
    for length in 0..bytes.len() {
        assert!(SealedEntry::from_bytes(&bytes[..length]).is_err(), "cut to {length} bytes");
    }
    assert!(SealedEntry::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
    let mut damaged = bytes.clone();
    damaged[bytes.len() - 300] ^= 1;
    assert_eq!(SealedEntry::from_bytes(&damaged).unwrap_err(), Refusal::BodyMismatch);
}

#[test]
fn an_entry_is_finished_by_its_own_work_only() {
    let (content, recipients) = (content(), [public(1)]);
    let sealed = draft(&recipients, &content).seal(&mut rng(), &network()).unwrap();
    let work = solve(sealed.puzzle(&network()));
    assert_eq!(sealed.finish(&[], &network()), Err(Refusal::WorkMalformed));
    let dearer = Network { work_price: 1 << 48, ..network() };
    assert_eq!(sealed.finish(&work, &dearer), Err(Refusal::WorkInsufficient));
    assert_eq!(sealed.finish(&work, &network()).unwrap().id(), sealed.id());
}

#[test]
fn nothing_secret_is_shown() {
    let content = Content { media_type: "secret/secret".to_owned(), data: b"secret".to_vec() };
    let recipients = [public(1)];
    let draft = draft(&recipients, &content);
    let sealed = draft.seal(&mut rng(), &network()).unwrap();
    let opened =
        open(&sealed.finish(&solve(sealed.puzzle(&network())), &network()).unwrap(), key(1)).unwrap();
    let shown = format!("{draft:?} {sealed:?} {opened:?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(!shown.contains("115, 101, 99"), "the same as a list of bytes: {shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_recipient_reads_what_was_written_and_nobody_else(
        data in proptest::collection::vec(any::<u8>(), 0..3000),
        media_type in "[a-z]{1,20}/.{1,20}",
        expires in proptest::option::of(CREATED + 1..),
        number_of_recipients in 1_usize..=3,
        signs: bool,
    ) {
        let recipients: Vec<PublicKey> = (1..=number_of_recipients).map(public).collect();
        let content = Content { media_type, data };
        let author: Option<&PrivateKey> = signs.then(|| key(2));
        let entry = post(&Draft { expires, author, ..draft(&recipients, &content) });
        for reader in 1..=number_of_recipients {
            let opened = open(&entry, key(reader)).unwrap();
            prop_assert_eq!(&opened.content, &content);
            prop_assert_eq!(opened.author.as_ref(), author.map(PrivateKey::public_key));
            prop_assert_eq!((opened.id, opened.table), (entry.id(), key(0).public_key().table_id()));
            prop_assert_eq!((opened.created, opened.expires), (CREATED, expires));
            prop_assert_eq!(opened.recipients.len(), recipients.len());
        }
        let got = public(0).recipient_id();
        prop_assert_eq!(open(&entry, key(0)).unwrap_err(), OpenError::NotARecipient { got });
        prop_assert_eq!(entry.body().len() % 16, 0, "padded, and a tag");
    }
}
