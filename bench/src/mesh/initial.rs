//! First packets of QUIC handshakes (RFC 9000 §17.2.2), each whole, valid and under keys of its own, as a flooder makes them: one
//! ClientHello for all, so that a packet costs its encryption and nothing else.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider, kx_group};
use rustls::quic::{ClientConnection, Keys, Version};
use rustls::{ClientConfig, RootCertStore, Side, SupportedCipherSuite};

/// The smallest datagram that a server answers (§14.1).
const DATAGRAM_BYTES: usize = 1_200;
const TAG_BYTES: usize = 16;
const NUMBER_BYTES: usize = 4;

pub(super) struct Initials {
    hello: Vec<u8>,
}

impl Initials {
    /// A hello that fits one packet: without the post-quantum share, so that the listener has all of it at once and does the work
    /// of a handshake.
    pub(super) fn new() -> Result<Self, String> {
        let provider = rustls::crypto::CryptoProvider { kx_groups: vec![kx_group::X25519], ..default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"cauldron-mesh/1".to_vec()];
        config.enable_sni = false;
        // initial_source_connection_id (0x0f) of no bytes (§18.2), as in the packets.
        let parameters = vec![0x0f, 0x00];
        let name = cauldron_mesh::yardstick::SERVER_NAME.try_into().map_err(|_| "no name")?;
        let mut tls =
            ClientConnection::new(Arc::new(config), Version::V1, name, parameters).map_err(|e| e.to_string())?;
        let mut hello = Vec::new();
        tls.write_hs(&mut hello);
        if hello.len() > DATAGRAM_BYTES - 64 {
            return Err(format!("a ClientHello of {} bytes does not fit a packet", hello.len()));
        }
        Ok(Self { hello })
    }

    /// The packet with number `n` of the flood.
    pub(super) fn next(&mut self, n: u64, packet: &mut Vec<u8>) -> Result<(), String> {
        let destination = n.to_be_bytes().map(|byte| byte ^ 0x5a);
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256;
        let quic = suite.quic.ok_or("no QUIC in the provider")?;
        let keys = Keys::initial(Version::V1, suite, quic, &destination, Side::Client);
        packet.clear();
        // Long header, Initial, packet number of four bytes; version 1; ids; no token.
        packet.extend([0xc0 | (NUMBER_BYTES as u8 - 1), 0, 0, 0, 1, destination.len() as u8]);
        packet.extend(destination);
        packet.extend([0, 0]);
        let length = DATAGRAM_BYTES - packet.len() - 2;
        packet.extend((0x4000 | length as u16).to_be_bytes());
        let number_at = packet.len();
        packet.extend([0; NUMBER_BYTES]);
        let header_ends = packet.len();
        // CRYPTO at offset 0 (§19.6), then padding.
        packet.extend([0x06, 0x00]);
        packet.extend((0x4000 | self.hello.len() as u16).to_be_bytes());
        packet.extend(&self.hello);
        packet.resize(DATAGRAM_BYTES - TAG_BYTES, 0);
        let (header, payload) = packet.split_at_mut(header_ends);
        let tag = keys.local.packet.encrypt_in_place(0, header, payload).map_err(|e| e.to_string())?;
        packet.extend(tag.as_ref());
        let sample_at = number_at + 4;
        let (head, rest) = packet.split_at_mut(sample_at);
        let sample = &rest[..keys.local.header.sample_len()];
        let (first, number) = head.split_at_mut(number_at);
        keys.local.header.encrypt_in_place(sample, &mut first[0], number).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_takes_them_for_handshakes_that_begin() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let domain = crate::mesh::peers::Domain::new().expect("a domain");
            let listener = domain.listener("listener").expect("listens");
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let (mut initials, mut packet) = (Initials::new().expect("a hello"), Vec::new());
            for n in 0..3 {
                initials.next(n, &mut packet).expect("a packet");
                assert_eq!(packet.len(), DATAGRAM_BYTES);
                socket.send_to(&packet, listener.local_addr().expect("bound")).expect("sent");
                let incoming = tokio::time::timeout(std::time::Duration::from_secs(10), listener.accept()).await;
                let incoming = incoming.expect("taken for a handshake").expect("listens");
                assert_eq!(incoming.remote_address(), socket.local_addr().expect("bound"));
                let mut connecting = incoming.accept().expect("decrypts");
                let data = connecting.handshake_data().await.expect("a ClientHello");
                let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().expect("rustls");
                assert_eq!(data.protocol.as_deref(), Some(&b"cauldron-mesh/1"[..]));
            }
        });
    }
}
