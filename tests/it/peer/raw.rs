//! What a peer sends and takes on a stream: bytes as they are, and when it holds still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, StreamProtocol, request_response};
use p2pdb::protocol::message::Operation;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::Peer;

/// What a peer sends: the bytes as they are, and then the end of the stream, at once or when it is told to; it may read
/// the answer only when it is told to.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(super) bytes: Vec<u8>,
    /// What follows them.
    pub(super) more: Option<mpsc::Receiver<Bytes>>,
    pub(super) hold: Option<oneshot::Receiver<()>>,
    pub(super) deaf: Option<oneshot::Receiver<()>>,
    /// So many bytes at a time, and the pause between them, of what it sends and of what it reads.
    pub(super) writes: Option<Pace>,
    pub(super) reads: Option<Pace>,
}

/// So many bytes, and then a pause.
pub(super) type Pace = (usize, Duration);

impl From<Vec<u8>> for Raw {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, more: None, hold: None, deaf: None, writes: None, reads: None }
    }
}

impl Peer {
    /// As [`Peer::begin`], but sends a byte at a time.
    pub(crate) async fn drip<O: Operation>(
        &self,
        node: PeerId,
        bytes: Vec<u8>,
        pause: Duration,
    ) -> oneshot::Receiver<Option<Vec<u8>>> {
        self.send::<O>(node, Raw { writes: Some((1, pause)), ..bytes.into() }).await
    }

    /// As [`Peer::begin`], but reads so many bytes of the answer at a time.
    pub(crate) async fn sip<O: Operation>(
        &self,
        node: PeerId,
        bytes: Vec<u8>,
        pace: (usize, Duration),
    ) -> oneshot::Receiver<Option<Vec<u8>>> {
        self.send::<O>(node, Raw { reads: Some(pace), ..bytes.into() }).await
    }
}

/// Requests that a peer leaves without an answer until who asked gives up.
#[derive(Debug, Default)]
pub(crate) struct Hung {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Hung {
    async fn hang<T: AsyncRead + Unpin>(&self, io: &mut T) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        // Whatever comes, and however it ends.
        let _ = io.read_to_end(&mut Vec::new()).await;
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    /// All until now, and the most at the same time.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.all.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }
}

#[derive(Clone, Default)]
pub(crate) struct RawCodec {
    pub(super) hung: Option<Arc<Hung>>,
    /// Of the stream that it is for.
    reads: Option<Pace>,
}

impl RawCodec {
    pub(super) fn hanging(hung: Option<Arc<Hung>>) -> Self {
        Self { hung, reads: None }
    }
}

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Raw;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> std::io::Result<Raw>
    where
        T: AsyncRead + Unpin + Send,
    {
        // One frame: whoever asks may leave the stream open for the next.
        let mut bytes = Vec::new();
        let mut length = 0;
        while bytes.last().is_none_or(|byte| byte & 0x80 != 0) {
            let mut byte = [0];
            io.read_exact(&mut byte).await?;
            length |= usize::from(byte[0] & 0x7f) << (7 * bytes.len());
            bytes.push(byte[0]);
        }
        (&mut *io).take(length as u64).read_to_end(&mut bytes).await?;
        if let Some(hung) = &self.hung {
            hung.hang(io).await;
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        if let Some((step, pause)) = self.reads {
            while (&mut *io).take(step as u64).read_to_end(&mut bytes).await? == step {
                sleep(pause).await;
            }
        }
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, raw: Raw) -> std::io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.reads = raw.reads;
        let (step, pause) = raw.writes.unwrap_or((usize::MAX, Duration::ZERO));
        for bytes in raw.bytes.chunks(step) {
            io.write_all(bytes).await?;
            io.flush().await?;
            if raw.writes.is_some() {
                sleep(pause).await;
            }
        }
        if let Some(mut more) = raw.more {
            while let Some(bytes) = more.recv().await {
                io.write_all(&bytes).await?;
                io.flush().await?;
            }
        }
        if let Some(hold) = raw.hold {
            // The test that holds it may be over.
            let _ = hold.await;
        }
        io.close().await?;
        if let Some(deaf) = raw.deaf {
            let _ = deaf.await;
        }
        Ok(())
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> std::io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.close().await
    }
}
