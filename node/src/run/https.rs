//! One HTTP/1.1 request to somebody outside the mesh: a connection of its own, no redirects, no cookies, no proxy.

use std::fmt;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// To the endpoint's address.
    Connect,
    /// To a proof of who it is.
    Tls,
    /// To an answer.
    Http,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// Where it ended.
    pub(super) stage: Stage,
    why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// An answer whose body is still to come. The connection ends when this is dropped.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    _connection: JoinSet<()>,
}

impl Answered {
    /// The body, nothing where it has more than `bytes_max`.
    ///
    /// # Errors
    /// A sentence: it broke off.
    pub(super) async fn body(self, bytes_max: usize) -> Result<Option<Bytes>, String> {
        match Limited::new(self.response.into_body(), bytes_max).collect().await {
            Ok(body) => Ok(Some(body.to_bytes())),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => Ok(None),
            Err(e) => Err(format!("the endpoint's answer broke off: {e}")),
        }
    }
}

/// Sends `request` to `url`, whose path it carries already; `host` and `connection` are added. With `tls` the host must prove
/// itself. Without, it must be this very machine: nothing else may read along. Sets no time limit.
///
/// # Errors
/// How far it got, and a sentence.
pub(super) async fn send(
    url: &Uri,
    tls: Option<Arc<ClientConfig>>,
    mut request: Request<Full<Bytes>>,
) -> Result<Answered, Failed> {
    let failed = |stage, why| Failed { stage, why };
    let host = url.host().ok_or_else(|| failed(Stage::Connect, "the URL names no host".to_owned()))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let authority = authority.parse().map_err(|e| failed(Stage::Connect, format!("the URL's host {host}: {e}")))?;
    request.headers_mut().insert(header::HOST, authority);
    request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    let unreachable =
        |e: std::io::Error| failed(Stage::Connect, format!("the endpoint {host}:{port} cannot be reached: {e}"));
    let stream = TcpStream::connect((bare.as_str(), port)).await.map_err(unreachable)?;
    let Some(tls) = tls else {
        if !stream.peer_addr().map_err(unreachable)?.ip().is_loopback() {
            let why = format!("the endpoint {host}:{port} is not on this machine, and http is for loopback alone");
            return Err(failed(Stage::Connect, why));
        }
        return over(stream, host, port, request).await;
    };
    let name = ServerName::try_from(bare).map_err(|e| failed(Stage::Tls, format!("the URL's host {host}: {e}")))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|e| {
        let why = format!("the endpoint {host}:{port} is not who it should be, or speaks no TLS 1.3: {e}");
        failed(Stage::Tls, why)
    })?;
    over(stream, host, port, request).await
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    port: u16,
    request: Request<Full<Bytes>>,
) -> Result<Answered, Failed> {
    let broken = |e: hyper::Error| {
        let why = format!("the endpoint {host}:{port} speaks no HTTP: {}", super::chain(&e));
        Failed { stage: Stage::Http, why }
    };
    let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // What goes wrong there also shows as an error of the request.
        let _ = connection.await;
    });
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok(Answered { response, _connection: tasks })
}

/// The one cryptography, and TLS 1.3 alone: how every client here begins.
///
/// # Errors
/// A sentence.
pub(super) fn tls_builder(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())
}

/// No certificate of ours, HTTP/1.1, and no resumption, which would skip the verifier and with it a change of what is trusted.
pub(super) fn tls_finish(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// The certificate authorities that this machine trusts (SPIFFE Federation §5.2.1.4: locally trusted).
///
/// # Errors
/// A sentence: there is none.
pub(super) fn web_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    match taken {
        0 => Err("this machine trusts no certificate authority of the Web PKI; install ca-certificates".to_owned()),
        _ => Ok(roots),
    }
}
