//! What is inside of an entry: a typed content and, if he wants it, its author (SPEC 4.4).

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{
    codec::strict::{Error, Reader, Writer},
    id::{RecipientId, TableId},
    limits::{MAX_ENTRY_BYTES, MAX_MEDIA_TYPE_BYTES, MAX_SPKI_BYTES, RSA_BYTES},
};

/// What an entry carries for those who can read it (SPEC 4.4). `Debug` shows its size only.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The media type of `data`: 1 to 255 bytes.
    pub media_type: String,
    /// The content proper.
    pub data: Vec<u8>,
}

impl Content {
    /// Plain text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { media_type: "text/plain; charset=utf-8".to_owned(), data: text.as_bytes().to_vec() }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("bytes", &self.data.len()).finish_non_exhaustive()
    }
}

/// An author's claim as it stands in a content, not verified.
pub(super) struct Claim<'a> {
    pub(super) key: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl Content {
    /// The strict encoding, together with the author's claim.
    pub(super) fn encode(&self, author: Option<&Claim<'_>>) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(3).text(&self.media_type).bytes(&self.data);
        match author {
            Some(Claim { key, signature }) => writer.array(2).bytes(key).bytes(signature),
            None => writer.null(),
        };
        writer.take()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Option<Claim<'_>>), Error> {
        let mut reader = Reader::new(bytes);
        reader.tuple(3)?;
        let media_type = reader.text(MAX_MEDIA_TYPE_BYTES)?;
        if media_type.is_empty() {
            return Err(Error::Malformed);
        }
        let data = reader.bytes(MAX_ENTRY_BYTES)?;
        let author = reader.nullable(|reader| {
            reader.tuple(2)?;
            let key = reader.bytes(MAX_SPKI_BYTES)?;
            let signature = reader.bytes(*RSA_BYTES.end())?;
            Ok(Claim { key, signature })
        })?;
        reader.finish()?;
        Ok((Self { media_type: media_type.to_owned(), data: data.to_vec() }, author))
    }
}

/// What an author signs: not only the content but also where, when and for whom, so that a recipient cannot seal it anew
/// to others as if the author had (SPEC 4.4, 13.7).
pub(super) fn author_message(
    table: &TableId,
    created: u64,
    recipients: impl ExactSizeIterator<Item = RecipientId>,
    content: &Content,
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(5).bytes(table.as_bytes()).uint(created).array(recipients.len());
    for recipient in recipients {
        writer.bytes(recipient.as_bytes());
    }
    let signed = writer.text(&content.media_type).bytes(&content.data).take();
    [b"p2pdb author v1", &Sha256::digest(signed)[..]].concat()
}
