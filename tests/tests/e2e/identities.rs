//! SVIDs: renewed at half-life by a process that goes on, and by a node whose SVID is long gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::{AuthorityCa, SvidKey, certificates_to_pem};
use cauldron_tests::{Mesh, Plan, cauldron, eventually, wait_until};

/// hq's certificate authority, from its files.
pub fn authority(mesh: &Mesh) -> AuthorityCa {
    let read = |name: &str| std::fs::read_to_string(mesh.hq.dir().join("ca").join(name)).expect("readable");
    AuthorityCa::from_pem(&read("root.key"), &read("root.pem")).expect("hq's authority")
}

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Puts an SVID into lyon's directory that was issued at `issued_s` for `lifetime_s`.
fn seal(mesh: &Mesh, issued_s: u64, lifetime_s: u64) {
    let key = SvidKey::generate().expect("a key");
    let csr = key.csr_der().expect("a request");
    let id = SpiffeId::new(Mesh::site_id("lyon")).expect("a SPIFFE ID");
    let chain = authority(mesh).issue(&csr, &id, issued_s, lifetime_s, [7; 16]).expect("issued");
    let pem = key.to_pkcs8_pem().to_string() + &certificates_to_pem(&chain);
    std::fs::write(mesh.lyon.dir().join("svid.pem"), pem).expect("written");
}

#[test]
fn an_svid_is_renewed_at_half_life_without_restart() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.lyon.stop();
    // It begins a minute before it was issued: half-life is 35 s from now, less a tenth of 190 s of jitter.
    seal(&mesh, now_s(), 130);
    let sealed = std::fs::read(mesh.lyon.dir().join("svid.pem")).expect("readable");
    mesh.lyon.start();
    mesh.lyon.until_up();
    let pid = mesh.lyon.pid();
    let short = mesh.lyon.get("/v1/self")["svid"]["not_after"].clone();
    assert!(std::fs::read(mesh.lyon.dir().join("svid.pem")).expect("readable") == sealed, "not before its time");
    assert_eq!(mesh.lyon.logged("the SVID was renewed"), 0);

    wait_until("a longer SVID", Duration::from_secs(60), || {
        let own = mesh.lyon.get("/v1/self")["svid"].clone();
        if own["not_after"].as_str() > short.as_str() && own["valid"] == true { Ok(()) } else { Err(own.to_string()) }
    });
    assert!(mesh.lyon.runs() && mesh.lyon.pid() == pid, "the same process");
    eventually("it says so", || mesh.lyon.logged("the SVID was renewed") == 1);
    assert_eq!(mesh.lyon.logged("link up"), 2, "one link before the restart, one after, none for the renewal");
    assert!(std::fs::read(mesh.lyon.dir().join("svid.pem")).expect("readable") != sealed, "and it is on disk");
}

#[test]
fn a_node_with_an_expired_svid_says_so_and_renews_by_its_author_key() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.lyon.stop();
    // The root is an hour older than the mesh, so an SVID can be.
    seal(&mesh, now_s() - 3_000, 600);
    let dir = mesh.lyon.dir().display().to_string();
    let svid = mesh.lyon.dir().join("svid.pem").display().to_string();
    let ran = cauldron(mesh.folder(), &["identity", "verify", &svid, "--node", &dir]);
    assert!(ran.refused_with(6).contains("expired"), "{}", ran.err);

    // While nobody can renew it, every place where a person looks says so.
    mesh.hq.stop();
    mesh.lyon.start();
    mesh.lyon.until_up();
    let expired = |ran: &cauldron_tests::Ran| (ran.code, ran.out.contains("expired at"));
    assert_eq!(expired(&mesh.lyon.run(&["status"])), (Some(0), true));
    assert_eq!(expired(&mesh.lyon.run(&["check"])), (Some(1), true));
    eventually("the log says so too", || mesh.lyon.logged("has no valid SVID and cannot renew it") >= 1);

    mesh.hq.start();
    mesh.hq.until_up();
    eventually("it says what is wrong", || mesh.lyon.logged("no peer accepts this node's SVID now") == 1);
    eventually("it has a new one", || mesh.lyon.get("/v1/self")["svid"]["valid"] == true);
    mesh.until_up();
    eventually("hq sees it", || mesh.hq.items("/v1/peers").iter().any(|p| !p["connected_ms"].is_null()));
    cauldron(mesh.folder(), &["identity", "verify", &svid, "--node", &dir]).ok();
}
