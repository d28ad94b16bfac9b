//! Two meshes of different trust domains learn each other's bundles, and an endpoint that misbehaves is survived and shown.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cauldron_identity::jwt::JwtAuthority;
use cauldron_identity::{SpiffeId, TrustDomain};
use cauldron_tests::{Node, cauldron, eventually, free_port, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::identities::now_s;

/// A mesh of one node.
struct Domain {
    name: &'static str,
    hq: Node,
    folder: PathBuf,
    endpoint: u16,
}

impl Domain {
    fn found(folder: &Path, name: &'static str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("created");
        let listen = format!("127.0.0.1:{}", free_port());
        cauldron(&folder, &["init", "--first", "--trust-domain", name, "--person", "ana", "--listen", &listen]).ok();
        Self { name, hq: Node::new(&folder, "hq"), folder, endpoint: tcp_port() }
    }

    fn dir(&self) -> String {
        self.hq.dir().display().to_string()
    }

    fn configure(&self, text: &str) {
        let old = std::fs::read_to_string(self.hq.config()).expect("readable");
        std::fs::write(self.hq.config(), format!("{old}\n{text}")).expect("written");
    }

    /// Publishes its own bundle and follows `other`'s over `https_spiffe`.
    fn federate(&self, other: &Domain) {
        self.configure(&format!(
            "[federation]\nlisten = \"127.0.0.1:{}\"\nrefresh_hint = \"5s\"\n\n[federation.domains.\"{}\"]\n\
             url = \"https://localhost:{}/bundle.json\"\nendpoint_spiffe_id = \"spiffe://{}/coordinator/hq\"\n\
             bundle = \"{}\"\n",
            self.endpoint,
            other.name,
            other.endpoint,
            other.name,
            other.hq.dir().join("bundle.pem").display(),
        ));
    }

    /// Its line about the foreign trust domain.
    fn foreign(&self, other: &str) -> Value {
        let own = self.hq.get("/v1/self");
        let rows = own["federation"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["trust_domain"] == other).expect("a row per configured trust domain")
    }

    /// Waits until it holds what `other` publishes now.
    fn until_knows(&self, other: &Domain) -> Value {
        wait_until("the foreign bundle", Duration::from_secs(40), || {
            let (row, bundle) = (self.foreign(other.name), other.hq.get("/v1/bundle"));
            let jwt =
                bundle["keys"].as_array().map_or(0, |keys| keys.iter().filter(|k| k["use"] == "jwt-svid").count());
            let same = row["sequence"].is_u64() && row["sequence"] == bundle["spiffe_sequence"];
            if same && row["jwt_keys"] == jwt && row["last_error"].is_null() { Ok(row) } else { Err(row.to_string()) }
        })
    }

    /// The next JWT key is due when the last one is a week old.
    fn age_jwt_key(&self) {
        let path = self.hq.dir().join("ca/jwt.key");
        let text = std::fs::read_to_string(&path).expect("readable");
        let (_, rest) = text.split_once('\n').expect("lines");
        std::fs::write(&path, format!("Published: {}\n{rest}", now_s() - 8 * 86_400)).expect("written");
    }

    /// A token of its authority.
    fn token(&self) -> String {
        let text = std::fs::read_to_string(self.hq.dir().join("ca/jwt.key")).expect("readable");
        let domain = TrustDomain::new(self.name).expect("a trust domain");
        let id = SpiffeId::new(format!("spiffe://{}/api", self.name)).expect("a SPIFFE ID");
        let jwt = JwtAuthority::from_text(domain, &text).expect("keys");
        jwt.issue(&id, &["reports".into()], now_s(), 300).expect("a token").to_string()
    }

    /// Whether this node's directory suffices to verify what `other` issued.
    fn verifies(&self, other: &Domain) {
        let token = self.folder.join("token.jwt");
        std::fs::write(&token, other.token()).expect("written");
        let token = token.display().to_string();
        let args = ["identity", "verify", &token, "--audience", "reports", "--node", &self.dir(), "-o", "json"];
        let value = cauldron(&self.folder, &args).ok().json();
        assert_eq!(value["spiffe_id"], format!("spiffe://{}/api", other.name));
        let svid = other.hq.dir().join("svid.pem").display().to_string();
        let value =
            cauldron(&self.folder, &["identity", "verify", &svid, "--node", &self.dir(), "-o", "json"]).ok().json();
        assert_eq!(value["issuer"], "trusted");
    }
}

/// A TCP port nobody listens on; [`free_port`] promises UDP alone.
fn tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

#[test]
fn two_meshes_federate_over_https_spiffe_and_stay_two() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let (mut a, mut b) = (Domain::found(folder.path(), "a.example"), Domain::found(folder.path(), "b.example"));
    a.federate(&b);
    b.federate(&a);
    a.hq.start();
    b.hq.start();
    a.hq.until_up();
    b.hq.until_up();
    let first = a.until_knows(&b);
    b.until_knows(&a);
    assert_eq!((&first["source"], &first["x509_roots"]), (&"endpoint".into(), &1.into()));
    a.verifies(&b);
    b.verifies(&a);
    let args = ["authority", "bundle", "--federated", "b.example", "--node", &a.dir(), "-o", "json"];
    assert_eq!(cauldron(&a.folder, &args).ok().json()["spiffe_sequence"], first["sequence"]);
    let args = ["authority", "bundle", "--federated", "c.example", "--node", &a.dir()];
    assert!(cauldron(&a.folder, &args).err.contains("no bundle of trust domain `c.example`"));

    // A foreign bundle verifies, and admits nobody: b's node knocks at a's mesh port.
    let listen = a.hq.get("/v1/self")["listen"][0].as_str().expect("an address").to_owned();
    let config = std::fs::read_to_string(b.hq.config()).expect("readable");
    std::fs::write(b.hq.config(), config.replacen("first = true", &format!("first = true\njoin = [\"{listen}\"]"), 1))
        .expect("written");
    b.hq.stop();
    // A rotation on the way: the next JWT key is due.
    b.age_jwt_key();
    b.hq.start();
    b.hq.until_up();
    eventually("a refuses the stranger", || a.hq.logged("connection refused") > 0);
    assert!(a.hq.items("/v1/peers").is_empty() && b.hq.items("/v1/peers").is_empty());
    assert_eq!(a.hq.logged("link up") + b.hq.logged("link up"), 0);

    let second = a.until_knows(&b);
    assert_eq!(second["jwt_keys"], 2, "{second}");
    assert!(second["sequence"].as_u64() > first["sequence"].as_u64(), "{first} {second}");

    // The other mesh goes dark: what is known stays, and the reason is shown; also after a start of our own.
    b.hq.stop();
    let dark = |a: &Domain| {
        wait_until("the failure is shown", Duration::from_secs(30), || {
            let row = a.foreign("b.example");
            let shown = row["last_error"].as_str().is_some_and(|e| e.contains("cannot be reached"));
            if shown { Ok(row) } else { Err(row.to_string()) }
        })
    };
    assert_eq!(dark(&a)["sequence"], second["sequence"]);
    a.hq.restart();
    let kept = dark(&a);
    assert_eq!(
        (&kept["sequence"], &kept["jwt_keys"], &kept["source"]),
        (&second["sequence"], &2.into(), &"endpoint".into())
    );
    a.verifies(&b);
    let status = cauldron(&a.folder, &["status", "--node", &a.dir()]).ok().out;
    assert!(status.contains("b.example") && status.contains("cannot be reached"), "{status}");
}

#[test]
fn an_endpoint_with_another_name_is_not_believed() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let (mut a, mut b) = (Domain::found(folder.path(), "a.example"), Domain::found(folder.path(), "b.example"));
    a.federate(&b);
    b.federate(&a);
    let config = std::fs::read_to_string(a.hq.config()).expect("readable");
    std::fs::write(a.hq.config(), config.replace("spiffe://b.example/coordinator/hq", "spiffe://b.example/other"))
        .expect("written");
    a.hq.start();
    b.hq.start();
    a.hq.until_up();
    eventually("the wrong name is shown", || {
        let row = a.foreign("b.example");
        let error = row["last_error"].as_str().unwrap_or_default();
        error.contains("the endpoint is `spiffe://b.example/coordinator/hq`, not") && row["source"] == "file"
    });
}

/// A certificate authority of the Web PKI with one server certificate for this machine.
struct WebPki {
    root: String,
    chain: String,
    key: KeyPair,
}

fn web_pki() -> WebPki {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "a public authority");
    let root_key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&root_key).expect("a root");
    let issuer = Issuer::new(params, root_key);
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a certificate");
    WebPki { root: root.pem(), chain: leaf.pem(), key }
}

#[test]
fn two_meshes_federate_over_https_web_without_any_bundle_to_begin_with() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let web = web_pki();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
        folder.path().join(name).display().to_string()
    };
    let (root, chain, key) =
        (write("root.pem", &web.root), write("chain.pem", &web.chain), write("key.pem", &web.key.serialize_pem()));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let (mut a, mut b) = (Domain::found(folder.path(), "a.example"), Domain::found(folder.path(), "b.example"));
    for (own, other) in [(&a, &b), (&b, &a)] {
        own.configure(&format!(
            "[federation]\nlisten = \"127.0.0.1:{}\"\nprofile = \"https_web\"\ncertificate = \"{chain}\"\nkey = \"{key}\"\n\
             refresh_hint = \"5s\"\n\n[federation.domains.\"{}\"]\nurl = \"https://127.0.0.1:{}/bundle.json\"\n\
             profile = \"https_web\"\n",
            own.endpoint, other.name, other.endpoint,
        ));
    }
    a.hq.set_env("SSL_CERT_FILE", Some(&root));
    // b does not trust that authority yet.
    b.hq.set_env("SSL_CERT_FILE", Some(&write("other.pem", &web_pki().root)));
    a.hq.start();
    b.hq.start();
    a.hq.until_up();
    b.hq.until_up();
    a.until_knows(&b);
    a.verifies(&b);
    eventually("an authority that the machine does not trust", || {
        let row = b.foreign("a.example");
        row["sequence"].is_null() && row["last_error"].as_str().is_some_and(|e| e.contains("not who it should be"))
    });
    b.hq.stop();
    b.age_jwt_key();
    b.hq.set_env("SSL_CERT_FILE", Some(&root));
    b.hq.start();
    b.hq.until_up();
    b.until_knows(&a);
    assert_eq!(a.until_knows(&b)["jwt_keys"], 2);
}

/// Answers each path in its own bad way.
fn misbehave(web: &WebPki, port: u16, good: String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("bound");
    let chain = vec![cauldron_identity::x509::certificates_from_pem(&web.chain).expect("a certificate").remove(0)];
    let key = rustls::pki_types::PrivateKeyDer::try_from(web.key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let (config, older) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, older, good) = (config.clone(), older.clone(), good.clone());
            std::thread::spawn(move || {
                let mut tls =
                    rustls::StreamOwned::new(rustls::ServerConnection::new(config).expect("a session"), stream);
                let mut request = [0; 4096];
                let length = tls.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let ok = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let to = |url: &str| format!("HTTP/1.1 301 Moved\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n");
                let answer = match path.as_str() {
                    "/garbage" => ok("<html>not a bundle</html>"),
                    "/noise" => "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
                    "/huge" => ok(&" ".repeat(2 << 20)),
                    "/loop" => to("/loop"),
                    "/plain" => to("http://127.0.0.1/bundle.json"),
                    "/moved" => to(&format!("https://localhost:{port}/good")),
                    "/missing" => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    "/good" => ok(&good),
                    "/older" => match older.fetch_add(1, Ordering::Relaxed) {
                        0 => ok(r#"{"keys":[],"spiffe_sequence":9,"spiffe_refresh_hint":5}"#),
                        _ => ok(r#"{"keys":[],"spiffe_sequence":3,"spiffe_refresh_hint":5}"#),
                    },
                    "/slow" => {
                        std::thread::sleep(Duration::from_secs(120));
                        return;
                    }
                    _ => return,
                };
                let _ = tls.write_all(answer.as_bytes());
                tls.conn.send_close_notify();
                let _ = tls.flush();
            });
        }
    });
}

#[test]
fn an_endpoint_that_misbehaves_is_survived_and_shown() {
    const CASES: [(&str, &str); 9] = [
        ("garbage", "this is no SPIFFE bundle"),
        ("noise", "speaks no HTTP"),
        ("huge", "more than 1048576 bytes"),
        ("loop", "redirects more than 5 times"),
        ("plain", "which is not https"),
        ("missing", "answers 404"),
        ("older", "sequence 3, the one we hold has sequence 9"),
        ("down", "cannot be reached"),
        ("slow", "did not answer within 30 s"),
    ];
    let folder = tempfile::tempdir().expect("temporary directory");
    let (web, port) = (web_pki(), tcp_port());
    let root = folder.path().join("root.pem");
    std::fs::write(&root, &web.root).expect("written");
    misbehave(&web, port, r#"{"keys":[],"spiffe_sequence":1}"#.to_owned());
    let mut a = Domain::found(folder.path(), "a.example");
    for name in CASES.iter().map(|(name, _)| *name).chain(["moved"]) {
        let port = if name == "down" { tcp_port() } else { port };
        a.configure(&format!(
            "[federation.domains.\"{name}.example\"]\nurl = \"https://127.0.0.1:{port}/{name}\"\nprofile = \"https_web\"\n"
        ));
    }
    a.hq.set_env("SSL_CERT_FILE", Some(&root.display().to_string()));
    a.hq.start();
    a.hq.until_up();
    for (name, why) in CASES {
        wait_until(name, Duration::from_secs(60), || {
            let row = a.foreign(&format!("{name}.example"));
            let shown = row["last_error"].as_str().is_some_and(|e| e.contains(why));
            if shown { Ok(()) } else { Err(row.to_string()) }
        });
    }
    assert_eq!(a.foreign("older.example")["sequence"], 9, "what was held stays");
    // A permanent redirect is followed, and not remembered: the row keeps the configured URL.
    let moved = a.foreign("moved.example");
    assert_eq!((&moved["sequence"], moved["url"].as_str().map(|u| u.ends_with("/moved"))), (&1.into(), Some(true)));
    assert!(a.hq.runs() && a.hq.get("/v1/self")["state"] == "active");
}
