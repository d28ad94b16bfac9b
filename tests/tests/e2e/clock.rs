//! A wall clock that the node's own past rules out, and the operator who says that it is right.

use cauldron_tests::{Mesh, Node, eventually};

fn confidence(node: &Node) -> String {
    node.get("/v1/self")["wall_clock"]["confidence"].as_str().unwrap_or("?").to_owned()
}

fn restart_with(node: &mut Node, fault: Option<&str>) {
    node.set_env("CAULDRON_FAULT", fault);
    node.restart();
    node.until_up();
}

#[test]
fn an_operator_resets_a_clock_with_a_coordinator_or_alone_in_the_dark_and_never_against_one_that_is_heard() {
    let mut mesh = Mesh::found();
    let known = mesh.lyon.run(&["clock", "reset", "--yes"]);
    assert!(known.code == Some(5) && known.err.contains("nothing to reset"), "{known:?}");

    restart_with(&mut mesh.lyon, Some("wall:+10m"));
    assert_eq!(confidence(&mesh.lyon), "unknown");
    eventually("hq has said the time, and its word stands against the operator's", || {
        let refused = mesh.lyon.run(&["clock", "reset", "--yes"]);
        assert_eq!(refused.code, Some(5), "{refused:?}");
        refused.err.contains("s ahead; set the machine's clock")
    });
    assert_eq!(confidence(&mesh.lyon), "unknown");

    // Nobody is there, the lease is two hours old, and the box was off for a day.
    mesh.hq.kill9();
    mesh.porto.stop();
    restart_with(&mut mesh.lyon, Some("clock:+2h,wall:+1d"));
    assert_eq!(mesh.lyon.get("/v1/self")["state"], "isolated");
    assert_eq!(confidence(&mesh.lyon), "unknown");
    mesh.lyon.run(&["clock", "reset", "--yes"]).ok();
    assert_eq!(confidence(&mesh.lyon), "local");
    assert_eq!(mesh.lyon.logged("the operator reset the clock"), 1);
    restart_with(&mut mesh.lyon, Some("clock:+2h,wall:+1d"));
    assert_eq!(confidence(&mesh.lyon), "local", "the mark is kept");

    // It was the operator's mistake. With hq alone to vouch, one of two that it takes, the operator takes it back.
    mesh.hq.start();
    restart_with(&mut mesh.lyon, None);
    assert_eq!(confidence(&mesh.lyon), "unknown", "a day behind its mark");
    eventually("hq and the operator are enough", || mesh.lyon.run(&["clock", "reset", "--yes"]).code == Some(0));
    assert_eq!(confidence(&mesh.lyon), "local");
    eventually("lyon and hq are linked again", || mesh.lyon.get("/v1/self")["state"] == "active");
}
