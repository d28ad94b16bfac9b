//! As much of a browser and of an authenticator as the page needs.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cauldron_identity::Digest;
use cauldron_identity::passkey::authenticator::{Authenticator, object};
use cauldron_identity::passkey::{registration_challenge, sign_in_challenge};
use serde_json::{Value, json};

const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What the page answered; status 0 when the connection was closed instead.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Keeps the cookie, and the token of the page it saw last.
pub struct Browser {
    origin: String,
    tls: Option<Arc<rustls::ClientConfig>>,
    kept: Mutex<(Option<String>, String)>,
}

impl Browser {
    pub fn new(origin: &str) -> Self {
        Self { origin: origin.to_owned(), tls: None, kept: Mutex::default() }
    }

    pub fn with_roots(origin: &str, roots: rustls::RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("TLS 1.3").with_root_certificates(roots).with_no_client_auth();
        Self { tls: Some(Arc::new(config)), ..Self::new(origin) }
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn authority(&self) -> &str {
        self.origin.split_once("://").expect("an origin").1
    }

    /// Where the page listens.
    pub fn address(&self) -> String {
        self.authority().replace("localhost", "127.0.0.1")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    pub fn try_get(&self, path: &str) -> Result<Reply> {
        self.exchange("GET", path, &[], None)
    }

    /// A page that must be there.
    pub fn page(&self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    }

    /// As a script of the page does it; the token is that of a page which is loaded for it, where somebody is signed in.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        if self.kept.lock().expect("whole").0.is_some() {
            self.get("/status");
        }
        self.send("POST", path, &[], Some(body))
    }

    /// `change` replaces headers by name.
    pub fn send(&self, method: &str, path: &str, change: &[(&str, &str)], body: Option<&Value>) -> Reply {
        self.exchange(method, path, change, body).unwrap_or_default()
    }

    fn exchange(&self, method: &str, path: &str, change: &[(&str, &str)], body: Option<&Value>) -> Result<Reply> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (cookie, csrf) = self.kept.lock().expect("whole").clone();
        let mut headers: Vec<(&str, String)> =
            vec![("host", self.authority().to_owned()), ("connection", "close".into())];
        if method == "POST" {
            headers.push(("origin", self.origin.clone()));
            headers.push(("sec-fetch-site", "same-origin".into()));
            headers.push(("content-type", "application/json".into()));
            headers.push(("x-cauldron-csrf", csrf));
        }
        headers.push(("content-length", body.len().to_string()));
        headers.extend(cookie.map(|cookie| ("cookie", cookie)));
        headers.retain(|(name, _)| change.iter().all(|(changed, _)| changed != name));
        headers.extend(change.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let request = format!("{method} {path} HTTP/1.1\r\n{head}\r\n{body}");
        let reply = match &self.tls {
            None => spoken(stream, &request)?,
            Some(config) => {
                let name = "localhost".try_into().expect("a name");
                let session = rustls::ClientConnection::new(config.clone(), name).map_err(Error::other)?;
                spoken(rustls::StreamOwned::new(session, stream), &request)?
            }
        };
        self.keep(&reply);
        Ok(reply)
    }

    fn keep(&self, reply: &Reply) {
        let mut kept = self.kept.lock().expect("whole");
        if let Some(cookie) = reply.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default().to_owned();
            kept.0 = Some(pair).filter(|pair| !pair.ends_with('='));
        }
        if let Some(token) = reply.body.split("data-csrf=\"").nth(1).and_then(|rest| rest.split('"').next()) {
            token.clone_into(&mut kept.1);
        }
    }
}

fn spoken(mut stream: impl Read + Write, request: &str) -> Result<Reply> {
    // Whoever refuses a request may close before all of it was sent.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.flush();
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(read.err().unwrap_or_else(|| Error::new(ErrorKind::UnexpectedEof, "no answer")));
    };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    Ok(Reply { status, headers: headers.collect(), body: body.to_owned() })
}

/// A passkey in software, answering as a page's script does.
pub struct Key(Authenticator);

fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn id<T: std::str::FromStr>(begun: &Value, name: &str) -> T {
    let parsed = begun[name].as_str().and_then(|hex| hex.parse().ok());
    parsed.unwrap_or_else(|| panic!("{name} in {begun}"))
}

impl Key {
    pub fn new(seed: u8, rp_id: &str, origin: &str) -> Self {
        Self(Authenticator::es256(&[seed; 32], rp_id, origin))
    }

    /// Its name, as `allowCredentials` carries it.
    pub fn id(&self) -> String {
        self.0.passkey().credential_id_text()
    }

    pub fn register(&self, begun: &Value, person: &str) -> Value {
        let challenge = registration_challenge(&id(begun, "mesh"), &id(begun, "node"), &id(begun, "nonce"));
        let mut draft = None;
        let _ = self.0.register_with(&challenge, |d| draft = Some(d.clone()));
        let draft = draft.expect("drafted");
        let object = object("none", &[0xa0], &draft.authenticator_data);
        json!({
            "nonce": begun["nonce"], "person": person,
            "attestation_object": text(object), "client_data_json": text(draft.client_data_json),
        })
    }

    pub fn sign_in(&self, begun: &Value) -> Value {
        let challenge = sign_in_challenge(&id(begun, "mesh"), &id(begun, "node"), &id(begun, "nonce"));
        self.sign_in_over(begun, &challenge)
    }

    /// Answers another challenge than that of the nonce.
    pub fn sign_in_over(&self, begun: &Value, challenge: &Digest) -> Value {
        json!({ "nonce": begun["nonce"], "id": self.id(), "answer": self.answer(challenge), "next": null })
    }

    pub fn answer(&self, challenge: &Digest) -> Value {
        let bytes = self.0.assert(challenge).to_bytes();
        let [data, client, signature] = parts(&bytes);
        json!({ "authenticator_data": text(data), "client_data_json": text(client), "signature": text(signature) })
    }
}

/// Reads the map of three byte strings that an assertion is kept as (`docs/wire.md`).
fn parts(bytes: &[u8]) -> [&[u8]; 3] {
    let mut rest = bytes.strip_prefix(&[0xa3]).expect("a map of three");
    std::array::from_fn(|_| {
        let (length, skip) = match rest[1] {
            0x58 => (usize::from(rest[2]), 3),
            0x59 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
            short => (usize::from(short - 0x40), 2),
        };
        let (part, after) = rest[skip..].split_at(length);
        rest = after;
        part
    })
}
