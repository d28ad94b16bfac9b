//! Nodes whose identities come from somebody else's authority: a Workload API, or files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::x509::{AuthorityCa, SvidKey, Validity, certificates_to_pem};
use cauldron_identity::{SpiffeId, TrustDomain};
use cauldron_tests::{Mesh, Node, Plan, append, eventually, wait_until};
use cauldron_workload_api::{Entry, Selectors, Served, Server, Svid};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::identities::now_s;

/// An authority that the charter has never heard of.
fn foreign_authority() -> AuthorityCa {
    let validity = Validity { not_before_s: now_s() - 600, not_after_s: now_s() + 86_400 };
    let domain = TrustDomain::new(Mesh::TRUST_DOMAIN).expect("a trust domain");
    AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [9; 16]).expect("a root")
}

fn hq_id() -> String {
    format!("spiffe://{}/coordinator/hq", Mesh::TRUST_DOMAIN)
}

fn state(ca: &AuthorityCa, ids: &[String], serial: u8) -> Served {
    let mut served = Served::default();
    for (i, id) in ids.iter().enumerate() {
        let id = SpiffeId::new(id).expect("a SPIFFE ID");
        let key = SvidKey::generate().expect("a key");
        let chain = ca.issue(&key.csr_der().expect("a request"), &id, now_s(), 3_600, [serial; 16]).expect("issued");
        let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("ours"));
        let selectors = Selectors { uid: Some(uid), ..Selectors::default() };
        served.entries.push(Entry { spiffe_id: id.clone(), hint: format!("h{i}"), selectors });
        let svid = Svid {
            chain_der: chain.iter().flat_map(|c| c.to_vec()).collect(),
            key_pkcs8: key.to_pkcs8_der(),
            not_after_s: now_s() + 3_600,
        };
        served.svids.insert(id, svid);
    }
    served.x509_bundles.insert(ca.trust_domain().clone(), ca.certificate().to_vec());
    served
}

/// A Workload API that stands for SPIRE's.
struct Elsewhere {
    socket: PathBuf,
    served: watch::Sender<Arc<Served>>,
    stop: watch::Sender<bool>,
}

impl Elsewhere {
    fn serve(socket: PathBuf, first: Served) -> Self {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("bound");
        let (served, receiver) = watch::channel(Arc::new(first));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Server::new(listener, receiver, Arc::new(now_s), None).run(stopped));
        Self { socket, served, stop }
    }

    fn end(&self) {
        self.stop.send_replace(true);
        std::fs::remove_file(&self.socket).expect("removed");
    }
}

fn identity(node: &Node) -> Value {
    node.get("/v1/self")["identity"].clone()
}

fn says(node: &Node, what: &str) {
    wait_until(&format!("it says {what:?}"), Duration::from_secs(30), || {
        let said = identity(node)["problem"].as_str().unwrap_or_default().to_owned();
        if said.contains(what) { Ok(()) } else { Err(said) }
    });
}

fn linked(mesh: &Mesh) {
    eventually("hq and lyon are linked", || {
        let up = |node: &Node| node.items("/v1/peers").iter().any(|p| !p["connected_ms"].is_null());
        up(&mesh.hq) && up(&mesh.lyon)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_lives_on_somebody_else_s_workload_api_through_rotation_nonsense_and_darkness() {
    let mut mesh = Mesh::only_hq(Plan::default());
    mesh.join("lyon", &[]).ok();
    mesh.hq.stop();
    let (ca, ids) = (foreign_authority(), [hq_id(), Mesh::site_id("lyon")]);
    let elsewhere = Elsewhere::serve(mesh.folder().join("spire.sock"), state(&ca, &ids, 1));
    let section =
        format!("\n[identity]\nsource = \"workload-api\"\nendpoint = \"unix://{}\"\n", elsewhere.socket.display());
    append(&mesh.hq.config(), &section);
    append(&mesh.lyon.config(), &section);
    mesh.hq.start();
    mesh.lyon.start();
    mesh.hq.until_up();
    mesh.lyon.until_up();
    linked(&mesh);
    let bundle = std::fs::read_to_string(mesh.lyon.dir().join("bundle.pem")).expect("sealed");
    assert_eq!(bundle, ca.certificate_pem(), "whom lyon trusts is what the Workload API says, not the embedded root");

    // A rotation of everything, the root included, is taken over by the running processes.
    let next = foreign_authority();
    let (hq, lyon) = (mesh.hq.logged("the SVID was renewed"), mesh.lyon.logged("the SVID was renewed"));
    elsewhere.served.send_replace(Arc::new(state(&next, &ids, 2)));
    eventually("both have it", || {
        mesh.hq.logged("the SVID was renewed") > hq && mesh.lyon.logged("the SVID was renewed") > lyon
    });
    linked(&mesh);
    assert_eq!(identity(&mesh.lyon)["problem"], Value::Null);

    // Another's identity alone, and nonsense: the present SVID stays.
    elsewhere.served.send_replace(Arc::new(state(&next, &[hq_id()], 3)));
    says(&mesh.lyon, "register spiffe://acme.example/site/lyon/node/lyon");
    let mut nonsense = state(&next, &ids, 4);
    nonsense.svids.values_mut().for_each(|svid| svid.chain_der.truncate(20));
    elsewhere.served.send_replace(Arc::new(nonsense));
    says(&mesh.lyon, "answered nonsense");
    elsewhere.end();
    says(&mesh.lyon, "cannot be reached");
    assert!(mesh.lyon.runs() && mesh.lyon.get("/v1/self")["svid"]["valid"] == true);

    // Dark: it starts with what it sealed, and the site is in the mesh again.
    mesh.lyon.restart();
    linked(&mesh);
    assert_eq!(mesh.lyon.logged("starting with the last SVID on disk"), 1);

    // It comes back, and everything is as before.
    let elsewhere = Elsewhere::serve(elsewhere.socket, state(&next, &ids, 5));
    wait_until("the source is good again", Duration::from_secs(60), || {
        let said = identity(&mesh.lyon);
        if said["problem"].is_null() { Ok(()) } else { Err(said.to_string()) }
    });
    drop(elsewhere);
}

#[test]
fn a_node_lives_on_files_that_somebody_else_keeps_fresh() {
    let mut mesh = Mesh::only_hq(Plan::default());
    mesh.join("lyon", &[]).ok();
    mesh.hq.stop();
    let (ca, files) = (foreign_authority(), mesh.folder().join("files"));
    std::fs::create_dir(&files).expect("made");
    let put = |name: &str, id: &str| {
        let id = SpiffeId::new(id).expect("a SPIFFE ID");
        let key = SvidKey::generate().expect("a key");
        let chain = ca.issue(&key.csr_der().expect("a request"), &id, now_s(), 3_600, [1; 16]).expect("issued");
        let write =
            |what: &str, text: &str| std::fs::write(files.join(format!("{name}.{what}")), text).expect("written");
        write("key", &key.to_pkcs8_pem());
        write("pem", &certificates_to_pem(&chain));
        write("bundle", &ca.certificate_pem());
    };
    put("hq", &hq_id());
    put("lyon", &Mesh::site_id("lyon"));
    for node in [&mesh.hq, &mesh.lyon] {
        let name = if node.dir().ends_with("hq") { "hq" } else { "lyon" };
        let at = |what: &str| files.join(format!("{name}.{what}")).display().to_string();
        let section = format!(
            "\n[identity]\nsource = \"files\"\ncertificate = \"{}\"\nkey = \"{}\"\nbundle = \"{}\"\n",
            at("pem"),
            at("key"),
            at("bundle")
        );
        append(&node.config(), section);
    }
    mesh.hq.start();
    mesh.lyon.start();
    mesh.hq.until_up();
    mesh.lyon.until_up();
    linked(&mesh);

    let renewed = mesh.lyon.logged("the SVID was renewed");
    put("lyon", &Mesh::site_id("lyon"));
    eventually("the new files are taken over", || mesh.lyon.logged("the SVID was renewed") > renewed);
    put("lyon", &hq_id());
    says(&mesh.lyon, "this node is spiffe://acme.example/site/lyon/node/lyon");
    std::fs::write(files.join("lyon.key"), "nonsense").expect("written");
    says(&mesh.lyon, "lyon.key");
    std::fs::remove_dir_all(&files).expect("removed");
    says(&mesh.lyon, "lyon.pem");
    assert!(mesh.lyon.runs() && mesh.lyon.get("/v1/self")["svid"]["valid"] == true);
    mesh.lyon.restart();
    linked(&mesh);
}
