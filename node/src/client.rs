//! HTTP/1.1 over the node's Unix socket: JSON out and in, `problem+json` (RFC 9457) as a [`CliError`], and the event stream.
//!
//! One connection per request: the socket is local, and a command asks once or twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::error::{CliError, Kind};

/// A node answers from memory; only a commit to a very slow disk takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A listing of ten thousand facts stays below.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// One event is a few hundred bytes.
const EVENT_BYTES_MAX: usize = 256 * 1024;

/// The API of one node.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The node that listens on `socket`; nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where the node listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for `path`, such as `/v1/self`.
    ///
    /// # Errors
    /// [`CliError`]: nobody answers (`Unreachable`), or what the node says is wrong.
    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.json(Method::GET, path, None).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// The text at `path`, such as `/metrics`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn text(&self, path: &str) -> Result<String, CliError> {
        let bytes = self.bounded(Method::GET, path, None).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.nonsense(path, "its answer is not text"))
    }

    /// Follows `/v1/events`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn events(&self) -> Result<Events, CliError> {
        let response = self.within(ANSWER_MAX, self.send(Method::GET, "/v1/events", None)).await?;
        let response = self.accepted("/v1/events", response).await?;
        Ok(Events { client: self.clone(), body: response.into_body(), buffer: Vec::new() })
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let bytes = self.bounded(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.nonsense(path, "its answer is not JSON"))
    }

    async fn bounded(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, CliError> {
        let all = async {
            let response = self.send(method, path, body).await?;
            self.collect(path, self.accepted(path, response).await?).await
        };
        self.within(ANSWER_MAX, all).await
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(self
                .unreachable()
                .detail(format!("no answer within {} s", limit.as_secs()))
                .hint("look at the node's log; its disk may be stuck")),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.cannot_connect(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.unreachable().because(&e))?;
        // Ends with the response; what goes wrong there also shows as an error of the request.
        tokio::spawn(connection);
        let payload = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "cauldron");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(payload))
            .map_err(|e| CliError::usage(format!("{path} is no path of the node's API")).because(&e))?;
        sender.send_request(request).await.map_err(|e| self.unreachable().because(&e))
    }

    /// The response, or what the node says is wrong.
    async fn accepted(&self, path: &str, response: Response<Incoming>) -> Result<Response<Incoming>, CliError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.collect(path, response).await?;
        Err(problem(status, path, &serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    async fn collect(&self, path: &str, response: Response<Incoming>) -> Result<Bytes, CliError> {
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|e| self.nonsense(path, &e.to_string()))
    }

    fn unreachable(&self) -> CliError {
        CliError::new(Kind::Unreachable, format!("the node at {} does not answer", self.socket.display()))
    }

    fn cannot_connect(&self, error: &std::io::Error) -> CliError {
        use std::io::ErrorKind;
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "join the socket's group, or ask the node's operator".to_owned(),
            _ => "start it with `cauldron node run --config FILE`, or name another node with --socket or --node DIR"
                .into(),
        };
        self.unreachable().because(error).hint(hint)
    }

    fn nonsense(&self, path: &str, why: &str) -> CliError {
        self.unreachable()
            .detail(format!("{path}: {why}"))
            .hint("is another program listening there, or a node of another version?")
    }
}

/// `problem+json` as an error. Its `kind` is the node's stable code; the exit code follows the status.
fn problem(status: StatusCode, path: &str, body: &Value) -> CliError {
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let code = text("kind").unwrap_or_default();
    let kind = Kind::from_name(code).unwrap_or(match status.as_u16() {
        400 | 405 | 415 | 422 => Kind::Usage,
        500.. => Kind::Unreachable,
        _ => Kind::Refused,
    });
    let message =
        text("detail").or(text("title")).map_or_else(|| format!("{path}: HTTP {status}"), crate::output::harmless);
    let mut error = CliError::new(kind, message);
    if !code.is_empty() {
        error = error.coded(code).detail(format!("the node refused {path} with `{}`", crate::output::harmless(code)));
    }
    match text("hint") {
        Some(hint) => error.hint(crate::output::harmless(hint)),
        None => error,
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its name.
    pub event: String,
    /// Its data.
    pub data: Value,
}

/// Events as they happen.
#[derive(Debug)]
pub struct Events {
    client: Client,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// Waits for the next event; nothing when the node ended the stream.
    ///
    /// # Errors
    /// [`CliError`] when the connection breaks or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, CliError> {
        loop {
            while let Some(block) = take_block(&mut self.buffer) {
                if let Some(event) = parse_block(&block) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(self.client.nonsense("/v1/events", "an event without end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
                Some(Err(e)) => return Err(self.client.unreachable().because(&e)),
            }
        }
    }
}

/// Cuts the bytes up to the next empty line off the front of `buffer`.
fn take_block(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.windows(2).position(|w| w == b"\n\n")?;
    let rest = buffer.split_off(end + 2);
    let mut block = std::mem::replace(buffer, rest);
    block.truncate(end);
    Some(block)
}

/// The fields of one event (HTML Living Standard §9.2.6); comments, which keep the connection alive, give nothing.
fn parse_block(block: &[u8]) -> Option<ServerEvent> {
    let text = String::from_utf8_lossy(block);
    let (mut event, mut data) = ("message".to_owned(), Vec::new());
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event),
            "data" => data.push(value),
            _ => {}
        }
    }
    if data.is_empty() {
        return None;
    }
    let data = data.join("\n");
    let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
    Some(ServerEvent { event, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::{get, post};
    use serde_json::json;

    /// A real HTTP server on a real socket.
    fn serve(dir: &Path) -> Client {
        let socket = dir.join("node.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let problem = || async {
            let body = json!({ "status": 409, "title": "refused", "kind": "lineage-settled", "detail": "it is decided already",
                               "hint": "look at `cauldron audit show`\u{1b}[2J" });
            let header = [(header::CONTENT_TYPE, "application/problem+json")];
            (StatusCode::CONFLICT, header, body.to_string()).into_response()
        };
        let router = Router::new()
            .route("/v1/self", get(|| async { axum::Json(json!({ "state": "active" })) }))
            .route("/v1/echo", post(|body: axum::Json<Value>| async { body }))
            .route("/v1/approvals/x/votes", post(problem))
            .route("/v1/nonsense", get(|| async { "<html>" }))
            .route(
                "/v1/events",
                get(|| async { ": hello\n\nevent: peer\ndata: {\"admitted\":true}\n\ndata: one\ndata: two\n\n" }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(socket)
    }

    #[tokio::test]
    async fn json_goes_out_and_comes_back() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let client = serve(dir.path());
        assert_eq!(client.get("/v1/self").await, Ok(json!({ "state": "active" })));
        assert_eq!(client.post("/v1/echo", &json!([1, "é"])).await, Ok(json!([1, "é"])));
        assert_eq!(client.text("/v1/nonsense").await.as_deref(), Ok("<html>"));
        assert_eq!(client.get("/v1/nonsense").await.expect_err("no JSON").kind(), Kind::Unreachable);
    }

    #[tokio::test]
    async fn a_problem_keeps_its_code_and_hint_and_cannot_write_to_the_terminal() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let error = serve(dir.path()).post("/v1/approvals/x/votes", &json!({})).await.expect_err("refused");
        assert_eq!(error.kind().exit_code(), 5);
        expect_test::expect![[r#"
            Error: it is decided already
              the node refused /v1/approvals/x/votes with `lineage-settled`
            Hint: look at `cauldron audit show`\u{1b}[2J"#]]
        .assert_eq(&error.to_string());
    }

    #[tokio::test]
    async fn nobody_there_is_exit_4_and_names_the_socket() {
        let error = Client::new("/nonexistent/node.sock").get("/v1/self").await.expect_err("nobody");
        assert_eq!(error.kind().exit_code(), 4);
        let text = error.to_string();
        assert!(text.contains("/nonexistent/node.sock") && text.contains("cauldron node run"), "{text}");
    }

    #[tokio::test]
    async fn events_are_read_one_by_one_to_the_end() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut events = serve(dir.path()).events().await.expect("a stream");
        let first = events.next().await.expect("readable").expect("an event");
        assert_eq!(first, ServerEvent { event: "peer".into(), data: json!({ "admitted": true }) });
        let second = events.next().await.expect("readable").expect("an event");
        assert_eq!(second, ServerEvent { event: "message".into(), data: json!("one\ntwo") });
        assert_eq!(events.next().await, Ok(None));
    }
}
