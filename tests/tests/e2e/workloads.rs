//! Programs beside a node get identities of their own, told by what the kernel says about them.

use std::time::Duration;

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::{Bundles, CertificateDer, VerifiedSvid, verify_svid};
use cauldron_tests::{Mesh, Node, Plan, append, eventually, wait_until};
use cauldron_workload_api::client::{self, FetchError, Fetched};

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
