//! The coordinator is gone: the site goes on, says what waits, and nothing is lost or done twice.

use cauldron_tests::{Mesh, eventually};

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
    eventually("lyon sees that hq is gone", || mesh.lyon.items("/v1/peers").iter().any(|p| p["state"] == "down"));
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
