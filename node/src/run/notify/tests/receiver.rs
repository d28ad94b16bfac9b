//! A receiver of messages: a real HTTP server on loopback that answers as it is told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How to answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// With a status and nothing else.
    Status(u16),
    /// With a header and a body, too.
    Whole(u16, &'static str, &'static str, String),
    /// Not at all, while the connection stays.
    Never,
}

/// One message as it arrived.
#[derive(Debug, Clone)]
pub struct Got {
    pub path: String,
    pub id: String,
    pub timestamp_s: u64,
    pub signature: String,
    pub body: Bytes,
}

/// The receiver, until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Script = dyn Fn(usize) -> Reply + Send + Sync;

impl Receiver {
    /// Answers the nth message (from 0) as `script` says.
    pub async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().expect("an address"), None, script).await
    }

    pub async fn on(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        script: impl Fn(usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let got = Arc::new(Mutex::new(Vec::new()));
        let (seen, script): (_, Arc<Script>) = (got.clone(), Arc::new(script));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let (seen, script, tls) = (seen.clone(), script.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen, script).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen, script).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, got, task }
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().expect("nobody panicked").clone()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seen: Arc<Mutex<Vec<Got>>>,
    script: Arc<Script>,
) {
    let service = service_fn(move |request| answer(request, seen.clone(), script.clone()));
    // A client that closes first is no error of a receiver.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Got>>>,
    script: Arc<Script>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.method(), "POST");
    assert_eq!(request.headers()["content-type"], "application/json");
    let header = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
    let (id, signature) = (header("webhook-id"), header("webhook-signature"));
    let timestamp_s = header("webhook-timestamp").parse().expect("a number");
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let nth = {
        let mut seen = seen.lock().expect("nobody panicked");
        seen.push(Got { path, id, timestamp_s, signature, body });
        seen.len() - 1
    };
    let response = match script(nth) {
        Reply::Never => std::future::pending().await,
        Reply::Status(status) => Response::builder().status(status).body(Full::default()),
        Reply::Whole(status, name, value, body) => {
            Response::builder().status(status).header(name, value).body(Full::new(body.into()))
        }
    };
    Ok(response.expect("a response"))
}

/// A receiver's certificate for `name` under an authority of its own, whose certificate is written to `ca`.
pub fn tls(name: &str, ca: &Path) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().expect("a key");
    std::fs::write(ca, params.self_signed(&root_key).expect("signed").pem()).expect("written");
    let root = Issuer::new(params, root_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&key, &root).expect("signed");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}
