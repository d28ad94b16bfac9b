//! Power cuts at random moments.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use cauldron_tests::{Mesh, cauldron};

const ROUNDS: u64 = 10;
/// `CAULDRON_SEED` names another one; threads and disks are not seeded, so a run is not repeated exactly.
const SEED: u64 = 0x5eed_0003;

/// Marsaglia's xorshift64 (2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn after_power_cuts_at_random_moments_everything_acknowledged_is_there_and_nothing_happened_twice() {
    let mut mesh = Mesh::found();
    let seed = std::env::var("CAULDRON_SEED").ok().and_then(|seed| seed.parse().ok()).filter(|seed| *seed != 0);
    let mut chance = Chance(seed.unwrap_or(SEED));
    eprintln!("seed {}", chance.0);
    let (mut recorded, mut approved) = (Vec::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        recorded.extend(mesh.lyon.propose(&format!("198.51.100.{}", 10 + round), 600));
        // The vote is on its way, or the permit, or the effect, when the next power cut comes.
        for id in recorded.iter().filter(|id| !approved.contains(*id)).cloned().collect::<Vec<_>>() {
            if mesh.hq.state(&id) == "PENDING_APPROVAL" && mesh.approve(&id).code == Some(0) {
                approved.insert(id);
            }
        }
        sleep(Duration::from_millis(chance.below(400)));
        let victim = match chance.below(3) {
            0 => &mut mesh.hq,
            1 => &mut mesh.lyon,
            _ => &mut mesh.porto,
        };
        victim.kill9();
        sleep(Duration::from_millis(chance.below(300)));
        victim.start();
        if chance.below(2) == 0 {
            victim.until_up();
        }
    }
    mesh.until_up();
    assert!(recorded.len() >= 3, "the storm left room for work: {recorded:?}");
    for id in &recorded {
        mesh.hq.until_state(id, if approved.contains(id) { "DONE" } else { "PENDING_APPROVAL" });
    }
    for id in recorded.iter().filter(|id| !approved.contains(*id)) {
        mesh.approve(id).ok();
    }
    for id in &recorded {
        mesh.hq.until_state(id, "DONE");
        mesh.lyon.until_state(id, "DONE");
    }
    mesh.until_converged();
    for id in &recorded {
        assert_eq!(mesh.lyon.facts(id, "started").len(), 1, "{id}");
        let target = mesh.lyon.get(&format!("/v1/proposals/{id}"))["summary"]["target"].clone();
        let address = target.as_str().and_then(|t| t.rsplit('/').next()).unwrap_or_default();
        assert_eq!(mesh.blocked(address), 1, "{address}");
    }
    assert_eq!(mesh.carried_out(), recorded.len());
    for node in [&mut mesh.hq, &mut mesh.lyon, &mut mesh.porto] {
        node.stop();
        let dir = node.dir().display().to_string();
        cauldron(std::path::Path::new("/"), &["store", "verify", "--node", &dir]).ok();
    }
}
