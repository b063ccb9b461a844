//! Frames: an unsigned varint with the length, then one CBOR object (SPEC 8.1).

use std::{any::Any, io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use p2pdb_protocol::{
    codec::lenient,
    message::{Operation, Reply},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest length prefix, in bytes: 28 bits are more than any frame needs.
const MAX_PREFIX: usize = 4;
/// Buffer and budget grow by this many bytes as bytes arrive, so that a peer cannot make us reserve what it never
/// sends.
const STEP: usize = 64 << 10;

/// What is not wanted is read in steps of so many bytes.
const DISCARD_STEP: usize = 8 << 10;

/// Requests of so many bytes are not charged to the budget: they are no more than what a stream takes anyway, and who uses up
/// the budget must not keep out everybody's small ones.
const SMALL_REQUEST: usize = 4 << 10;

/// Bytes that a node holds at the same time, over all peers and operations: of requests, or of answers.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// So many bytes of it, until they are dropped; none if they are not there.
    pub(crate) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// Why a request never became one. It is answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The byte budget was used up. The frame was read, and dropped as it came.
    Overloaded,
    /// Longer than a request may be. The frame was not read.
    TooLong,
    /// Not the CBOR of the operation.
    Malformed,
}

/// A request off the wire. It holds its bytes of the budget until it is dropped.
#[derive(Debug)]
pub struct Received<T> {
    /// The request, or why there is none.
    pub request: Result<T, Rejected>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<T> Received<T> {
    const fn rejected(reason: Rejected) -> Self {
        Self { request: Err(reason), _permit: None }
    }
}

/// A frame that goes out, and what it holds until the peer has taken all of it, or it is given up.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    /// Where it begins in `bytes`: the length takes less room than was left for it.
    start: usize,
    defers: bool,
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl Frame {
    /// The frame of a message of at most `max` bytes.
    fn encode<M: serde::Serialize>(message: &M, max: usize) -> io::Result<Self> {
        let mut bytes = lenient::append(vec![0; MAX_PREFIX], message).map_err(|e| invalid(e.to_string()))?;
        let length = bytes.len() - MAX_PREFIX;
        if length > max {
            let text = format!("a message of {length} bytes, at most {max} may be sent");
            // Our own mistake, not the peer's.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let more = (1..MAX_PREFIX).take_while(|position| length >> (7 * position) > 0).count();
        let start = MAX_PREFIX - 1 - more;
        for (position, byte) in bytes.iter_mut().skip(start).take(more + 1).enumerate() {
            *byte = (length >> (7 * position) & 0x7f) as u8 | if position < more { 0x80 } else { 0 };
        }
        Ok(Self { bytes, start, defers: false, _held: None })
    }

    /// The frame of a request.
    ///
    /// # Errors
    /// If it is longer than requests of the operation may be.
    pub fn request<O: Operation>(request: &O::Request) -> io::Result<Self> {
        Self::encode(request, O::MAX_REQUEST)
    }

    /// The frame of a reply.
    ///
    /// # Errors
    /// If it is longer than responses of the operation may be.
    pub fn reply<O: Operation>(reply: &Reply<O::Response>) -> io::Result<Self> {
        let defers = matches!(reply, Reply::Refused { retry_after_ms: Some(_), .. });
        Ok(Self { defers, ..Self::encode(reply, O::MAX_RESPONSE)? })
    }

    /// Length of the message, in bytes, without that of its length.
    #[must_use]
    pub const fn message_bytes(&self) -> usize {
        self.bytes.len() - MAX_PREFIX
    }

    /// Whether it is a reply that tells the peer to come back later.
    #[must_use]
    pub const fn defers(&self) -> bool {
        self.defers
    }

    /// The same, with something that it holds.
    #[must_use]
    pub fn holding(self, what: impl Any + Send + Sync) -> Self {
        Self { _held: Some(Box::new(what)), ..self }
    }

    /// Sends it.
    ///
    /// # Errors
    /// If the stream fails.
    pub async fn send<T: AsyncWrite + Unpin>(&self, io: &mut T) -> io::Result<()> {
        io.write_all(self.bytes.get(self.start..).unwrap_or_default()).await?;
        io.flush().await
    }
}

/// Waits for the first byte of a frame; none if the stream ends here.
///
/// # Errors
/// If the stream fails.
pub async fn begin<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<Option<u8>> {
    let mut first = [0];
    let read = io.read(&mut first).await?;
    let [first] = first;
    Ok((read == 1).then_some(first))
}

/// Reads the request that begins with a byte.
///
/// # Errors
/// If the length is broken, or the stream fails or ends before the frame does.
pub async fn read_request<O: Operation, T>(
    io: &mut T,
    first: u8,
    budget: &Budget,
) -> io::Result<Received<O::Request>>
where
    T: AsyncRead + Unpin + Send,
{
    let length = read_length(io, first).await?;
    if length > O::MAX_REQUEST {
        return Ok(Received::rejected(Rejected::TooLong));
    }
    let charged = if length <= SMALL_REQUEST { 0 } else { length.min(STEP) };
    let Some(mut held) = budget.take(charged) else {
        discard(io, length).await?;
        return Ok(Received::rejected(Rejected::Overloaded));
    };
    let mut frame = Vec::with_capacity(length.min(STEP));
    // The budget is taken as the bytes arrive: who only claims a length holds next to nothing of it.
    while frame.len() < length {
        let step = (length - frame.len()).min(STEP);
        if !frame.is_empty() {
            match budget.take(step) {
                Some(more) => held.merge(more),
                None => {
                    let rest = length - frame.len();
                    drop((frame, held));
                    discard(io, rest).await?;
                    return Ok(Received::rejected(Rejected::Overloaded));
                }
            }
        }
        read_step(io, &mut frame, step).await?;
    }
    let request = lenient::from_slice(&frame).map_err(|_| Rejected::Malformed);
    Ok(Received { request, _permit: Some(held) })
}

/// Reads the reply that begins with a byte.
///
/// # Errors
/// If it is longer than it may be, or not the CBOR of the operation, or the stream fails or ends before the frame does.
pub async fn read_reply<O: Operation, T>(io: &mut T, first: u8) -> io::Result<Reply<O::Response>>
where
    T: AsyncRead + Unpin + Send,
{
    let length = read_length(io, first).await?;
    if length > O::MAX_RESPONSE {
        return Err(invalid(format!(
            "a {} response of {length} bytes, expected {}",
            O::NAME,
            O::MAX_RESPONSE
        )));
    }
    let mut frame = Vec::with_capacity(length.min(STEP));
    while frame.len() < length {
        let step = (length - frame.len()).min(STEP);
        read_step(io, &mut frame, step).await?;
    }
    lenient::from_slice(&frame).map_err(|e| invalid(e.to_string()))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Reads the rest of an unsigned varint of at most [`MAX_PREFIX`] bytes in its shortest form.
async fn read_length<T: AsyncRead + Unpin>(io: &mut T, first: u8) -> io::Result<usize> {
    let mut length = 0;
    let mut byte = [first];
    for position in 0..MAX_PREFIX {
        if position > 0 {
            io.read_exact(&mut byte).await?;
        }
        let [byte] = byte;
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return if byte == 0 && position > 0 {
                Err(invalid("a length prefix that is not in its shortest form".to_owned()))
            } else {
                Ok(length)
            };
        }
    }
    Err(invalid(format!("a length prefix of more than {MAX_PREFIX} bytes")))
}

/// Reads exactly `step` further bytes.
async fn read_step<T: AsyncRead + Unpin>(io: &mut T, frame: &mut Vec<u8>, step: usize) -> io::Result<()> {
    let read = frame.len();
    frame.resize(read + step, 0);
    io.read_exact(frame.get_mut(read..).unwrap_or_default()).await
}

/// Reads so many bytes for nothing: who sends them reads no answer before.
async fn discard<T: AsyncRead + Unpin>(io: &mut T, mut bytes: usize) -> io::Result<()> {
    let mut sink = vec![0; bytes.min(DISCARD_STEP)];
    while bytes > 0 {
        let step = bytes.min(sink.len());
        io.read_exact(sink.get_mut(..step).unwrap_or_default()).await?;
        bytes -= step;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
