//! The root key in a token: a mesh is founded on it, lives by it, and says what is wrong with it. The token is SoftHSM, which
//! speaks the PKCS #11 of hardware.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cauldron_tests::{Mesh, Node, Plan, Ran, cauldron, cauldron_with, eventually, skipped};
use tempfile::TempDir;

const CONF: &str = "SOFTHSM2_CONF";
const PIN: &str = "8642-1357";
/// Where Debian, Fedora and Homebrew put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];
/// Between the half-life of an SVID and its end.
const LATER: &str = "clock:+40m";

/// An initialised token in a folder of its own, and its PIN in a file.
struct Token {
    folder: TempDir,
    module: &'static str,
}

impl Token {
    /// Nothing where the program under test has no PKCS #11, or this machine no SoftHSM.
    fn new(test: &str) -> Option<Self> {
        if !has_pkcs11() {
            return None;
        }
        let module = MODULES.into_iter().find(|module| Path::new(module).exists());
        let (Some(module), true) = (module, Command::new("softhsm2-util").arg("--version").output().is_ok()) else {
            skipped(test, "needs softhsm2");
            return None;
        };
        let token = Self { folder: tempfile::tempdir().expect("a temporary directory"), module };
        std::fs::create_dir(token.path("tokens")).expect("made");
        let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", token.path("tokens").display());
        std::fs::write(token.path("softhsm2.conf"), conf).expect("written");
        token.pin(PIN);
        token.new_token("acme");
        Some(token)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn conf(&self) -> String {
        self.path("softhsm2.conf").display().to_string()
    }

    fn pin(&self, text: &str) {
        let new = self.path("pin.new");
        std::fs::write(&new, format!("{text}\n")).expect("written");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::fs::rename(new, self.path("pin")).expect("renamed");
    }

    /// Whoever reads a pipe that nobody writes to waits, as in a module whose device does not answer. Returns a second name of
    /// the pipe.
    fn pin_that_hangs(&self) -> PathBuf {
        std::fs::remove_file(self.path("pin")).expect("removed");
        let made = Command::new("mkfifo").args(["-m", "600"]).arg(self.path("pin")).status().expect("mkfifo");
        assert!(made.success());
        std::fs::hard_link(self.path("pin"), self.path("pipe")).expect("linked");
        self.path("pipe")
    }

    /// A key pair that was made elsewhere.
    fn import(&self, object: &str, id: &str, curve: &'static rcgen::SignatureAlgorithm) {
        let pem = rcgen::KeyPair::generate_for(curve).expect("a key").serialize_pem();
        let path = self.path("import.pem");
        std::fs::write(&path, pem).expect("written");
        let args = ["--import", &path.display().to_string(), "--token", "acme", "--pin", PIN, "--label", object];
        self.util(&[&args[..], &["--id", id]].concat());
    }

    fn util(&self, args: &[&str]) -> String {
        let ran = Command::new("softhsm2-util").args(args).env(CONF, self.conf()).output().expect("it starts");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    fn new_token(&self, label: &str) {
        self.util(&["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]);
    }

    fn uri(&self, object: &str) -> String {
        format!(
            "pkcs11:token=acme;object={object}?module-path={}&pin-source={}",
            self.module,
            self.path("pin").display()
        )
    }

    fn run(&self, folder: &Path, args: &[&str]) -> Ran {
        cauldron_with(folder, args, "", &[(CONF, &self.conf())])
    }

    fn init(&self, dir: &str, more: &[&str]) -> Ran {
        let args = ["init", "--first", "--trust-domain", "acme.example", "--person", "ana", "--dir", dir];
        self.run(self.folder.path(), &[&args, more].concat())
    }

    /// As if it had been pulled out.
    fn pull(&self) {
        std::fs::rename(self.path("tokens"), self.path("pulled")).expect("moved");
        std::fs::create_dir(self.path("tokens")).expect("made");
    }

    fn plug_in(&self) {
        std::fs::remove_dir_all(self.path("tokens")).expect("removed");
        std::fs::rename(self.path("pulled"), self.path("tokens")).expect("moved");
    }
}

fn has_pkcs11() -> bool {
    let version = cauldron(Path::new("/"), &["version", "--output", "json"]).ok().json();
    version["features"].as_array().expect("a list").iter().any(|feature| feature == "pkcs11")
}

#[test]
fn a_mesh_is_founded_on_a_token_and_lives_by_it() {
    let Some(token) = Token::new("a_mesh_is_founded_on_a_token_and_lives_by_it") else { return };
    let (uri, conf) = (token.uri("root"), token.conf());
    let init = ["--root-key", &uri, "--root-key-generate"];
    let mut mesh = Mesh::only_hq(Plan { init: &init, hq_env: Some((CONF, &conf)), ..Plan::default() });
    assert!(!mesh.hq.dir().join("ca/root.key").exists(), "the root key is in the token alone");
    mesh.join("lyon", &[]).ok();
    mesh.lyon.start();
    mesh.until_up();

    // A new start, and an SVID past its half-life.
    mesh.hq.set_env("RUST_LOG", Some("trace"));
    for node in [&mut mesh.hq, &mut mesh.lyon] {
        node.stop();
        node.set_env("CAULDRON_FAULT", Some(LATER));
        node.start();
    }
    mesh.until_up();
    eventually("lyon's SVID is renewed", || mesh.lyon.logged("the SVID was renewed") > 0);

    mesh.join("porto", &[]).ok();
    mesh.porto.set_env("CAULDRON_FAULT", Some(LATER));
    it_fails_and_recovers(&mut mesh, &token);
    assert!(mesh.hq.broken().is_empty());
    assert!(!mesh.hq.dir().join("ca/root.key").exists());
    assert_eq!(mesh.hq.logged(PIN) + mesh.porto.logged(PIN), 0, "no log has the PIN");
}

#[test]
fn a_root_key_moves_from_a_file_into_a_token() {
    let Some(token) = Token::new("a_root_key_moves_from_a_file_into_a_token") else { return };
    let (uri, conf) = (token.uri("next"), token.conf());
    let mut mesh = Mesh::only_hq(Plan { hq_env: Some((CONF, &conf)), ..Plan::default() });
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    let (more, less) = (token.path("more.entry").display().to_string(), token.path("less.entry").display().to_string());
    let hand_in = |hq: &Node, file: &str| {
        hq.run(&["authority", "sign", file, "--key", &council, "--yes"]).ok();
        hq.run(&["authority", "submit", file]).ok();
    };
    let active = |hq: &Node| {
        let roots = hq.get("/v1/authority")["roots"].clone();
        roots
            .as_array()
            .and_then(|all| all.iter().find(|root| root["state"] == "active"))
            .map(|root| root["key"].clone())
    };
    eventually("the founding root is published", || active(&mesh.hq).is_some());
    let before = active(&mesh.hq);
    let prepare = ["authority", "prepare", "--root-key", &uri, "--out", &more];
    assert!(mesh.hq.run(&prepare).refused_with(4).contains("holds no private EC key `next`"));
    mesh.hq.run(&[&prepare[..], &["--root-key-generate"]].concat()).ok();
    hand_in(&mesh.hq, &more);
    eventually("it signs with the token", || {
        let _ = mesh.hq.run(&["authority", "activate", "--yes"]);
        active(&mesh.hq).is_some() && active(&mesh.hq) != before
    });
    mesh.hq.run(&["authority", "taint", "--yes"]).ok();
    mesh.hq.run(&["authority", "revoke", "--force", "--out", &less]).ok();
    hand_in(&mesh.hq, &less);
    eventually("no root key lies in a file", || !mesh.hq.dir().join("ca/root.key").exists());
    mesh.hq.restart();
    mesh.hq.until_up();
    mesh.join("lyon", &[]).ok();
    mesh.lyon.start();
    mesh.until_up();
    assert!(active(&mesh.hq) != before && mesh.hq.logged(PIN) == 0);
    token.pull();
    mesh.hq.stop();
    mesh.hq.start();
    assert_eq!(mesh.hq.until_ended().code(), Some(4), "without the token it does not start");
}

/// The token goes away under a running authority and comes back with one trouble after the other; porto wants to join.
fn it_fails_and_recovers(mesh: &mut Mesh, token: &Token) {
    let ask = |mesh: &mut Mesh, says: &str| {
        let before = (mesh.hq.logged(says), mesh.porto.logged(says));
        if mesh.porto.runs() {
            mesh.porto.kill9();
        }
        mesh.porto.start();
        eventually(&format!("hq says: {says}"), || mesh.hq.logged(says) > before.0);
        eventually(&format!("porto is told: {says}"), || mesh.porto.logged(says) > before.1);
    };
    token.pull();
    ask(mesh, "the root key does not sign: token `acme` is not there");
    token.pin("0000-0000");
    token.plug_in();
    ask(mesh, "refuses the PIN");
    let refused = std::fs::metadata(token.path("pin")).and_then(|m| m.modified()).expect("a time");
    token.pin(PIN);
    std::fs::File::options().append(true).open(token.path("pin")).and_then(|f| f.set_modified(refused)).expect("set");
    ask(mesh, "refuses the PIN");

    let hangs = token.pin_that_hangs();
    mesh.porto.kill9();
    mesh.porto.start();
    eventually("hq says that the token hangs", || {
        let asked = std::time::Instant::now();
        assert!(mesh.hq.get("/v1/self")["state"].is_string(), "it answers meanwhile");
        assert!(asked.elapsed() < std::time::Duration::from_secs(5), "and does not wait for the token");
        mesh.hq.logged("has not answered within 10 s") > 0
    });
    token.pin(PIN);
    std::fs::write(&hangs, PIN).expect("written");
    eventually("the token is back by itself", || mesh.hq.logged("the token was opened again") > 0);
    mesh.porto.kill9();
    mesh.porto.start();
    mesh.porto.until_up();
}

#[test]
fn what_is_wrong_with_a_token_is_said_with_its_code() {
    let Some(token) = Token::new("what_is_wrong_with_a_token_is_said_with_its_code") else { return };
    let (uri, folder) = (token.uri("root"), token.folder.path());
    assert!(token.init("hq", &["--root-key", &uri]).refused_with(3).contains("holds no private EC key `root`"));
    token.init("hq", &["--root-key", &uri, "--root-key-generate"]).ok();
    let again = token.init("two", &["--root-key", &uri, "--root-key-generate"]);
    assert!(again.refused_with(3).contains("is there already"), "{again:?}");
    token.init("other", &["--root-key", &token.uri("other"), "--root-key-generate"]).ok();

    let config = folder.join("hq/node.toml");
    let written = std::fs::read_to_string(&config).expect("readable");
    let start = |edit: &dyn Fn(&str) -> String| {
        std::fs::write(&config, edit(&written)).expect("written");
        token.run(folder, &["node", "run", "--config", "hq/node.toml"])
    };
    let start_as_founded = || start(&|text| text.to_owned());

    token.pin("0000-0000");
    let wrong = start_as_founded();
    assert!(wrong.refused_with(3).contains("refuses the PIN") && !wrong.err.contains("0000"), "{wrong:?}");
    token.pin(PIN);
    std::fs::set_permissions(token.path("pin"), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(start_as_founded().refused_with(3).contains("chmod 600"));
    token.pin(PIN);

    token.pull();
    assert!(start_as_founded().refused_with(4).contains("token `acme` is not there"));
    let check = token.run(folder, &["check", "--pre", "--config", "hq/node.toml"]);
    assert!(check.refused_with(1).contains("root key") && check.out.contains("is not there"), "{check:?}");
    token.plug_in();
    let check = token.run(folder, &["check", "--pre", "--config", "hq/node.toml", "--output", "json"]).json();
    let found = check["checks"].as_array().and_then(|all| all.iter().find(|c| c["name"] == "root key")).cloned();
    assert_eq!(found.expect("a check of that name")["ok"], true, "{check}");

    let object = |name: &'static str| move |text: &str| text.replacen("object=root", &format!("object={name}"), 1);
    assert!(start(&object("nothing")).refused_with(3).contains("holds no private EC key `nothing`"));
    let wrong = start(&object("other"));
    assert!(wrong.refused_with(6).contains("belongs to another key") && wrong.err.contains("pins it"), "{wrong:?}");
    let module = start(&|text| text.replacen("libsofthsm2.so", "missing.so", 1));
    assert!(module.refused_with(3).contains("is no PKCS#11 module"));
    let inline = start(&|text| text.replacen("pin-source=", "pin-value=8642-1357&pin-source=", 1));
    assert!(inline.refused_with(3).contains("has pin-value") && !inline.err.contains(PIN), "{inline:?}");
    let inline = token.init("two", &["--root-key", "pkcs11:token=acme;object=root?pin-value=8642-1357"]);
    assert!(inline.refused_with(2).contains("has pin-value") && !inline.err.contains(PIN), "{inline:?}");
}

#[test]
fn a_module_that_hangs_does_not_hang_the_start() {
    let Some(token) = Token::new("a_module_that_hangs_does_not_hang_the_start") else { return };
    let uri = token.uri("root");
    token.init("hq", &["--root-key", &uri, "--root-key-generate"]).ok();
    token.pin_that_hangs();
    let ran = token.run(token.folder.path(), &["node", "run", "--config", "hq/node.toml"]);
    assert!(ran.refused_with(4).contains("has not answered within 20 s"), "{ran:?}");
}

#[test]
fn a_key_pair_that_was_made_elsewhere_is_taken_if_it_can_be() {
    let Some(token) = Token::new("a_key_pair_that_was_made_elsewhere_is_taken_if_it_can_be") else { return };
    token.import("brought", "0a", &rcgen::PKCS_ECDSA_P256_SHA256);
    token.import("too-long", "0b", &rcgen::PKCS_ECDSA_P384_SHA384);
    token.init("hq", &["--root-key", &token.uri("brought")]).ok();
    let check = token.run(token.folder.path(), &["check", "--pre", "--config", "hq/node.toml"]);
    assert!(check.out.contains("in a token, which signs"), "{check:?}");
    let refused = token.init("two", &["--root-key", &token.uri("too-long")]);
    assert!(refused.refused_with(3).contains("is not on the curve P-256"), "{refused:?}");

    token.new_token("twin");
    token.new_token("twin");
    let twin = token.uri("root").replacen("token=acme", "token=twin", 1);
    let refused = token.init("two", &["--root-key", &twin, "--root-key-generate"]);
    assert!(refused.refused_with(3).contains("more than one token is called `twin`"), "{refused:?}");
    let slots = token.util(&["--show-slots"]);
    let twins = slots.split("Slot ").filter(|slot| slot.contains("twin"));
    let serials: Vec<&str> =
        twins.filter_map(|slot| slot.split("Serial number:").nth(1)?.split_whitespace().next()).collect();
    assert_eq!(serials.len(), 2, "{slots}");
    for (n, serial) in serials.iter().enumerate() {
        let one = twin.replacen("token=twin", &format!("token=twin;serial={serial}"), 1);
        token.init(&format!("twin{n}"), &["--root-key", &one, "--root-key-generate"]).ok();
    }
}
