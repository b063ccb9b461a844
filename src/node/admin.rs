//! The local admin socket: one JSON request a line, one JSON answer a line, for who may open the socket's file.

use std::{path::Path, sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::node::Node;

/// Connections to the socket at the same time.
const MAX_CONNECTIONS: usize = 16;
/// Longest request, in bytes.
const MAX_REQUEST: u64 = 4096;
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Pause after the socket failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A request has to be there after this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// The node at a glance.
    Status,
    /// Connect to a node.
    AddPeer {
        /// Where it is.
        address: Multiaddr,
    },
    /// Keep a peer away.
    BanPeer {
        /// Its id.
        peer: String,
        /// For how long, in seconds.
        seconds: u64,
    },
}

/// The answer: `ok` with what was asked for, or `error` with what is wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Ok(serde_json::Value),
    /// Not done.
    Error(String),
}

/// Why a running node could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nobody listens: the node does not run.
    #[error("no node runs on this home")]
    NotRunning,
    /// The socket failed.
    #[error("the node's admin socket failed: {0}")]
    Io(#[from] std::io::Error),
    /// The node does not do it.
    #[error("{0}")]
    Refused(String),
}

/// Opens the socket for this user alone; a socket that a dead node left is replaced.
///
/// # Errors
/// If the file cannot be made.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers what comes through the socket until `shutdown`.
pub async fn serve(listener: UnixListener, node: Arc<Node>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin socket failed");
                    // Out of file descriptors, say: it will not be better at once.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (node, shutdown) = (Arc::clone(&node), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(PATIENCE * 6, answer_line(stream, &node)) => {}
            }
            drop(place);
        });
    }
}

async fn answer_line(stream: UnixStream, node: &Node) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => answer(request, node).await,
        Err(error) => Answer::Error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn answer(request: Request, node: &Node) -> Answer {
    let result = match request {
        Request::Status => match node.status().await {
            Ok(status) => serde_json::to_value(status).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        },
        Request::AddPeer { address } => match node.swarm().connect_to(address.clone()).await {
            Ok(peer) => Ok(serde_json::json!({ "peer": peer.to_string() })),
            Err(error) => Err(format!("{address}: {error}")),
        },
        Request::BanPeer { peer, seconds } => match peer.parse::<PeerId>() {
            Ok(peer) => {
                node.swarm().ban(peer, Duration::from_secs(seconds)).await;
                Ok(serde_json::json!({ "peer": peer.to_string(), "seconds": seconds }))
            }
            Err(error) => Err(format!("{peer} is not a peer id: {error}")),
        },
    };
    result.map_or_else(Answer::Error, Answer::Ok)
}

/// Asks the node that runs on a home.
///
/// # Errors
/// If none runs, or it does not do it.
pub async fn ask(path: &Path, request: &Request) -> Result<serde_json::Value, AdminError> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};

    let stream = match UnixStream::connect(path).await {
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => {
            return Err(AdminError::NotRunning);
        }
        other => other?,
    };
    let (reader, mut writer) = stream.into_split();
    let mut text = serde_json::to_vec(request).map_err(std::io::Error::from)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    let mut line = String::new();
    BufReader::new(reader.take(MAX_ANSWER)).read_line(&mut line).await?;
    match serde_json::from_str(&line).map_err(std::io::Error::from)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(text) => Err(AdminError::Refused(text)),
    }
}
