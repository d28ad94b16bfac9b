//! The TLS and QUIC parameters of a mesh connection, for whoever measures the same without the mesh around it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::admission::Version;
use crate::net::make_room;
use crate::source::SvidSource;
use crate::tls::{self, PostQuantum, Report, Terms};
use crate::transport::quic_parameters;

/// What a node offers by default.
fn terms() -> Terms {
    Terms::new(PostQuantum::Prefer, Version::ALL)
}

/// A dialler's side: mutual SVIDs, the ciphers, groups, windows and limits of a link.
///
/// # Errors
/// What rustls says, when the provider lacks a QUIC cipher.
pub fn client(source: &Arc<SvidSource>) -> Result<quinn::ClientConfig, rustls::Error> {
    let mut config = quinn::ClientConfig::new(Arc::new(tls::mesh_client(&terms(), source, &Report::default())?));
    config.transport_config(Arc::new(quic_parameters()));
    Ok(config)
}

/// A listener's side of the same.
///
/// # Errors
/// As [`client`].
pub fn server(source: &Arc<SvidSource>) -> Result<quinn::ServerConfig, rustls::Error> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server(&terms(), source, &Report::default())?));
    config.transport_config(Arc::new(quic_parameters()));
    Ok(config)
}

/// A socket with the buffer that a node's has.
///
/// # Errors
/// The system's.
pub fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    make_room(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The name that a dialler gives to rustls.
pub const SERVER_NAME: &str = tls::SERVER_NAME;
