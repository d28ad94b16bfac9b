//! A council of three on three machines founds a mesh and enrols a person, two of them signing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cauldron_tests::{Node, Ran, cauldron, cauldron_with, free_port, skipped};

use super::agents::{OpenSsh, openssh, run};

/// Three members, each with a folder of their own, and where the mesh is founded.
struct Council {
    folder: tempfile::TempDir,
    /// bo's key is in an agent alone.
    agent: OpenSsh,
}

impl Council {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for member in ["ana", "bo", "cy"] {
            std::fs::create_dir(folder.path().join(member)).expect("created");
        }
        let agent = OpenSsh::start(&folder.path().join("bo"));
        let council = Self { folder, agent };
        std::fs::write(council.path("ana/passphrase"), "four random words here\n").expect("written");
        std::fs::set_permissions(council.path("ana/passphrase"), std::fs::Permissions::from_mode(0o600))
            .expect("chmod");
        council.run(&["key", "new", "ana/ana.key", "--council", "ana", "--passphrase-file", "ana/passphrase"]).ok();
        council.run(&["key", "new", "cy/cy.key", "--council", "cy", "--no-passphrase"]).ok();
        council.run(&["key", "new", "stranger.key", "--council", "eve", "--no-passphrase"]).ok();
        council
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Ran {
        cauldron(self.folder.path(), args)
    }

    fn public(&self, file: &str) -> String {
        let show = ["key", "show", file, "--passphrase-file", "ana/passphrase", "--output", "json"];
        self.run(&show).ok().json()["openssh"].as_str().expect("a key").to_owned()
    }

    /// Drafts a mesh in `name/`, to be founded by two of the three.
    fn draft(&self, name: &str) -> PathBuf {
        let (ana, bo, cy) = (self.public("ana/ana.key"), "bo/id_ed25519.pub", self.public("cy/cy.key"));
        let listen = format!("127.0.0.1:{}", free_port());
        let init = ["init", "--first", "--trust-domain", "acme.example", "--person", "ana", "--listen", &listen];
        let council = ["--dir", name, "--council", &ana, "--council", bo, "--council", &cy, "--threshold", "2"];
        self.run(&[&init[..], &council].concat()).ok();
        assert!(
            !self.path(name).join("charter.cbor").exists() && !self.path(name).join("people/ana.council.key").exists()
        );
        self.path(name).join("charter.draft")
    }

    /// ana, bo or cy signs `what` with their own key.
    fn sign(&self, what: &[&str], member: &str) -> Ran {
        let key: &[&str] = match member {
            "ana" => &["--key", "ana/ana.key", "--passphrase-file", "ana/passphrase"],
            "bo" => &["--agent", "bo/id_ed25519.pub"],
            "cy" => &["--key", "cy/cy.key"],
            other => &["--key", other],
        };
        let socket = self.agent.socket.display().to_string();
        let args = [what, key, &["--yes"]].concat();
        cauldron_with(self.folder.path(), &args, "", &[("SSH_AUTH_SOCK", &socket)])
    }

    fn start(&self, name: &str) -> Ran {
        self.run(&["node", "run", "--config", &self.path(name).join("node.toml").display().to_string()])
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn two_of_three_found_a_mesh_from_their_own_machines_and_enrol_a_person() {
    if !openssh() {
        return skipped("a council of three", "needs openssh-client");
    }
    let council = Council::new();
    let draft = council.draft("hq");
    assert!(council.start("hq").refused_with(3).contains("0 of 2 needed council keys signed: 2 missing"));

    let pre = council.run(&["check", "--pre", "--config", &text(&council.path("hq/node.toml"))]);
    assert!(pre.code == Some(1) && pre.out.contains("the council has not founded this mesh yet"), "{pre:?}");

    // The file travels: each signs the copy that the one before left.
    let file = text(&council.path("ana/charter.draft"));
    std::fs::copy(&draft, &file).expect("copied");
    let sign = ["charter", "sign", &file];
    assert!(council.sign(&sign, "stranger.key").refused_with(5).contains("neither of the council"));
    council.sign(&sign, "ana").ok();
    assert!(council.sign(&sign, "ana").refused_with(5).contains("signed already"));
    std::fs::copy(&file, &draft).expect("copied");
    assert!(council.start("hq").refused_with(3).contains("1 of 2 needed council keys signed: 1 missing"));
    let shown = council.run(&["charter", "show", &file, "--output", "json"]).ok().json();
    assert_eq!(
        (shown["signed_by"].as_array().map(Vec::len), shown["not_signed_by"].as_array().map(Vec::len)),
        (Some(1), Some(2))
    );
    assert_eq!((shown["people"][0]["id"].as_str(), shown["can_start"].as_bool()), (Some("ana"), Some(false)));
    let told = ["charter", "sign", &file, "--mesh", &"00".repeat(32)];
    assert!(council.sign(&told, "bo").refused_with(6).contains("founds another mesh"));
    council.sign(&sign, "bo").ok();
    std::fs::copy(&file, &draft).expect("copied");

    let mut hq = Node::new(council.folder.path(), "hq");
    hq.start();
    hq.until_up();
    let authority = hq.get("/v1/authority");
    assert_eq!((authority["threshold"].as_u64(), authority["index"].as_u64()), (Some(2), Some(2)));
    assert_eq!(
        (authority["people"][0]["id"].as_str(), authority["policy"]["loaded"].as_bool()),
        (Some("ana"), Some(true))
    );
    assert!(hq.broken().is_empty(), "{:?}", hq.broken());

    // A late signature on the draft changes nothing that was founded.
    council.sign(&["charter", "sign", &text(&draft)], "cy").ok();
    hq.restart();
    assert_eq!(hq.get("/v1/authority")["head"], authority["head"]);

    enrol(&council, &hq);
    amend(&council, &hq);
}

/// Drafts what a change of the charter's text amounts to.
fn edited(council: &Council, hq: &Node, name: &str, changes: &[(&str, &str)]) -> String {
    let (toml, entry) = (text(&council.path(&format!("{name}.toml"))), text(&council.path(&format!("{name}.entry"))));
    let printed = hq.run(&["charter", "amend", "--print"]).ok().json();
    let mut charter = printed["charter"].as_str().expect("TOML").to_owned();
    for (from, to) in changes {
        assert!(charter.contains(from), "{from} is in {charter}");
        charter = charter.replacen(from, to, 1);
    }
    std::fs::write(&toml, charter).expect("written");
    hq.run(&["charter", "amend", &toml, "--out", &entry]).ok();
    entry
}

/// The council takes a fourth member in, asks for three and names a recovery key; then the recovery key alone replaces a
/// council that is lost.
fn amend(council: &Council, hq: &Node) {
    council.run(&["key", "new", "spare.key", "--council", "spare", "--no-passphrase"]).ok();
    council.run(&["key", "new", "anew.key", "--council", "anew", "--no-passphrase"]).ok();
    let (stranger, spare, anew) =
        (council.public("stranger.key"), council.public("spare.key"), council.public("anew.key"));
    let (more, spared) = (format!("council = [\"{stranger}\", "), format!("recovery = [\"{spare}\"]"));
    let changes =
        [("threshold = 2", "threshold = 3"), ("council = [", more.as_str()), ("recovery = []", spared.as_str())];
    let entry = edited(council, hq, "more", &changes);
    let sign = ["authority", "sign", &entry];
    for member in ["ana", "bo"] {
        council.sign(&sign, member).ok();
    }
    let refused = hq.run(&["authority", "submit", &entry]);
    assert!(refused.refused_with(5).contains("new council key"), "{refused:?}");
    council.sign(&sign, "stranger.key").ok();
    hq.run(&["authority", "submit", &entry]).ok();
    assert_eq!(hq.get("/v1/authority")["threshold"], 3);

    // Two of what are now four are too few; the recovery key may change the council, and nothing else.
    let entry = edited(council, hq, "rest", &[("retention_floor_days = 180", "retention_floor_days = 90")]);
    for member in ["ana", "bo"] {
        council.sign(&["authority", "sign", &entry], member).ok();
    }
    assert!(council.sign(&["authority", "sign", &entry], "spare.key").refused_with(5).contains("not of the council"));
    hq.run(&["authority", "submit", &entry]).refused_with(5);
    let printed = hq.run(&["charter", "amend", "--print"]).ok().json();
    let charter = printed["charter"].as_str().expect("TOML");
    let line = charter.lines().find(|line| line.starts_with("council = [")).expect("the council");
    let only = format!("council = [\"{anew}\"]");
    let entry = edited(council, hq, "lost", &[("threshold = 3", "threshold = 1"), (line, &only)]);
    council.sign(&["authority", "sign", &entry], "spare.key").ok();
    hq.run(&["authority", "submit", &entry]).refused_with(5);
    council.sign(&["authority", "sign", &entry], "anew.key").ok();
    hq.run(&["authority", "submit", &entry]).ok();
    let authority = hq.get("/v1/authority");
    assert_eq!((&authority["threshold"], authority["council"].as_array().map(Vec::len)), (&1.into(), Some(1)));
}

/// Enrols dee by ana's and bo's signatures; one alone, a stranger's, and an entry that came too late do not.
fn enrol(council: &Council, hq: &Node) {
    let (entry, late) = (text(&council.path("dee.entry")), text(&council.path("late.entry")));
    let public = council.public("stranger.key");
    for out in [&entry, &late] {
        hq.run(&["people", "enrol", "dee", "--group", "hr", "--public-key", &public, "--out", out]).ok();
    }
    let sign = ["authority", "sign", &entry];
    assert!(council.sign(&sign, "stranger.key").refused_with(5).contains("not of the council"));
    council.sign(&sign, "ana").ok();
    assert!(council.sign(&sign, "ana").refused_with(5).contains("signed already"));
    hq.run(&["authority", "submit", &entry]).refused_with(5);
    let half = std::fs::read(&entry).expect("readable");
    let mut changed = half.clone();
    let place = changed.windows(3).position(|w| w == b"dee").expect("the person's id");
    changed[place] = b'p';
    std::fs::write(&entry, changed).expect("written");
    assert!(council.sign(&sign, "bo").refused_with(6).contains("changed after it was signed"));
    std::fs::write(&entry, half).expect("written");
    council.sign(&sign, "bo").ok();
    hq.run(&["authority", "submit", &entry]).ok();
    let people = hq.get("/v1/authority")["people"].clone();
    assert!(people.as_array().is_some_and(|all| all.iter().any(|p| p["id"] == "dee")), "{people}");

    for member in ["ana", "cy"] {
        council.sign(&["authority", "sign", &late], member).ok();
    }
    hq.run(&["authority", "submit", &late]).refused_with(5);
}

#[test]
fn a_changed_or_foreign_draft_founds_nothing_and_ssh_keygen_signs_too() {
    if !openssh() {
        return skipped("a draft signed by ssh-keygen", "needs openssh-client");
    }
    let council = Council::new();
    let (hq, other) = (council.draft("hq"), council.draft("other"));
    let (file, message) = (text(&other), text(&council.path("message")));
    council.run(&["charter", "sign", &file, "--message", &message]).ok();
    let by_hand = |namespace: &str| {
        let _ = std::fs::remove_file(format!("{message}.sig"));
        let public = text(&council.agent.public);
        let sign = ["-Y", "sign", "-f", &public, "-n", namespace, &message];
        let (signed, said) = run("ssh-keygen", &sign, Some(&council.agent.socket), b"");
        assert!(signed, "{said}");
        council.run(&["charter", "sign", &file, "--signature", &format!("{message}.sig"), "--yes"])
    };
    assert!(by_hand("file").refused_with(6).contains("namespace"));
    by_hand("cauldron/charter/v1").ok();
    council.sign(&["charter", "sign", &file], "cy").ok();

    std::fs::copy(&other, &hq).expect("copied");
    assert!(council.start("hq").refused_with(6).contains("founds another mesh"));
    let signed = std::fs::read(&other).expect("readable");
    for what in ["acme.example", "security-duty"] {
        let mut changed = signed.clone();
        let place = changed.windows(what.len()).rposition(|w| w == what.as_bytes()).expect("in the draft");
        changed[place] ^= 1;
        std::fs::write(&other, changed).expect("written");
        council.sign(&["charter", "sign", &file], "ana").refused_with(6);
        council.start("other").refused_with(6);
    }
    std::fs::write(&other, &signed).expect("written");
    let mut node = Node::new(council.folder.path(), "other");
    node.start();
    node.until_up();
}
