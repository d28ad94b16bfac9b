//! What the last judge costs: a real permit with three votes, at its owner.

use std::hint::black_box;
use std::time::Instant;

use cauldron_coordinator::ledger::Ledger;
use cauldron_coordinator::owner::{Bench, Verdict, judge};
use cauldron_coordinator::policy::Bundle;
use cauldron_coordinator::testkit::{World, proposal};
use cauldron_coordinator::vote::Choice;
use cauldron_identity::{AuthorKey, Digest, FactId};

use super::{Latency, latencies, latency};
use crate::{Bound, Figure};

/// The figure.
const PERMIT_US_MAX: f64 = 400.0;
const PEOPLE: [&str; 3] = ["ana", "bo", "dee"];
/// Permits judged, each for the first time.
const JUDGED: usize = 2_000;

/// The owner's whole judgement: who may sign, content and schema, denials, uses, times, the shipped policy evaluated twice on input
/// built anew, the lease, obligations, and three votes whose signatures nobody has looked at before.
pub(super) fn figures(figures: &mut Vec<Figure>) -> Result<(), String> {
    let key = AuthorKey::from_seed(&[7; 32]);
    let signature = key.sign("cauldron/bench/v1", b"three of these");
    let [raw] = latencies([&mut || {
        for _ in PEOPLE {
            _ = black_box(key.public().verify("cauldron/bench/v1", b"three of these", &signature));
        }
    }]);
    for (how, passkeys) in [("keys in files", false), ("passkeys", true)] {
        let (world, permit) = permitted(passkeys)?;
        let judged = cold(&world, &permit)?;
        let figure = |name: &str, value, yardstick, target| Figure {
            name: format!("permit with 3 votes by {how} verified at its owner, {name}"),
            value,
            unit: "µs",
            yardstick,
            target,
        };
        figures.push(figure("p50", judged.p50, None, Some(Bound::AtMost(PERMIT_US_MAX))));
        let yardstick = Some(("3 raw Ed25519 verifications".to_owned(), raw.p50));
        figures.push(figure("p50, beside its signatures", judged.p50, yardstick, None));
        figures.push(figure("p99", judged.p99, None, None));
    }
    Ok(())
}

/// A ledger forgets what it found of signatures with itself: each is made anew outside of the clock.
fn cold(world: &World, permit: &FactId) -> Result<Latency, String> {
    let me = world.me();
    let mut times = Vec::with_capacity(JUDGED);
    for _ in 0..JUDGED {
        let mut ledger = Ledger::new();
        for fact in &world.facts {
            ledger.insert(fact);
        }
        let bench = Bench { ledger: &ledger, ..world.bench(&me) };
        let start = Instant::now();
        let verdict = black_box(judge(permit, &bench));
        times.push(start.elapsed().as_secs_f64() * 1e6);
        if !matches!(verdict, Verdict::Execute(_)) {
            return Err(format!("the owner does not accept the permit: {verdict:?}"));
        }
    }
    Ok(latency(times))
}

/// A mesh under the shipped policy, but that three people on duty have to approve, and a permit that they agreed to.
fn permitted(passkeys: bool) -> Result<(World, FactId), String> {
    let mut files = Bundle::default_bundle().files().clone();
    let data = files.get_mut("security_address_block.json").ok_or("the shipped policy has no data for blocks")?;
    let text = String::from_utf8_lossy(data).into_owned();
    let three = text.replace("\"approvers\": 1", "\"approvers\": 3");
    if three == text {
        return Err("the shipped policy does not name the number of approvers".to_owned());
    }
    *data = three.into_bytes();
    let mut world = World::with_bundle(&Bundle::new(files).map_err(|e| e.to_string())?, 1);
    for name in PEOPLE {
        if passkeys {
            world.enrol_passkey(name, &["security-duty"]);
        } else {
            world.enrol_person(name, &["security-duty"]);
        }
    }
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    for name in PEOPLE {
        if passkeys {
            let credential = cauldron_identity::authority::Credential::Passkey(World::passkey(name).passkey().clone());
            let mut statement = world.statement_on(name, &p, Choice::Approve);
            (statement.credential, statement.nonce) = (credential.id(), Digest::of("bench/nonce", name.as_bytes()));
            let vote = statement.answered(&World::passkey(name).assert(&statement.id()));
            world.put(3, "site/lyon", cauldron_coordinator::bodies::KIND_VOTE, &vote);
        } else {
            world.vote(name, &p, Choice::Approve);
        }
    }
    let permit = world.run().pop().ok_or("no permit was written")?;
    Ok((world, permit))
}
