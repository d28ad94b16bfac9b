//! The coordinator is gone: the site goes on, says what waits, and nothing is lost or done twice.

use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Plan, eventually};

const BY_AGENT: &str = "203.0.113.21";
const BY_HAND: &str = "203.0.113.22";

#[test]
fn while_hq_is_dark_lyon_proposes_and_says_what_waits_and_afterwards_all_converges() {
    let mut mesh = Mesh::found();
    let before = mesh.lyon.propose("203.0.113.20", 600).expect("recorded");
    mesh.hq.until_state(&before, "PENDING_APPROVAL");
    mesh.approve(&before).ok();
    mesh.lyon.until_state(&before, "DONE");

    mesh.hq.kill9();
    eventually("lyon sees that hq is gone", || {
        let peers = mesh.lyon.items("/v1/peers");
        let hq = peers.iter().find(|p| p["spiffe_id"].as_str().is_some_and(|id| id.ends_with("/coordinator/hq")));
        hq.is_some_and(|p| p["state"] == "unreachable")
    });
    let by_hand = mesh.lyon.propose(BY_HAND, 600).expect("a site records without hq");
    mesh.log_lines(Mesh::attack(BY_AGENT));
    let mut by_agent = String::new();
    eventually("lyon's agent proposes without hq", || {
        let all = mesh.lyon.items("/v1/proposals?state=PROPOSED");
        let found = all.iter().find(|p| p["target"].as_str().is_some_and(|t| t.ends_with(BY_AGENT)));
        found.map(|p| by_agent = p["id"].as_str().unwrap_or_default().to_owned()).is_some()
    });
    for id in [&by_hand, &by_agent] {
        assert_eq!(mesh.lyon.state(id), "PROPOSED");
        let why = mesh.lyon.get(&format!("/v1/why/{id}"))["sentences"].to_string();
        assert!(why.contains("no coordinator is connected"), "it says what it waits for: {why}");
    }
    assert_eq!(mesh.blocked("203.0.113.20"), 1, "what stands goes on standing");

    mesh.hq.start();
    for id in [&by_hand, &by_agent] {
        mesh.hq.until_state(id, "PENDING_APPROVAL");
        mesh.approve(id).ok();
        mesh.lyon.until_state(id, "DONE");
    }
    mesh.until_converged();
    for id in [&before, &by_hand, &by_agent] {
        assert_eq!(mesh.hq.facts(id, "started").len(), 1);
        assert_eq!(mesh.hq.facts(id, "permit").len(), 1);
    }
    assert_eq!((mesh.blocked(BY_AGENT), mesh.blocked(BY_HAND), mesh.carried_out()), (1, 1, 3));
}

/// What a start may take with every authority unreachable (architecture §7).
const START_MAX: Duration = Duration::from_millis(300);

#[test]
fn a_node_starts_in_the_dark_with_everything_expired_and_says_what_has_run_out() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let fresh = mesh.lyon.get("/v1/self");
    let line = |own: &serde_json::Value, what: &str| {
        let lines = own["runway"].as_array().cloned().unwrap_or_default();
        let line = lines.into_iter().find(|l| l["what"].as_str().is_some_and(|w| w.starts_with(what)));
        line.unwrap_or_else(|| panic!("{what} is missing in {}", own["runway"]))
    };
    let whats = ["svid", "root certificate of acme.example", "lease for R1", "lease for R3", "policy", "enrolment"];
    for what in whats {
        assert!(line(&fresh, what)["stops"].as_str().is_some_and(|s| s.len() > 10), "{what}");
    }
    for what in ["svid", "root certificate", "lease for R3"] {
        assert!(line(&fresh, what)["in_ms"].as_u64() > Some(1_000), "{what}: {}", line(&fresh, what));
    }
    assert!(line(&fresh, "svid")["renews"].is_string() && line(&fresh, "enrolment")["expires"].is_null());
    let _ = mesh.token("annexe");
    assert!(line(&mesh.hq.get("/v1/self"), "join token of")["in_ms"].as_u64() > Some(1_000));
    let shown = mesh.lyon.run(&["status"]).ok().out;
    assert!(shown.contains("lease for R3"), "status carries it: {shown}");

    mesh.hq.kill9();
    mesh.lyon.set_env("CAULDRON_FAULT", Some("clock:+4000d"));
    // The best of some: tests run beside each other, and the bound is the node's.
    let mut best = Duration::MAX;
    for _ in 0..8 {
        mesh.lyon.stop();
        let began = Instant::now();
        mesh.lyon.start();
        while mesh.lyon.try_get("/v1/self").is_none_or(|answer| answer.status != 200) {
            assert!(began.elapsed() < Duration::from_secs(20), "it answers at all");
            std::thread::sleep(Duration::from_millis(2));
        }
        best = best.min(began.elapsed());
    }
    assert!(best <= START_MAX, "{best:?}");
    let own = mesh.lyon.get("/v1/self");
    for what in ["svid", "root certificate", "lease for R1", "lease for R3"] {
        assert_eq!(line(&own, what)["in_ms"], 0, "{what}: {}", line(&own, what));
    }
    assert_eq!(own["svid"]["valid"], false);
    assert!(own["svid"]["not_after"].is_string());
}
