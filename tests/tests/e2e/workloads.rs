//! Programs beside a node get identities of their own, told by what the kernel says about them.

use std::time::Duration;

use cauldron_identity::jwt::{LEEWAY_S, validate_jwt};
use cauldron_identity::x509::{Bundles, CertificateDer, VerifiedSvid, verify_svid};
use cauldron_identity::{SpiffeId, TrustBundle, TrustBundles, TrustDomain};
use cauldron_tests::{Mesh, Node, Plan, append, eventually, wait_until};
use cauldron_workload_api::SECURITY_HEADER;
use cauldron_workload_api::client::{self, FetchError, Fetched};
use cauldron_workload_api::proto::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use cauldron_workload_api::proto::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::identities::{authority, now_s};

fn agent(host: &str, name: &str) -> SpiffeId {
    SpiffeId::new(format!("{host}/agent/{name}")).expect("a SPIFFE ID")
}

/// Registers `name` below `host` for this very process, or for another program of its user.
fn register(node: &Node, host: &str, name: &str, ours: bool, more: &str) {
    let exe = std::env::current_exe().and_then(std::fs::canonicalize).expect("our executable");
    let path = if ours { exe.display().to_string() } else { "/bin/false".to_owned() };
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("ours"));
    let id = agent(host, name);
    append(
        &node.config(),
        format!("\n[[identity.workload]]\nspiffe_id = \"{id}\"\nuid = {uid}\npath = \"{path}\"\n{more}"),
    );
}

async fn fetch(node: &Node, id: &SpiffeId) -> Result<Fetched, FetchError> {
    client::watch(&node.dir().join("workload.sock"), id.clone()).await?.next().await
}

/// What `fetched` says, for somebody who trusts hq's root alone.
fn verified(mesh: &Mesh, fetched: &Fetched) -> VerifiedSvid {
    let chain = [CertificateDer::from(fetched.chain_der.clone())];
    let bundles = Bundles::from(authority(mesh).bundle().expect("hq's root"));
    assert_eq!(fetched.bundles.values().collect::<Vec<_>>(), [&authority(mesh).certificate().to_vec()]);
    verify_svid(&chain, &bundles, now_s()).expect("believed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_its_identity_through_rotation_and_in_the_dark() {
    let mut mesh = Mesh::only_hq(Plan::default());
    mesh.join("lyon", &[]).ok();
    let lyon = Mesh::site_id("lyon");
    register(&mesh.lyon, &lyon, "web", true, "ttl = \"1m\"\n");
    register(&mesh.lyon, &lyon, "other", false, "");
    mesh.lyon.start();
    mesh.lyon.until_up();
    eventually("both SVIDs were issued", || mesh.lyon.logged("a workload's SVID was issued") >= 2);

    let web = agent(&lyon, "web");
    let mut watch = client::watch(&mesh.lyon.dir().join("workload.sock"), web.clone()).await.expect("open");
    let first = watch.next().await.expect("at once");
    let found = verified(&mesh, &first);
    assert_eq!(found.spiffe_id, web);
    assert!(found.not_after_s <= now_s() + 60, "as short as it was asked for");
    let other = fetch(&mesh.lyon, &agent(&lyon, "other")).await.map(drop).expect_err("another program's");
    assert!(matches!(&other, FetchError::OtherIdentity { found, .. } if found == &[web.to_string()]), "{other}");

    let second = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("renewed").expect("pushed");
    assert!(verified(&mesh, &second).not_after_s > found.not_after_s && second.key_pkcs8 != first.key_pkcs8);
    let status = mesh.lyon.get("/v1/self")["workloads"].clone();
    assert_eq!((&status["connections"], status["identities"].as_array().map(Vec::len)), (&1.into(), Some(2)));

    // The authority is dark and the node starts anew: what is on disk is served.
    mesh.hq.kill9();
    mesh.lyon.stop();
    mesh.lyon.start();
    eventually("the socket is there", || mesh.lyon.logged("the Workload API is served") == 2);
    let sealed = fetch(&mesh.lyon, &web).await.expect("served in the dark");
    assert!(verified(&mesh, &sealed).not_after_s >= verified(&mesh, &second).not_after_s);
    wait_until("it says that it cannot renew", Duration::from_secs(60), || {
        let said = mesh.lyon.get("/v1/self")["workloads"]["identities"].clone();
        let web = said.as_array().and_then(|all| all.iter().find(|w| w["spiffe_id"] == web.to_string()));
        if web.is_some_and(|w| w["problem"].is_string()) { Ok(()) } else { Err(said.to_string()) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_serves_its_own_machine_and_signs_for_nobody_else_s() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let hq = format!("spiffe://{}/coordinator/hq", Mesh::TRUST_DOMAIN);
    mesh.hq.stop();
    register(&mesh.hq, &hq, "web", true, "");
    mesh.hq.start();
    mesh.hq.until_up();
    eventually("it was issued", || mesh.hq.logged("a workload's SVID was issued") == 1);
    let fetched = fetch(&mesh.hq, &agent(&hq, "web")).await.expect("issued");
    assert_eq!(verified(&mesh, &fetched).spiffe_id, agent(&hq, "web"));
}

/// The Workload API as any gRPC client sees it.
struct Raw(SpiffeWorkloadApiClient<Channel>);

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
    request
}

impl Raw {
    async fn connect(node: &Node) -> Self {
        let socket = format!("unix://{}", node.dir().join("workload.sock").display());
        let channel = Endpoint::from_shared(socket).expect("a socket").connect().await.expect("connected");
        Self(SpiffeWorkloadApiClient::new(channel))
    }

    async fn token(&mut self, audience: &str, id: &str) -> Result<String, tonic::Status> {
        let asked = JwtsvidRequest { audience: vec![audience.to_owned()], spiffe_id: id.to_owned() };
        let mut svids = self.0.fetch_jwtsvid(with_header(asked)).await?.into_inner().svids;
        assert_eq!(svids.len(), 1, "{svids:?}");
        Ok(svids.remove(0).svid)
    }

    async fn validate(&mut self, audience: &str, svid: &str) -> Result<String, tonic::Status> {
        let asked = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.to_owned() };
        Ok(self.0.validate_jwtsvid(with_header(asked)).await?.into_inner().spiffe_id)
    }

    /// The trust domain's keys, as a program keeps them to verify by itself.
    async fn bundles(&mut self) -> TrustBundles {
        let mut stream =
            self.0.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.expect("a stream").into_inner();
        let reply = stream.message().await.expect("a reply").expect("not the end");
        let mut bundles = TrustBundles::default();
        for (id, jwks) in reply.bundles {
            bundles
                .insert(TrustBundle::from_jwks(TrustDomain::new(&id).expect("a trust domain"), &jwks).expect("keys"));
        }
        bundles
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_far_from_the_authority_gets_tokens_that_others_believe_and_not_without_end() {
    const DB: &str = "https://db.example";
    let mut mesh = Mesh::only_hq(Plan::default());
    mesh.join("lyon", &[]).ok();
    let lyon = Mesh::site_id("lyon");
    for name in ["web", "cron"] {
        register(&mesh.lyon, &lyon, name, true, "");
    }
    mesh.lyon.start();
    mesh.lyon.until_up();
    eventually("the SVIDs were issued", || mesh.lyon.logged("a workload's SVID was issued") >= 2);
    let (web, cron) = (agent(&lyon, "web").to_string(), agent(&lyon, "cron").to_string());

    let mut raw = Raw::connect(&mesh.lyon).await;
    let token = raw.token(DB, &web).await.expect("signed by hq");
    assert_eq!(raw.token(DB, &web).await.expect("kept"), token);
    // Believed here by the API and by whoever fetched its keys, and at hq by the authority's own.
    assert_eq!(raw.validate(DB, &token).await.expect("valid"), web);
    let found = validate_jwt(&token, &[DB], &raw.bundles().await, now_s(), LEEWAY_S).expect("valid");
    assert!(found.spiffe_id.to_string() == web && found.expires_s <= now_s() + 300);
    let file = mesh.folder().join("token.jwt").display().to_string();
    std::fs::write(&file, &token).expect("written");
    let decided = mesh.hq.run(&["identity", "verify", "--audience", DB, &file]).ok().json();
    assert_eq!((&decided["kind"], &decided["spiffe_id"]), (&"jwt-svid".into(), &web.clone().into()));

    let (signed, _) = token.rsplit_once('.').expect("three parts");
    let other = raw.token("https://other.example", &web).await.expect("signed");
    let (_, signature) = other.rsplit_once('.').expect("three parts");
    for (audience, token) in [("https://elsewhere.example", &token), (DB, &format!("{signed}.{signature}"))] {
        assert_eq!(raw.validate(audience, token).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    assert_eq!(
        raw.token(DB, &agent(&lyon, "else").to_string()).await.expect_err("nobody's").code(),
        Code::PermissionDenied
    );

    // Ever new audiences: the lane is spared, and the other identity has its own budget.
    let mut last = Ok(String::new());
    for n in 0..10 {
        last = raw.token(&format!("https://{n}.example"), &web).await;
        if last.is_err() {
            break;
        }
    }
    let spent = last.expect_err("refused");
    assert!(spent.code() == Code::ResourceExhausted && spent.message().contains(&web), "{spent}");
    assert_eq!(raw.token(DB, &web).await.expect("kept"), token);
    raw.token(DB, &cron).await.expect("signed");

    // In the dark there are no new ones, and those that are there stay good.
    mesh.hq.kill9();
    assert_eq!(raw.token("https://new.example", &cron).await.expect_err("dark").code(), Code::Unavailable);
    assert_eq!(raw.token(DB, &web).await.expect("kept"), token);
    assert_eq!(raw.validate(DB, &token).await.expect("valid"), web);
}
