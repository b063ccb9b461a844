//! Entries as commands show them: opened, as far as this home has a key.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use anyhow::Result;
use data_encoding::BASE64;
use p2pdb_protocol::{
    entry::Entry,
    id::{EntryId, RecipientId, TableId},
    keys::PrivateKey,
    seal::{self, OpenError, Opened},
};
use serde::Serialize;

use crate::{
    cli::{
        format,
        keyring::{Key, Keyring, PrivateHalf},
        output::Answer,
        passphrase::PassphraseArgs,
        tables,
    },
    config::Home,
};

/// A private key that may still need its passphrase.
enum Candidate {
    Locked(Key),
    Unlocked(PrivateKey),
}

/// Opens entries with the private keys of a home: its own, and those shared by its table cards.
pub(super) struct Opener {
    keyring: Keyring,
    passphrase: PassphraseArgs,
    candidates: HashMap<RecipientId, Candidate>,
    names: HashMap<RecipientId, String>,
}

impl Opener {
    pub(super) fn new(home: &Home, passphrase: &PassphraseArgs) -> Result<Self> {
        let keyring = Keyring::new(home.clone());
        let (mut candidates, mut names) = (HashMap::new(), HashMap::new());
        for table in tables::all(home)? {
            if let Some(key) = table.card.recipient_private {
                candidates.insert(key.public_key().recipient_id(), Candidate::Unlocked(key));
            }
        }
        for key in keyring.all()? {
            let id = key.public.recipient_id();
            names.insert(id, key.name.to_string());
            if key.private != PrivateHalf::None {
                candidates.entry(id).or_insert(Candidate::Locked(key));
            }
        }
        Ok(Self { keyring, passphrase: passphrase.clone(), candidates, names })
    }

    /// The entry as this home sees it. Asks for the passphrase of a key when the key is first needed.
    pub(super) fn show(&mut self, entry: &Entry) -> ShownEntry {
        let header = entry.header();
        let recipients: Vec<RecipientId> =
            header.recipients.iter().map(|wrapped| wrapped.recipient).collect();
        let content = match recipients.iter().find_map(|id| self.open(entry, id)) {
            None => Content::Sealed,
            Some(Err(error)) => Content::Broken { reason: error.to_string() },
            Some(Ok(opened)) => {
                let author = opened.author.map(|key| {
                    let id = key.recipient_id();
                    Author { id, name: self.names.get(&id).cloned() }
                });
                Content::Opened { author, media_type: opened.content.media_type, data: opened.content.data }
            }
        };
        ShownEntry {
            id: entry.id(),
            table: header.table,
            created: header.created,
            expires: header.expires,
            recipients,
            bytes: entry.encoded().len(),
            content,
        }
    }

    fn open(&mut self, entry: &Entry, recipient: &RecipientId) -> Option<Result<Opened, OpenError>> {
        let key = match self.candidates.get(recipient)? {
            Candidate::Unlocked(key) => key.clone(),
            Candidate::Locked(locked) => match self.keyring.unlock(locked, &self.passphrase) {
                Ok(key) => {
                    self.candidates.insert(*recipient, Candidate::Unlocked(key.clone()));
                    key
                }
                Err(error) => {
                    tracing::warn!(key = %locked.name, "entries for a key stay sealed: {error:#}");
                    // Not asked for again with every entry.
                    self.candidates.remove(recipient);
                    return None;
                }
            },
        };
        Some(seal::open(entry, &key))
    }
}

/// Who signed a content.
#[derive(Debug, Serialize)]
pub(super) struct Author {
    id: RecipientId,
    /// What this home calls the key.
    name: Option<String>,
}

#[derive(Debug)]
enum Content {
    /// For somebody else.
    Sealed,
    /// It should open and does not.
    Broken {
        reason: String,
    },
    Opened {
        author: Option<Author>,
        media_type: String,
        data: Vec<u8>,
    },
}

/// An entry, opened if this home can.
#[derive(Debug)]
pub(super) struct ShownEntry {
    id: EntryId,
    table: TableId,
    created: u64,
    expires: Option<u64>,
    recipients: Vec<RecipientId>,
    bytes: usize,
    content: Content,
}

impl ShownEntry {
    /// The content as it is, if it could be opened.
    pub(super) fn data(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Opened { data, .. } => Some(data),
            _ => None,
        }
    }
}

/// The JSON form.
#[derive(Default, Serialize)]
struct Flat<'a> {
    id: String,
    table: String,
    created: u64,
    expires: Option<u64>,
    recipients: &'a [RecipientId],
    bytes: usize,
    /// "opened", "sealed" or "broken".
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a Author>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Serialize for ShownEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut flat = Flat {
            id: self.id.to_string(),
            table: self.table.to_string(),
            created: self.created,
            expires: self.expires,
            recipients: &self.recipients,
            bytes: self.bytes,
            state: "sealed",
            ..Flat::default()
        };
        match &self.content {
            Content::Sealed => {}
            Content::Broken { reason } => {
                flat.state = "broken";
                flat.reason = Some(reason);
            }
            Content::Opened { author, media_type, data } => {
                flat.state = "opened";
                flat.author = author.as_ref();
                flat.media_type = Some(media_type);
                match readable(media_type, data) {
                    Some(text) => flat.text = Some(text),
                    None => flat.base64 = Some(BASE64.encode(data)),
                }
            }
        }
        flat.serialize(serializer)
    }
}

impl Answer for ShownEntry {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write!(to, "{}  {}", format::time(self.created), self.id)?;
        if let Some(expires) = self.expires {
            write!(to, "  expires {}", format::time(expires))?;
        }
        match &self.content {
            Content::Sealed => writeln!(to, "\n  sealed, {}", format::bytes(self.bytes as u64)),
            Content::Broken { reason } => writeln!(to, "\n  does not open: {reason}"),
            Content::Opened { author, media_type, data } => {
                match author {
                    Some(Author { name: Some(name), .. }) => write!(to, "  by {name}")?,
                    Some(Author { id, .. }) => write!(to, "  by {id}")?,
                    None => {}
                }
                writeln!(to)?;
                match readable(media_type, data) {
                    Some(text) => {
                        format::harmless(text).lines().try_for_each(|line| writeln!(to, "  {line}"))
                    }
                    None => {
                        let size = format::bytes(data.len() as u64);
                        writeln!(to, "  {}, {size}; --raw writes it to stdout", format::harmless(media_type))
                    }
                }
            }
        }
    }
}

/// The content as text, if it is one.
fn readable<'a>(media_type: &str, data: &'a [u8]) -> Option<&'a str> {
    let is_text = media_type.starts_with("text/")
        || ["application/json", "application/toml", "application/xml"]
            .iter()
            .any(|known| media_type.split(';').next().is_some_and(|bare| bare.trim() == *known));
    is_text.then(|| std::str::from_utf8(data).ok()).flatten()
}
