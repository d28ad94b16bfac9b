//! A stop is seen everywhere before it is called closed, the council lifts it, and autonomy raises a level and ends by itself.

use cauldron_tests::{Mesh, eventually};
use serde_json::Value;

fn id(answer: &Value) -> String {
    answer["id"].as_str().expect("an id").to_owned()
}

/// The policies of this repository, but that a block needs nobody where the agent is at L3.
fn trusting(mesh: &Mesh) -> String {
    mesh.policies("trusting", |name, text| {
        if name != "security_address_block.rego" {
            return text;
        }
        let asks = "\tinput.proposal.operation == \"security.address.block\"\n}";
        assert!(text.contains(asks), "the rule that asks people has another condition");
        let unless = format!("{}\tnot input.agent.level == \"L3\"\n}}", asks.trim_end_matches('}'));
        text.replace(asks, &unless)
            + "\nallow contains {\"rule\": \"earned\", \"why\": \"the council granted L3\"} if input.agent.level == \"L3\"\n"
    })
}

#[test]
fn a_kill_is_closed_when_everybody_says_so_and_partial_until_a_time_when_not_and_the_council_lifts_it() {
    let mut mesh = Mesh::found();
    let class = "security.address.block/blocklist";
    let first = mesh.lyon.propose("198.51.100.7", 3_600).expect("taken");
    mesh.hq.until_state(&first, "PENDING_APPROVAL");
    let kill = ["kill", "--class", class, "--reason", "it blocks customers", "--yes"];
    let told = mesh.hq.run(&[&kill[..], &["--wait", "30s"]].concat()).ok().json();
    let restriction = &told["restriction"];
    assert_eq!(
        (restriction["state"].as_str(), restriction["enforced_by"].as_u64()),
        (Some("CLOSED"), Some(3)),
        "{told}"
    );
    mesh.lyon.until_state(&first, "DENIED");
    let closed = id(&told);

    // With a node down nobody calls it closed: its lease says until when it may go on.
    mesh.porto.stop();
    let refused = mesh.hq.run(&["kill", "--site", "porto", "--reason", "fire", "--yes", "--wait", "2s"]);
    refused.refused_with(1);
    let all = mesh.hq.items("/v1/restrictions");
    let partial = all.iter().find(|r| r["kind"] == "kill-site").expect("recorded").clone();
    assert_eq!(partial["state"], "PARTIAL", "{partial}");
    assert_eq!((partial["enforced_by"].as_u64(), partial["of"].as_u64()), (Some(1), Some(2)), "{partial}");
    let latest = partial["latest_by"].as_str().expect("a time").to_owned();
    assert!(latest.as_str() > partial["issued"].as_str().expect("a time"), "{partial}");
    assert_eq!(partial["sites"][0]["state"], "PARTIAL");
    let shown = mesh.hq.get(&format!("/v1/restrictions/{}", &id(&partial)[..12]));
    assert_eq!(shown["latest_by"].as_str(), Some(latest.as_str()));
    mesh.porto.start();
    mesh.porto.until_up();
    let path = format!("/v1/restrictions/{}", id(&partial));
    eventually("porto says so", || mesh.hq.get(&path)["state"] == "CLOSED");

    // A veto of a lineage is a deny: nothing drafts its end.
    let second = mesh.lyon.propose("198.51.100.8", 3_600).expect("taken");
    mesh.lyon.until_state(&second, "DENIED");
    eventually("hq holds it", || !mesh.hq.state(&second).is_empty());
    let veto = mesh.hq.run(&["veto", &second, "--reason", "never"]).ok().json();
    let lift = |ids: &[&str]| {
        let args = [&["lift"], ids, &["--reason", "looked at", "--out", "lift.entry"]].concat();
        mesh.hq.run(&args)
    };
    lift(&[&id(&veto)]).refused_with(2);
    lift(&["0123456789abcdef"]).refused_with(5);
    lift(&[&closed]).ok();
    mesh.hq.run(&["authority", "submit", "lift.entry"]).refused_with(5);
    mesh.ratify("lift.entry");
    eventually("lyon goes by it", || {
        mesh.lyon.items("/v1/restrictions").iter().any(|r| r["id"] == closed.as_str() && !r["lifted"].is_null())
    });
    assert_eq!(mesh.lyon.state(&first), "DENIED", "what it stopped stays stopped");
    let third = mesh.lyon.propose("198.51.100.9", 3_600).expect("taken");
    mesh.hq.until_state(&third, "PENDING_APPROVAL");
    mesh.approve(&third).ok();
    mesh.lyon.until_state(&third, "DONE");
    assert_eq!(mesh.hq.broken(), Vec::<Value>::new());
}

#[test]
fn the_council_stops_a_feature_and_autonomy_raises_a_level_until_it_expires() {
    let mesh = Mesh::found_with(cauldron_tests::Plan { without_porto: true, ..Default::default() });
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    let folder = trusting(&mesh);
    mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &council, "--yes"]).ok();
    let active = |node: &cauldron_tests::Node| node.get("/v1/self")["policy"] == "2026.11.2-trusting";
    eventually("the policy is active", || active(&mesh.hq) && active(&mesh.lyon));
    let first = mesh.lyon.propose("198.51.100.7", 3_600).expect("taken");
    mesh.hq.until_state(&first, "PENDING_APPROVAL");
    let build = mesh.hq.get(&format!("/v1/proposals/{first}"))["proposal"]["agent_build"].clone();
    let build = build.as_str().expect("a digest").to_owned();

    let class = ["--class", "security.address.block/blocklist", "--site", "lyon", "--reason", "a month of shadowing"];
    let grant = ["autonomy", "grant", "--build", &build, "--level", "L3", "--for", "25s", "--out", "grant.entry"];
    mesh.hq.run(&[&grant[..], &class].concat()).ok();
    mesh.ratify("grant.entry");
    eventually("lyon holds it", || mesh.lyon.items("/v1/autonomy").len() == 1);
    let second = mesh.lyon.propose("198.51.100.8", 3_600).expect("taken");
    mesh.lyon.until_state(&second, "DONE");
    assert!(mesh.hq.facts(&second, "vote").is_empty(), "nobody was asked");
    eventually("it ends by itself", || mesh.lyon.items("/v1/autonomy")[0]["expired"] == true);
    let third = mesh.lyon.propose("198.51.100.9", 3_600).expect("taken");
    mesh.hq.until_state(&third, "PENDING_APPROVAL");

    let stop = ["kill", "--feature", "connector/blocklist", "--reason", "wrong customers", "--out", "stop.order"];
    mesh.hq.run(&stop).ok();
    mesh.hq.run(&["authority", "submit", "stop.order"]).refused_with(5);
    mesh.ratify("stop.order");
    mesh.lyon.until_state(&third, "DENIED");
    let told = &mesh.lyon.items("/v1/restrictions")[0];
    assert_eq!((told["kind"].as_str(), told["by"].as_str()), (Some("stop-feature"), Some("the council")), "{told}");
    mesh.hq.run(&["kill", "--feature", "everything", "--reason", "x", "--yes"]).refused_with(2);
}
