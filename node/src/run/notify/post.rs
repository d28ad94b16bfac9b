//! One attempt to deliver one message: bounded in time and size, never elsewhere than configured.

use std::sync::Arc;
use std::time::Duration;

use cauldron_agents::proposal::for_display;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::sign::Secrets;
use crate::config::{HookUrl, Webhook};
use crate::error::CliError;
use crate::files;
use crate::run::https::{self, Answered, Stage};

/// For name, connection, handshake, request and answer together. The specification advises 15 s or more for receivers that
/// work before they answer; one that only takes the message needs a fraction, and a queue waits behind it.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// An answer's status says all; its beginning helps a person to find out why it is a refusal.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
const LISTEN_MAX: Duration = Duration::from_secs(1);
const WORDS_BYTES_MAX: usize = 160;
/// Longer, and a receiver's mistake would keep people from hearing of anything.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(15 * 60);

/// What became of an attempt, but for success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    Unreachable,
    Tls,
    Http,
    Slow,
    Redirect,
    Status,
    Gone,
}

impl Why {
    /// The label in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Slow => "slow",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Gone => "gone",
        }
    }
}

/// An attempt that did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: Why,
    /// A sentence, harmless to show.
    pub(super) text: String,
    /// How long the endpoint asks to be left alone, within bounds.
    pub(super) retry_after: Option<Duration>,
}

/// The way to one endpoint.
#[derive(Debug)]
pub(super) struct Client {
    url: HookUrl,
    tls: Option<Arc<ClientConfig>>,
    secrets: Secrets,
    attempt_max: Duration,
}

impl Client {
    /// Reads secrets and root certificates; connects to nobody.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub(super) fn open(hook: &Webhook) -> Result<Self, CliError> {
        let secrets = Secrets::read(&hook.secret)?;
        let tls = if hook.url.is_https() { Some(Arc::new(tls(hook)?)) } else { None };
        Ok(Self { url: hook.url.clone(), tls, secrets, attempt_max: ATTEMPT_MAX })
    }

    #[cfg(test)]
    pub(super) fn with_attempt_max(self, attempt_max: Duration) -> Self {
        Self { attempt_max, ..self }
    }

    /// Posts `body` as message `id`, signed at `now_ms` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// [`Failure`]: everything but a status of 200 to 299.
    pub(super) async fn post(&self, id: &str, body: &Bytes, now_ms: u64) -> Result<(), Failure> {
        let attempt = self.attempt(id, body, now_ms / 1_000);
        let taken = tokio::time::timeout(self.attempt_max, attempt).await.unwrap_or_else(|_| {
            let text = format!("the endpoint {} did not answer within {:?}", self.url, self.attempt_max);
            Err(Failure { why: Why::Slow, text, retry_after: None })
        })?;
        // Nothing depends on what it says; closing before it has spoken would look like an error over there.
        let _ = tokio::time::timeout(LISTEN_MAX, taken.body(ANSWER_BYTES_MAX)).await;
        Ok(())
    }

    async fn attempt(&self, id: &str, body: &Bytes, timestamp_s: u64) -> Result<Answered, Failure> {
        let url = self.url.secret();
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("cauldron/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", self.secrets.sign(id, timestamp_s, body))
            .body(Full::new(body.clone()))
            .map_err(|e| Failure { why: Why::Http, text: e.to_string(), retry_after: None })?;
        let answered = https::send(url, self.tls.clone(), request).await.map_err(|failed| {
            let why = match failed.stage {
                Stage::Connect => Why::Unreachable,
                Stage::Tls => Why::Tls,
                Stage::Http => Why::Http,
            };
            Failure { why, text: failed.to_string(), retry_after: None }
        })?;
        self.judge(answered).await
    }

    /// Specification, "Delivery success and failure".
    async fn judge(&self, answered: Answered) -> Result<Answered, Failure> {
        let status = answered.response.status();
        if status.is_success() {
            return Ok(answered);
        }
        let headers = answered.response.headers();
        let retry_after = retry_after(status, headers);
        let of = &self.url;
        if status.is_redirection() {
            let location = headers.get(header::LOCATION).map(header::HeaderValue::as_bytes).unwrap_or_default();
            let location = for_display(location, WORDS_BYTES_MAX);
            let text = format!(
                "the endpoint {of} redirects to `{location}`, and redirects are not followed: put the right address into \
                 the webhook's url"
            );
            return Err(Failure { why: Why::Redirect, text, retry_after });
        }
        if status == StatusCode::GONE {
            let text =
                format!("the endpoint {of} answers {status}: it wants no more messages, and gets none until a restart");
            return Err(Failure { why: Why::Gone, text, retry_after: None });
        }
        let said = match answered.body(ANSWER_BYTES_MAX).await {
            Ok(Some(body)) if body.is_empty() => String::new(),
            Ok(Some(body)) => format!(": {}", for_display(&body, WORDS_BYTES_MAX)),
            Ok(None) => format!(", and says more than {ANSWER_BYTES_MAX} bytes"),
            Err(_) => String::new(),
        };
        Err(Failure { why: Why::Status, text: format!("the endpoint {of} answers {status}{said}"), retry_after })
    }
}

fn tls(hook: &Webhook) -> Result<ClientConfig, CliError> {
    let unusable = |why: String| CliError::config(format!("the webhook `{}` cannot be used: {why}", hook.name));
    let roots = match &hook.ca {
        None => https::web_roots().map_err(|why| unusable(why).hint("or name your own authority in ca_file"))?,
        Some(path) => roots(path).map_err(|e| e.hint("ca_file names root certificates, PEM"))?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = https::tls_builder(provider).map_err(unusable)?;
    Ok(https::tls_finish(builder.with_root_certificates(roots)))
}

fn roots(path: &std::path::Path) -> Result<RootCertStore, CliError> {
    let text = files::read_text(path)?;
    let unusable = || CliError::config(format!("{} holds no root certificate", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|e| unusable().because(&e))?;
        roots.add(certificate).map_err(|e| unusable().because(&e))?;
    }
    if roots.is_empty() { Err(unusable()) } else { Ok(roots) }
}

/// `Retry-After` (RFC 9110 §10.2.3), seconds or a date, where the status is one of overload.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            u64::try_from(at.duration_since(jiff::Timestamp::now()).as_secs()).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let asked = |status: u16, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a header"));
            retry_after(StatusCode::from_u16(status).expect("a status"), &headers).map(|d| d.as_secs())
        };
        assert_eq!(asked(429, "7"), Some(7));
        assert_eq!(asked(503, "18446744073709551615"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(asked(503, "Tue, 31 Dec 2199 23:59:59 GMT"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!((asked(503, "soon"), asked(500, "7")), (None, None));
    }
}
