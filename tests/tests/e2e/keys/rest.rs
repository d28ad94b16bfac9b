//! Keys at rest: sealed by a passphrase or a machine's secret, never shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cauldron_tests::{Mesh, Plan, append, cauldron, eventually};

fn secret(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    path.display().to_string()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("readable")
}

/// What no log and no output may contain: the part of each secret file that is the secret.
fn secrets(dir: &Path) -> Vec<String> {
    let key = |file: &str| text(&dir.join(file)).trim().rsplit('.').next().expect("a payload").to_owned();
    let body =
        |pem: &str| pem.lines().skip_while(|line| !line.contains("PRIVATE KEY")).nth(1).expect("a body").to_owned();
    let pem = |file: &str| body(&text(&dir.join(file)));
    let keys = ["author.key", "people/ana.key", "people/ana.council.key"].map(key);
    keys.into_iter().chain(["ca/root.key", "ca/jwt.key", "svid.pem", "workloads/web.pem"].map(pem)).collect()
}

const SEALED: [&str; 5] = ["author.key", "ca/root.key", "ca/jwt.key", "svid.pem", "workloads/web.pem"];
const WORKLOAD: &str =
    "\n[[identity.workload]]\nspiffe_id = \"spiffe://acme.example/coordinator/hq/agent/web\"\nuid = 0\n";

#[test]
fn a_node_seals_its_keys_starts_with_them_and_says_why_when_it_cannot() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let (dir, config) = (mesh.hq.dir(), mesh.hq.config());
    append(&config, WORKLOAD);
    mesh.hq.restart();
    eventually("a program's SVID lies on disk", || dir.join("workloads/web.pem").exists());
    mesh.hq.stop();
    let secrets = secrets(&dir);
    let seal = secret(&mesh.folder().join("seal"), &[0x5a; 32]);
    let plain = text(&config);
    std::fs::write(&config, plain.replacen("[node]\n", &format!("[node]\nkey_seal = {seal:?}\n"), 1)).expect("written");

    mesh.hq.set_env("RUST_LOG", Some("trace"));
    mesh.hq.start();
    mesh.hq.until_up();
    for file in SEALED {
        let sealed = text(&dir.join(file));
        assert!(sealed.starts_with("cauldron-sealed1."), "{file}: {sealed}");
        assert!(secrets.iter().all(|secret| !sealed.contains(secret)), "{file}");
    }
    mesh.hq.restart();
    let answered = mesh.hq.get("/v1/self").to_string() + &mesh.hq.get("/v1/authority").to_string();
    mesh.hq.run(&["identity", "show"]).ok();
    mesh.hq.stop();
    let said = mesh.hq.log() + &answered;
    assert!(said.contains("sealed, as node.key_seal says"));
    let leaked: Vec<_> = secrets.iter().filter(|secret| said.contains(*secret)).collect();
    assert!(leaked.is_empty() && !said.contains("ZZZZZZZZ"), "{leaked:?}");

    let run = ["node", "run", "--config", &config.display().to_string()];
    secret(Path::new(&seal), &[0x5b; 32]);
    let wrong = cauldron(mesh.folder(), &run);
    assert!(wrong.refused_with(5).contains("author.key stays sealed"), "{wrong:?}");
    secret(Path::new(&seal), &[0x5a; 8]);
    assert!(cauldron(mesh.folder(), &run).refused_with(3).contains("32 to 4096 random bytes"));
    secret(Path::new(&seal), &[0x5a; 32]);
    let whole = text(&dir.join("author.key"));
    secret(&dir.join("author.key"), &whole.as_bytes()[..whole.len() - 9]);
    assert!(cauldron(mesh.folder(), &run).refused_with(6).contains("author.key is damaged"));
    secret(&dir.join("author.key"), whole.as_bytes());
    std::fs::write(&config, plain).expect("written");
    assert!(cauldron(mesh.folder(), &run).refused_with(3).contains("node.key_seal names no secret"));
    for file in SEALED {
        mesh.hq.run(&["key", "unseal", &dir.join(file).display().to_string(), "--secret-file", &seal]).ok();
    }
    mesh.hq.start();
    mesh.hq.until_up();
    assert!(secrets.contains(&text(&dir.join("author.key")).trim().rsplit('.').next().expect("a payload").to_owned()));
}

#[test]
fn a_council_key_sealed_by_passphrase_enrols_and_a_wrong_passphrase_does_not() {
    let mesh = Mesh::only_hq(Plan::default());
    let passphrase = secret(&mesh.folder().join("passphrase"), b"four random words here\n");
    let wrong = secret(&mesh.folder().join("wrong"), b"five random words here\n");
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    let payload = text(Path::new(&council)).trim().rsplit('.').next().expect("a payload").to_owned();
    mesh.hq.run(&["key", "seal", &council, "--passphrase-file", &passphrase]).ok();
    assert!(!text(Path::new(&council)).contains(&payload));

    let new = mesh.folder().join("bo.key").display().to_string();
    let enrol = |passphrase: &str, new: &str| {
        let key = ["--council-key", &council, "--passphrase-file", passphrase, "--new-key", new];
        mesh.hq.run(&[&["people", "enrol", "bo", "--group", "security-duty"][..], &key].concat())
    };
    let refused = enrol(&wrong, &new);
    assert!(refused.refused_with(5).contains("stays sealed"), "{refused:?}");
    assert!(!Path::new(&new).exists(), "nothing is made before the council key is open");
    let ask = ["people", "enrol", "bo", "--group", "security-duty", "--council-key", &council, "--new-key", &new];
    assert!(mesh.hq.run(&ask).refused_with(2).contains("nobody is at the terminal"));
    enrol(&passphrase, &new).ok();

    let shown = mesh.hq.run(&["key", "show", &council, "--passphrase-file", &passphrase]).ok().json();
    assert_eq!(shown["purpose"], "council-ana");
    assert_eq!(shown["at_rest"], "sealed by passphrase");
    let charter = mesh.hq.run(&["charter", "show"]).ok().json();
    assert_eq!(charter["council"][0], shown["public_key"]);
    let all = [refused.out, refused.err, shown.to_string()].concat();
    assert!(!all.contains(&payload) && !all.contains("random words"), "{all}");
}

#[test]
fn init_seals_the_council_key_where_a_passphrase_is_given() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let passphrase = secret(&folder.path().join("passphrase"), b"four random words here");
    let init = |dir: &str, more: &[&str]| {
        let args = ["init", "--first", "--trust-domain", "acme.example", "--person", "ana", "--dir", dir];
        cauldron(folder.path(), &[&args, more].concat())
    };
    let sealed = init("a", &["--passphrase-file", &passphrase]).ok();
    assert!(sealed.out.contains("It is sealed"), "{sealed:?}");
    assert!(
        text(&folder.path().join("a/people/ana.council.key")).starts_with("cauldron-sealed1.council-ana.argon2id-")
    );
    let plain = init("b", &["--no-passphrase"]).ok();
    assert!(plain.out.contains("whoever reads it is the council"), "{plain:?}");
    let short = secret(&folder.path().join("short"), b"hi");
    init("c", &["--passphrase-file", &short]).refused_with(2);
    assert!(!folder.path().join("c").exists(), "nothing is founded");
}
