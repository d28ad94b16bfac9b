//! For whom passkeys sign: one relying party id, and the origins whose pages count.

/// Origins of one charter: a page per coordinator and site.
pub const ORIGINS_MAX: usize = 64;
/// RFC 1035 §2.3.4.
const HOST_BYTES_MAX: usize = 253;
/// The one host that browsers trust without TLS.
const LOCALHOST: &str = "localhost";

/// What a charter says of its approval pages, [`crate::Charter::relying_party`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelyingParty<'a> {
    /// The domain that passkeys are bound to.
    pub rp_id: &'a str,
    /// Where pages may stand, as browsers write origins (HTML, "ASCII serialisation of an origin").
    pub origins: &'a [String],
}

impl RelyingParty<'_> {
    /// Whether exactly this origin is among them.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == origin)
    }

    /// Whether passkeys for it can be made and used at all.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn check(&self) -> Result<(), String> {
        if !is_host(self.rp_id) {
            return Err(format!(
                "the relying party id {:?} is no domain name: write one in lower case, as `approve.acme.example`, or `localhost`",
                self.rp_id
            ));
        }
        if self.origins.len() > ORIGINS_MAX {
            return Err(format!("{} vote origins: at most {ORIGINS_MAX} are taken", self.origins.len()));
        }
        self.origins
            .iter()
            .try_for_each(|origin| self.takes(origin).map_err(|why| format!("vote origin {origin:?}: {why}")))
    }

    fn takes(&self, origin: &str) -> Result<(), String> {
        let (authority, usual_port) = if let Some(authority) = origin.strip_prefix("https://") {
            (authority, "443")
        } else if let Some(authority) = origin.strip_prefix("http://") {
            (authority, "80")
        } else {
            return Err("write `https://HOST[:PORT]`, or `http://localhost[:PORT]`".into());
        };
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        if !is_host(host) {
            return Err(
                "its host is no domain name in lower case, or something follows it: write no path and no `/`".into()
            );
        }
        if origin.starts_with("http://") && host != LOCALHOST {
            return Err("without TLS only `localhost` counts: write `https://`".into());
        }
        match port {
            Some(port) if port == usual_port => return Err(format!("browsers leave port {port} out: so must you")),
            Some(port) if !is_port(port) => return Err("its port is no number from 1 to 65535".into()),
            _ => {}
        }
        let below = host.strip_suffix(self.rp_id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if !below {
            return Err(format!(
                "no browser uses a passkey of {:?} there: it must be that domain or below it",
                self.rp_id
            ));
        }
        Ok(())
    }
}

/// A domain name as browsers write it: labels of a-z, 0-9 and '-', the last one not a number, which would be an address.
fn is_host(text: &str) -> bool {
    let named = text.rsplit('.').next().is_some_and(|last| last.bytes().any(|b| !b.is_ascii_digit()));
    named && text.len() <= HOST_BYTES_MAX && text.split('.').all(crate::scope::is_name)
}

fn is_port(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rp_id: &str, origins: &[&str], refused: Option<&str>) {
        let origins: Vec<String> = origins.iter().map(|o| (*o).to_owned()).collect();
        let found = RelyingParty { rp_id, origins: &origins }.check();
        match refused {
            None => assert_eq!(found, Ok(()), "{rp_id} {origins:?}"),
            Some(why) => assert!(found.as_ref().is_err_and(|e| e.contains(why)), "{rp_id} {origins:?}: {found:?}"),
        }
    }

    #[test]
    fn origins_are_what_a_browser_writes_below_the_relying_party() {
        check("localhost", &["http://localhost:7480", "http://localhost", "https://localhost:8443"], None);
        check("acme.example", &["https://acme.example", "https://hq.acme.example:8443"], None);
        check("acme.example", &[], None);
        for (origin, why) in [
            ("hq.acme.example", "write `https://"),
            ("ftp://hq.acme.example", "write `https://"),
            ("http://hq.acme.example", "without TLS"),
            ("https://hq.acme.example/", "no path"),
            ("https://hq.acme.example:8443/vote", "port"),
            ("https://HQ.acme.example", "lower case"),
            ("https://user@hq.acme.example", "no domain name"),
            ("https://hq.acme.example.", "no domain name"),
            ("https://*.acme.example", "no domain name"),
            ("https://192.0.2.1", "no domain name"),
            ("https://[2001:db8::1]", "no domain name"),
            ("https://hq.acme.example:443", "leave port 443 out"),
            ("https://hq.acme.example:08443", "no number"),
            ("https://hq.acme.example:0", "no number"),
            ("https://hq.acme.example:65536", "no number"),
            ("https://hq.acme.example:+1", "no number"),
            ("https://evilacme.example", "no browser uses"),
            ("https://example", "no browser uses"),
            ("https://", "no domain name"),
        ] {
            check("acme.example", &[origin], Some(why));
        }
        check("localhost", &["http://localhost:80"], Some("leave port 80 out"));
        for rp_id in ["", "Acme.example", "https://acme.example", "acme.example:443", "192.0.2.1", "a..b"] {
            check(rp_id, &[], Some("no domain name"));
        }
        check("localhost", &["http://localhost:1"; ORIGINS_MAX + 1], Some("at most 64"));
    }
}
