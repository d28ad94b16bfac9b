//! TLS 1.3 by SVIDs: no resumption, no tickets, no 0-RTT, no names, and no word about why towards the peer.
//!
//! Resumption would skip the verifier, so a distrusted peer could come back; rustls' own error texts would tell a
//! stranger our trust domains. The reason of a refusal stays in a [`Report`] on our side.

use std::sync::{Arc, OnceLock};

use cauldron_identity::x509::{SvidError, VerifiedSvid};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::admission::Version;
use crate::source::SvidSource;

/// One request and one reply; who is who is proven inside.
pub(crate) const ALPN_ENROL: &[u8] = b"cauldron-enrol/1";
/// Author keys alone; who is who is proven inside.
pub(crate) const ALPN_DATA: &[u8] = b"cauldron-data/1";
/// rustls wants a host name; ours are in the certificates. RFC 6761 keeps `.invalid` free of meaning.
pub(crate) const SERVER_NAME: &str = "spiffe.invalid";

/// How much the key exchange insists on being safe from quantum computers (NIST FIPS 203, draft-ietf-tls-ecdhe-mlkem).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostQuantum {
    /// X25519MLKEM768 first; a peer without it gets a classical exchange.
    #[default]
    Prefer,
    /// X25519MLKEM768 alone, on every lane: a peer without it is refused.
    Require,
}

impl PostQuantum {
    fn provider(self) -> Arc<CryptoProvider> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if self == Self::Require {
            provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519MLKEM768);
        }
        Arc::new(provider)
    }
}

/// What this node offers in its handshakes.
#[derive(Debug)]
pub(crate) struct Terms {
    provider: Arc<CryptoProvider>,
    /// Versions of the mesh lane, the preferred one first.
    versions: &'static [Version],
}

impl Terms {
    pub(crate) fn new(post_quantum: PostQuantum, versions: &'static [Version]) -> Self {
        Self { provider: post_quantum.provider(), versions }
    }

    /// The version of the mesh lane that a name stands for, if we speak it.
    pub(crate) fn version_of(&self, alpn: &[u8]) -> Option<Version> {
        self.versions.iter().copied().find(|version| version.alpn() == alpn)
    }

    fn mesh_alpns(&self) -> Vec<Vec<u8>> {
        self.versions.iter().map(|version| version.alpn().to_vec()).collect()
    }
}

/// What the verifier of one handshake found: the peer's SVID, or why not, for our own log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report(Arc<OnceLock<Result<VerifiedSvid, SvidError>>>);

impl Report {
    /// Why the peer's certificate was refused, if it was.
    pub(crate) fn refusal(&self) -> Option<&SvidError> {
        self.0.get()?.as_ref().err()
    }

    /// The peer's SVID, if it showed a valid one.
    pub(crate) fn svid(&self) -> Option<&VerifiedSvid> {
        self.0.get()?.as_ref().ok()
    }
}

/// The dialer's side of one handshake on the mesh lane.
pub(crate) fn mesh_client(terms: &Terms, source: &Arc<SvidSource>, report: &Report) -> Result<QuicClientConfig, Error> {
    quic_client(mesh_client_config(terms, source, report)?)
}

/// The dialler's side in a circuit.
pub(crate) fn circuit_client(terms: &Terms, source: &Arc<SvidSource>, report: &Report) -> Result<ClientConfig, Error> {
    mesh_client_config(terms, source, report)
}

/// The listener's side in a circuit: the mesh lane alone.
pub(crate) fn circuit_server(terms: &Terms, source: &Arc<SvidSource>, report: &Report) -> Result<ServerConfig, Error> {
    server_config(terms, source, report)
}

fn mesh_client_config(terms: &Terms, source: &Arc<SvidSource>, report: &Report) -> Result<ClientConfig, Error> {
    let peer = Arc::new(PeerVerifier { source: source.clone(), report: report.clone() });
    let config = client_builder(&terms.provider)?
        .dangerous()
        .with_custom_certificate_verifier(peer)
        .with_client_cert_resolver(Arc::new(OwnCertificate(source.clone())));
    Ok(finish_client(config, terms.mesh_alpns()))
}

/// The joining side on the enrol lane: no certificate of its own, and any of the server's, because the reply is what
/// proves the server (it signs the exporter of this very handshake).
pub(crate) fn enrol_client(provider: &Arc<CryptoProvider>) -> Result<QuicClientConfig, Error> {
    anonymous_client(provider, ALPN_ENROL)
}

/// The dialler's side on the data lane: no certificate counts on either side, the proofs behind the handshake do.
pub(crate) fn data_client(terms: &Terms) -> Result<QuicClientConfig, Error> {
    anonymous_client(&terms.provider, ALPN_DATA)
}

fn anonymous_client(provider: &Arc<CryptoProvider>, alpn: &[u8]) -> Result<QuicClientConfig, Error> {
    let config = client_builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider.clone())))
        .with_no_client_auth();
    quic_client(finish_client(config, vec![alpn.to_vec()]))
}

fn quic_client(config: ClientConfig) -> Result<QuicClientConfig, Error> {
    QuicClientConfig::try_from(config).map_err(|e| Error::General(e.to_string()))
}

/// The listener's side of one handshake, all lanes. A certificate is asked for and verified if it comes; that the mesh
/// lane requires one is checked right after the handshake, when the lane is known.
pub(crate) fn server(terms: &Terms, source: &Arc<SvidSource>, report: &Report) -> Result<QuicServerConfig, Error> {
    let mut config = server_config(terms, source, report)?;
    config.alpn_protocols.extend([ALPN_ENROL.to_vec(), ALPN_DATA.to_vec()]);
    QuicServerConfig::try_from(config).map_err(|e| Error::General(e.to_string()))
}

fn server_config(terms: &Terms, source: &Arc<SvidSource>, report: &Report) -> Result<ServerConfig, Error> {
    let peer = Arc::new(PeerVerifier { source: source.clone(), report: report.clone() });
    let mut config = ServerConfig::builder_with_provider(terms.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(peer)
        .with_cert_resolver(Arc::new(OwnCertificate(source.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    #[cfg(feature = "planted")]
    if cauldron_identity::planted::active("resumption-on") {
        config.ticketer = planted_ticketer();
        config.send_tls13_tickets = 2;
    }
    config.alpn_protocols = terms.mesh_alpns();
    Ok(config)
}

/// One ticketer for all handshakes, as a server with resumption has.
#[cfg(feature = "planted")]
fn planted_ticketer() -> Arc<dyn rustls::server::ProducesTickets> {
    static TICKETER: OnceLock<Arc<dyn rustls::server::ProducesTickets>> = OnceLock::new();
    let ticketer = || rustls::crypto::aws_lc_rs::Ticketer::new().unwrap_or_else(|e| unreachable!("no randomness: {e}"));
    TICKETER.get_or_init(ticketer).clone()
}

/// A verifier that takes any server, for tests that misbehave elsewhere.
#[cfg(test)]
pub(crate) fn any_server(provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyServer(provider.clone()))
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13])
}

fn finish_client(mut config: ClientConfig, alpns: Vec<Vec<u8>>) -> ClientConfig {
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = alpns;
    config
}

/// What the peer is told about any refusal: TLS alert `access_denied`, nothing more.
fn redacted() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

struct PeerVerifier {
    source: Arc<SvidSource>,
    report: Report,
}

impl PeerVerifier {
    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf.clone()).chain(rest.iter().cloned()).collect();
        let found = self.source.verify(&chain);
        let verdict = if found.is_ok() { Ok(()) } else { Err(redacted()) };
        // A handshake verifies one chain; a second report could only repeat the first.
        let _ = self.report.0.set(found);
        verdict
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.source.provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms).map_err(|_| redacted())
    }
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerVerifier")
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, rest).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(redacted())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.source.provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints would tell a stranger whom we trust.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, rest).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(redacted())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.source.provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Presents whatever SVID is current when the handshake happens.
struct OwnCertificate(Arc<SvidSource>);

impl std::fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnCertificate")
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any certificate whose key signed this handshake, so that the exporter belongs to one peer.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(redacted())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
