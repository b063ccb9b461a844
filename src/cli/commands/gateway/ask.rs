//! Asks the daemon that runs on a home, as its owner.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    cli::failure::Advise as _,
    config::{Home, home},
};

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// What an error answer says.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    fix: String,
}

/// The answer to a request; nothing for one without a body.
pub(super) fn ask<T: DeserializeOwned>(
    home: &Home,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Option<T>> {
    let file = |name: &str| -> Result<String> {
        let text = home::read_secret(&home.root().join("gateway").join(name))
            .context("no daemon runs on this home")
            .hint("start it with `p2pdb gateway`")?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let (url, token) = (file("url")?, file("token")?);
    let host = url.strip_prefix("http://").unwrap_or(&url);
    let address: SocketAddr = host.parse().with_context(|| format!("{url:?} is not the URL of a daemon"))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    // HTTP/1.0: the answer comes whole, and ends with the connection.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, request.as_bytes())
        .with_context(|| format!("the daemon at {url} does not answer"))
        .hint("if it was killed, start it again with `p2pdb gateway`")?;
    let (status, body) =
        parse(&answer).ok_or_else(|| anyhow!("what listens at {url} is not a daemon of p2pdb"))?;
    if !(200..300).contains(&status) {
        let Problem { detail, fix } =
            serde_json::from_slice(body).with_context(|| format!("the daemon answered {status}"))?;
        return Err(anyhow!(detail)).hint(fix);
    }
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(body).map(Some).context("the daemon is of another version").hint("start it again")
}

fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.get(end + 4..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.0 201 Created\r\ncontent-type: application/json\r\n\r\n{}\r\n\r\n";
        assert_eq!(parse(answer), Some((201, &b"{}\r\n\r\n"[..])));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, &b""[..])));
        for bad in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.0 x y\r\n\r\n", b"HTTP/1.0\r\n\r\n"] {
            assert_eq!(parse(bad), None);
        }
    }
}
