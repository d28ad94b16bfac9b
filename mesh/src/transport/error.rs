//! Why a connection does not come about, or ends: the sentence for us, the code for the peer and the counter.

use std::net::SocketAddr;

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::SvidError;

use crate::admission::AdmissionError;
use crate::code::CloseCode;
use crate::registry::RegistryError;

/// TLS alerts (RFC 8446 §6.2) that speak about certificates; QUIC carries them as 0x100 + alert (RFC 9001 §4.8).
const CERTIFICATE_ALERTS: [u64; 11] = [42, 43, 44, 45, 46, 48, 49, 51, 111, 113, 116];
const NO_APPLICATION_PROTOCOL: u64 = 120;
/// The alert for "we have no key exchange in common": versions, suites and signatures are the same on all nodes.
const HANDSHAKE_FAILURE: u64 = 40;

/// A connection that did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EstablishError {
    #[error("cannot open UDP {address}: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot watch the network interfaces: {0}")]
    Interfaces(std::io::Error),
    #[error("TLS cannot be configured: {0}")]
    Tls(rustls::Error),
    #[error("cannot dial: {0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("{0}")]
    Svid(SvidError),
    #[error("the peer refused our certificate (TLS alert {0}); its own log says why")]
    RefusedByPeer(u64),
    #[error("the peer does not speak this protocol version")]
    Alpn,
    #[error(
        "no key exchange in common: one side takes X25519MLKEM768 alone (mesh.post_quantum = \"require\"), the other does not \
         offer it"
    )]
    KeyExchange,
    #[error("asked for another peer, met `{0}`")]
    SomebodyElse(SpiffeId),
    #[error("too many handshakes are in flight")]
    Busy,
    #[error("in the circuit: {0}")]
    CircuitTls(rustls::Error),
    #[error("the circuit ended: {0}")]
    Circuit(String),
    #[error("the relay opened no circuit: {0}")]
    Relay(String),
    #[error("closed by this node")]
    ClosedHere,
    #[error("no handshake within {} s", crate::limits::HANDSHAKE_TIME_MAX.as_secs())]
    Timeout,
    #[error("the peer sent no certificate")]
    NoCertificate,
    #[error("{id}: {source}")]
    Admission { id: SpiffeId, source: AdmissionError },
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("on the data lane: {0}")]
    DataProof(AdmissionError),
    #[error("author key {0} is not enrolled here, or was cut")]
    NotEnrolled(String),
    #[error("this node takes nothing on the data lane")]
    DataLaneClosed,
    #[error("the data lane has done its part")]
    LaneOver,
    #[error("the address is our own")]
    Ourselves,
    #[error("another node presents our own SPIFFE ID `{0}` with another author key")]
    OurName(SpiffeId),
    #[error(
        "another process runs with our own identity `{0}`: this data directory was copied and both copies run. Stop one of \
         them for good"
    )]
    OurCopy(SpiffeId),
    #[error(
        "the peer is connected with another process of this very node, which answers: this data directory was copied and \
         the original runs, or two processes run from it. Stop one of them for good"
    )]
    SecondProcess,
    #[error("the peer closed the connection: {text}")]
    ClosedByPeer { code: Option<CloseCode>, text: String },
    #[error("{0}")]
    Quic(quinn::ConnectionError),
    /// Not an error: the connection is an enrolment and served elsewhere.
    #[error("served on the enrol lane")]
    EnrolLane,
}

impl EstablishError {
    /// Puts quinn's error in our terms; `refused` is what our own verifier said in this handshake.
    pub(crate) fn of(error: quinn::ConnectionError, refused: Option<&SvidError>) -> Self {
        use quinn::ConnectionError as E;
        if let Some(reason) = refused {
            return Self::Svid(reason.clone());
        }
        let alert = |code: u64| code.checked_sub(0x100).filter(|alert| *alert < 0x100);
        match &error {
            E::ConnectionClosed(close) => {
                alert(u64::from(close.error_code)).and_then(Self::of_alert).unwrap_or(Self::Quic(error))
            }
            E::TransportError(e) => match alert(u64::from(e.code)) {
                Some(NO_APPLICATION_PROTOCOL) => Self::Alpn,
                Some(HANDSHAKE_FAILURE) => Self::KeyExchange,
                _ => Self::Quic(error),
            },
            E::ApplicationClosed(close) => {
                Self::closed_by_peer(close.error_code.into(), &String::from_utf8_lossy(&close.reason))
            }
            _ => Self::Quic(error),
        }
    }

    /// The same for the TLS in a circuit.
    pub(crate) fn of_tls(error: &std::io::Error, refused: Option<&SvidError>) -> Self {
        if let Some(reason) = refused {
            return Self::Svid(reason.clone());
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => {
                let alert = u8::from(*alert);
                Self::of_alert(alert.into()).unwrap_or(Self::CircuitTls(rustls::Error::AlertReceived(alert.into())))
            }
            Some(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::NoKxGroupsInCommon)) => Self::KeyExchange,
            Some(rustls::Error::NoApplicationProtocol) => Self::Alpn,
            Some(other) => Self::CircuitTls(other.clone()),
            None => Self::Circuit(error.to_string()),
        }
    }

    fn of_alert(alert: u64) -> Option<Self> {
        match alert {
            NO_APPLICATION_PROTOCOL => Some(Self::Alpn),
            HANDSHAKE_FAILURE => Some(Self::KeyExchange),
            a if CERTIFICATE_ALERTS.contains(&a) => Some(Self::RefusedByPeer(a)),
            _ => None,
        }
    }

    /// What the peer said when it closed.
    pub(crate) fn closed_by_peer(code: u64, reason: &str) -> Self {
        let known = CloseCode::from_wire(code);
        match known {
            Some(CloseCode::Ourselves) => return Self::Ourselves,
            Some(CloseCode::SecondProcess) => return Self::SecondProcess,
            _ => {}
        }
        let name = known.map_or_else(|| code.to_string(), |c| c.to_string());
        let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        let text = if reason.is_empty() || reason == name { name } else { format!("{name}: {reason}") };
        Self::ClosedByPeer { code: known, text }
    }

    /// The code to close with, and to count.
    pub(crate) fn code(&self) -> CloseCode {
        match self {
            Self::Svid(_) | Self::RefusedByPeer(_) => CloseCode::Certificate,
            Self::NoCertificate => CloseCode::NoCertificate,
            Self::Admission { source: AdmissionError::OtherMesh { .. }, .. } => CloseCode::WrongMesh,
            Self::DataProof(AdmissionError::OtherMesh { .. }) => CloseCode::WrongMesh,
            Self::Admission { .. } | Self::DataProof(_) => CloseCode::Admission,
            Self::Registry(e) => e.code(),
            Self::NotEnrolled(_) | Self::DataLaneClosed => CloseCode::NotEnrolled,
            Self::LaneOver => CloseCode::LaneOver,
            Self::OurName(_) => CloseCode::KeyConflict,
            Self::OurCopy(_) | Self::SecondProcess => CloseCode::SecondProcess,
            Self::Ourselves => CloseCode::Ourselves,
            Self::Timeout => CloseCode::HandshakeTimeout,
            Self::Quic(quinn::ConnectionError::TimedOut) => CloseCode::HandshakeTimeout,
            Self::EnrolLane => CloseCode::Normal,
            Self::ClosedByPeer { code, .. } => code.unwrap_or(CloseCode::Protocol),
            Self::SomebodyElse(_) => CloseCode::Certificate,
            Self::Busy => CloseCode::Busy,
            Self::ClosedHere => CloseCode::Normal,
            Self::Circuit(_) | Self::CircuitTls(_) | Self::Relay(_) => CloseCode::Protocol,
            Self::Bind { .. } | Self::Interfaces(_) | Self::Tls(_) | Self::Connect(_) => CloseCode::Protocol,
            Self::Alpn | Self::KeyExchange | Self::Quic(_) => CloseCode::Protocol,
        }
    }

    /// What the peer may read: the code's name and never our reasons.
    pub(crate) fn close(&self, connection: &quinn::Connection) {
        let code = self.code();
        connection.close(code.var_int(), code.label().as_bytes());
    }
}
