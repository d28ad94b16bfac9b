//! `[page]`: where people approve, as they reach it and as this node serves it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper::Uri;

use super::notify::web_address;
use super::reader::Reader;

const URL: &str = "page.url";
const URL_HINT: &str = "write where people reach the approval page, such as \"https://approve.acme.example\"";
const LOCALHOST: &str = "localhost";

/// `[page]`: the approval page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its public address without a slash at the end; `/approvals/<proposal>` behind it is one proposal's page.
    pub url: Option<String>,
    /// How this node serves it; nothing on a node that only sends links to it.
    pub serve: Option<Serve>,
}

/// A page that this node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// The TCP address.
    pub listen: SocketAddr,
    /// The origin of [`Page::url`] as browsers write it: scheme, host, and a port that is not the usual one.
    pub origin: String,
    /// Certificate chain and key, PEM; without them the page goes over plain HTTP on loopback.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Page {
    /// The page of one proposal, where the address of pages is known.
    #[must_use]
    pub fn link(&self, proposal: &str) -> Option<String> {
        self.url.as_ref().map(|base| format!("{base}/approvals/{proposal}"))
    }
}

impl Serve {
    /// Host and port as a browser writes them in `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, authority)| authority)
    }
}

pub(super) fn read(r: &Reader<'_>, base: &Path) -> Page {
    let address = |text: &str| match web_address(text)?.query() {
        Some(_) => Err("has a query, behind which no path can stand"),
        None => Ok(text.trim_end_matches('/').to_owned()),
    };
    let url = r.parsed(URL, address, URL_HINT);
    let listen = r.address("page.listen");
    let (certificate, key) = (r.path("page.certificate", base), r.path("page.key", base));
    if !r.has("page.listen") {
        let idle = ["page.certificate", "page.key"].into_iter().find(|key| r.has(key));
        if let Some(idle) = idle {
            r.problem(idle, "is for a page that this node does not serve", "set page.listen, or leave it out");
        }
        return Page { url, serve: None };
    }
    if !r.has(URL) {
        r.problem(URL, "is missing: a passkey works under one origin alone", URL_HINT);
    }
    for (given, other) in [("page.certificate", "page.key"), ("page.key", "page.certificate")] {
        if r.has(given) && !r.has(other) {
            r.problem(other, &format!("is missing beside {given}"), "name the PEM files that belong together");
        }
    }
    let plain = !r.has("page.certificate") && !r.has("page.key");
    let uri: Option<Uri> = url.as_ref().and_then(|url| url.parse().ok());
    if let Some(uri) = &uri {
        judge(r, uri, plain, listen);
    }
    let serve = listen.zip(uri).map(|(listen, uri)| Serve { listen, origin: origin(&uri), tls: certificate.zip(key) });
    Page { url, serve }
}

/// What a browser must be able to do there.
fn judge(r: &Reader<'_>, url: &Uri, plain: bool, listen: Option<SocketAddr>) {
    let https = url.scheme_str() == Some("https");
    if url.path() != "/" && !url.path().is_empty() {
        r.problem(URL, "has a path, but this node serves the page at the root", "write scheme, host and port alone");
    }
    let host = url.host().unwrap_or_default();
    if host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[') {
        r.problem(URL, "names an address, for which no browser uses a passkey", "write a host name, or `localhost`");
    } else if !https && host != LOCALHOST {
        r.problem(URL, "is http to another host than `localhost`, where no passkey works", URL_HINT);
    }
    if plain && https {
        let what = "is missing, but page.url is https";
        r.problem("page.certificate", what, "name certificate and key, PEM; a proxy in front passes TLS on");
    }
    if plain && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        let hint = "write a loopback address such as \"127.0.0.1:7490\", or name page.certificate and page.key";
        r.problem("page.listen", "is not on loopback, and nothing would be encrypted", hint);
    }
    if !plain && !https {
        r.problem(URL, "is http, but this node would answer with TLS", "write https, or leave page.certificate out");
    }
}

/// HTML, "ASCII serialisation of an origin".
fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("https");
    let usual = if scheme == "https" { 443 } else { 80 };
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    match url.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::error::CliError;
    use expect_test::{Expect, expect};

    const HQ: &str =
        "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.example\"\nfirst = true\n[authority]\nenabled = true\n";

    fn parse(text: &str) -> Result<Config, CliError> {
        Config::parse(&format!("{HQ}[page]\n{text}"), Path::new("/etc/cauldron/node.toml"))
    }

    #[track_caller]
    fn refused(text: &str, want: Expect) {
        want.assert_eq(&parse(text).expect_err("has mistakes").to_string());
    }

    #[test]
    fn a_page_with_tls_and_one_on_loopback_are_read() {
        let page = parse(
            "listen = \"0.0.0.0:8443\"\nurl = \"https://Approve.acme.example:443/\"\ncertificate = \"page.pem\"\nkey = \"page.key\"\n",
        );
        let serve = page.expect("good").page.serve.expect("served");
        assert_eq!(serve.origin, "https://approve.acme.example");
        assert_eq!(serve.authority(), "approve.acme.example");
        assert_eq!(serve.tls, Some(("/etc/cauldron/page.pem".into(), "/etc/cauldron/page.key".into())));
        let page = parse("listen = \"127.0.0.1:7490\"\nurl = \"http://localhost:7490\"\n").expect("good").page;
        let serve = page.serve.expect("served");
        assert_eq!((serve.origin.as_str(), serve.tls), ("http://localhost:7490", None));
        assert_eq!(parse("url = \"https://elsewhere.example/some/where\"\n").expect("good").page.serve, None);
    }

    #[test]
    fn what_no_browser_would_take_is_refused_all_at_once() {
        refused(
            "listen = \"0.0.0.0:7490\"\nurl = \"https://192.0.2.1/page\"\n",
            expect![[r#"
                Error: the configuration /etc/cauldron/node.toml has 4 problems
                  8:2   page.certificate is missing, but page.url is https
                        → name certificate and key, PEM; a proxy in front passes TLS on
                  9:10  page.listen = "0.0.0.0:7490"  is not on loopback, and nothing would be encrypted
                        → write a loopback address such as "127.0.0.1:7490", or name page.certificate and page.key
                  10:7  page.url = "https://192.0.2.1/page"  has a path, but this node serves the page at the root
                        → write scheme, host and port alone
                  10:7  page.url = "https://192.0.2.1/page"  names an address, for which no browser uses a passkey
                        → write a host name, or `localhost`
                Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
        );
        refused(
            "listen = \"127.0.0.1:7490\"\nkey = \"page.key\"\n",
            expect![[r#"
                Error: the configuration /etc/cauldron/node.toml has 2 problems
                  8:2  page.url is missing: a passkey works under one origin alone
                       → write where people reach the approval page, such as "https://approve.acme.example"
                  8:2  page.certificate is missing beside page.key
                       → name the PEM files that belong together
                Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
        );
        for (text, why) in [
            ("listen = \"127.0.0.1:1\"\nurl = \"http://127.0.0.1:1\"\n", "names an address"),
            (
                "listen = \"127.0.0.1:1\"\nurl = \"http://localhost:1\"\ncertificate = \"c\"\nkey = \"k\"\n",
                "is http, but",
            ),
            ("certificate = \"c\"\nurl = \"https://a.example\"\n", "does not serve"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
