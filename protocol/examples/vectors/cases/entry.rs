//! Whole entries through the steps of admission that need no store (SPEC 4.1, 6.1).

use p2pdb_protocol::{
    codec::strict::Writer,
    entry::{encode, entry_id, signed_message},
};
use sha2::Sha256;

use super::NETWORK_FILE;
use crate::{
    vector::Vector,
    world::{
        CREATED, EXPIRES, NOW, Sealed, Sealing, content, effort, network, nonces, pad, price, private,
        public, seal, sign, work,
    },
};

/// A plain sealed entry, whose finish is up to the case.
fn sealed(name: &str) -> Sealed {
    seal(&format!("entry/{name}"), &pad(&content("text/plain", b"hello", None)), &Sealing::default())
}

/// A case that is admitted at [`NOW`] by a node that keeps everything, unless it says otherwise.
fn case(name: &str, expect: &str, about: &str, encoded: Vec<u8>) -> Vector {
    timed(name, expect, about, encoded, NOW, 0)
}

fn timed(name: &str, expect: &str, about: &str, encoded: Vec<u8>, now: u64, horizon: u64) -> Vector {
    keyed(name, expect, about, encoded, "table").with("now", now).with("horizon-start", horizon)
}

fn keyed(name: &str, expect: &str, about: &str, encoded: Vec<u8>, key: &str) -> Vector {
    Vector::new("entry", name, "4.1, 6.1", expect, about)
        .with("network", NETWORK_FILE)
        .with("table-key", format!("keys/{key}.pem"))
        .body(encoded)
}

fn ok(name: &str, about: &str, sealed: Sealed) -> Vector {
    let id = sealed.id();
    let (header, body, signature, work) = sealed.parts();
    let encoded = encode(&header, &body, &signature, &work).to_vec();
    case(name, "ok", about, encoded).with("id", id).with("effort", effort(&id, &work))
}

pub fn cases() -> Vec<Vector> {
    [good(), encodings(), headers(), clocks(), proofs(), signatures()].concat()
}

fn good() -> Vec<Vector> {
    let how = Sealing { recipients: &["recipient-1", "recipient-2"], ..Sealing::default() };
    let two = seal("entry/ok-two-recipients", &pad(&content("text/plain", b"to two", None)), &how);
    let mut forever = sealed("ok-no-expiry");
    forever.header.expires = None;
    let longer =
        seal("entry/ok-longer", &pad(&content("text/plain", &[b'x'; 1500], None)), &Sealing::default());
    let better = sealed("ok-better-work");
    let id = better.id();
    let (header, body, signature, _) = better.parts();
    let work = nonces(&id, 4, |value| value <= u64::MAX >> 9);
    let better = encode(&header, &body, &signature, &work).to_vec();
    vec![
        ok("ok", "one recipient", sealed("ok")),
        ok("ok-two-recipients", "two recipients", two),
        ok("ok-no-expiry", "expires is null", forever),
        ok("ok-longer", "more bytes than work_base_bytes, which cost more", longer),
        case("ok-better-work", "ok", "more work than asked for", better)
            .with("id", id)
            .with("effort", effort(&id, &work)),
    ]
}

fn encodings() -> Vec<Vector> {
    let whole = sealed("encodings").finish();
    let (header, body, signature, work) = sealed("encodings").parts();
    let limit = network().max_entry_bytes as usize;
    let parts = |parts: &[&[u8]]| {
        let mut writer = Writer::new();
        writer.array(parts.len());
        for part in parts {
            writer.bytes(part);
        }
        writer.take()
    };
    let item = |bytes: &[u8]| Writer::new().bytes(bytes).take();
    // The header's length (2 bytes in its shortest form) in 4 bytes.
    let long = (header.len() as u32).to_be_bytes();
    let long_form =
        [&[0x84, 0x5a][..], &long, &header, &item(&body), &item(&signature), &item(&work)].concat();
    let bare_header = [&[0x84][..], &header, &item(&body), &item(&signature), &item(&work)].concat();
    vec![
        case("too-large", "too_large", "one byte more than max_entry_bytes", vec![0x84; limit + 1]),
        case("max-size-garbage", "malformed", "max_entry_bytes bytes that are no entry", vec![0x84; limit]),
        case("empty", "malformed", "nothing", Vec::new()),
        case("truncated", "malformed", "the last byte is missing", whole[..whole.len() - 1].to_vec()),
        case("trailing", "malformed", "a byte follows", [&whole[..], &[0]].concat()),
        case("three-parts", "malformed", "no work", parts(&[&header, &body, &signature])),
        case("five-parts", "malformed", "a part too many", parts(&[&header, &body, &signature, &work, &[]])),
        case(
            "header-not-wrapped",
            "malformed",
            "the header is an array instead of a byte string",
            bare_header,
        ),
        case("long-form", "non_canonical", "the header's length in four bytes", long_form),
        case(
            "indefinite",
            "non_canonical",
            "an array without length",
            [&[0x9f], &whole[1..], &[0xff]].concat(),
        ),
        case(
            "signature-255",
            "malformed",
            "no RSA signature is so short",
            parts(&[&header, &body, &[1; 255], &work]),
        ),
        case(
            "signature-513",
            "malformed",
            "no RSA signature is so long",
            parts(&[&header, &body, &[1; 513], &work]),
        ),
    ]
}

fn headers() -> Vec<Vector> {
    let with_header = |name: &str, change: &dyn Fn(&mut Sealed)| {
        let mut sealed = sealed(name);
        change(&mut sealed);
        sealed.finish()
    };
    let (header, body, signature, work) = sealed("headers").parts();
    let spoiled = |at: usize, byte: u8| {
        let mut header = header.clone();
        header[at] = byte;
        encode(&header, &body, &signature, &work).to_vec()
    };
    let mut long_form = header.clone();
    long_form.splice(..1, [0x98, 0x07]);
    vec![
        case("unknown-version", "unknown_version", "a header of version 2", spoiled(1, 2)),
        case("header-trailing", "malformed", "a byte follows inside of the header", {
            encode(&[&header[..], &[0]].concat(), &body, &signature, &work).to_vec()
        }),
        case("header-long-form", "non_canonical", "the header's array length in two bytes", {
            encode(&long_form, &body, &signature, &work).to_vec()
        }),
        case("no-recipients", "bad_recipients", "nobody can read it", {
            with_header("no-recipients", &|sealed| sealed.header.recipients.clear())
        }),
        case("bad-expiry", "bad_expiry", "expires when it was created", {
            with_header("bad-expiry", &|sealed| sealed.header.expires = Some(CREATED))
        }),
        case("body-hash", "body_mismatch", "the header has another hash", {
            with_header("body-hash", &|sealed| sealed.header.body_hash[31] ^= 1)
        }),
        case("body-length", "body_mismatch", "the header has another length", {
            with_header("body-length", &|sealed| sealed.header.body_length += 1)
        }),
        case("body-flipped", "body_mismatch", "a bit of the body is flipped after signing", {
            let mut body = body.clone();
            body[100] ^= 1;
            encode(&header, &body, &signature, &work).to_vec()
        }),
    ]
}

fn clocks() -> Vec<Vector> {
    let entry = |name: &str| sealed(name).finish();
    let at = |name: &str, expect: &str, about: &str, now: u64, horizon: u64| {
        timed(name, expect, about, entry(name), now, horizon)
    };
    vec![
        at("created-in-future", "created_in_future", "601 seconds ahead, 600 are allowed", CREATED - 601, 0),
        at("expired", "expired", "expires now", EXPIRES, 0),
        at("expired-long-ago", "expired", "expired at the end of time", u64::MAX, 0),
        at("beyond-horizon", "beyond_horizon", "created a second before the horizon", NOW, CREATED + 1),
        ok_at("ok-ahead", "600 seconds ahead", CREATED - 600, 0),
        ok_at("ok-last-second", "the second before it expires", EXPIRES - 1, 0),
        ok_at("ok-at-horizon", "created when the horizon begins", NOW, CREATED),
    ]
}

fn ok_at(name: &str, about: &str, now: u64, horizon: u64) -> Vector {
    let id = sealed(name).id();
    let (header, body, signature, work) = sealed(name).parts();
    timed(name, "ok", about, encode(&header, &body, &signature, &work).to_vec(), now, horizon)
        .with("id", id)
        .with("effort", effort(&id, &work))
}

fn proofs() -> Vec<Vector> {
    let (header, body, signature, work) = sealed("proofs").parts();
    let with_work = |work: &[u8]| encode(&header, &body, &signature, work).to_vec();
    let id = entry_id(&header, &body);
    let (_, _, target) = price(&network(), (header.len() + body.len()) as u64);
    let last_unsolved = [&work[..24], &nonces(&id, 4, |value| value > target)[24..]].concat();
    let (_, _, _, foreign) = sealed("proofs-of-another").parts();
    assert_ne!(work, foreign);
    let cheap = nonces(&id, 4, |value| value > target && value <= target * 2);
    vec![
        case("work-empty", "work_malformed", "no work", with_work(&[])),
        case("work-short", "work_malformed", "the last byte is missing", with_work(&work[..31])),
        case("work-three-puzzles", "work_malformed", "three nonces of four", with_work(&work[..24])),
        case("work-long", "work_malformed", "a nonce too many", with_work(&[&work[..], &work[..8]].concat())),
        case("work-very-long", "work_malformed", "2000 bytes", with_work(&[1; 2000])),
        case(
            "work-last-unsolved",
            "work_insufficient",
            "the last puzzle is not solved",
            with_work(&last_unsolved),
        ),
        case("work-half-price", "work_insufficient", "every puzzle at half of its price", with_work(&cheap)),
        case("work-of-another", "work_insufficient", "the proof of another entry", with_work(&foreign)),
    ]
}

fn signatures() -> Vec<Vector> {
    let (header, body, signature, proof) = sealed("signatures").parts();
    let id = entry_id(&header, &body);
    let with_signature = |signature: &[u8]| encode(&header, &body, signature, &proof).to_vec();
    let mut flipped = signature.clone();
    flipped[200] ^= 0x10;
    let message = signed_message(&id);
    let mut rng = crate::world::Rng::new("entry/signatures-other");
    let salted = |salt: usize, rng: &mut crate::world::Rng| {
        use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
        let key = rsa::pss::SigningKey::<Sha256>::new_with_salt_len(private("table"), salt);
        key.sign_with_rng(rng, &message).to_vec()
    };
    let pkcs1 = {
        use rsa::signature::{SignatureEncoding as _, Signer as _};
        rsa::pkcs1v15::SigningKey::<Sha256>::new(private("table")).sign(&message).to_vec()
    };
    let (_, _, other, _) = sealed("signatures-of-another").parts();
    let unlabelled = sign(&mut rng, "table", id.as_bytes());
    // The replay: the same body and signature under the id of another table.
    let mut moved = sealed("signatures");
    moved.header.table = public("stranger").table_id();
    let moved_header = moved.header.encode();
    let moved_work = work(&network(), &moved.id(), (moved_header.len() + body.len()) as u64);
    let replayed = encode(&moved_header, &body, &signature, &moved_work).to_vec();
    let mut stranger = sealed("signature-stranger");
    stranger.signer = "stranger";
    vec![
        case("signature-flipped", "signature_invalid", "a bit is flipped", with_signature(&flipped)),
        case("signature-zero", "signature_invalid", "all zero", with_signature(&[0; 256])),
        case(
            "signature-modulus",
            "signature_invalid",
            "all ones, more than the modulus",
            with_signature(&[0xff; 256]),
        ),
        case("signature-of-another", "signature_invalid", "that of another entry", with_signature(&other)),
        case("signature-stranger", "signature_invalid", "another key signed", stranger.finish()),
        case("signature-unlabelled", "signature_invalid", "over the id alone", with_signature(&unlabelled)),
        case("signature-salt-20", "signature_invalid", "PSS with a salt of 20 bytes", {
            with_signature(&salted(20, &mut rng))
        }),
        case(
            "signature-salt-0",
            "signature_invalid",
            "PSS without salt",
            with_signature(&salted(0, &mut rng)),
        ),
        case("signature-pkcs1", "signature_invalid", "PKCS#1 v1.5 instead of PSS", with_signature(&pkcs1)),
        case("signature-384", "signature_invalid", "longer than the modulus", {
            with_signature(&[&[0; 128][..], &signature].concat())
        }),
        keyed(
            "replayed",
            "signature_invalid",
            "moved to another table with its signature",
            replayed,
            "stranger",
        )
        .with("now", NOW)
        .with("horizon-start", 0),
        keyed(
            "other-table-key",
            "table_key_invalid",
            "the key is not the table's",
            sealed("ok").finish(),
            "stranger",
        )
        .with("now", NOW)
        .with("horizon-start", 0),
    ]
}
