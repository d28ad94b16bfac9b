//! The joining side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::time::timeout;

use super::EXPORTER_LABEL;
use crate::code::CloseCode;
use crate::limits::{ENROL_REPLY_BYTES_MAX, ENROL_REQUEST_BYTES_MAX, ENROL_TIME_MAX, RESOLVE_TIME_MAX};
use crate::tls;
use crate::transport::quic_parameters;

/// Why an enrolment did not come about.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The name cannot be looked up.
    #[error("cannot look up `{address}`: {reason}")]
    Resolve {
        /// `host:port` as given.
        address: String,
        /// Why not.
        reason: String,
    },
    /// A local socket or TLS problem.
    #[error("cannot open a connection: {0}")]
    Local(String),
    /// Nobody answered, or the connection broke.
    #[error("`{address}` does not answer on the enrol lane: {reason}")]
    Unreachable {
        /// `host:port` as given.
        address: String,
        /// The last address's failure.
        reason: String,
    },
    /// The server ended the exchange with a code.
    #[error("`{address}` refused the enrolment: {}", .code.map_or("unknown code", |c| c.label()))]
    Refused {
        /// `host:port` as given.
        address: String,
        /// The server's code, if it is one of ours.
        code: Option<CloseCode>,
    },
    /// The request cannot be sent.
    #[error("an enrolment request has at most {ENROL_REQUEST_BYTES_MAX} bytes, this one has {0}")]
    RequestLength(usize),
    /// The caller's check of the reply failed: this is not the server it looked for.
    #[error("the reply of `{address}` is not to be believed: {reason}")]
    Check {
        /// `host:port` as given.
        address: String,
        /// The caller's words.
        reason: String,
    },
}

/// Sends one request to `address` (`host:port`) and returns what `check` makes of the reply.
///
/// `request` gets the 32-byte exporter of the TLS session, so that it can bind proofs to it. `check` gets exporter and
/// reply, and must verify the server's signature over the exporter under a pinned key before it believes anything: TLS
/// accepts any server on this lane.
///
/// # Errors
/// [`EnrolError`]; the whole exchange takes at most [`ENROL_TIME_MAX`] per address of the name.
pub async fn enrol_client<T>(
    address: &str,
    request: impl FnOnce(&[u8; 32]) -> Vec<u8>,
    check: impl FnOnce(&[u8; 32], &[u8]) -> Result<T, String>,
) -> Result<T, EnrolError> {
    let connection = connect(address).await?;
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| EnrolError::Local("the TLS session gives no exporter".to_owned()))?;
    let request = request(&exporter);
    if request.len() > ENROL_REQUEST_BYTES_MAX {
        return Err(EnrolError::RequestLength(request.len()));
    }
    let reply = match timeout(ENROL_TIME_MAX, exchange(&connection, &request)).await {
        Ok(Some(reply)) => reply,
        Ok(None) => return Err(ended(address, &connection)),
        Err(_) => return Err(unreachable(address, format!("no reply within {} s", ENROL_TIME_MAX.as_secs()))),
    };
    connection.close(CloseCode::Normal.var_int(), b"");
    check(&exporter, &reply).map_err(|reason| EnrolError::Check { address: address.to_owned(), reason })
}

async fn exchange(connection: &quinn::Connection, request: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(request).await.ok()?;
    send.finish().ok()?;
    receive.read_to_end(ENROL_REPLY_BYTES_MAX).await.ok()
}

/// Tries every address of the name in turn.
async fn connect(address: &str) -> Result<quinn::Connection, EnrolError> {
    let resolve = |reason: String| EnrolError::Resolve { address: address.to_owned(), reason };
    let found: Vec<SocketAddr> = match timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(address)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(e)) => return Err(resolve(e.to_string())),
        Err(_) => return Err(resolve("the name server does not answer".to_owned())),
    };
    let mut last = resolve("it has no address".to_owned());
    for to in found {
        match timeout(ENROL_TIME_MAX, connect_to(address, to)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(e)) => last = e,
            Err(_) => last = unreachable(address, format!("{to}: no answer within {} s", ENROL_TIME_MAX.as_secs())),
        }
    }
    Err(last)
}

async fn connect_to(address: &str, to: SocketAddr) -> Result<quinn::Connection, EnrolError> {
    let local = |e: String| EnrolError::Local(e);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let crypto = tls::enrol_client(&provider).map_err(|e| local(e.to_string()))?;
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let endpoint = quinn::Endpoint::client(SocketAddr::new(any, 0)).map_err(|e| local(e.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    // The server is a stranger until its reply is checked: our limits hold, and it opens no streams.
    let mut parameters = quic_parameters();
    parameters.max_concurrent_bidi_streams(0u32.into()).max_concurrent_uni_streams(0u32.into());
    config.transport_config(Arc::new(parameters));
    let connecting = endpoint.connect_with(config, to, tls::SERVER_NAME).map_err(|e| local(e.to_string()))?;
    connecting.await.map_err(|e| unreachable(address, format!("{to}: {e}")))
}

/// What the server said when it ended the connection without a reply.
fn ended(address: &str, connection: &quinn::Connection) -> EnrolError {
    match connection.close_reason() {
        Some(quinn::ConnectionError::ApplicationClosed(close)) => {
            EnrolError::Refused { address: address.to_owned(), code: CloseCode::from_wire(close.error_code.into()) }
        }
        Some(other) => unreachable(address, other.to_string()),
        None => unreachable(address, "it gave no reply".to_owned()),
    }
}

fn unreachable(address: &str, reason: String) -> EnrolError {
    EnrolError::Unreachable { address: address.to_owned(), reason }
}
