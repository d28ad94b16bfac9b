//! A site that is cut off goes on as far as the council granted, and no further; then only broken glass is left, once.

use cauldron_tests::{Mesh, Node, Plan, cauldron, eventually};

use crate::people::enrol;

/// What lyon says of one class of action.
fn class(node: &Node, class: &str) -> serde_json::Value {
    let own = node.get("/v1/self");
    let classes = own["isolation"]["classes"].as_array().cloned().unwrap_or_default();
    classes.into_iter().find(|c| c["class"] == class).unwrap_or_else(|| panic!("{class} is missing in {own}"))
}

/// Lyon boots nothing, it sleeps: its lease is that much older.
fn sleeps(mesh: &mut Mesh, how_long: &str) {
    mesh.lyon.stop();
    mesh.lyon.set_env("CAULDRON_FAULT", Some(&format!("clock:+{how_long}")));
    mesh.lyon.start();
    eventually("lyon is isolated", || mesh.lyon.get("/v1/self")["state"] == "isolated");
}

#[test]
fn a_site_goes_on_under_its_grant_then_by_broken_glass_alone_and_all_of_it_is_seen() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let lyon = Mesh::site_id("lyon");
    let in_folder = |name: &str| mesh.folder().join(name).display().to_string();
    let (grant, glass, tokens) = (in_folder("lyon.entry"), in_folder("glass.entry"), in_folder("envelopes"));
    let ana = mesh.hq.dir().join("people/ana.key").display().to_string();

    let asked = |r1: &str| {
        let args = ["isolation", "grant", "lyon", "--acting", &lyon, "--r1", r1, "--group", "security-duty", "--out"];
        mesh.hq.run(&[&args[..], &[&grant]].concat())
    };
    assert!(asked("8d").refused_with(2).contains("at most 168 h"));
    asked("3h").ok();
    mesh.ratify(&grant);
    let issued = ["break-glass", "issue", &lyon, "--count", "2", "--tokens", &tokens, "--out", &glass];
    mesh.hq.run(&issued).ok();
    assert!(mesh.hq.run(&issued).refused_with(2).contains("not empty"), "no token is overwritten");
    mesh.ratify(&glass);
    let head = mesh.hq.get("/v1/authority")["head"].clone();
    eventually("lyon holds both", || mesh.lyon.get("/v1/authority")["head"] == head);
    assert_eq!(class(&mesh.lyon, "R1")["under"], "lease");

    // Two hours later, and nobody has heard of hq since.
    mesh.hq.stop();
    sleeps(&mut mesh, "2h");
    assert_eq!(
        (&class(&mesh.lyon, "R1")["under"], &class(&mesh.lyon, "R2")["under"]),
        (&"grant".into(), &"stopped".into())
    );
    let sites = mesh.lyon.items("/v1/sites");
    assert!(sites.iter().any(|s| s["site"] == "lyon" && s["isolation"]["state"] == "isolated"), "{sites:?}");
    let first = mesh.lyon.propose("203.0.113.31", 36_000).expect("recorded");
    mesh.lyon.until_state(&first, "PENDING_APPROVAL");
    let why = mesh.lyon.run(&["why", &first]).ok().out;
    assert!(why.contains("goes on under its grant"), "{why}");
    mesh.lyon.run(&["approvals", "approve", &first, "--yes", "--key", &ana]).ok();
    mesh.lyon.until_state(&first, "DONE");

    // The horizon passes by the lease's age alone.
    sleeps(&mut mesh, "4h");
    assert!(class(&mesh.lyon, "R1")["says"].as_str().is_some_and(|s| s.contains("ended with a lease 10800 s old")));
    let second = mesh.lyon.propose("203.0.113.32", 36_000).expect("recorded");
    let third = mesh.lyon.propose("203.0.113.33", 36_000);
    eventually("why says so", || mesh.lyon.run(&["why", &second]).ok().out.contains("isolation grant ended"));
    assert_eq!(mesh.lyon.state(&second), "PROPOSED");

    let open = |token: &str, id: &str| {
        let token = format!("{tokens}/{token}");
        mesh.lyon.run(&[
            "break-glass",
            "use",
            "--token",
            &token,
            "--proposal",
            id,
            "--reason",
            "nobody answers",
            "--yes",
        ])
    };
    open("token-1", &second).ok();
    mesh.lyon.until_state(&second, "DONE");
    assert_eq!((mesh.blocked("203.0.113.32"), mesh.carried_out()), (1, 2));
    assert_eq!(mesh.lyon.logged("somebody broke the glass"), 1, "loud");
    if let Some(third) = &third {
        assert!(open("token-1", third).refused_with(5).contains("was used for"), "one token, one use");
        assert_eq!(mesh.lyon.state(third), "PROPOSED");
    }
    let shown = mesh.lyon.get(&format!("/v1/proposals/{second}"));
    assert_eq!(shown["summary"]["break_glass"], "needs review", "{shown}");
    assert_eq!(mesh.lyon.get("/v1/self")["break_glass"], 1);

    // hq is back: it sees who decided and what was broken, and its people look at it.
    mesh.hq.set_env("CAULDRON_FAULT", Some("clock:+4h"));
    mesh.hq.start();
    mesh.until_up();
    eventually("hq hears of it", || mesh.hq.get("/v1/self")["break_glass"] == 1);
    mesh.hq.until_state(&first, "DONE");
    let used = mesh.hq.items("/v1/break-glass")[0]["id"].as_str().expect("an id").to_owned();
    let told = mesh.hq.run(&["audit", "show", &second]).ok().out;
    assert!(told.contains("nobody answers"), "{told}");
    mesh.hq.run(&["break-glass", "review", &used, "--note", "the rota had a gap", "--yes"]).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        eventually("nobody has to look any more", || node.get("/v1/self")["break_glass"] == 0);
    }
    mesh.until_converged();
}

#[test]
fn while_isolated_two_of_the_sites_people_lift_what_one_of_them_stopped_and_no_longer() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let (bo, cy) = (enrol(&mesh, "bo", &["security-duty"]), enrol(&mesh, "cy", &["hr"]));
    let (lyon, ana) = (Mesh::site_id("lyon"), mesh.hq.dir().join("people/ana.key").display().to_string());
    let entry = mesh.folder().join("lyon.entry").display().to_string();
    let grant = ["isolation", "grant", "lyon", "--acting", &lyon, "--r1", "3h", "--group", "security-duty"];
    mesh.hq.run(&[&grant[..], &["--lift", "2", "--out", &entry]].concat()).ok();
    mesh.ratify(&entry);
    let head = mesh.hq.get("/v1/authority")["head"].clone();
    eventually("lyon holds it", || mesh.lyon.get("/v1/authority")["head"] == head);
    mesh.hq.stop();
    sleeps(&mut mesh, "2h");

    let kill = |key: &str| {
        let args = ["kill", "--class", "security.address.block", "--reason", "it hits customers", "--yes"];
        mesh.lyon.run(&[&args[..], &["--signed", "--key", key]].concat())
    };
    mesh.lyon.run(&["kill", "--all", "--reason", "x", "--yes"]).refused_with(5);
    kill(&cy).refused_with(5);
    let first = mesh.lyon.propose("203.0.113.41", 36_000).expect("recorded");
    mesh.lyon.until_state(&first, "PENDING_APPROVAL");
    let told = kill(&bo).ok().json();
    let id = told["id"].as_str().expect("an id").to_owned();
    assert_eq!(told["restriction"]["by"], "bo", "{told}");
    mesh.lyon.until_state(&first, "DENIED");

    let lift =
        |key: &str| mesh.lyon.run(&["isolation", "lift", &id, "--reason", "a false alarm", "--key", key, "--yes"]);
    assert!(lift(&cy).refused_with(5).contains("security-duty"), "who is not of the grant's groups lifts nothing");
    lift(&bo).ok();
    assert_eq!(mesh.lyon.state(&first), "DENIED", "one of two");
    lift(&ana).ok();
    eventually("it is lifted here", || mesh.lyon.state(&first) == "PENDING_APPROVAL");
    mesh.lyon.run(&["approvals", "approve", &first, "--yes", "--key", &ana]).ok();
    mesh.lyon.until_state(&first, "DONE");
    assert_eq!(mesh.blocked("203.0.113.41"), 1);

    // With a fresh lease it counts again, until the council lifts it.
    mesh.hq.set_env("CAULDRON_FAULT", Some("clock:+2h"));
    mesh.hq.start();
    mesh.until_up();
    let second = mesh.lyon.propose("203.0.113.42", 36_000).expect("recorded");
    mesh.lyon.until_state(&second, "DENIED");
    mesh.hq.run(&["lift", &id, "--reason", "looked at", "--out", "lift.entry"]).ok();
    mesh.ratify("lift.entry");
    let lifted = |r: &serde_json::Value| r["id"] == id.as_str() && !r["lifted"].is_null();
    eventually("lyon goes by it", || mesh.lyon.items("/v1/restrictions").iter().any(lifted));
    let third = mesh.lyon.propose("203.0.113.43", 36_000).expect("recorded");
    mesh.lyon.until_state(&third, "PENDING_APPROVAL");
}

/// The policies of this repository, but that a block is of class R2 and takes one of `blocks`.
fn activate_r2(mesh: &Mesh) {
    let folder = mesh.policies("r2", |name, text| {
        if name != "security_address_block.rego" {
            return text;
        }
        let why = "\"why\": \"blocking an address needs";
        assert!(text.contains(why), "the rules say who approves");
        let taking = text.replace(why, &format!("\"reserve\": [{{\"budget\": \"blocks\", \"amount\": 1}}],\n\t{why}"));
        taking + "\nclassify contains {\"rule\": \"wide\", \"why\": \"an office may share it\", \"class\": \"R2\"} if true\n"
    });
    mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &mesh.council_key(), "--yes"]).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        eventually("the policy is active", || node.get("/v1/self")["policy"] == "2026.11.2-r2");
    }
}

/// Leases of class R2 last twenty seconds: asked for every ten, none is lost on the way.
fn short_leases(mesh: &Mesh) {
    let dir = mesh.hq.dir().display().to_string();
    let printed = cauldron(mesh.folder(), &["charter", "amend", "--print", "--node", &dir]).ok().out;
    assert!(printed.contains("r2 = 600000"), "{printed}");
    let file = mesh.folder().join("charter.toml");
    std::fs::write(&file, printed.replace("r2 = 600000", "r2 = 20000")).expect("written");
    mesh.hq.run(&["charter", "amend", &file.display().to_string(), "--out", "amend.entry"]).ok();
    mesh.ratify("amend.entry");
}

#[test]
fn past_its_lease_a_site_does_r2_with_two_of_its_own_people_and_rights_that_it_holds() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let (bo, cy) = (enrol(&mesh, "bo", &["security-duty"]), enrol(&mesh, "cy", &["hr"]));
    let (lyon, ana) = (Mesh::site_id("lyon"), mesh.hq.dir().join("people/ana.key").display().to_string());
    activate_r2(&mesh);
    mesh.hq.run(&["budgets", "mint", "blocks", "5", "--every", "30days"]).ok();
    let held = |node: &Node| node.items("/v1/budgets").first().and_then(|b| b["held"].as_u64());
    eventually("hq holds them", || held(&mesh.hq) == Some(5));
    mesh.hq.run(&["budgets", "grant", "blocks", "1", "--to", &lyon]).ok();
    short_leases(&mesh);
    let entry = mesh.folder().join("lyon.entry").display().to_string();
    let grant = ["isolation", "grant", "lyon", "--acting", &lyon, "--r2", "24h", "--group", "security-duty"];
    mesh.hq.run(&[&grant[..], &["--escrow", "blocks", "--out", &entry]].concat()).ok();
    mesh.ratify(&entry);
    mesh.until_converged();
    assert_eq!(class(&mesh.lyon, "R2")["under"], "lease");

    mesh.hq.stop();
    eventually("lyon goes on under its grant", || class(&mesh.lyon, "R2")["under"] == "grant");
    let first = mesh.lyon.propose("203.0.113.51", 36_000).expect("recorded");
    mesh.lyon.until_state(&first, "PENDING_APPROVAL");
    let approve = |id: &str, key: &str| mesh.lyon.run(&["approvals", "approve", id, "--yes", "--key", key]);
    approve(&first, &ana).ok();
    approve(&first, &cy).ok();
    eventually("one of the site's own is not enough", || {
        mesh.lyon.run(&["why", &first]).ok().out.contains("2 of the site's own people (security-duty); 1 approved")
    });
    assert_eq!((mesh.blocked("203.0.113.51"), mesh.lyon.facts(&first, "started").len()), (0, 0));
    approve(&first, &bo).ok();
    mesh.lyon.until_state(&first, "DONE");
    assert_eq!(mesh.blocked("203.0.113.51"), 1);
    let sums = |name: &str| mesh.lyon.items("/v1/budgets")[0][name].as_u64();
    eventually("it is spent", || sums("spent") == Some(1));

    // What lyon held is used up, and nobody is there who could grant more.
    let second = mesh.lyon.propose("203.0.113.52", 36_000).expect("recorded");
    mesh.lyon.until_state(&second, "PENDING_APPROVAL");
    approve(&second, &ana).ok();
    approve(&second, &bo).ok();
    eventually("it waits for rights", || {
        mesh.lyon.run(&["why", &second]).ok().out.contains("it takes 1 of blocks, and 0 are free here")
    });
    assert_eq!(mesh.blocked("203.0.113.52"), 0);

    // The link is back: the mesh sees who did what, and the books balance.
    mesh.hq.start();
    mesh.until_up();
    mesh.hq.until_state(&first, "DONE");
    let permit = &mesh.hq.facts(&first, "permit")[0];
    assert_eq!(permit["spiffe_id"], lyon.as_str(), "{permit}");
    eventually("hq sees it spent", || mesh.hq.items("/v1/budgets")[0]["spent"].as_u64() >= Some(1));
    mesh.until_converged();
}
