//! One HTTP/1.1 request over a Unix socket, with the standard library alone.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// A node answers from memory; this is for a machine that is busy with other tests.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What a node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Asks the node at `socket`. With a body it is a `POST` of JSON, without one a `GET`.
///
/// # Errors
/// Nobody answers, or what comes is no HTTP.
pub fn request(socket: &Path, path: &str, body: Option<&Value>) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let (method, body) = body.map_or(("GET", String::new()), |body| ("POST", body.to_string()));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(text: &str) -> Result<Answer> {
    let wrong = |why: &str| Error::new(ErrorKind::InvalidData, why.to_owned());
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| wrong("no end of the head"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| wrong("no status"))?;
    if head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
        return Err(wrong("a chunked body"));
    }
    Ok(Answer { status, body: body.to_owned() })
}
