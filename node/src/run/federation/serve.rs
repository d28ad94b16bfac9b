//! Our bundle endpoint: `GET /bundle.json` over TLS, for anybody (SPIFFE Federation §5.2: no client authentication).

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cauldron_identity::TrustBundle;
use cauldron_mesh::SvidSource;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::Endpoint;
use crate::error::CliError;
use crate::run::certificate;

/// Where the bundle is.
const PATH: &str = "/bundle.json";
/// Anybody may connect: so many at once, each for so long, whatever they do.
const CONNECTIONS_MAX: usize = 64;
const CONNECTION_MAX: Duration = Duration::from_secs(15);
/// A request has a line and a handful of headers.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Between two looks at the files of the Web PKI certificate, which something else renews.
const RELOAD_EVERY: Duration = Duration::from_secs(60);

/// A bound endpoint that does not answer yet.
pub struct Server {
    listener: TcpListener,
    files: Option<(PathBuf, PathBuf)>,
    web: Option<Arc<ArcSwap<CertifiedKey>>>,
}

impl Server {
    /// Binds the address and reads the certificate.
    ///
    /// # Errors
    /// [`CliError`]: the port is taken, or certificate and key cannot be used.
    pub async fn bind(endpoint: &Endpoint) -> Result<Self, CliError> {
        let listener = TcpListener::bind(endpoint.listen).await.map_err(|e| {
            CliError::config(format!("cannot listen on TCP {}", endpoint.listen))
                .because(&e)
                .hint("free the port, or name another one in federation.listen")
        })?;
        let web = endpoint.web.as_ref().map(|files| certificate::load(files, "federation")).transpose()?;
        let web = web.map(|key| Arc::new(ArcSwap::from(key)));
        Ok(Self { listener, files: endpoint.web.clone(), web })
    }

    /// Answers until `stop` turns true.
    pub async fn run(
        self,
        source: Arc<SvidSource>,
        bundle: watch::Receiver<Arc<TrustBundle>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let resolver: Arc<dyn ResolvesServerCert> = match &self.web {
            Some(web) => Arc::new(certificate::Newest(web.clone())),
            None => Arc::new(Own(source)),
        };
        let Ok(tls) = config(resolver) else { return };
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut reload = tokio::time::interval(RELOAD_EVERY);
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = reload.tick() => { self.reload(); continue }
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, or the peer is gone already: neither gets better by asking at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Beyond the limit a connection is closed, not queued.
            let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
            let (acceptor, bundle) = (acceptor.clone(), bundle.clone());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(CONNECTION_MAX, answer(stream, acceptor, bundle)).await;
                drop(slot);
            });
        }
    }

    fn reload(&self) {
        let (Some(files), Some(web)) = (&self.files, &self.web) else { return };
        match certificate::load(files, "federation") {
            Ok(key) => web.store(key),
            Err(why) => tracing::warn!(%why, "the bundle endpoint keeps its old certificate"),
        }
    }
}

fn config(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The node's own SVID, the newest one at each handshake.
#[derive(Debug)]
struct Own(Arc<SvidSource>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, bundle: watch::Receiver<Arc<TrustBundle>>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &bundle.borrow());
        async move { Ok::<_, Infallible>(response) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond(request: &Request<Incoming>, bundle: &TrustBundle) -> Response<Full<Bytes>> {
    let plain = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut response = Response::new(Full::from(bundle.to_jwks()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
