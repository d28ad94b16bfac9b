//! What a log can do to the agent that follows it.

use std::collections::BTreeSet;

use cauldron_tests::{Mesh, Plan, eventually, skipped};

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

/// A stamp without a year, as rsyslog writes it by default.
fn stamp(days_ago: i64) -> String {
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days_ago);
    at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%b %e %H:%M:%S").to_string()
}

#[test]
fn the_year_of_a_log_without_years_survives_a_restart() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let attack = |address: &str| {
        let line =
            |n: u8| format!("{} lyon sshd[{n}]: Failed password for root from {address} port 4{n} ssh2\n", stamp(0));
        (0..6).map(line).collect::<String>()
    };
    let says = |days: i64| format!("{} lyon sshd[1]: Server listening on 0.0.0.0 port 22.\n", stamp(days));
    mesh.log_lines(says(340) + &says(170) + &attack("203.0.113.1"));
    eventually("the first is proposed", || proposed(&mesh) == ["203.0.113.1"]);
    mesh.lyon.restart();
    mesh.log_lines(attack("203.0.113.2"));
    eventually("the second is proposed", || proposed(&mesh) == ["203.0.113.1", "203.0.113.2"]);
    // A first line in the new year, before the test was over, is still the same day.
    let day =
        |hours: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).strftime("%F").to_string();
    for proposal in mesh.lyon.items("/v1/proposals") {
        let id = proposal["id"].as_str().expect("an id").to_owned();
        let shown = mesh.lyon.get(&format!("/v1/proposals/{id}")).to_string();
        assert!([0, 1].iter().any(|hours| shown.contains(&format!("first {}T", day(*hours)))), "{shown}");
    }
}

#[test]
fn what_had_to_wait_is_not_proposed_after_its_source_has_logged_in() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    // As many as one agent may have open, and one more.
    for n in 1..=20 {
        mesh.log_lines(Mesh::attack(&format!("203.0.113.{n}")));
    }
    eventually("twenty are open", || proposed(&mesh).len() == 20);
    mesh.log_lines(Mesh::attack("198.51.100.77"));
    eventually("it says that one waits", || mesh.lyon.logged("not recorded yet; trying again") == 1);
    mesh.log_lines("Nov 10 06:56:00 lyon sshd[9]: Accepted password for ana from 198.51.100.77 port 22 ssh2\n");
    eventually("it lets go of it", || mesh.lyon.logged("not proposed any more") == 1);
    mesh.log_lines(Mesh::attack("198.51.100.78"));
    let open = mesh.lyon.items("/v1/proposals");
    let id = open[0]["id"].as_str().expect("an id").to_owned();
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    mesh.deny(&id).ok();
    eventually("there was room for another", || proposed(&mesh).last().is_some_and(|last| last == "198.51.100.78"));
    assert_eq!(proposed(&mesh).len(), 21);
    assert!(!proposed(&mesh).contains(&"198.51.100.77".to_owned()));
}

#[test]
fn this_machines_own_addresses_are_never_proposed_unless_others_are_configured() {
    let interfaces = if_addrs::get_if_addrs().expect("interfaces can be listed");
    let reachable =
        interfaces.into_iter().filter(|i| !i.is_loopback() && !i.is_link_local()).map(|i| i.ip().to_string());
    let own: BTreeSet<String> = reachable.collect();
    let Some(first) = own.first() else {
        return skipped("own addresses are spared", "needs an address other than loopback");
    };
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    own.iter().for_each(|address| mesh.log_lines(Mesh::attack(address)));
    mesh.log_lines(Mesh::attack("203.0.113.1"));
    eventually("the outsider behind them is proposed", || !proposed(&mesh).is_empty());
    assert_eq!(proposed(&mesh), ["203.0.113.1"]);

    mesh.lyon.stop();
    let config = std::fs::read_to_string(mesh.lyon.config()).expect("readable");
    let changed = config.replace("[security.sshd]\n", "[security.sshd]\nown_addresses = [\"198.51.100.1\"]\n");
    assert_ne!(changed, config);
    std::fs::write(mesh.lyon.config(), changed).expect("written");
    mesh.lyon.start();
    mesh.lyon.until_up();
    mesh.log_lines(Mesh::attack(first));
    eventually("what is not configured is not spared", || proposed(&mesh).contains(first));
}
