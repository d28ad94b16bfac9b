//! Budgets as operators use them: minted at the sequencer, granted from node to node, reserved, settled, and never exceeded.

use cauldron_tests::{Mesh, Node, eventually};

/// The policies of this repository, by which each block takes one of `blocks`.
fn activate_taking(mesh: &Mesh) {
    let folder = mesh.policies("budget", |name, text| {
        if name != "security_address_block.rego" {
            return text;
        }
        let why = "\"why\": \"blocking an address needs";
        assert!(text.contains(why), "the rules say who approves");
        text.replace(why, &format!("\"reserve\": [{{\"budget\": \"blocks\", \"amount\": 1}}],\n\t{why}"))
    });
    mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &mesh.council_key(), "--yes"]).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        eventually("the policy is active", || node.get("/v1/self")["policy"] == "2026.11.2-budget");
    }
}

const NAMES: [&str; 5] = ["held", "reserved", "spent", "in_flight", "lost"];

/// What a node says of a budget: held, reserved, spent, in flight, lost.
fn sums(node: &Node, budget: &str) -> Option<[u64; 5]> {
    let item = node.items("/v1/budgets").into_iter().find(|item| item["budget"] == budget)?;
    let sums = NAMES.map(|name| item[name].as_u64().expect("a number"));
    assert_eq!(sums.iter().sum::<u64>(), item["limit"], "they add up: {item}");
    Some(sums)
}

#[test]
fn budgets_are_minted_granted_reserved_and_settled_and_hold() {
    let mut mesh = Mesh::found();
    mesh.until_converged();
    let (lyon, porto) = (Mesh::site_id("lyon"), Mesh::site_id("porto"));
    mesh.hq.run(&["budgets", "mint", "blocks", "20", "--every", "1day"]).ok();
    mesh.hq.run(&["budgets", "mint", "isolations", "5", "--every", "none", "--holder", &porto]).ok();
    eventually("the entry counts, and hq credits it", || sums(&mesh.lyon, "blocks") == Some([20, 0, 0, 0, 0]));

    // What is wrong is said, and nothing is written.
    let refused_with = |code: i32, node: &Node, args: &[&str], why: &str| {
        let ran = node.run(&[&["budgets"], args].concat());
        let out = ran.refused_with(code);
        assert!(out.contains(why), "{args:?}: {out}");
    };
    let refused = |node: &Node, args: &[&str], why: &str| refused_with(5, node, args, why);
    refused(&mesh.hq, &["mint", "blocks", "20"], "already");
    refused(&mesh.hq, &["mint", "blocks", "20", "--every", "1h"], "last 86400000 ms");
    refused(&mesh.hq, &["mint", "blocks", "20", "--window", "3"], "is over");
    refused(&mesh.hq, &["mint", "fresh", "20"], "how long its windows are");
    refused_with(2, &mesh.hq, &["mint", "No Name", "20", "--every", "none"], "no name of a budget");
    refused(&mesh.lyon, &["mint", "blocks", "20", "--every", "1day"], "ask there");
    refused(&mesh.lyon, &["grant", "blocks", "1", "--to", &porto], "0 are held");
    refused_with(2, &mesh.lyon, &["grant", "blocks", "1", "--to", "nobody"], "no enrolled member");
    refused(&mesh.lyon, &["reserve", "other", "1", "--for", "x"], "nothing was minted");
    refused(&mesh.hq, &["grant", "blocks", "0", "--to", &lyon], "amount of zero");

    mesh.hq.run(&["budgets", "grant", "blocks", "12", "--to", &lyon]).ok();
    eventually("lyon may reserve", || {
        mesh.lyon.run(&["budgets", "reserve", "blocks", "5", "--for", "ticket 1"]).code == Some(0)
    });
    let again = mesh.lyon.run(&["budgets", "reserve", "blocks", "5", "--for", "ticket 1"]).ok().json();
    assert_eq!(again["already"], true, "{again}");
    refused(&mesh.lyon, &["reserve", "blocks", "4", "--for", "ticket 1"], "reserved for before");
    refused(&mesh.lyon, &["reserve", "blocks", "8", "--for", "ticket 2"], "7 are held");
    // What is granted to a node that is away is on its way until it comes back.
    mesh.porto.stop();
    mesh.lyon.run(&["budgets", "grant", "blocks", "3", "--to", &porto]).ok();
    eventually("hq sees it on its way", || sums(&mesh.hq, "blocks") == Some([12, 5, 0, 3, 0]));
    mesh.porto.start();
    mesh.porto.until_up();
    eventually("porto holds three", || {
        mesh.porto.run(&["budgets", "reserve", "blocks", "3", "--for", "ticket 3"]).code == Some(0)
    });
    let reservation = again["id"].as_str().expect("an id").to_owned();
    refused(&mesh.lyon, &["settle", &reservation, "--spent", "6"], "more than the 5 reserved");
    mesh.lyon.run(&["budgets", "settle", &reservation[..12], "--spent", "4"]).ok();
    mesh.lyon.run(&["budgets", "settle", &reservation, "--spent", "4"]).ok();
    refused(&mesh.lyon, &["settle", &reservation, "--spent", "5"], "settled before");
    refused(&mesh.porto, &["settle", &reservation, "--spent", "4"], "no reservation of this life");
    eventually("porto sees it", || sums(&mesh.porto, "blocks") == Some([13, 3, 4, 0, 0]));

    // A restart forgets nothing, and uses nothing before somebody has said that nothing is missing.
    mesh.lyon.kill9();
    mesh.lyon.start();
    mesh.lyon.until_up();
    let held = mesh.lyon.run(&["budgets", "list", "--shares"]).ok().out;
    assert!(held.contains("blocks") && held.contains(&lyon), "{held}");
    assert_eq!(sums(&mesh.lyon, "blocks"), Some([13, 3, 4, 0, 0]));
    eventually("hq vouches for lyon", || {
        mesh.lyon.run(&["budgets", "reserve", "blocks", "1", "--for", "ticket 4"]).code == Some(0)
    });
    eventually("hq sees all of it", || sums(&mesh.hq, "blocks") == Some([12, 4, 4, 0, 0]));
    assert_eq!(sums(&mesh.hq, "isolations"), Some([5, 0, 0, 0, 0]));
}

#[test]
fn a_block_takes_from_a_budget_and_waits_for_rights_that_lack() {
    let mut mesh = Mesh::found();
    mesh.until_converged();
    let (lyon, porto) = (Mesh::site_id("lyon"), Mesh::site_id("porto"));
    activate_taking(&mesh);
    // Of a budget that nobody minted nothing can be taken: the rule is wrong, or the mint is missing.
    let denied = mesh.lyon.propose("198.51.100.1", 600).expect("recorded");
    mesh.hq.until_state(&denied, "DENIED");
    let why = mesh.hq.run(&["why", &denied]).ok().out;
    assert!(why.contains("nothing was ever minted"), "{why}");

    mesh.hq.run(&["budgets", "mint", "blocks", "2", "--every", "30days"]).ok();
    eventually("hq holds them", || sums(&mesh.lyon, "blocks") == Some([2, 0, 0, 0, 0]));
    mesh.hq.run(&["budgets", "grant", "blocks", "1", "--to", &porto]).ok();
    let first = mesh.lyon.propose("198.51.100.2", 600).expect("recorded");
    mesh.hq.until_state(&first, "PENDING_APPROVAL");
    mesh.approve(&first).ok();
    // Nobody granted anything to lyon: its permit brought it.
    mesh.lyon.until_state(&first, "DONE");
    assert_eq!(mesh.blocked("198.51.100.2"), 1);
    for node in [&mesh.hq, &mesh.lyon, &mesh.porto] {
        eventually("it is spent", || sums(node, "blocks") == Some([1, 0, 1, 0, 0]));
    }

    let second = mesh.lyon.propose("198.51.100.3", 600).expect("recorded");
    mesh.hq.until_state(&second, "PENDING_APPROVAL");
    mesh.approve(&second).ok();
    eventually("lyon says what lacks", || {
        let why = mesh.lyon.run(&["why", &second]).out;
        why.contains("it takes 1 of blocks, and 0 are free here") && why.contains(&format!("{porto} holds 1"))
    });
    assert!(mesh.lyon.facts(&second, "started").is_empty());
    assert_eq!(mesh.blocked("198.51.100.3"), 0);

    // What porto holds cannot be had while it is away.
    let stranded = |node: &Node| node.items("/v1/budgets")[0]["stranded"].as_u64();
    assert_eq!(stranded(&mesh.hq), Some(0));
    mesh.porto.stop();
    eventually("hq sees it stranded", || stranded(&mesh.hq) == Some(1));
    mesh.porto.start();
    mesh.porto.until_up();
    eventually("porto hands it over", || {
        mesh.porto.run(&["budgets", "grant", "blocks", "1", "--to", &lyon]).code == Some(0)
    });
    mesh.lyon.until_state(&second, "DONE");
    assert_eq!(mesh.blocked("198.51.100.3"), 1);
    eventually("both are spent", || sums(&mesh.hq, "blocks") == Some([0, 0, 2, 0, 0]));
    assert_eq!(stranded(&mesh.hq), Some(0));
}
