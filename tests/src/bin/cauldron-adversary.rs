//! `cauldron-adversary BEHAVIOUR --target ADDR`: behaves badly towards a running node, and ends with 1 if it got anywhere.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::x509::{AuthorityCa, SvidKey, Validity};
use cauldron_identity::{AuthorKey, SpiffeId, TrustDomain};
use cauldron_tests::badcert::{self, Bad};
use clap::{Args, Parser, Subcommand};
use quinn::ConnectionError;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use tokio::time::timeout;

/// Longer than a node gives a handshake (5 s): whoever is not sent away within it was let in.
const PATIENCE: Duration = Duration::from_secs(8);
/// `CloseCode::NoCertificate`, and TLS alert 49 `access_denied` as QUIC carries it.
const NO_CERTIFICATE: u64 = 0x11;
const ACCESS_DENIED: u64 = 0x100 + 49;
/// QUIC APPLICATION_ERROR (RFC 9000 §20.1): closed within the handshake, by no alert.
const GIVEN_UP: u64 = 0x0c;
/// The lanes of a node (docs/wire.md).
const LANES: [&str; 3] = ["cauldron-mesh/1", "cauldron-enrol/1", "cauldron-data/1"];

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    behaviour: Behaviour,
}

#[derive(Subcommand)]
enum Behaviour {
    /// Presents every bad certificate on every lane, as dialler and, where the target dials us, as acceptor
    Badcert(Badcert),
}

#[derive(Args)]
struct Badcert {
    /// The UDP address of a node
    #[arg(long)]
    target: SocketAddr,
    /// Every case; named so that a report says what it covers
    #[arg(long, required = true)]
    all: bool,
    /// The folder `ca` of the mesh's authority: cases are then signed by its own key, as its thief would
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The trust domain, where no authority is given
    #[arg(long, default_value = "acme.example")]
    trust_domain: TrustDomain,
    /// Accept as well: UDP addresses of the target's `mesh.join`, one for each certificate, with commas between
    #[arg(long, value_delimiter = ',')]
    listen: Vec<SocketAddr>,
}

/// What became of one attempt.
struct Outcome {
    side: &'static str,
    lane: &'static str,
    case: &'static str,
    accepted: bool,
    told: String,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Behaviour::Badcert(args) = Cli::parse().behaviour;
    match badcert(&args).await {
        Ok(outcomes) => report(&outcomes),
        Err(why) => {
            eprintln!("Error: {why}");
            ExitCode::from(2)
        }
    }
}

async fn badcert(args: &Badcert) -> Result<Vec<Outcome>, String> {
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|e| e.to_string())?.as_secs();
    let ca = authority(args, now_s)?;
    let id = SpiffeId::new(format!("spiffe://{}/site/adversary/node/adversary", ca.trust_domain()));
    let cases = badcert::certificates(&ca, &id.map_err(|e| e.to_string())?, now_s);
    let mut outcomes = Vec::new();
    if !args.listen.is_empty() && args.listen.len() != cases.len() {
        return Err(format!("there are {} certificates and {} addresses to listen on", cases.len(), args.listen.len()));
    }
    let mut accepting = Vec::new();
    for (case, at) in cases.iter().zip(&args.listen) {
        accepting.push(tokio::spawn(accept(case.name, listen(case, *at)?)));
    }
    for case in &cases {
        for lane in LANES {
            outcomes.push(dial(args.target, case.name, lane, Some(certified(case)?)).await?);
        }
    }
    outcomes.push(dial(args.target, "no certificate", LANES[0], None).await?);
    for alpn in ["h3", "cauldron-mesh/0", "cauldron-data/0", ""] {
        outcomes.push(dial(args.target, "wrong ALPN", alpn, None).await?);
    }
    for task in accepting {
        outcomes.push(task.await.map_err(|e| e.to_string())?);
    }
    Ok(outcomes)
}

fn authority(args: &Badcert, now_s: u64) -> Result<AuthorityCa, String> {
    match &args.ca {
        Some(dir) => {
            let read = |name: &str| std::fs::read_to_string(dir.join(name)).map_err(|e| format!("{name}: {e}"));
            AuthorityCa::from_pem(&read("root.key")?, &read("root.pem")?).map_err(|e| e.to_string())
        }
        None => {
            let validity = Validity { not_before_s: now_s - 86_400, not_after_s: now_s + 86_400 };
            let key = SvidKey::generate().map_err(|e| e.to_string())?;
            AuthorityCa::self_signed(args.trust_domain.clone(), key, validity, [1; 16]).map_err(|e| e.to_string())
        }
    }
}

/// Dials with a certificate and, once TLS lets us, says what a node would say. Any answer, or none at all, is acceptance.
async fn dial(
    to: SocketAddr,
    case: &'static str,
    lane: &'static str,
    certificate: Option<Arc<CertifiedKey>>,
) -> Result<Outcome, String> {
    let outcome = |accepted, told| Outcome { side: "dialler", lane, case, accepted, told };
    let any = if to.is_ipv6() { IpAddr::V6([0; 16].into()) } else { IpAddr::V4([0; 4].into()) };
    let endpoint = quinn::Endpoint::client(SocketAddr::new(any, 0)).map_err(|e| e.to_string())?;
    let config = quinn::ClientConfig::new(Arc::new(client(lane, certificate)?));
    let connecting = endpoint.connect_with(config, to, "spiffe.invalid").map_err(|e| e.to_string())?;
    let connection = match timeout(PATIENCE, connecting).await {
        Err(_) => return Ok(outcome(false, "no answer".into())),
        Ok(Err(error)) => return Ok(outcome(false, told(&error).1)),
        Ok(Ok(connection)) => connection,
    };
    speak(&connection, lane).await;
    let heard = async {
        tokio::select! {
            stream = connection.accept_uni() => stream.is_ok(),
            stream = connection.accept_bi() => stream.is_ok(),
        }
    };
    Ok(match timeout(PATIENCE, heard).await {
        Ok(true) => outcome(true, "the node spoke to us".into()),
        Err(_) => outcome(true, "the connection stays open".into()),
        Ok(false) => {
            let (refused, text) = told(&connection.closed().await);
            outcome(!refused, text)
        }
    })
}

/// The first bytes of a node on this lane: an admission frame with a key of our own, or an enrolment that is none.
async fn speak(connection: &quinn::Connection, lane: &str) {
    let key = AuthorKey::from_seed(&[0x66; 32]);
    let mut frame = vec![0; 33];
    frame[0] = cauldron_identity::fact::VERSION;
    frame.extend(key.public().as_bytes());
    frame.extend(key.sign("cauldron/admission/v1", b"not this session").as_bytes());
    // Whatever fails here fails because we were sent away, which is looked at next.
    if lane == LANES[1] {
        if let Ok((mut send, _)) = connection.open_bi().await {
            let _ = send.write_all(&frame).await;
            let _ = send.finish();
        }
    } else if let Ok(mut send) = connection.open_uni().await {
        let _ = send.write_all(&frame).await;
        let _ = send.finish();
    }
}

/// Whether an end means that no byte of ours was listened to, and what it tells a stranger.
fn told(error: &ConnectionError) -> (bool, String) {
    match error {
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            let what = match code.checked_sub(0x100) {
                Some(_) if code == ACCESS_DENIED => "alert access_denied".to_owned(),
                Some(alert) => format!("alert {alert}"),
                None => format!("QUIC error {code}"),
            };
            (true, format!("{what} {}", String::from_utf8_lossy(&close.reason)).trim_end().to_owned())
        }
        ConnectionError::ApplicationClosed(close) => {
            let code = u64::from(close.error_code);
            (code == NO_CERTIFICATE, format!("close {code:#x} {}", String::from_utf8_lossy(&close.reason)))
        }
        other => (true, other.to_string()),
    }
}

fn client(lane: &str, certificate: Option<Arc<CertifiedKey>>) -> Result<QuicClientConfig, String> {
    let provider = provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(any::Anybody(provider)));
    let mut config = match certificate {
        Some(certificate) => {
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certificate)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = Some(lane.as_bytes().to_vec()).filter(|name| !name.is_empty()).into_iter().collect();
    QuicClientConfig::try_from(config).map_err(|e| e.to_string())
}

/// Opens the port of one case; a node that completes a handshake there has taken the certificate.
fn listen(case: &Bad, at: SocketAddr) -> Result<quinn::Endpoint, String> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified(case)?)));
    config.alpn_protocols = vec![LANES[0].as_bytes().to_vec()];
    let crypto = QuicServerConfig::try_from(config).map_err(|e| e.to_string())?;
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    quinn::Endpoint::server(server, at).map_err(|e| format!("UDP {at}: {e}"))
}

async fn accept(case: &'static str, endpoint: quinn::Endpoint) -> Outcome {
    let outcome = |accepted, told| Outcome { side: "acceptor", lane: LANES[0], case, accepted, told };
    // A node waits at most 30 s between two tries. One that it began before we listened it may give up meanwhile.
    let handshake = async {
        loop {
            match endpoint.accept().await?.await {
                Err(ConnectionError::ConnectionClosed(close)) if u64::from(close.error_code) == GIVEN_UP => {}
                decided => return Some(decided),
            }
        }
    };
    match timeout(Duration::from_secs(40), handshake).await {
        Ok(Some(Ok(_))) => outcome(true, "the node took it for a peer".into()),
        Ok(Some(Err(error))) => outcome(false, told(&error).1),
        Ok(None) | Err(_) => outcome(true, "the node never dialled: nothing was tried".into()),
    }
}

fn certified(case: &Bad) -> Result<Arc<CertifiedKey>, String> {
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(case.key.to_pkcs8_der().to_vec());
    let key = provider().key_provider.load_private_key(der.into()).map_err(|e| e.to_string())?;
    Ok(Arc::new(CertifiedKey::new(case.chain.clone(), key)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The table, the count, and whether strangers can tell one reason from another.
fn report(outcomes: &[Outcome]) -> ExitCode {
    println!("{:<9} {:<17} {:<24} {:<9} TOLD", "SIDE", "LANE", "CASE", "RESULT");
    for o in outcomes {
        let result = if o.accepted { "ACCEPTED" } else { "refused" };
        println!("{:<9} {:<17} {:<24} {result:<9} {}", o.side, o.lane, o.case, o.told);
    }
    let accepted = outcomes.iter().filter(|o| o.accepted).count();
    let by_certificate = outcomes.iter().filter(|o| !matches!(o.case, "no certificate" | "wrong ALPN"));
    let told: BTreeSet<(&str, &str)> = by_certificate.map(|o| (o.side, o.told.as_str())).collect();
    let sides: BTreeSet<&str> = told.iter().map(|(side, _)| *side).collect();
    println!("\n{accepted} accepted of {}", outcomes.len());
    let alike = told.len() == sides.len();
    if !alike {
        println!("the refusals can be told apart: {told:?}");
    }
    if accepted == 0 && alike { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

mod any {
    //! Takes every server: we are the bad ones here.
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub struct Anybody(pub Arc<CryptoProvider>);

    impl ServerCertVerifier for Anybody {
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
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
