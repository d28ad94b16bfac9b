//! One look at a foreign bundle endpoint (SPIFFE Federation §5.2), bounded in time, size and redirects.

use std::sync::Arc;
use std::time::Duration;

use cauldron_agents::proposal::for_display;
use cauldron_identity::trust_bundle::BUNDLE_BYTES_MAX;
use cauldron_identity::x509::{Bundle, Bundles, CertificateDer, verify_svid};
use cauldron_identity::{SpiffeId, TrustBundle};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{ServerName, UnixTime};

use crate::config::{ForeignDomain, Profile, endpoint_url};
use crate::run::https::{self, Answered};

/// For everything together: name, connection, handshakes, redirects, body.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// More is a loop.
const REDIRECTS_MAX: usize = 5;
/// A stranger's words, shown to a person.
const WORDS_BYTES_MAX: usize = 200;

/// Fetches the bundle of `domain`. `trusted`: the bundle of an `https_spiffe` endpoint's trust domain.
///
/// # Errors
/// A sentence.
pub(super) async fn fetch(domain: &ForeignDomain, trusted: Option<Bundle>) -> Result<TrustBundle, String> {
    let tls = Arc::new(tls(&domain.profile, trusted)?);
    let body = tokio::time::timeout(FETCH_MAX, follow(domain.url.clone(), tls))
        .await
        .map_err(|_| format!("the endpoint did not answer within {} s", FETCH_MAX.as_secs()))??;
    TrustBundle::from_jwks(domain.trust_domain.clone(), &body).map_err(|e| for_display(e.to_string().as_bytes(), 300))
}

/// Redirects are temporary whatever they call themselves (§7.5.1): the next poll begins at the configured URL again. Each
/// target proves itself as the first one must.
async fn follow(mut url: Uri, tls: Arc<ClientConfig>) -> Result<Bytes, String> {
    for _ in 0..=REDIRECTS_MAX {
        let answered = get(&url, tls.clone()).await?;
        if !answered.response.status().is_redirection() {
            return body(answered).await;
        }
        let location =
            answered.response.headers().get(header::LOCATION).map(header::HeaderValue::as_bytes).unwrap_or_default();
        url = target(&url, &String::from_utf8_lossy(location))?;
    }
    Err(format!("the endpoint redirects more than {REDIRECTS_MAX} times"))
}

/// A whole URL that may be an endpoint's, or a path on the same host.
fn target(from: &Uri, location: &str) -> Result<Uri, String> {
    let whole = match (location.starts_with('/') && !location.starts_with("//"), from.authority()) {
        (true, Some(authority)) => format!("https://{authority}{location}"),
        _ => location.to_owned(),
    };
    let shown = for_display(location.as_bytes(), WORDS_BYTES_MAX);
    endpoint_url(&whole).map_err(|why| format!("the endpoint redirects to `{shown}`, which {why}"))
}

async fn get(url: &Uri, tls: Arc<ClientConfig>) -> Result<Answered, String> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::ACCEPT, "application/json")
        .body(Full::default())
        .map_err(|e| e.to_string())?;
    https::send(url, Some(tls), request).await.map_err(|e| e.to_string())
}

async fn body(answered: Answered) -> Result<Bytes, String> {
    let status = answered.response.status();
    if status != hyper::StatusCode::OK {
        return Err(format!("the endpoint answers {status}"));
    }
    let body = answered.body(BUNDLE_BYTES_MAX).await?;
    body.ok_or_else(|| format!("the endpoint's answer has more than {BUNDLE_BYTES_MAX} bytes"))
}

fn tls(profile: &Profile, trusted: Option<Bundle>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = https::tls_builder(provider.clone())?;
    Ok(https::tls_finish(match profile {
        Profile::Web => builder.with_root_certificates(https::web_roots()?),
        Profile::Spiffe(endpoint) => {
            let Some(bundle) = trusted else {
                return Err(format!(
                    "no X.509 root of `{}` is at hand to verify the endpoint by; set its bundle in federation.domains",
                    endpoint.trust_domain()
                ));
            };
            let verifier = EndpointVerifier { endpoint: endpoint.clone(), bundles: bundle.into(), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    }))
}

/// §5.2.2.4: the server presents a valid X.509-SVID of exactly the configured SPIFFE ID. Host names do not count.
#[derive(Debug)]
struct EndpointVerifier {
    endpoint: SpiffeId,
    /// The endpoint's own trust domain and no other.
    bundles: Bundles,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for EndpointVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let svid =
            verify_svid(&chain, &self.bundles, now.as_secs()).map_err(|e| rustls::Error::General(e.to_string()))?;
        if svid.spiffe_id != self.endpoint {
            let why = format!("the endpoint is `{}`, not `{}`", svid.spiffe_id, self.endpoint);
            return Err(rustls::Error::General(why));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_endpoints_only() {
        let from: Uri = "https://a.test:8443/bundle.json".parse().expect("a URL");
        let shown = |location: &str| target(&from, location).map(|url| url.to_string());
        assert_eq!(shown("/v2/b.json").as_deref(), Ok("https://a.test:8443/v2/b.json"));
        assert_eq!(shown("https://b.test/x?y=1").as_deref(), Ok("https://b.test/x?y=1"));
        for bad in ["", "http://a.test/", "//b.test/x", "https://u@b.test/", "file:///etc/passwd", "https://", "b.json"]
        {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
