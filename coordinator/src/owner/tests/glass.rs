//! Tokens that break the glass.

use super::alone::granted;
use super::*;
use crate::bodies::{BrokenGlass, KIND_BREAK_GLASS, KIND_REVIEW};
use crate::coordinate::{Glass, Limits, break_glass, would_break};
use crate::ledger::State;
use cauldron_identity::authority::Entry;
use cauldron_identity::budget::Life;
use cauldron_identity::isolation::{BreakGlass, token_digest};
use cauldron_identity::{AuthorKey, Confidence};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn token(n: u8) -> AuthorKey {
    AuthorKey::from_seed(&[200 + n; 32])
}

fn tokens(world: &mut World, change: impl FnOnce(&mut BreakGlass)) {
    let holder = Life { author: world.lyon.author_id(), incarnation: 0 };
    let digests = (0..3).map(|n| token_digest(&token(n).public())).collect();
    let mut entry = BreakGlass { site: "lyon".into(), holder, digests, expires_ms: NOW + 90 * DAY_MS };
    change(&mut entry);
    world.entry(&Entry::BreakGlass(entry));
}

fn using(world: &World, token: &AuthorKey, p: &FactId) -> BrokenGlass {
    let lineage = world.ledger.proposal(p).expect("here").body.lineage(*p);
    BrokenGlass::new(token, &world.authority.mesh(), (*p, lineage), "the pump runs dry", world.clock.wall_ms)
}

fn breaks(world: &mut World, token: &AuthorKey, p: &FactId) -> FactId {
    let used = using(world, token, p);
    world.put(3, "site/lyon", KIND_BREAK_GLASS, &used)
}

/// What lyon makes of a use: its permit, or why not.
fn opened(world: &mut World, used: &FactId) -> Result<FactId, String> {
    for _ in 0..20 {
        let me = world.me();
        let glass = world.ledger.broken_glass(used).expect("here").clone();
        let next = break_glass(&glass, &world.bench(&me), &Limits::default());
        match next {
            Glass::Write(act) => drop(world.write_as(3, &[*act])),
            Glass::Permitted(id) => return Ok(id),
            Glass::Refused(why) => return Err(why),
        }
    }
    panic!("it writes the same for ever");
}

#[test]
fn broken_glass_skips_people_alone_and_counts_as_used() {
    for lease in [LeaseAge::Ms(1_000), LeaseAge::Ms(400 * DAY_MS), LeaseAge::Never] {
        let mut world = World::new();
        tokens(&mut world, |_| {});
        world.lease = lease;
        let p = world.propose(proposal("198.51.100.7"));
        let used = breaks(&mut world, &token(0), &p);
        let permit = opened(&mut world, &used).expect("permitted");
        assert_eq!(world.state(&p), State::Permitted);
        executes(&world, &permit);
        world.start(&permit);
        refused(&world, &permit, Code::Used);
        let glass = world.ledger.broken_glass(&used).expect("here").clone();
        assert_eq!(world.ledger.unreviewed(&world.authority).count(), 1, "until somebody looks at it");
        assert!(world.ledger.reviewers(&glass, &world.authority).contains("security-duty"));
        for (person, left) in [("cy", 1), ("ana", 0)] {
            let review = world.review(person, used);
            world.put(3, "site/lyon", KIND_REVIEW, &review);
            assert_eq!(world.ledger.unreviewed(&world.authority).count(), left, "{person}");
        }
        let lineage = world.status(&p).lineage;
        let told: Vec<String> = world.ledger.timeline(&lineage, &world.authority).into_iter().map(|e| e.says).collect();
        assert!(told.iter().any(|s| s.contains("breaks the glass: the pump runs dry")), "{told:?}");
    }
}

#[test]
fn r3_past_the_lease_only_by_broken_glass() {
    let rego = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}]}";
    let mut world = World::with_coordinators(3);
    world.activate(&World::bundle(rego));
    tokens(&mut world, |_| {});
    granted(&mut world, |_| {});
    world.lease = LeaseAge::Ms(DAY_MS);
    let p = world.propose(Proposal { risk: RiskClass::R3, ..proposal("198.51.100.7") });
    let used = breaks(&mut world, &token(0), &p);
    let permit = opened(&mut world, &used).expect("permitted");
    executes(&world, &permit);
    // The same permit without its token is nobody's to give.
    let body = world.ledger.permit(&permit).expect("here").body.clone();
    let bare = world.put(3, "site/lyon", KIND_PERMIT, &Permit { break_glass: None, ..body });
    assert!(world.judge(&bare).code().is_some());
    let mut world = World::with_policy(rego);
    tokens(&mut world, |_| {});
    let p = world.propose(Proposal { risk: RiskClass::R3, ..proposal("198.51.100.7") });
    let used = breaks(&mut world, &token(0), &p);
    assert!(opened(&mut world, &used).expect_err("refused").contains("one coordinator"), "that is no approval");
}

#[test]
fn broken_glass_skips_no_deny_veto_or_kill() {
    type Stop = (&'static str, Code, fn(&mut World, &FactId));
    let stops: [Stop; 4] = [
        ("ana", Code::Denied, |w, p| {
            w.run();
            w.vote("ana", p, Choice::Deny);
        }),
        ("stop", Code::Vetoed, |w, p| {
            w.restrict(2, "site/lyon#restrict", Target::Lineage(*p));
        }),
        ("stop", Code::Killed, |w, _| {
            w.restrict(2, "mesh#restrict", Target::All);
        }),
        ("stop", Code::Killed, |w, _| {
            w.restrict(2, "site/lyon#restrict", Target::Site("lyon".into()));
        }),
    ];
    for (by, code, stop) in stops {
        // It comes before the token is used.
        let mut world = World::new();
        tokens(&mut world, |_| {});
        let p = world.propose(proposal("198.51.100.7"));
        stop(&mut world, &p);
        let used = breaks(&mut world, &token(0), &p);
        let why = opened(&mut world, &used).expect_err("refused");
        assert!(why.contains("skips approvals alone") && why.contains(by), "{why}");
        // And after the permit is written.
        let mut world = World::new();
        tokens(&mut world, |_| {});
        let p = world.propose(proposal("198.51.100.7"));
        let used = breaks(&mut world, &token(0), &p);
        let permit = opened(&mut world, &used).expect("permitted");
        stop(&mut world, &p);
        refused(&world, &permit, code);
    }
    for (word, says) in [("deny", "policy denies"), ("defer", "policy defers")] {
        let rego = format!("package cauldron.guardrail\n{word} contains {{\"rule\":\"no\",\"why\":\"w\"}}");
        let mut world = World::with_policy(&rego);
        tokens(&mut world, |_| {});
        let p = world.propose(proposal("198.51.100.7"));
        let used = breaks(&mut world, &token(0), &p);
        let why = opened(&mut world, &used).expect_err("refused");
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn a_token_is_used_once_whoever_brings_it_first() {
    let mut world = World::new();
    tokens(&mut world, |_| {});
    let (a, b) = (world.propose(proposal("198.51.100.7")), world.propose(proposal("198.51.100.8")));
    // Two nodes of the site used it in a partition.
    let (first, second) = (breaks(&mut world, &token(0), &a), breaks(&mut world, &token(0), &b));
    let permit = opened(&mut world, &first).expect("permitted");
    let why = opened(&mut world, &second).expect_err("refused");
    assert!(why.contains("used for") && why.contains(&a.short()) && why.contains(&permit.short()), "{why}");
    let again = world.ledger.broken_glass(&second).expect("here").clone();
    let me = world.me();
    assert_eq!(would_break(&again, &world.bench(&me), &Limits::default()), Err(why.clone()));
    // Even the permit that an owner's bug would write is void at the same owner.
    let body = world.ledger.permit(&permit).expect("here").body.clone();
    world.clock.wall_ms += 1;
    let other = world.put(3, "site/lyon", KIND_PERMIT, &Permit { issued_ms: world.clock.wall_ms, ..body });
    assert!(refused(&world, &other, Code::Glass).contains("used for"));
    executes(&world, &permit);
    let spare = breaks(&mut world, &token(1), &b);
    let permit = opened(&mut world, &spare).expect("another token is another use");
    executes(&world, &permit);
}

#[test]
fn bad_tokens_are_refused_by_name() {
    let bad = |entry: fn(&mut BreakGlass), change: fn(&mut World, &FactId, &mut BrokenGlass)| {
        let mut world = World::new();
        tokens(&mut world, entry);
        let p = world.propose(proposal("198.51.100.7"));
        let mut used = using(&world, &token(0), &p);
        change(&mut world, &p, &mut used);
        let id = world.put(3, "site/lyon", KIND_BREAK_GLASS, &used);
        opened(&mut world, &id).expect_err("refused")
    };
    let keep: fn(&mut World, &FactId, &mut BrokenGlass) = |_, _, _| {};
    assert!(bad(|_| {}, |w, p, u| *u = using(w, &key(77), p)).contains("issued no such token"), "forged");
    assert!(bad(|b| b.expires_ms = NOW - 1, keep).contains("was good until"), "expired");
    assert!(bad(|b| b.digests.clear(), keep).contains("issued no such token"));
    let porto: fn(&mut BreakGlass) = |b| (b.site, b.holder.author) = ("porto".into(), key(4).author_id());
    assert!(bad(porto, keep).contains("site/porto"), "another site's");
    assert!(bad(|_| {}, |_, _, u| u.reason = "another".into()).contains("another reason"));
    assert!(
        bad(
            |_| {},
            |w, p, u| {
                // What was seen of a use is worth nothing for another proposal.
                let other = w.propose(proposal("198.51.100.9"));
                *u = BrokenGlass { proposal: *p, lineage: *p, ..using(w, &token(0), &other) };
            }
        )
        .contains("signed another proposal"),
        "replayed"
    );
    assert!(bad(|_| {}, |w, _, _| w.clock.confidence = Confidence::Unknown).contains("clock"));
    assert!(bad(|_| {}, |w, _, _| tokens(w, |b| b.digests.clear())).contains("took this token back"));
    assert!(
        bad(
            |_| {},
            |w, _, _| {
                let permit = w.permitted("198.51.100.7");
                w.start(&permit);
            }
        )
        .contains("started")
    );
}

#[test]
fn an_owner_permits_nothing_without_a_token_and_no_node_for_another() {
    let mut world = World::new();
    tokens(&mut world, |_| {});
    let p = world.propose(proposal("198.51.100.7"));
    let used = breaks(&mut world, &token(0), &p);
    let permit = opened(&mut world, &used).expect("permitted");
    let body = world.ledger.permit(&permit).expect("here").body.clone();
    let by_porto = world.put(4, "site/lyon", KIND_PERMIT, &body);
    refused(&world, &by_porto, Code::Signer);
    let invented = Permit { break_glass: Some(FactId::from_bytes([9; 32])), ..body };
    let invented = world.put(3, "site/lyon", KIND_PERMIT, &invented);
    waits(&world, &invented, "use of the token");
}
