//! quinn endpoints and the parameters of our connections.

use std::net::SocketAddr;
use std::sync::Arc;

use cauldron_identity::ids::sha256;
use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};

use super::{EstablishError, Shared};
use crate::limits;
use crate::tls::{self, Report};

/// Limits of `limits.rs` in quinn's terms, for both directions.
pub(crate) fn quic_parameters() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(limits::UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(limits::CONNECTION_WINDOW_BYTES))
        .send_window(limits::SEND_WINDOW_BYTES)
        .crypto_buffer_size(limits::CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(limits::KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(limits::IDLE_TIME_MAX).ok());
    config
}

/// The listener's configuration of one handshake, whose refusal goes into `report`.
pub(super) fn server_config(shared: &Shared, report: &Report) -> Result<ServerConfig, EstablishError> {
    let crypto = tls::server(&shared.source, report).map_err(EstablishError::Tls)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(shared.quic.clone())
        .max_incoming(limits::PENDING_HANDSHAKES_MAX)
        .incoming_buffer_size_total(limits::INCOMING_BUFFER_BYTES_TOTAL)
        // A peer behind NAT keeps its links when its port changes.
        .migration(true);
    Ok(config)
}

/// Opens a UDP socket; with `listen`, one that also accepts.
pub(super) fn bind(shared: &Shared, address: SocketAddr, listen: bool) -> Result<quinn::Endpoint, EstablishError> {
    let bound = || -> std::io::Result<std::net::UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // IPv4 and IPv6 are separate listeners, so that an address never has two spellings.
            socket.set_only_v6(true)?;
        }
        make_room(&socket);
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    let socket = bound().map_err(|source| EstablishError::Bind { address, source })?;
    let server = if listen { Some(server_config(shared, &Report::default())?) } else { None };
    quinn::Endpoint::new(stable_endpoint(shared), server, socket, Arc::new(quinn::TokioRuntime))
        .map_err(|source| EstablishError::Bind { address, source })
}

/// Asks for a receive buffer that outlasts a burst. The system may give less, which costs packets and breaks nothing.
pub(crate) fn make_room(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(limits::SOCKET_BUFFER_BYTES);
}

/// Keys that survive a restart, derived from the author key: after one, peers' packets for lost connections are answered
/// by a stateless reset that they recognise (RFC 9000 §10.3), and they reconnect at once instead of after the idle time.
fn stable_endpoint(shared: &Shared) -> EndpointConfig {
    let secret = |purpose: &[u8]| sha256(shared.author.sign("cauldron/quic-endpoint/v1", purpose).as_bytes());
    let reset = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret(b"stateless reset"));
    let mut config = EndpointConfig::new(Arc::new(reset));
    let ids = secret(b"connection ids");
    let ids = u64::from_be_bytes([ids[0], ids[1], ids[2], ids[3], ids[4], ids[5], ids[6], ids[7]]);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}
