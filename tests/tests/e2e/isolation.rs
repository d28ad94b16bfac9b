//! A site that is cut off goes on as far as the council granted, and no further; then only broken glass is left, once.

use cauldron_tests::{Mesh, Node, Plan, eventually};

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
