//! A backup is put back.

use std::path::Path;
use std::time::Duration;

use cauldron_tests::{Mesh, Plan, eventually, wait_until};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

#[test]
fn a_restored_node_notices_gets_a_new_life_and_repeats_nothing() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let early = mesh.lyon.propose("198.51.100.1", 600).expect("recorded");
    mesh.hq.until_state(&early, "PENDING_APPROVAL");
    mesh.lyon.stop();
    let backup = mesh.folder().join("backup");
    copy(&mesh.lyon.dir(), &backup);
    mesh.lyon.start();
    mesh.lyon.until_up();

    // What the backup knows nothing of: an effect under a permit, and another proposal.
    mesh.approve(&early).ok();
    mesh.lyon.until_state(&early, "DONE");
    let late = mesh.lyon.propose("198.51.100.2", 600).expect("recorded");
    mesh.hq.until_state(&late, "PENDING_APPROVAL");
    mesh.until_converged();
    mesh.lyon.stop();
    // A person has taken the block back by hand; a repeated effect would show.
    std::fs::write(mesh.blocklist(), "").expect("written");
    std::fs::remove_file(mesh.folder().join("blocklist.journal")).expect("there");

    std::fs::remove_dir_all(mesh.lyon.dir()).expect("there");
    copy(&backup, &mesh.lyon.dir());
    mesh.lyon.start();
    wait_until("lyon begins a new life", Duration::from_secs(60), || {
        let own = mesh.lyon.get("/v1/self");
        if own["incarnation"] == 1 && own["state"] == "active" { Ok(()) } else { Err(own.to_string()) }
    });
    assert!(mesh.lyon.logged("state=\"read_only\"") >= 1, "it noticed: {}", mesh.lyon.log());

    assert_eq!(mesh.lyon.state(&early), "DONE", "its own past came back from hq");
    eventually("the late proposal came back too", || !mesh.lyon.state(&late).is_empty());
    let fresh = mesh.lyon.propose("198.51.100.3", 600).expect("the new life records");
    mesh.hq.until_state(&fresh, "PENDING_APPROVAL");
    mesh.approve(&fresh).ok();
    mesh.lyon.until_state(&fresh, "DONE");
    mesh.until_converged();
    assert_eq!(mesh.lyon.facts(&early, "started").len(), 1);
    assert_eq!((mesh.blocked("198.51.100.1"), mesh.blocked("198.51.100.3"), mesh.carried_out()), (0, 1, 1));
}
