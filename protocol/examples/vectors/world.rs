//! What the cases are made of: fixed keys and times, a network with cheap work, a reproducible generator of
//! numbers, and sealing spelled out by the SPEC, so that it shares nothing with the crate's own.

use std::convert::Infallible;

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use p2pdb_protocol::{
    codec::strict::Writer,
    entry::{Header, WrappedKey, encode, entry_id, signed_message},
    id::{EntryId, RecipientId},
    keys::PublicKey,
    network::Network,
};
use rand_core::{TryCryptoRng, TryRng};
use rsa::pkcs8::DecodePrivateKey as _;
use sha2::{Digest as _, Sha256};

/// When every entry was made, in unix seconds.
pub const CREATED: u64 = 1_750_000_000;
/// The clock of the node that admits it.
pub const NOW: u64 = CREATED + 60;
/// When those entries expire that do.
pub const EXPIRES: u64 = CREATED + 86_400;

/// The network of the vectors: on it an entry costs some 64 hashes.
pub fn network() -> Network {
    Network {
        name: "p2pdb-vectors".to_owned(),
        bucket_bits: 12,
        work_price: 64,
        work_base_bytes: 1024,
        work_puzzles: 4,
        max_entry_bytes: 4096,
        max_clock_ahead: 600,
        epoch_seconds: 3600,
    }
}

/// Numbers that depend on the name of the case alone, so that a new case leaves all others as they are.
pub struct Rng {
    seed: [u8; 32],
    counter: u64,
}

impl Rng {
    pub fn new(case: &str) -> Self {
        Self {
            seed: Sha256::new().chain_update("p2pdb vectors").chain_update(case).finalize().into(),
            counter: 0,
        }
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let Ok(()) = self.try_fill_bytes(&mut bytes);
        bytes
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.counter += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Rng {}

/// The text of a file in `vectors/keys`.
pub fn pem(file: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/keys");
    std::fs::read_to_string(format!("{path}/{file}.pem"))
        .unwrap_or_else(|error| panic!("keys/{file}.pem: {error}"))
}

/// A private key of `vectors/keys`.
pub fn private(name: &str) -> rsa::PrivateKey {
    rsa::PrivateKey::from_pkcs8_pem(&pem(name)).unwrap()
}

/// The public half of a private key of `vectors/keys`.
pub fn public(name: &str) -> PublicKey {
    use rsa::pkcs8::EncodePublicKey as _;
    let spki = private(name).to_public_key().to_public_key_der().unwrap();
    PublicKey::from_der(spki.as_bytes()).unwrap()
}

/// RSA-PSS as SPEC 3.4 has it, with a reproducible salt.
pub fn sign(rng: &mut Rng, name: &str, message: &[u8]) -> Vec<u8> {
    private(name).pss_sign_with_rng::<Sha256, _>(rng, message).unwrap()
}

/// The content of SPEC 4.4; `author` is `(SPKI, signature)`.
pub fn content(media_type: &str, data: &[u8], author: Option<(&[u8], &[u8])>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(3).text(media_type).bytes(data);
    match author {
        None => writer.null(),
        Some((key, signature)) => writer.array(2).bytes(key).bytes(signature),
    };
    writer.take()
}

/// Pads a content (SPEC 4.5), step by step as the text says it.
pub fn pad(content: &[u8]) -> Vec<u8> {
    let mut plaintext = [content, &[0x80]].concat();
    plaintext.resize(padded_length(plaintext.len() as u64) as usize, 0);
    plaintext
}

/// P(L) of SPEC 4.5.
pub fn padded_length(length: u64) -> u64 {
    if length <= 256 {
        return 256;
    }
    let e = 63 - u64::from(length.leading_zeros());
    let s = 64 - u64::from(e.leading_zeros());
    let mask = (1 << (e - s)) - 1;
    (length + mask) & !mask
}

/// An entry in the making. Every field may be spoiled before [`Sealed::finish`].
pub struct Sealed {
    pub rng: Rng,
    pub header: Header,
    pub body: Vec<u8>,
    /// Whose key signs.
    pub signer: &'static str,
}

/// How to seal, where a case does it otherwise than SPEC.md.
pub struct Sealing<'a> {
    pub recipients: &'a [&'a str],
    pub label: &'a [u8],
    pub key_bytes: usize,
    pub associated_data: Vec<u8>,
}

impl Default for Sealing<'_> {
    fn default() -> Self {
        Self {
            recipients: &["recipient-1"],
            label: b"p2pdb content key v1",
            key_bytes: 32,
            associated_data: [b"p2pdb body v1", &public("table").table_id().as_bytes()[..]].concat(),
        }
    }
}

/// Seals a padded content to recipients (SPEC 4.6, 4.7).
pub fn seal(case: &str, plaintext: &[u8], how: &Sealing<'_>) -> Sealed {
    let mut rng = Rng::new(case);
    let key: [u8; 32] = rng.bytes();
    let payload = Payload { msg: plaintext, aad: &how.associated_data };
    let body = ChaCha20Poly1305::new(&key.into()).encrypt(&Nonce::default(), payload).unwrap();
    let mut recipients: Vec<WrappedKey> = how
        .recipients
        .iter()
        .map(|name| {
            let key_of = public(name);
            let wrapped = key_of.encrypt(&mut rng, how.label, &key[..how.key_bytes]).unwrap();
            WrappedKey { recipient: key_of.recipient_id(), wrapped }
        })
        .collect();
    recipients.sort_by_key(|wrapped| wrapped.recipient);
    let header = Header {
        table: public("table").table_id(),
        created: CREATED,
        expires: Some(EXPIRES),
        recipients,
        body_hash: Sha256::digest(&body).into(),
        body_length: body.len() as u64,
    };
    Sealed { rng, header, body, signer: "table" }
}

impl Sealed {
    pub fn id(&self) -> EntryId {
        entry_id(&self.header.encode(), &self.body)
    }

    /// Signs and works, and encodes the whole.
    pub fn finish(self) -> Vec<u8> {
        let (header, body, signature, work) = self.parts();
        encode(&header, &body, &signature, &work).to_vec()
    }

    /// The four parts of the finished entry.
    pub fn parts(mut self) -> (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) {
        let header = self.header.encode();
        let id = entry_id(&header, &self.body);
        let signature = sign(&mut self.rng, self.signer, &signed_message(&id));
        let work = work(&network(), &id, (header.len() + self.body.len()) as u64);
        (header, self.body, signature, work)
    }
}

/// The price of one puzzle and its target (SPEC 5.1).
pub fn price(network: &Network, size: u64) -> (u128, u128, u64) {
    let base = u128::from(network.work_base_bytes);
    let hashes = u128::from(network.work_price) * u128::from(size).max(base) / base;
    let each = hashes.div_ceil(u128::from(network.work_puzzles)).max(1);
    (hashes, each, (u128::from(u64::MAX) / each) as u64)
}

/// The value of one puzzle under a nonce (SPEC 5.2).
pub fn value(id: &EntryId, index: u32, nonce: u64) -> u64 {
    let seed = Sha256::new().chain_update("p2pdb work v1").chain_update(id.as_bytes()).finalize();
    let hash = Sha256::new()
        .chain_update(seed)
        .chain_update(index.to_be_bytes())
        .chain_update(nonce.to_be_bytes())
        .finalize();
    u64::from_be_bytes(hash[..8].try_into().unwrap())
}

/// The first nonce from 0 of each puzzle whose value is wanted.
pub fn nonces(id: &EntryId, puzzles: u64, is_wanted: impl Fn(u64) -> bool) -> Vec<u8> {
    (0..puzzles as u32)
        .flat_map(|index| (0..).find(|nonce| is_wanted(value(id, index, *nonce))).unwrap().to_be_bytes())
        .collect()
}

/// The work of an entry (SPEC 5.3).
pub fn work(network: &Network, id: &EntryId, size: u64) -> Vec<u8> {
    let (_, _, target) = price(network, size);
    nonces(id, network.work_puzzles, |value| value <= target)
}

/// The effort of a proof (SPEC 5.4).
pub fn effort(id: &EntryId, work: &[u8]) -> u64 {
    let nonces = work.chunks(8).map(|nonce| u64::from_be_bytes(nonce.try_into().unwrap()));
    let greatest = (0..).zip(nonces).map(|(index, nonce)| value(id, index, nonce)).max().unwrap();
    (work.len() as u64 / 8).saturating_mul(u64::MAX / greatest.max(1))
}

/// A recipient id for headers that nobody opens.
pub fn recipient(byte: u8) -> RecipientId {
    RecipientId::from_bytes([byte; 32])
}
