//! The real server and real sockets, with this very process as the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::{SpiffeId, TrustDomain};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::client::{self, FetchError};
use crate::entry::{Entry, Selectors};
use crate::listener::BRIEF;
use crate::proto::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use crate::proto::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest};
use crate::seats::{CONNECTIONS_OF_STRANGERS_MAX, CONNECTIONS_PER_USER_MAX};
use crate::served::{JwtAuthority, JwtRefused, Served, Svid};
use crate::server::{Server, Status};

const NOW_S: u64 = 1_000;

struct World {
    dir: tempfile::TempDir,
    served: watch::Sender<Arc<Served>>,
    stop: watch::Sender<bool>,
    status: Status,
}

/// Answers as an authority would, without cryptography: what is signed is the authority's business.
struct Signer;

#[tonic::async_trait]
impl JwtAuthority for Signer {
    async fn issue(&self, id: &SpiffeId, audience: &[String]) -> Result<String, JwtRefused> {
        match audience {
            [one] if one == "dark" => Err(JwtRefused::Unavailable("nobody answers".into())),
            [one] if one == "new" => Err(JwtRefused::TooMany("the next one is in 7 s".into())),
            _ => Ok(format!("{id} for {}", audience.join(","))),
        }
    }

    fn validate(&self, token: &str, audience: &str) -> Result<(SpiffeId, serde_json::Value), String> {
        let (id, named) = token.split_once(" for ").ok_or("no token")?;
        if named != audience {
            return Err("another audience".into());
        }
        Ok((self::id(id), serde_json::json!({ "sub": id, "aud": [audience], "exp": 7 })))
    }
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).expect("a SPIFFE ID")
}

fn agent(name: &str) -> SpiffeId {
    id(&format!("spiffe://acme.test/site/lyon/node/n1/agent/{name}"))
}

fn me() -> Selectors {
    Selectors { uid: Some(rustix::process::geteuid().as_raw()), ..Selectors::default() }
}

fn state(entries: &[(&str, Selectors)], mark: u8) -> Served {
    let domain = |name| TrustDomain::new(name).expect("a trust domain");
    let entry = |(name, selectors): &(&str, Selectors)| Entry {
        spiffe_id: agent(name),
        hint: (*name).to_owned(),
        selectors: selectors.clone(),
    };
    let svid = |(name, _): &(&str, Selectors)| {
        let svid =
            Svid { chain_der: vec![mark, 1], key_pkcs8: vec![mark, 2].into(), not_after_s: NOW_S + u64::from(mark) };
        (agent(name), svid)
    };
    Served {
        entries: entries.iter().map(entry).collect(),
        svids: entries.iter().map(svid).collect(),
        x509_bundles: [(domain("acme.test"), vec![mark, 3]), (domain("other.test"), vec![4])].into(),
        jwt_bundles: [(domain("acme.test"), b"{\"keys\":[]}".to_vec())].into(),
    }
}

fn serve(first: Served) -> World {
    let dir = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(dir.path().join("api.sock")).expect("bound");
    let (served, receiver) = watch::channel(Arc::new(first));
    let (stop, stopped) = watch::channel(false);
    let server = Server::new(listener, receiver, Arc::new(|| NOW_S), Some(Arc::new(Signer)));
    let status = server.status();
    tokio::spawn(server.run(stopped));
    World { dir, served, stop, status }
}

impl World {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    async fn raw(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(channel(&self.socket()).await.expect("connected"))
    }
}

async fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://a.invalid").connect_with_connector(connector).await
}

fn with_header<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(crate::SECURITY_HEADER, MetadataValue::from_static("true"));
    request
}

#[tokio::test]
async fn every_call_without_the_security_header_is_an_invalid_argument() {
    let world = serve(state(&[("web", me())], 1));
    let mut raw = world.raw().await;
    let codes = [
        raw.fetch_x509svid(X509svidRequest {}).await.map(drop).expect_err("refused").code(),
        raw.fetch_x509_bundles(X509BundlesRequest {}).await.map(drop).expect_err("refused").code(),
        raw.fetch_jwt_bundles(JwtBundlesRequest {}).await.map(drop).expect_err("refused").code(),
        raw.fetch_jwtsvid(JwtsvidRequest::default()).await.map(drop).expect_err("refused").code(),
        raw.validate_jwtsvid(ValidateJwtsvidRequest::default()).await.map(drop).expect_err("refused").code(),
    ];
    assert_eq!(codes, [Code::InvalidArgument; 5]);
    let mut wrong = tonic::Request::new(X509svidRequest {});
    wrong.metadata_mut().insert(crate::SECURITY_HEADER, MetadataValue::from_static("false"));
    assert_eq!(raw.fetch_x509svid(wrong).await.map(drop).expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_first_reply_is_complete_and_comes_at_once_and_a_rotation_follows_it() {
    let world = serve(state(&[("web", me()), ("db", me()), ("root", nobody())], 1));
    let mut raw = world.raw().await;
    let mut stream = raw.fetch_x509svid(with_header(X509svidRequest {})).await.expect("granted").into_inner();
    let first = stream.message().await.expect("a reply").expect("not the end");
    let ids: Vec<&str> = first.svids.iter().map(|s| s.hint.as_str()).collect();
    assert_eq!(ids, ["web", "db"], "what is another's is absent");
    let web = first.svids.first().expect("web");
    assert_eq!(web.spiffe_id, agent("web").to_string());
    assert_eq!((&web.x509_svid[..], &web.x509_svid_key[..], &web.bundle[..]), (&[1, 1][..], &[1, 2][..], &[1, 3][..]));
    assert_eq!(first.federated_bundles, BTreeMap::from([("spiffe://other.test".to_owned(), vec![4])]));
    assert!(!format!("{first:?}").contains("x509_svid_key"), "a key is never printed");

    // The same state once more is nothing new; the next one is.
    world.served.send_replace(Arc::new(state(&[("web", me()), ("db", me())], 1)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.served.send_replace(Arc::new(state(&[("web", me())], 2)));
    let second = stream.message().await.expect("a reply").expect("not the end");
    assert_eq!(
        second.svids.iter().map(|s| &s.x509_svid[..]).collect::<Vec<_>>(),
        [[2, 1]],
        "db is redacted by absence"
    );

    // With its last entry gone the caller is told so, and the stream ends.
    world.served.send_replace(Arc::new(state(&[("web", nobody())], 3)));
    assert_eq!(stream.message().await.expect_err("the end").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn bundles_are_those_of_every_trust_domain() {
    let world = serve(state(&[("web", me())], 1));
    let mut raw = world.raw().await;
    let mut x509 = raw.fetch_x509_bundles(with_header(X509BundlesRequest {})).await.expect("granted").into_inner();
    let bundles = x509.message().await.expect("a reply").expect("not the end").bundles;
    assert_eq!(bundles.keys().collect::<Vec<_>>(), ["spiffe://acme.test", "spiffe://other.test"]);
    let mut jwt = raw.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.expect("granted").into_inner();
    let bundles = jwt.message().await.expect("a reply").expect("not the end").bundles;
    assert_eq!(bundles.get("spiffe://acme.test").map(|b| &b[..]), Some(&b"{\"keys\":[]}"[..]));
    world.stop.send_replace(true);
    assert_eq!(jwt.message().await.expect_err("stopped").code(), Code::Unavailable);
}

fn nobody() -> Selectors {
    Selectors { uid: Some(4_000_000_000), ..Selectors::default() }
}

#[tokio::test]
async fn a_caller_without_an_entry_is_denied_everything() {
    let world = serve(state(&[("web", nobody())], 1));
    let mut raw = world.raw().await;
    let jwt = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() };
    let validate = ValidateJwtsvidRequest { audience: "a".into(), svid: "x for a".into() };
    let codes = [
        raw.fetch_x509svid(with_header(X509svidRequest {})).await.map(drop).expect_err("refused").code(),
        raw.fetch_x509_bundles(with_header(X509BundlesRequest {})).await.map(drop).expect_err("refused").code(),
        raw.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.map(drop).expect_err("refused").code(),
        raw.fetch_jwtsvid(with_header(jwt)).await.map(drop).expect_err("refused").code(),
        raw.validate_jwtsvid(with_header(validate)).await.map(drop).expect_err("refused").code(),
    ];
    assert_eq!(codes, [Code::PermissionDenied; 5]);
}

#[tokio::test]
async fn the_executable_is_matched_by_path_and_digest() {
    let exe = std::env::current_exe().and_then(std::fs::canonicalize).expect("our executable");
    let bytes = std::fs::read(&exe).expect("readable");
    let digest = cauldron_identity::ids::sha256(&bytes);
    let right = Selectors { path: Some(exe.clone()), sha256: Some(digest), ..me() };
    let world = serve(state(
        &[
            ("right", right.clone()),
            ("path", Selectors { path: Some("/bin/sh".into()), ..me() }),
            ("digest", Selectors { sha256: Some([0; 32]), ..right }),
            ("path-alone", Selectors { path: Some(exe), ..Selectors::default() }),
        ],
        1,
    ));
    let mut raw = world.raw().await;
    let mut stream = raw.fetch_x509svid(with_header(X509svidRequest {})).await.expect("granted").into_inner();
    let reply = stream.message().await.expect("a reply").expect("not the end");
    assert_eq!(reply.svids.iter().map(|s| s.hint.as_str()).collect::<Vec<_>>(), ["right", "path-alone"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_that_has_ended_or_changed_its_program_is_not_attested() {
    use crate::caller::{Caller, CallerError};
    use std::process::{Command, Stdio};
    use std::time::Instant;

    let dir = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(dir.path().join("s")).expect("bound");
    // It connects, and becomes another program with the socket still open.
    let script = "import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.set_inheritable(True)\n\
                  sys.stdin.readline()\nos.execv('/bin/sleep',['sleep','60'])";
    let mut command = Command::new("python3");
    let command = command.arg("-c").arg(script).arg(dir.path().join("s")).stdin(Stdio::piped());
    let mut child = command.spawn().expect("python3, which CI needs too");
    let (stream, _) = listener.accept().await.expect("accepted");
    let caller = Caller::of(&stream).expect("credentials");
    assert_eq!(caller.pid(), i32::try_from(child.id()).ok());
    let attest = || caller.attest(None, Instant::now() + Duration::from_secs(5));
    assert!(matches!(attest(), Err(CallerError::Unseen(_))), "not before the first look");
    caller.look();
    let before = attest().expect("attested");
    assert!(before.path.expect("a path").to_string_lossy().contains("python"));

    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"\n").expect("written");
    let changed = || matches!(attest(), Err(CallerError::Changed(_)));
    for _ in 0..100 {
        if changed() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(changed());
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(matches!(attest(), Err(CallerError::Gone(_))));
}

#[tokio::test]
async fn tokens_are_issued_and_validated_for_registered_callers() {
    let world = serve(state(&[("web", me()), ("db", me())], 1));
    let mut raw = world.raw().await;
    let ask = |audience: &[&str], spiffe_id: &str| {
        let audience = audience.iter().map(|a| (*a).to_owned()).collect();
        with_header(JwtsvidRequest { audience, spiffe_id: spiffe_id.to_owned() })
    };
    let all = raw.fetch_jwtsvid(ask(&["a", "b"], "")).await.expect("issued").into_inner();
    assert_eq!(all.svids.iter().map(|s| s.hint.as_str()).collect::<Vec<_>>(), ["web", "db"]);
    let db = agent("db").to_string();
    let one = raw.fetch_jwtsvid(ask(&["a"], &db)).await.expect("issued").into_inner();
    assert_eq!(one.svids.iter().map(|s| s.svid.as_str()).collect::<Vec<_>>(), [format!("{db} for a")]);
    let code = |r: Result<_, tonic::Status>| r.map(drop).expect_err("refused").code();
    assert_eq!(code(raw.fetch_jwtsvid(ask(&[], "")).await), Code::InvalidArgument);
    assert_eq!(code(raw.fetch_jwtsvid(ask(&["a"], "spiffe://acme.test/else")).await), Code::PermissionDenied);
    assert_eq!(code(raw.fetch_jwtsvid(ask(&["dark"], "")).await), Code::Unavailable);
    let long = "x".repeat(3_000);
    assert_eq!(code(raw.fetch_jwtsvid(ask(&[&long, &long], "")).await), Code::InvalidArgument);
    let spent = raw.fetch_jwtsvid(ask(&["new"], "")).await.expect_err("refused");
    assert_eq!((spent.code(), spent.message()), (Code::ResourceExhausted, "the next one is in 7 s"));

    let validate = |audience: &str, svid: &str| {
        with_header(ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.to_owned() })
    };
    let valid = raw.validate_jwtsvid(validate("a", &format!("{db} for a"))).await.expect("valid").into_inner();
    let claims = valid.claims.expect("claims");
    assert_eq!((valid.spiffe_id, claims.fields.len()), (db.clone(), 3));
    assert_eq!(claims.fields.get("exp").and_then(|v| v.kind.clone()), Some(prost_types::value::Kind::NumberValue(7.0)));
    let refused =
        raw.validate_jwtsvid(validate("b", &format!("{db} for a"))).await.map(drop).expect_err("another audience");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn one_user_cannot_take_every_connection() {
    let world = serve(state(&[("web", me())], 1));
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_PER_USER_MAX {
        held.push(UnixStream::connect(world.socket()).await.expect("connected"));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = client::watch(&world.socket(), agent("web")).await.map(drop);
    assert!(matches!(refused, Err(FetchError::Unreachable { .. } | FetchError::Refused { .. })), "{refused:?}");
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    client::watch(&world.socket(), agent("web")).await.expect("a seat is free again");
}

#[tokio::test]
async fn a_stranger_is_told_so_and_has_its_seat_briefly() {
    let world = serve(state(&[("web", nobody())], 1));
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_OF_STRANGERS_MAX - 1 {
        idle.push(UnixStream::connect(world.socket()).await.expect("connected"));
    }
    let refused = client::watch(&world.socket(), agent("web")).await.map(drop).expect_err("a stranger");
    assert!(matches!(refused, FetchError::Refused { code: Code::PermissionDenied, .. }), "{refused}");
    let closed = |stream: &mut UnixStream| {
        let mut bytes = [0; 64];
        matches!(stream.try_read(&mut bytes), Ok(0)) || matches!(stream.try_read(&mut bytes), Ok(0))
    };
    assert!(!idle.iter_mut().any(closed), "they have just come");
    tokio::time::sleep(BRIEF + Duration::from_secs(1)).await;
    assert!(idle.iter_mut().all(closed), "idle ones do not keep their seats");
    assert_eq!(world.status.connections(), 0);

    // Callers with an entry keep theirs, however idle.
    world.served.send_replace(Arc::new(state(&[("web", me())], 1)));
    let mut idle = UnixStream::connect(world.socket()).await.expect("connected");
    let mut watch = client::watch(&world.socket(), agent("web")).await.expect("open");
    watch.next().await.expect("a state");
    tokio::time::sleep(BRIEF + Duration::from_secs(1)).await;
    assert!(!closed(&mut idle));
    assert_eq!(world.status.connections(), 2);
}

#[tokio::test]
async fn strangers_cannot_shut_out_a_caller_with_an_entry() {
    let world = serve(state(&[("web", nobody())], 1));
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(UnixStream::connect(world.socket()).await.expect("connected"));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.status.connections(), CONNECTIONS_OF_STRANGERS_MAX);
    world.served.send_replace(Arc::new(state(&[("web", me())], 1)));
    client::watch(&world.socket(), agent("web")).await.expect("has a seat");
}

#[tokio::test]
async fn the_client_takes_its_own_identity_and_says_what_is_wrong() {
    let world = serve(state(&[("web", me())], 1));
    let mut watch = client::watch(&world.socket(), agent("web")).await.expect("open");
    let got = watch.next().await.expect("a state");
    assert_eq!((got.chain_der, got.bundles.len()), (vec![1, 1], 2));
    world.served.send_replace(Arc::new(state(&[("web", me())], 2)));
    assert_eq!(watch.next().await.expect("a state").chain_der, [2, 1]);

    let mut other = client::watch(&world.socket(), agent("db")).await.expect("open");
    let error = other.next().await.expect_err("another identity").to_string();
    assert!(error.contains("/agent/web") && error.contains("register"), "{error}");

    let gone = client::watch(&world.dir.path().join("gone"), agent("web")).await.map(drop);
    assert!(matches!(gone, Err(FetchError::Unreachable { .. })), "{gone:?}");

    // A server that speaks another protocol, and closes.
    let path = world.dir.path().join("nonsense");
    let listener = UnixListener::bind(&path).expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nhello").await;
        }
    });
    let nonsense = client::watch(&path, agent("web")).await.map(drop);
    assert!(matches!(nonsense, Err(FetchError::Unreachable { .. } | FetchError::Refused { .. })), "{nonsense:?}");
}

#[tokio::test(start_paused = true)]
async fn the_client_does_not_wait_for_ever_for_a_server_that_hangs() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("hangs");
    let _listener = UnixListener::bind(&path).expect("bound");
    let hangs = client::watch(&path, agent("web")).await.map(drop);
    assert!(matches!(hangs, Err(FetchError::Slow(_))), "{hangs:?}");
}

#[test]
fn the_generated_code_knows_the_published_field_numbers() {
    use prost::Message as _;
    // X509SVIDResponse{svids:[{spiffe_id:"a", x509_svid:1, x509_svid_key:2, bundle:3, hint:"h"}], federated_bundles:{"f":4}},
    // written by hand after the specification.
    let bytes = b"\x0a\x0f\x0a\x01a\x12\x01\x01\x1a\x01\x02\x22\x01\x03\x2a\x01h\x1a\x06\x0a\x01f\x12\x01\x04";
    let read = crate::proto::X509svidResponse::decode(&bytes[..]).expect("the published encoding");
    let svid = read.svids.first().expect("an SVID");
    assert_eq!((&*svid.spiffe_id, &svid.x509_svid[..], &svid.x509_svid_key[..]), ("a", &[1][..], &[2][..]));
    assert_eq!((&svid.bundle[..], &*svid.hint, read.federated_bundles.len()), (&[3][..], "h", 1));
    assert_eq!(read.encode_to_vec(), bytes);
}
