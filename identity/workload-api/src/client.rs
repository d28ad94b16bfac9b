//! The client: this node's own X.509 context from another Workload API, such as a SPIRE agent's.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cauldron_identity::{SpiffeId, TrustDomain};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};
use zeroize::Zeroizing;

use crate::SECURITY_HEADER;
use crate::proto::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use crate::proto::{X509svidRequest, X509svidResponse};

/// A server on this machine answers at once, or it hangs.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// As [`CONNECT_MAX`]; the specification has the server send its first reply immediately.
const FIRST_REPLY_MAX: Duration = Duration::from_secs(10);
/// A reply carries a few chains and bundles of some kilobytes each.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A server that stopped answering pings is gone, though its socket stands.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What one reply said about one identity: complete, so that what is absent is not trusted any more.
pub struct Fetched {
    /// Concatenated DER, the leaf first.
    pub chain_der: Vec<u8>,
    /// PKCS#8 DER.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
    /// Concatenated DER root certificates by trust domain, the identity's own among them.
    pub bundles: BTreeMap<TrustDomain, Vec<u8>>,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("bundles", &self.bundles.keys()).finish_non_exhaustive()
    }
}

/// Why nothing was fetched. The identity in use stays in use.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens.
    #[error("the Workload API at {socket} cannot be reached: {why}")]
    Unreachable {
        /// Its socket.
        socket: String,
        /// The reason.
        why: String,
    },
    /// Somebody listens and does not answer.
    #[error("the Workload API has not answered within {} s", .0.as_secs())]
    Slow(Duration),
    /// It says no.
    #[error("the Workload API refused ({code:?}): {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// It ended the stream.
    #[error("the Workload API ended the stream")]
    Ended,
    /// It issues identities, and not ours.
    #[error("the Workload API gives this process {}, not {wanted}; register {wanted} for it", names(.found))]
    OtherIdentity {
        /// Who we are.
        wanted: SpiffeId,
        /// Whom it takes us for.
        found: Vec<String>,
    },
    /// A reply that the specification does not allow.
    #[error("the Workload API answered nonsense: {0}")]
    Nonsense(String),
}

fn names(ids: &[String]) -> String {
    if ids.is_empty() { "no identity".to_owned() } else { ids.join(", ") }
}

/// An open stream of one identity's states.
pub struct Watch {
    replies: Streaming<X509svidResponse>,
    wanted: SpiffeId,
    first: bool,
}

/// Opens the stream at `socket`, for the identity `wanted`.
///
/// # Errors
/// [`FetchError`].
pub async fn watch(socket: &Path, wanted: SpiffeId) -> Result<Watch, FetchError> {
    let channel = connect(socket).await?;
    let mut client = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
    let replies = tokio::time::timeout(FIRST_REPLY_MAX, client.fetch_x509svid(request)).await;
    let replies = replies.map_err(|_| FetchError::Slow(FIRST_REPLY_MAX))?.map_err(refused)?.into_inner();
    Ok(Watch { replies, wanted, first: true })
}

impl Watch {
    /// The next state: at once the first time, later when something changed.
    ///
    /// # Errors
    /// [`FetchError`]; the stream is of no use after one.
    pub async fn next(&mut self) -> Result<Fetched, FetchError> {
        let reply = if std::mem::take(&mut self.first) {
            let reply = tokio::time::timeout(FIRST_REPLY_MAX, self.replies.message()).await;
            reply.map_err(|_| FetchError::Slow(FIRST_REPLY_MAX))?.map_err(refused)
        } else {
            // What a server says has no source; a stream that breaks under us has.
            let broken = |status: &tonic::Status| std::error::Error::source(status).is_some();
            let reply = self.replies.message().await;
            reply.map_err(|status| if broken(&status) { FetchError::Ended } else { refused(status) })
        };
        read(reply?.ok_or(FetchError::Ended)?, &self.wanted)
    }
}

fn read(reply: X509svidResponse, wanted: &SpiffeId) -> Result<Fetched, FetchError> {
    let ids: Vec<String> = reply.svids.iter().map(|svid| svid.spiffe_id.clone()).collect();
    let own = reply.svids.into_iter().find(|svid| svid.spiffe_id == wanted.to_string());
    let own = own.ok_or_else(|| FetchError::OtherIdentity { wanted: wanted.clone(), found: ids })?;
    let mut bundles = BTreeMap::new();
    for (id, bundle) in reply.federated_bundles {
        let domain = TrustDomain::new(&id).map_err(|e| FetchError::Nonsense(format!("a bundle of {id:?}: {e}")))?;
        bundles.insert(domain, bundle);
    }
    // Last: a server may not replace our own trust domain's roots by a bundle it calls foreign.
    bundles.insert(wanted.trust_domain().clone(), own.bundle);
    Ok(Fetched { chain_der: own.x509_svid, key_pkcs8: Zeroizing::new(own.x509_svid_key), bundles })
}

async fn connect(socket: &Path) -> Result<Channel, FetchError> {
    let unreachable = |why: String| FetchError::Unreachable { socket: socket.display().to_string(), why };
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is never used: the connector knows the socket.
    let endpoint = Endpoint::from_static("http://workload-api.invalid")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(CONNECT_MAX)
        .keep_alive_while_idle(true);
    let connected = tokio::time::timeout(CONNECT_MAX, endpoint.connect_with_connector(connector)).await;
    connected.map_err(|_| FetchError::Slow(CONNECT_MAX))?.map_err(|e| unreachable(chain(&e)))
}

fn refused(status: tonic::Status) -> FetchError {
    FetchError::Refused { code: status.code(), message: status.message().chars().take(300).collect() }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
