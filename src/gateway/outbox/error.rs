//! What can go wrong with the outbox.

/// Why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// Another daemon has the file open.
    #[error("another daemon runs on this home")]
    InUse,
    /// The file could not be read or written.
    #[error("the outbox cannot be read or written")]
    File(#[source] Box<redb::Error>),
    /// A row does not say what it should.
    #[error("the outbox is damaged: {0}")]
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for OutboxError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            error => Self::File(Box::new(error)),
        }
    }
}
