//! The port of the page: bounded connections, TLS with a certificate that something else renews, or plain on loopback.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::Serve;
use crate::error::CliError;
use crate::run::certificate;

/// A browser opens six at a time; twenty people at once are a large site's whole shift.
const CONNECTIONS_MAX: usize = 128;
/// A browser needs two round trips.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// From the first byte of a request's head to its end, and between two requests (guarantees §4).
const HEADER_MAX: Duration = Duration::from_secs(5);
/// Reading a request's body and answering it.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// A browser that stays connects again.
const CONNECTION_MAX: Duration = Duration::from_secs(15 * 60);
/// Line and headers of one request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Between two looks at the times of the certificate's files.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// A bound port that does not answer yet.
pub struct Door {
    listener: TcpListener,
    tls: Option<Tls>,
}

struct Tls {
    files: (PathBuf, PathBuf),
    stamp: Stamp,
    current: Arc<ArcSwap<CertifiedKey>>,
    acceptor: TlsAcceptor,
}

/// What changes when a file does: inode, size and time of each.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

impl Door {
    /// Binds the address and reads the certificate.
    ///
    /// # Errors
    /// [`CliError`]: the port is taken, or certificate and key cannot be used.
    pub async fn bind(serve: &Serve) -> Result<Self, CliError> {
        let tls = serve.tls.as_ref().map(Tls::open).transpose()?;
        let listener = TcpListener::bind(serve.listen).await.map_err(|e| {
            CliError::config(format!("cannot listen on TCP {}", serve.listen))
                .because(&e)
                .hint("free the port, or name another one in page.listen")
        })?;
        Ok(Self { listener, tls })
    }

    /// Answers with `answer`, which is told the peer's address, until `stop` turns true.
    pub async fn run<F, A>(mut self, answer: A, mut stop: watch::Receiver<bool>)
    where
        A: Fn(Request<Body>, IpAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut reload = tokio::time::interval(RELOAD_EVERY);
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = reload.tick() => { self.tls.iter_mut().for_each(Tls::follow); continue }
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors, or the peer is gone already: neither gets better by asking at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Beyond the limit a connection is closed, not queued.
            let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
            let (answer, from) = (answer.clone(), peer.ip());
            let acceptor = self.tls.as_ref().map(|tls| tls.acceptor.clone());
            tokio::spawn(async move {
                let served = async {
                    match acceptor {
                        None => connection(stream, answer, from).await,
                        Some(acceptor) => {
                            let shaken = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
                            let Ok(Ok(stream)) = shaken else { return };
                            connection(stream, answer, from).await;
                        }
                    }
                };
                let _ = tokio::time::timeout(CONNECTION_MAX, served).await;
                drop(slot);
            });
        }
    }
}

async fn connection<S, F, A>(stream: S, answer: A, from: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Body>, IpAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let answered = answer(request.map(Body::new), from);
        async move {
            // Whoever sends so slowly is not told why.
            let late = || axum::response::IntoResponse::into_response(axum::http::StatusCode::REQUEST_TIMEOUT);
            let answered = tokio::time::timeout(REQUEST_MAX, answered).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|_| super::guard::sealed(late(), false)))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Tls {
    fn open(files: &(PathBuf, PathBuf)) -> Result<Self, CliError> {
        let current = Arc::new(ArcSwap::from(certificate::load(files, "page")?));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| CliError::config("TLS cannot be set up for the page").because(&e))?;
        let mut config =
            config.with_no_client_auth().with_cert_resolver(Arc::new(certificate::Newest(current.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { stamp: stamp(files), files: files.clone(), current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Takes a changed certificate up. Certificate and key change one after the other: a pair that does not fit yet is tried again.
    fn follow(&mut self) {
        let found = stamp(&self.files);
        if found == self.stamp {
            return;
        }
        match certificate::load(&self.files, "page") {
            Ok(key) => {
                self.current.store(key);
                tracing::info!("the approval page has a new certificate");
            }
            Err(why) => {
                tracing::warn!(%why, "the approval page keeps its old certificate until the files change again")
            }
        }
        self.stamp = found;
    }
}

fn stamp(files: &(PathBuf, PathBuf)) -> Stamp {
    let of = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
    [of(&files.0), of(&files.1)]
}

/// Whether certificate and key can be used.
///
/// # Errors
/// [`CliError`] that says why not.
pub fn examine(serve: &Serve) -> Result<(), CliError> {
    serve.tls.as_ref().map(|files| certificate::load(files, "page")).transpose().map(|_| ())
}
