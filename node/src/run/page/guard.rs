//! What every request must be and what every response carries.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::assets::Asset;
use crate::run::api::Problem;

/// Nothing but our own files, run from nowhere but them, in no frame (CSP Level 3).
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                          base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Two years, as preload lists ask.
const HSTS: &str = "max-age=63072000";
/// The page asks for keys and for nothing else.
const PERMISSIONS: &str = "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), \
                           geolocation=(), payment=(), usb=()";
/// A statement's answer has some 1 KiB, a registration with a chain of certificates some 8.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Chromium sends some 700 bytes of headers, a proxy in front adds a few.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Repeats the session's token; a header of this name makes every foreign request ask first.
pub const CSRF: HeaderName = HeaderName::from_static("x-cauldron-csrf");
const SITE: &str = "sec-fetch-site";

fn refused(status: StatusCode, kind: &str, detail: &str) -> Problem {
    Problem { status: status.as_u16(), title: "refused", kind: kind.into(), detail: detail.into(), hint: None }
}

/// Whether a request is for this page and, where it would change something, from it. `origin` is the page's own.
///
/// # Errors
/// What is refused, and why.
pub fn judge<B>(request: &Request<B>, origin: &str) -> Result<(), Problem> {
    let headers = request.headers();
    let size = headers.iter().fold(0, |sum, (name, value)| sum + name.as_str().len() + value.len());
    if size > HEADERS_BYTES_MAX {
        let what = "the headers are longer than 16 KiB";
        return Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", what));
    }
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    // A name that somebody else points here (DNS rebinding) is not ours.
    let hosts: Vec<&HeaderValue> = headers.get_all(header::HOST).iter().collect();
    if hosts.len() != 1 || !hosts.iter().all(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
        let hint = format!("open {origin}");
        let what = "this page is not served under that name";
        return Err(refused(StatusCode::MISDIRECTED_REQUEST, "other_host", what).hint(hint));
    }
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        Method::POST => from_here(headers, origin),
        _ => Err(refused(StatusCode::METHOD_NOT_ALLOWED, "method", "only GET, HEAD and POST are answered")),
    }
}

/// Browsers name the origin of every request that is not a plain navigation (Fetch, "append a request Origin header").
fn from_here(headers: &HeaderMap, origin: &str) -> Result<(), Problem> {
    let foreign = |detail| refused(StatusCode::FORBIDDEN, "cross_origin", detail);
    if headers.get(header::ORIGIN).is_none_or(|found| found.as_bytes() != origin.as_bytes()) {
        return Err(foreign("the request comes from no page of this node"));
    }
    if headers.get(SITE).is_some_and(|found| found != "same-origin") {
        return Err(foreign("the browser says that another site asks"));
    }
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", "only application/json is taken"));
    }
    Ok(())
}

/// Whether the browser came here from a page of another site: it then leaves out a cookie that is `SameSite=Strict`.
#[must_use]
pub fn came_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get(SITE).is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// The body, where it is short enough.
///
/// # Errors
/// Too long, or cut off.
pub async fn body<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let bytes = bytes.map_err(|_| {
        refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is longer than 64 KiB, or ended early")
    })?;
    serde_json::from_slice(&bytes).map_err(|e| Problem::bad_request("body", format!("the request cannot be read: {e}")))
}

/// Adds what every response carries, whatever it is.
#[must_use]
pub fn sealed(response: impl IntoResponse, tls: bool) -> Response {
    let mut response = response.into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("permissions-policy"), PERMISSIONS);
    if tls {
        set(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A static file, for whoever asks for one.
#[must_use]
pub fn asset<B>(request: &Request<B>) -> Option<Response> {
    Asset::at(request.uri().path()).filter(|_| request.method() == Method::GET).map(Asset::respond)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://approve.acme.example:8443";

    fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().method(method).uri("/approvals");
        headers.iter().fold(request, |r, (name, value)| r.header(*name, *value)).body(()).expect("a request")
    }

    #[track_caller]
    fn check(method: &str, headers: &[(&str, &str)], status: Option<u16>) {
        let found = judge(&request(method, headers), ORIGIN).err().map(|problem| problem.status);
        assert_eq!(found, status, "{method} {headers:?}");
    }

    #[test]
    fn what_changes_something_comes_from_our_own_page() {
        let host = ("host", "approve.acme.example:8443");
        let json = ("content-type", "application/json");
        check("GET", &[host], None);
        check("GET", &[host, ("origin", "https://evil.example")], None);
        check("POST", &[host, json, ("origin", ORIGIN)], None);
        check("POST", &[host, json, ("origin", ORIGIN), (SITE, "same-origin")], None);
        check("POST", &[host, json, ("origin", ORIGIN), (SITE, "cross-site")], Some(403));
        check("POST", &[host, json, ("origin", ORIGIN), (SITE, "none")], Some(403));
        for origin in
            ["https://evil.example", "null", "https://approve.acme.example", "http://approve.acme.example:8443"]
        {
            check("POST", &[host, json, ("origin", origin)], Some(403));
        }
        check("POST", &[host, json], Some(403));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"] {
            check("POST", &[host, ("content-type", kind), ("origin", ORIGIN)], Some(415));
        }
        for method in ["PUT", "DELETE", "OPTIONS", "TRACE"] {
            check(method, &[host], Some(405));
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_misdirected() {
        check("GET", &[("host", "APPROVE.acme.example:8443")], None);
        for host in ["evil.example", "approve.acme.example", "127.0.0.1:8443", ""] {
            check("GET", &[("host", host)], Some(421));
        }
        check("GET", &[], Some(421));
        check("GET", &[("host", "approve.acme.example:8443"), ("host", "evil.example")], Some(421));
    }

    #[test]
    fn every_response_is_sealed() {
        let page = sealed("x", true);
        let get = |name: &str| page.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(get("content-security-policy"), POLICY);
        assert_eq!(get("cache-control"), "no-store");
        assert!(get("strict-transport-security").contains("max-age"));
        let file = sealed(Asset::Css.respond(), false);
        assert!(file.headers()["cache-control"].to_str().expect("text").contains("immutable"));
        assert!(file.headers().get("strict-transport-security").is_none());
        for word in ["'unsafe", "*", "data:", "http"] {
            assert!(!POLICY.contains(word), "{word}");
        }
    }

    #[tokio::test]
    async fn a_body_has_a_bound() {
        let long = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX));
        let found = body::<String>(Body::from(long)).await.expect_err("too long");
        assert_eq!(found.status, 413);
        assert_eq!(body::<String>(Body::from("{")).await.expect_err("cut").status, 400);
        assert_eq!(body::<String>(Body::from("\"x\"")).await.expect("short"), "x");
    }
}
