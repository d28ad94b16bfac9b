//! People who vote with a key in an agent; our bytes judged by OpenSSH, and OpenSSH's by us.

use std::path::Path;

use cauldron_identity::ssh;
use cauldron_tests::{Mesh, Plan, Ran, cauldron_with, eventually, skipped};

use super::agents::{OpenSsh, Token, openssh, run};

const NAMESPACE: &str = "cauldron/charter/v1";

/// Whether `ssh-keygen -Y verify` takes `armour` as ana's signature over `message`.
fn openssh_verifies(folder: &Path, public: &str, armour: &str, message: &[u8]) -> bool {
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("allowed"), format!("ana {public}\n")).expect("written");
    std::fs::write(path("m.sig"), armour).expect("written");
    let (allowed, signature) = (path("allowed"), path("m.sig"));
    let args = ["-Y", "verify", "-f", &allowed, "-I", "ana", "-n", NAMESPACE, "-s", &signature];
    run("ssh-keygen", &args, None, message).0
}

#[test]
fn openssh_and_we_read_each_others_signatures() {
    if !openssh() {
        return skipped("signatures against OpenSSH", "needs openssh-client");
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    // Ours, as a token makes them.
    let token = Token::new(7, true);
    let blob = token.sign(&ssh::signed_data(NAMESPACE, b"the mesh"));
    let signature = ssh::signature_from_blob(&blob).expect("a signature");
    assert_eq!(token.key().verify(NAMESPACE, b"the mesh", &signature), Ok(()));
    let (public, armour) = (ssh::public_line(&token.key()), ssh::to_armour(&token.key(), NAMESPACE, &signature));
    assert!(openssh_verifies(folder.path(), &public, &armour, b"the mesh"));
    assert!(!openssh_verifies(folder.path(), &public, &armour, b"another mesh"));

    // OpenSSH's, from its agent.
    let agent = OpenSsh::start(folder.path());
    let message = folder.path().join("message");
    std::fs::write(&message, b"the mesh").expect("written");
    let (public, message) = (agent.public.display().to_string(), message.display().to_string());
    let (signed, said) =
        run("ssh-keygen", &["-Y", "sign", "-f", &public, "-n", NAMESPACE, &message], Some(&agent.socket), b"");
    assert!(signed, "{said}");
    let armour = std::fs::read_to_string(format!("{message}.sig")).expect("written by ssh-keygen");
    let (key, signature) = ssh::from_armour(&armour, NAMESPACE).expect("readable");
    let line = std::fs::read_to_string(&agent.public).expect("readable");
    assert_eq!(Ok(key.clone()), line.parse());
    assert_eq!(key.verify(NAMESPACE, b"the mesh", &signature), Ok(()));
    assert_eq!(ssh::to_armour(&key, NAMESPACE, &signature), armour, "the same bytes, down to the line breaks");
}

/// `approvals approve|deny` by whoever the agent at `socket` holds.
fn vote(mesh: &Mesh, choice: &str, id: &str, key: &str, socket: &Path) -> Ran {
    let (dir, socket) = (mesh.hq.dir().display().to_string(), socket.display().to_string());
    let args = ["approvals", choice, id, "--yes", "--agent", key, "--node", &dir];
    cauldron_with(mesh.folder(), &args, "", &[("SSH_AUTH_SOCK", &socket)])
}

#[test]
fn a_key_in_an_agent_and_a_touched_token_decide_and_an_untouched_one_does_not() {
    if !openssh() {
        return skipped("votes from an ssh-agent", "needs openssh-client");
    }
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let agent = OpenSsh::start(mesh.folder());
    let public = agent.public.display().to_string();
    let socket = |name: &str| mesh.folder().join(name);
    let line = ssh::public_line(&Token::new(7, true).key());
    Token::new(7, true).serve(&socket("touched.sock"));
    Token::new(7, false).serve(&socket("untouched.sock"));
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    for (person, key) in [("kim", &public), ("sam", &line)] {
        let enrol =
            ["people", "enrol", person, "--group", "security-duty", "--council-key", &council, "--public-key", key];
        mesh.hq.run(&enrol).ok();
    }
    for node in [&mesh.hq, &mesh.lyon] {
        let people = || node.get("/v1/authority")["people"].as_array().cloned().unwrap_or_default();
        eventually("everybody is enrolled", || people().len() == 3);
        let of = |name: &str| people().iter().find(|p| p["id"] == name).map(|p| p["credentials"][0]["kind"].clone());
        assert_eq!((of("kim"), of("sam")), (Some("software".into()), Some("sk-ssh".into())));
    }

    mesh.log_lines(Mesh::attack("198.51.100.7") + &Mesh::attack("198.51.100.8"));
    eventually("hq asks twice", || mesh.hq.items("/v1/approvals").len() == 2);
    let waiting = mesh.hq.items("/v1/approvals");
    let [yes, no] = [&waiting[0], &waiting[1]].map(|p| p["id"].as_str().expect("an id").to_owned());
    vote(&mesh, "approve", &yes, &public, &socket("touched.sock")).refused_with(5);
    vote(&mesh, "approve", &yes, &public, &socket("nobody.sock")).refused_with(4);
    let untouched = vote(&mesh, "deny", &no, &line, &socket("untouched.sock"));
    assert!(untouched.refused_with(6).contains("no touch"), "{untouched:?}");

    vote(&mesh, "approve", &yes, &public, &agent.socket).ok();
    vote(&mesh, "deny", &no, &line, &socket("touched.sock")).ok();
    mesh.lyon.until_state(&yes, "DONE");
    mesh.lyon.until_state(&no, "DENIED");
}
