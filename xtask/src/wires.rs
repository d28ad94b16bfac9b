//! `cargo xtask planted`: the bugs planted in the wires, each of which a named test of real handshakes must catch, and those
//! planted in the core of escrow, which its model must find.

use std::process::{ExitCode, Stdio};

use crate::forward::cargo;

/// Bug and the test that must fail with it.
const CAUGHT_BY: [(&str, &str); 3] = [
    ("resumption-on", "a_session_is_never_resumed_so_a_distrusted_peer_is_verified_again"),
    ("guard-off", "withdrawn_trust_ends_live_connections_and_keeps_them_out"),
    ("path-check-off", "no_bad_certificate_is_let_in_by_either_side"),
];

/// Runs each test without its bug, where it must hold, and with it, where it must not.
pub fn run() -> Result<ExitCode, String> {
    let mut alive = Vec::new();
    for (bug, test) in CAUGHT_BY {
        if !holds(test, None)? {
            return Err(format!("{test} fails without any bug; see `cargo test -p cauldron-mesh {test}`"));
        }
        let caught = !holds(test, Some(bug))?;
        println!("{bug:<16} {} by {test}", if caught { "caught" } else { "NOT CAUGHT" });
        if !caught {
            alive.push(bug);
        }
    }
    println!("{} of {} caught", CAUGHT_BY.len() - alive.len(), CAUGHT_BY.len());
    if !model_finds()? {
        alive.push("escrow");
    }
    Ok(if alive.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the model of escrow finds its bugs; the test says which.
fn model_finds() -> Result<bool, String> {
    let mut command = cargo();
    command.args(["test", "--package", "cauldron-crdt", "--features", "planted", "--test", "escrow_model", "--"]);
    command.args(["--nocapture", "planted"]);
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    Ok(output.status.success() && text.contains("2 passed"))
}

fn holds(test: &str, bug: Option<&str>) -> Result<bool, String> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", "cauldron-mesh", "--features", "planted", "--lib", "--", test]);
    command.env_remove("CAULDRON_PLANTED");
    if let Some(bug) = bug {
        // The test waits for what must happen and here does not.
        command.env("CAULDRON_PLANTED", bug).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A renamed test would run nothing, and nothing always holds.
    if bug.is_none() && !text.contains("1 passed") {
        println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        return Ok(false);
    }
    Ok(output.status.success())
}
