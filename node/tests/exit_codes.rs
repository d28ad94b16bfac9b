//! The binary's exit codes, on real processes: 0 ok, 1 check, 2 usage, 3 configuration, 4 unreachable, 6 integrity.
//! Code 5, refused, needs a node that refuses: `cauldron-tests` has it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn cauldron(dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cauldron"));
    command.args(line.split_whitespace()).current_dir(dir).stdin(Stdio::null());
    command.env_remove("CAULDRON_SOCKET").env_remove("CAULDRON_KEY").output().expect("the binary runs")
}

#[track_caller]
fn ends(dir: &Path, line: &str, code: i32, says: &str) {
    let output = cauldron(dir, line);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(code), "{line}\n{text}");
    assert!(text.contains(says), "{line} must say {says:?}:\n{text}");
}

#[test]
fn each_kind_of_failure_has_its_code() {
    let temporary = tempfile::tempdir().expect("temporary directory");
    let dir = temporary.path();
    ends(dir, "version", 0, env!("CARGO_PKG_VERSION"));
    ends(dir, "stats", 2, "unrecognized subcommand");
    ends(dir, "approvals approve 0123 --node nowhere --yes", 2, "no key file");
    ends(dir, "approvals deny 0123 --node nowhere", 2, "nobody is at the terminal");
    ends(dir, "status --node nowhere", 4, "cauldron node run");
    ends(dir, "node run --config missing.toml", 3, "missing.toml");
    ends(dir, "node join cauldron1.AAAA", 2, "checksum");

    std::fs::write(dir.join("bad.toml"), "[node]\nnmae = \"hq\"\n[mesh]\nlisten = \"0.0.0.0:99999\"\n")
        .expect("written");
    ends(dir, "node run --config bad.toml", 3, "did you mean `name`?");
    ends(
        dir,
        "node run --config bad.toml",
        3,
        "4:10  mesh.listen = \"0.0.0.0:99999\"  the port must be between 1 and 65535",
    );
}

#[test]
fn what_is_no_token_or_no_spiffe_id_says_what_is_expected() {
    let temporary = tempfile::tempdir().expect("temporary directory");
    let dir = temporary.path();
    ends(dir, "authority token nonsense --node nowhere", 2, "looks like spiffe://acme.example/site/lyon/node/lyon");

    // As a shell that writes UTF-16 into its pipes.
    let piped = dir.join("piped");
    std::fs::write(&piped, b"\xff\xfec\0a\0u\0l\0").expect("written");
    let mut join = Command::new(env!("CARGO_BIN_EXE_cauldron"));
    join.args(["node", "join", "-"]).current_dir(dir).stdin(std::fs::File::open(&piped).expect("readable"));
    let output = join.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("UTF-8") && said.contains("Hint: ") && said.contains("cauldron authority token"), "{said}");
}

#[test]
fn a_founded_directory_checks_until_something_is_wrong() {
    let temporary = tempfile::tempdir().expect("temporary directory");
    let dir = temporary.path();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let listen = port.local_addr().expect("an address");
    ends(dir, &format!("init --first --trust-domain acme.test --listen {listen} --person ana"), 0, "council of one");
    ends(dir, "check --pre --config hq/node.toml", 1, "stop what uses it, or change mesh.listen");
    drop(port);
    ends(dir, "check --pre --config hq/node.toml --output json", 0, "\"ok\": true");
    ends(dir, "charter show --node hq", 0, "threshold: 1");
    ends(dir, &format!("init --first --trust-domain acme.test --listen {listen}"), 3, "data directory of another node");
    ends(dir, "store verify --node hq", 3, "there is no store");

    let charter = dir.join("hq/charter.cbor");
    let mut bytes = std::fs::read(&charter).expect("readable");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&charter, bytes).expect("written");
    ends(dir, "charter show --node hq", 6, "0 of 1 needed council keys signed the charter");
    ends(dir, "node run --config hq/node.toml", 6, "charter");
}
