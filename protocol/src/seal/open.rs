//! From an entry back to its content.

use zeroize::Zeroizing;

use super::{
    WRAP_LABEL,
    body::ContentKey,
    content::{Claim, Content, author_message},
    padme::unpad,
};
use crate::{
    codec::strict,
    entry::{Entry, WrappedKey},
    id::{EntryId, RecipientId, TableId},
    keys::{KeyError, PrivateKey, PublicKey},
};

/// Why an entry does not open, in the order of SPEC 4.9. Not to be told to a network peer (SPEC 13.5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key is not one of a recipient.
    #[error("the entry is not for {got}")]
    NotARecipient {
        /// Whose key it was tried with.
        got: RecipientId,
    },
    /// The content key does not unwrap.
    #[error("the wrapped content key is damaged or was made for another key")]
    WrappedKey,
    /// The body is not one encrypted for this table under the content key.
    #[error("the body is not authentic")]
    Body,
    /// The padding does not end in its mark.
    #[error("the padding of the content is wrong")]
    Padding,
    /// The content does not decode.
    #[error("the content does not decode")]
    Content(#[from] strict::Error),
    /// The author's key is none.
    #[error("the author's key is not valid")]
    AuthorKey(#[from] KeyError),
    /// Somebody else claims to be the author, or sealed the author's words anew.
    #[error("the author's signature is wrong: whoever posted this is not who it says")]
    AuthorSignature,
}

/// An entry as its recipients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The id of the entry.
    pub id: EntryId,
    /// Its table: some holder of the table's key posted it.
    pub table: TableId,
    /// When it was made, as its poster claims, in unix seconds.
    pub created: u64,
    /// When nodes may drop it, in unix seconds.
    pub expires: Option<u64>,
    /// Who else can read it, in the order of the header.
    pub recipients: Vec<RecipientId>,
    /// What it says.
    pub content: Content,
    /// Who wrote it, verified; `None` if the author did not sign.
    pub author: Option<PublicKey>,
}

/// Opens an entry with the key of one of its recipients (SPEC 4.9).
///
/// # Errors
/// [`OpenError`], at the first check that fails. An entry whose author signature is wrong does not open.
pub fn open(entry: &Entry, key: &PrivateKey) -> Result<Opened, OpenError> {
    let header = entry.header();
    let content_key = unwrap_key(&header.recipients, key)?;
    let mut plaintext = Zeroizing::new(entry.body().to_vec());
    content_key.decrypt(&header.table, &mut plaintext).ok_or(OpenError::Body)?;
    let (content, claim) = Content::decode(unpad(&plaintext).ok_or(OpenError::Padding)?)?;
    let recipients: Vec<_> = header.recipients.iter().map(|wrapped| wrapped.recipient).collect();
    let verify = |Claim { key, signature }: Claim<'_>| {
        let author = PublicKey::from_der(key)?;
        let message = author_message(&header.table, header.created, recipients.iter().copied(), &content);
        author.verify(&message, signature).map_err(|_| OpenError::AuthorSignature)?;
        Ok::<_, OpenError>(author)
    };
    let author = claim.map(verify).transpose()?;
    Ok(Opened {
        id: entry.id(),
        table: header.table,
        created: header.created,
        expires: header.expires,
        recipients,
        content,
        author,
    })
}

fn unwrap_key(recipients: &[WrappedKey], key: &PrivateKey) -> Result<ContentKey, OpenError> {
    let got = key.public_key().recipient_id();
    // Recipients ascend strictly, so at most one is this.
    let own = recipients.iter().find(|wrapped| wrapped.recipient == got);
    let WrappedKey { wrapped, .. } = own.ok_or(OpenError::NotARecipient { got })?;
    let bytes = key.decrypt(WRAP_LABEL, wrapped).map_err(|_| OpenError::WrappedKey)?;
    ContentKey::from_bytes(&bytes).ok_or(OpenError::WrappedKey)
}
