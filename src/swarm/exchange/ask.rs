//! Asks on a stream: one frame out, one frame in.

use std::{io, time::Duration};

use futures::FutureExt;
use libp2p::{Stream, core::upgrade::NegotiationError};
use p2pdb_protocol::message::Reply;
use tokio::time::timeout;

use super::Exchange;
use crate::wire::frame::{self, Frame};

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The peer closed the stream before it said anything: of a stream that lay idle, it may not even have seen the request.
    #[error("the stream closed without a word: {0}")]
    Silent(io::Error),
    /// The peer does not speak the operation.
    #[error("the operation is not spoken")]
    Unsupported,
    /// The stream broke in the middle.
    #[error("the stream broke: {0}")]
    Closed(io::Error),
    /// What came is no reply.
    #[error("not a reply: {0}")]
    Invalid(io::Error),
    /// The peer took too long.
    #[error("it took too long")]
    Timeout,
}

/// Whether a stream on which everything is answered may be asked on: whether the peer has neither closed it, nor said something that
/// would be taken for the answer, as far as that can be read just now (`transport/pause`).
pub(crate) fn is_quiet(stream: &mut Stream) -> Result<bool, AskError> {
    match frame::begin(stream).now_or_never() {
        None => Ok(true),
        Some(Ok(Some(_))) => {
            let text = "more answers than requests";
            Err(AskError::Invalid(io::Error::new(io::ErrorKind::InvalidData, text)))
        }
        Some(Ok(None) | Err(_)) => Ok(false),
    }
}

/// Sends a request and reads the reply, all of it in the operation's time; it has to begin within `patience` of its being sent.
pub(crate) async fn ask<O: Exchange>(
    stream: &mut Stream,
    request: &Frame,
    patience: Duration,
) -> Result<Reply<O::Response>, AskError> {
    let exchange = async {
        request.send(stream).await.map_err(silent)?;
        let begun = timeout(patience, frame::begin(stream)).await.map_err(|_| AskError::Timeout)?;
        let first = begun.map_err(silent)?;
        let first = first.ok_or_else(|| AskError::Silent(io::ErrorKind::UnexpectedEof.into()))?;
        frame::read_reply::<O, _>(stream, first).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => AskError::Invalid(error),
            _ => AskError::Closed(error),
        })
    };
    timeout(O::DEADLINE, exchange).await.unwrap_or(Err(AskError::Timeout))
}

fn silent(error: io::Error) -> AskError {
    if is_unsupported(&error) { AskError::Unsupported } else { AskError::Silent(error) }
}

/// Whether the peer does not speak the protocol of a stream: what is said first is sent before it says so, which is read in place of an
/// answer.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let negotiation = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    matches!(negotiation, Some(NegotiationError::Failed))
}
