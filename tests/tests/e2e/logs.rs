//! What a log can do to the agent that follows it.

use cauldron_tests::{Mesh, Plan, eventually};

/// Addresses that lyon proposes to block, in order of their proposals.
fn proposed(mesh: &Mesh) -> Vec<String> {
    let all = mesh.lyon.items("/v1/proposals");
    let address = |p: &serde_json::Value| p["target"].as_str().and_then(|t| t.rsplit('/').next()).map(str::to_owned);
    all.iter().rev().filter_map(address).collect()
}

#[test]
fn a_log_that_goes_comes_back_shrinks_or_lies_is_followed_and_said_once() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let mut expected = Vec::new();
    let mut finds = |mesh: &Mesh, address: &str| {
        expected.push(address.to_owned());
        eventually(&format!("{address} is proposed"), || proposed(mesh).contains(&expected[expected.len() - 1]));
        assert_eq!(proposed(mesh), expected);
    };

    mesh.log_lines(Mesh::attack("203.0.113.1"));
    finds(&mesh, "203.0.113.1");

    // Gone.
    std::fs::remove_file(mesh.auth_log()).expect("there");
    eventually("it says that the log is gone", || mesh.lyon.logged("the log cannot be read") == 1);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(mesh.lyon.logged("the log cannot be read"), 1, "said once, tried often");
    mesh.log_lines(Mesh::attack("203.0.113.2"));
    finds(&mesh, "203.0.113.2");
    assert_eq!(mesh.lyon.logged("the log can be read again"), 1);

    // Unreadable, for root too.
    std::fs::remove_file(mesh.auth_log()).expect("there");
    std::fs::create_dir(mesh.auth_log()).expect("created");
    eventually("it says that the log is unreadable", || mesh.lyon.logged("the log cannot be read") == 2);
    std::fs::remove_dir(mesh.auth_log()).expect("there");
    mesh.log_lines(Mesh::attack("203.0.113.3"));
    finds(&mesh, "203.0.113.3");

    // Truncated in place.
    let anew = mesh.lyon.logged("the log starts anew");
    std::fs::write(mesh.auth_log(), "").expect("written");
    eventually("it sees the truncation", || mesh.lyon.logged("the log starts anew") == anew + 1);
    mesh.log_lines(Mesh::attack("203.0.113.4"));
    finds(&mesh, "203.0.113.4");

    // One line of 10 MB, full of failures that are none.
    let lie = b" sshd[1]: Failed password for root from 9.9.9.9 port 22 ssh2 ";
    let mut long: Vec<u8> = lie.iter().copied().cycle().take(10 * 1024 * 1024).collect();
    long.push(b'\n');
    mesh.log_lines(long);
    mesh.log_lines(Mesh::attack("203.0.113.5"));
    finds(&mesh, "203.0.113.5");
    assert_eq!(mesh.lyon.logged("too long and was skipped"), 1);

    // An attacker who chooses the user name, and bytes that are no text.
    let line = |n: u8| {
        let head = format!("Nov 10 07:10:{:02} lyon sshd[{n}]: Failed password for invalid user ", 10 + n);
        let tail = b"\xff\xfe from 8.8.8.8 port 1 ssh2 from 203.0.113.6 port 4022 ssh2\n";
        [head.as_bytes(), tail].concat()
    };
    mesh.log_lines((0..6).flat_map(line).collect::<Vec<u8>>());
    finds(&mesh, "203.0.113.6");
    assert!(mesh.lyon.broken().is_empty());
}
