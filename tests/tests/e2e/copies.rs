//! One identity is one process: a copied data directory, and a node that was killed.

use std::path::Path;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Node, Plan, free_port, wait_until};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

/// The same node from the same files, as on another machine: with a port and a blocklist of its own.
fn copy_of(mesh: &Mesh, original: &Node) -> Node {
    let copied = Node::new(mesh.folder(), "copy");
    copy(&original.dir(), &copied.dir());
    let config = std::fs::read_to_string(copied.config()).expect("readable");
    let (port, mut changed) = (free_port(), String::new());
    for line in config.lines() {
        let line =
            if line.starts_with("listen = ") { format!("listen = \"127.0.0.1:{port}\"") } else { line.to_owned() };
        changed += &format!("{line}\n");
    }
    let (theirs, own) = (mesh.blocklist(), copied.dir().join("blocklist"));
    let changed = changed.replace(&theirs.display().to_string(), &own.display().to_string());
    std::fs::write(copied.config(), changed).expect("written");
    copied
}

const SECOND: &str = "code=\"second_process\"";

#[test]
fn a_copied_directory_beside_its_original_is_refused_and_every_log_says_so() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.lyon.stop();
    let mut copied = copy_of(&mesh, &mesh.lyon);
    mesh.lyon.start();
    mesh.lyon.until_up();
    copied.start();
    wait_until("both ends refuse", Duration::from_secs(30), || {
        let (hq, own) = (mesh.hq.logged(SECOND), copied.logged(SECOND));
        if hq > 0 && own > 0 { Ok(()) } else { Err(format!("hq {hq}, the copy {own}: {}", copied.log())) }
    });
    assert!(mesh.hq.logged("its data directory was copied") > 0, "{}", mesh.hq.log());
    assert!(copied.logged("this data directory was copied and the original runs") > 0, "{}", copied.log());
    assert!(mesh.hq.metric("cauldron_mesh_refused_total{code=\"second_process\"}") > 0);

    let id = mesh.lyon.propose("198.51.100.7", 600).expect("the original records");
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    // The original goes for good: what was its copy is the node.
    mesh.lyon.stop();
    wait_until("the other one is let in", Duration::from_secs(60), || {
        let up = copied.logged("link up");
        if up > 0 { Ok(()) } else { Err(copied.log()) }
    });
    copied.stop();
}

#[test]
fn a_node_that_was_killed_has_its_links_again_within_seconds() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    for round in 0..3 {
        let before = mesh.hq.logged("link up");
        mesh.lyon.kill9();
        mesh.lyon.start();
        let began = Instant::now();
        wait_until("hq has the link again", Duration::from_secs(30), || {
            if mesh.hq.logged("link up") > before { Ok(()) } else { Err(mesh.hq.log()) }
        });
        // The start itself takes its share; without nonce or reset the idle time, 15 s, would pass first.
        assert!(began.elapsed() < Duration::from_secs(10), "round {round}: {:?}\n{}", began.elapsed(), mesh.hq.log());
        mesh.lyon.until_up();
    }
    assert_eq!(mesh.hq.logged(SECOND), 0, "a node that was killed is no copy: {}", mesh.hq.log());
    mesh.until_converged();
}
