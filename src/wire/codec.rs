//! The request-response codec: an unsigned varint with the length, then one CBOR object (SPEC 8.1).

use std::{any::Any, io, marker::PhantomData, sync::Arc, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
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

/// Why a request never became one. The event loop answers it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The byte budget was used up.
    Overloaded,
    /// Too long, or not the CBOR of the operation.
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
    /// A request on its way out, which takes nothing of the budget.
    pub(crate) const fn outbound(request: T) -> Self {
        Self { request: Ok(request), _permit: None }
    }

    const fn rejected(reason: Rejected) -> Self {
        Self { request: Err(reason), _permit: None }
    }
}

/// A response: one that came off the wire, or the encoding of one that goes out.
#[derive(Debug)]
pub struct Response<T>(Way<T>);

#[derive(Debug)]
enum Way<T> {
    In(Reply<T>),
    Out { body: Vec<u8>, _held: Option<Box<dyn Any + Send>> },
}

impl<T: serde::Serialize> Response<T> {
    /// Encodes a reply of an operation that goes out.
    ///
    /// # Errors
    /// If it is longer than `max` bytes, or cannot be encoded.
    pub fn encode(reply: &Reply<T>, max: usize) -> io::Result<Self> {
        Ok(Self(Way::Out { body: encode(reply, max)?, _held: None }))
    }
}

impl<T> Response<T> {
    /// Length of the encoding that goes out, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Way::In(_) => 0,
            Way::Out { body, .. } => body.len(),
        }
    }

    /// Whether nothing goes out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, and what it holds until the peer has taken all of it, or it is given up.
    #[must_use]
    pub fn holding(mut self, what: impl Any + Send) -> Self {
        if let Way::Out { _held, .. } = &mut self.0 {
            *_held = Some(Box::new(what));
        }
        self
    }

    /// The reply that came; none of one that goes out.
    #[must_use]
    pub fn into_reply(self) -> Option<Reply<T>> {
        match self.0 {
            Way::In(reply) => Some(reply),
            Way::Out { .. } => None,
        }
    }
}

/// Reads and writes the frames of one operation.
#[derive(Debug, Clone)]
pub struct Codec<O> {
    budget: Budget,
    read_timeout: Duration,
    operation: PhantomData<O>,
}

impl<O: Operation> Codec<O> {
    /// A codec that takes requests from `budget` and gives a peer `read_timeout` to send one.
    #[must_use]
    pub const fn new(budget: Budget, read_timeout: Duration) -> Self {
        Self { budget, read_timeout, operation: PhantomData }
    }
}

impl<O: Operation> request_response::Codec for Codec<O> {
    type Protocol = StreamProtocol;
    type Request = Received<O::Request>;
    type Response = Response<O::Response>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let budget = self.budget.clone();
        let read = async move {
            let length = read_length(io).await?;
            if length > O::MAX_REQUEST {
                return Ok(Received::rejected(Rejected::Malformed));
            }
            let charged = if length <= SMALL_REQUEST { 0 } else { length.min(STEP) };
            let Some(mut held) = budget.take(charged) else {
                return Ok(Received::rejected(Rejected::Overloaded));
            };
            let mut frame = Vec::with_capacity(length.min(STEP));
            // The budget is taken as the bytes arrive: who only claims a length holds next to nothing of it.
            while frame.len() < length {
                let step = (length - frame.len()).min(STEP);
                if !frame.is_empty() {
                    match budget.take(step) {
                        Some(more) => held.merge(more),
                        None => return Ok(Received::rejected(Rejected::Overloaded)),
                    }
                }
                read_step(io, &mut frame, step).await?;
            }
            read_end(io).await?;
            let request = lenient::from_slice(&frame).map_err(|_| Rejected::Malformed);
            Ok(Received { request, _permit: Some(held) })
        };
        tokio::time::timeout(self.read_timeout, read).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let length = read_length(io).await?;
        if length > O::MAX_RESPONSE {
            return Err(invalid(format!(
                "a {} response of {length} bytes, expected {}",
                O::NAME,
                O::MAX_RESPONSE
            )));
        }
        let mut frame = Vec::with_capacity(length.min(STEP));
        read_step(io, &mut frame, length).await?;
        read_end(io).await?;
        lenient::from_slice(&frame).map(|reply| Response(Way::In(reply))).map_err(|e| invalid(e.to_string()))
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request = request.request.map_err(|_| invalid("a rejected request was sent".to_owned()))?;
        write_frame(io, &encode(&request, O::MAX_REQUEST)?).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Self::Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let Way::Out { body, .. } = &response.0 else {
            return Err(invalid("a response that came was sent".to_owned()));
        };
        write_frame(io, body).await
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Reads an unsigned varint of at most [`MAX_PREFIX`] bytes in its shortest form.
async fn read_length<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<usize> {
    let mut length = 0;
    for position in 0..MAX_PREFIX {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
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
    let read = io.take(step as u64).read_to_end(frame).await?;
    if read < step { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Reads the end of the stream.
async fn read_end<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<()> {
    match io.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(invalid("bytes after the frame".to_owned())),
    }
}

fn encode<M: serde::Serialize>(message: &M, max: usize) -> io::Result<Vec<u8>> {
    let body = lenient::to_vec(message).map_err(|e| invalid(e.to_string()))?;
    if body.len() > max {
        let text = format!("a message of {} bytes, at most {max} may be sent", body.len());
        // Our own mistake, not the peer's.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(body)
}

async fn write_frame<T: AsyncWrite + Unpin>(io: &mut T, body: &[u8]) -> io::Result<()> {
    let mut prefix = Vec::with_capacity(MAX_PREFIX);
    let mut rest = body.len();
    while rest > 0x7f {
        prefix.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    prefix.push(rest as u8);
    // One write for short messages: the prefix must not travel in a packet of its own.
    if body.len() <= 4096 {
        prefix.extend_from_slice(body);
        io.write_all(&prefix).await?;
    } else {
        io.write_all(&prefix).await?;
        io.write_all(body).await?;
    }
    io.close().await
}

#[cfg(test)]
mod tests;
