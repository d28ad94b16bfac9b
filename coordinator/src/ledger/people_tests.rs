//! What people may do besides yes and no, and who may not.

use cauldron_identity::Digest;
use cauldron_identity::FactId;

use super::*;
use crate::bodies::*;
use crate::coordinate::Act;
use crate::owner::{Code, Verdict};
use crate::signed::Signed;
use crate::testkit::{NOW, World, proposal};
use crate::vote::Choice;

const STEP_UP: &str = "package cauldron.guardrail\nstep_up contains {\"rule\": \"r\", \"why\": \"w\", ";

fn world(rest: &str) -> World {
    World::with_policy(&format!("{STEP_UP}{rest}}}"))
}

fn asked(world: &mut World) -> FactId {
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    assert_eq!(world.state(&p), State::PendingApproval, "{:?}", world.status(&p).why);
    p
}

#[track_caller]
fn executes(world: &mut World, p: &FactId) {
    world.run();
    let permit = world.status(p).permit.expect("a permit");
    let verdict = world.judge(&permit);
    assert!(matches!(verdict, Verdict::Execute(_)), "{verdict:?}");
}

#[test]
fn any_one_of_the_groups_is_enough() {
    let mut world =
        world("\"approvals\": [{\"any_of\": [{\"group\": \"cfo\", \"n\": 1}, {\"group\": \"finance\", \"n\": 1}]}]");
    let p = asked(&mut world);
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval);
    world.vote("bo", &p, Choice::Approve);
    executes(&mut world, &p);
}

#[test]
fn a_silent_group_is_helped_and_no_seat_goes_away() {
    let rest = "\"approvals\": [{\"group\": \"finance\", \"n\": 1}, {\"group\": \"security-duty\", \"n\": 1}], \"escalate\": [{\"after_ms\": 60000, \"add\": \"hr\"}]";
    let mut world = world(rest);
    let p = asked(&mut world);
    world.vote("cy", &p, Choice::Approve);
    world.vote("ana", &p, Choice::Approve);
    world.clock.wall_ms += 60_000;
    assert_eq!(world.state(&p), State::PendingApproval, "cy spoke before cy was added");
    world.vote("cy", &p, Choice::Approve);
    executes(&mut world, &p);
    let two = asked_again(&mut world);
    world.clock.wall_ms += 60_000;
    world.vote("cy", &two, Choice::Approve);
    assert_eq!(world.state(&two), State::PendingApproval, "one person more, not one seat less");
}

fn asked_again(world: &mut World) -> FactId {
    let again = Proposal { created_ms: world.clock.wall_ms, ..proposal("198.51.100.8") };
    let p = world.propose(again);
    world.run();
    p
}

#[test]
fn a_key_in_a_file_is_not_enough_where_a_touch_is_asked_for() {
    let mut world = world("\"approvals\": [{\"group\": \"security-duty\", \"n\": 1}], \"assurance\": \"verified\"");
    let pat = World::passkey("pat");
    world.enrol_passkey("pat", &["security-duty"]);
    let p = asked(&mut world);
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval);
    let credential = world.authority.person("pat").expect("enrolled").credentials[0].id();
    let statement = crate::vote::VoteStatement {
        person: "pat".into(),
        credential,
        ..world.statement_on("ana", &p, Choice::Approve)
    };
    let vote = statement.answered(&pat.assert(&statement.id()));
    world.put(3, "site/lyon", KIND_VOTE, &vote);
    executes(&mut world, &p);
}

/// The edit of `p` by a person, as their node would write it.
pub(crate) fn edit(world: &World, p: &FactId, person: &str, change: impl FnOnce(&mut Proposal)) -> Proposal {
    let parent = world.ledger.proposal(p).expect("here").body.clone();
    let mut body = Proposal { lineage: Some(parent.lineage(*p)), parent: Some(*p), ..parent };
    change(&mut body);
    body.args_digest = Proposal::digest_of_args(&body.args);
    let statement = HandStatement {
        mesh: world.authority.mesh(),
        person: person.into(),
        credential: World::credential(person),
        authority_head: world.authority.head(),
        content: body.content(),
        reason: "an hour is too long".into(),
        issued_ms: NOW,
        nonce: Digest::of("nonce", b"1"),
    };
    body.hand = Some(Box::new(Signed::sign(&statement, &World::person_key(person))));
    body
}

pub(crate) fn shorter(p: &mut Proposal) {
    p.args = String::from_utf8_lossy(&p.args).replace("3600", "60").into_bytes();
}

#[test]
fn an_edit_is_a_child_that_others_approve() {
    let mut world = World::new();
    let p = asked(&mut world);
    let body = edit(&world, &p, "ana", shorter);
    // At hq: an edit is written wherever its person sits.
    let child = world.put(2, "site/lyon", KIND_PROPOSAL, &body);
    assert_eq!((world.state(&p), world.status(&p).superseded_by), (State::Superseded, Some(child)));
    world.run();
    world.vote("ana", &child, Choice::Approve);
    assert_eq!(world.state(&child), State::PendingApproval, "who edits does not approve");
    world.vote("bo", &child, Choice::Approve);
    executes(&mut world, &child);
    // What was permitted before cannot be used any more either.
    assert_eq!(world.ledger.lineage(&p).count(), 2);
}

#[test]
fn an_edit_counts_only_as_it_was_signed_by_whom_was_asked() {
    let mut world = World::new();
    let p = asked(&mut world);
    let good = edit(&world, &p, "ana", shorter);
    let other = Proposal { rationale: "trust me".into(), ..good.clone() };
    let clean = edit(&world, &p, "ana", |p| p.taint.clear());
    let elsewhere = edit(&world, &p, "ana", |p| p.resource = "lyon/rhone/blocklist/198.51.100.7".into());
    let orphan = edit(&world, &p, "ana", |p| p.parent = Some(FactId::from_bytes([9; 32])));
    let lineage = edit(&world, &p, "ana", |p| p.lineage = Some(FactId::from_bytes([9; 32])));
    let unsigned = Proposal { hand: None, ..good.clone() };
    for (body, author, why) in [
        (edit(&world, &p, "cy", shorter), 2, "cy is not asked"),
        (other, 2, "signed another text"),
        (clean, 2, "taint label"),
        (elsewhere, 2, "another node"),
        (orphan, 2, "has not arrived"),
        (lineage, 2, "not of its parent's lineage"),
        (unsigned, 2, "not what policy made"),
        (Proposal { parent: None, lineage: None, ..good.clone() }, 2, "signed another text"),
    ] {
        let id = world.put(author, "site/lyon", KIND_PROPOSAL, &body);
        let child = world.ledger.proposal(&id).expect("here").clone();
        let said = world.ledger.proposal_counts(&child, &world.authority).expect_err(why);
        assert!(said.contains(why), "{why}: {said}");
        assert_eq!(world.state(&p), State::PendingApproval, "{why}");
    }
    world.put(2, "site/lyon", KIND_PROPOSAL, &good);
    assert_eq!(world.state(&p), State::Superseded);
    world.revoke("ana");
    assert_eq!(world.state(&p), State::Superseded, "what was edited away does not come back");
}

#[test]
fn a_permit_is_void_once_its_proposal_was_edited() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let body = edit(&world, &p, "bo", shorter);
    world.put(2, "site/lyon", KIND_PROPOSAL, &body);
    assert_eq!(world.judge(&permit).code(), Some(Code::Overtaken));
}

#[test]
fn policy_modifies_and_the_child_is_judged_again() {
    let rego = "package cauldron.guardrail\nmodify contains {\"rule\": \"short\", \"why\": \"an hour is too long\", \"set\": {\"ttl_s\": 60}} if input.proposal.args.ttl_s > 60\nallow contains {\"rule\": \"a\", \"why\": \"w\"} if input.proposal.args.ttl_s <= 60";
    let mut world = World::with_policy(rego);
    let p = world.propose(proposal("198.51.100.7"));
    let written = world.run();
    let status = world.status(&p);
    let child = status.superseded_by.expect("a child");
    assert_eq!((status.state, written.len()), (State::Superseded, 4), "decision, child, its decision, its permit");
    let body = world.ledger.proposal(&child).expect("here").body.clone();
    assert!(String::from_utf8_lossy(&body.args).contains("\"ttl_s\":60"), "{body:?}");
    assert_eq!(world.state(&child), State::Permitted);
    executes(&mut world, &child);
    // A coordinator that makes something else of it is not believed.
    let forged = Proposal { rationale: "more".into(), ..body };
    let id = world.put(2, "site/lyon", KIND_PROPOSAL, &forged);
    let forged = world.ledger.proposal(&id).expect("here").clone();
    assert!(
        world.ledger.proposal_counts(&forged, &world.authority).expect_err("forged").contains("not what policy made")
    );
}

/// A deputy statement of `person` in favour of `to`.
pub(super) fn deputy(world: &World, person: &str, to: &str, change: impl FnOnce(&mut DeputyStatement)) -> Deputy {
    let mut statement = DeputyStatement {
        mesh: world.authority.mesh(),
        person: person.into(),
        credential: World::credential(person),
        authority_head: world.authority.head(),
        to: to.into(),
        groups: vec!["security-duty".into()],
        classes: vec![],
        from_ms: NOW,
        until_ms: NOW + 86_400_000,
        takes_back: None,
        nonce: Digest::of("nonce", b"1"),
    };
    change(&mut statement);
    Signed::sign(&statement, &World::person_key(person))
}

fn deputised(change: impl FnOnce(&mut DeputyStatement)) -> (World, FactId) {
    let mut world = World::new();
    let p = asked(&mut world);
    let said = deputy(&world, "ana", "cy", change);
    world.put(2, "mesh", KIND_DEPUTY, &said);
    world.vote("cy", &p, Choice::Approve);
    (world, p)
}

#[test]
fn a_deputy_takes_the_seat_of_who_named_them() {
    let (mut world, p) = deputised(|_| ());
    executes(&mut world, &p);
}

#[test]
fn a_deputy_has_what_was_handed_on_and_no_more() {
    type Change = fn(&mut DeputyStatement);
    let cases: [(&str, Change); 6] = [
        ("expired", |d| d.until_ms = NOW - 1),
        ("not yet", |d| d.from_ms = NOW + 1),
        ("another class", |d| d.classes = vec!["devops.file.write/folder".into()]),
        ("a group that ana is not in", |d| d.groups = vec!["finance".into()]),
        ("for longer than a month", |d| d.until_ms = NOW + DEPUTY_MS_MAX + 1),
        ("for somebody else", |d| d.to = "bo".into()),
    ];
    for (why, change) in cases {
        let (world, p) = deputised(change);
        assert_eq!(world.state(&p), State::PendingApproval, "{why}");
    }
    let (mut world, p) = deputised(|_| ());
    let id = deputy(&world, "ana", "cy", |_| ()).id();
    let back = deputy(&world, "ana", "cy", |d| d.takes_back = Some(id));
    world.put(2, "mesh", KIND_DEPUTY, &back);
    assert_eq!(world.state(&p), State::PendingApproval, "taken back");
    let (mut world, p) = deputised(|_| ());
    world.revoke("ana");
    assert_eq!(world.state(&p), State::PendingApproval, "who hands on what they no longer have");
}

#[test]
fn where_policy_wants_nobody_spoken_for_a_deputy_fills_no_seat() {
    let mut world =
        world("\"approvals\": [{\"group\": \"security-duty\", \"n\": 1}], \"distinct_from\": [\"delegates\"]");
    let p = asked(&mut world);
    let said = deputy(&world, "ana", "cy", |_| ());
    world.put(2, "mesh", KIND_DEPUTY, &said);
    world.vote("cy", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval, "cy speaks for ana");
    world.vote("ana", &p, Choice::Approve);
    executes(&mut world, &p);
}

#[test]
fn one_right_is_one_vote_however_it_is_used() {
    let mut world = world("\"approvals\": [{\"group\": \"security-duty\", \"n\": 2}]");
    let p = asked(&mut world);
    let said = deputy(&world, "ana", "cy", |_| ());
    world.put(2, "mesh", KIND_DEPUTY, &said);
    world.vote("ana", &p, Choice::Approve);
    world.vote("cy", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval, "ana and ana's deputy");
    world.vote("bo", &p, Choice::Approve);
    executes(&mut world, &p);
}

#[test]
fn who_proposes_or_is_acted_for_does_not_approve() {
    let mut world = World::new();
    let p = world.propose(Proposal { on_behalf_of: Some("ana".into()), ..proposal("198.51.100.7") });
    world.run();
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval);
    // Nor through a deputy.
    let said = deputy(&world, "ana", "cy", |_| ());
    world.put(2, "mesh", KIND_DEPUTY, &said);
    world.vote("cy", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval);
    world.vote("bo", &p, Choice::Approve);
    executes(&mut world, &p);
}

#[test]
fn abstaining_takes_an_approval_back_and_a_remark_does_not() {
    let mut world = World::new();
    let p = asked(&mut world);
    world.vote("ana", &p, Choice::Approve);
    world.clock.wall_ms += 1;
    world.vote("ana", &p, Choice::Comment);
    assert_eq!(world.state(&p), State::Approved);
    world.clock.wall_ms += 1;
    world.vote("ana", &p, Choice::Abstain);
    assert_eq!(world.state(&p), State::PendingApproval);
}

#[test]
fn nobody_reads_more_than_sixty_things_an_hour() {
    let mut world = World::new();
    let mut ids = vec![];
    for n in 0..=APPROVALS_PER_HOUR_MAX {
        let agent = format!("spiffe://acme.test/site/lyon/node/lyon/agent/a{n}");
        ids.push(world.propose(Proposal { agent, ..proposal(&format!("198.51.100.{n}")) }));
    }
    world.run();
    for p in &ids {
        world.clock.wall_ms += 1_000;
        world.vote("ana", p, Choice::Approve);
    }
    let (last, before) = ids.split_last().expect("some");
    assert!(before.iter().all(|p| world.state(p) == State::Approved));
    assert_eq!(world.state(last), State::PendingApproval);
    world.clock.wall_ms += 3_600_000;
    world.vote("ana", last, Choice::Approve);
    assert_eq!(world.state(last), State::Approved, "an hour later they have read it");
}

const VETO: &str = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"veto\": {\"within_ms\": 600000, \"groups\": [\"security-duty\"]}}";

#[test]
fn silence_allows_once_a_coordinator_says_it_was_kept() {
    let mut world = World::with_policy(VETO);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    assert_eq!((world.state(&p), world.step()), (State::VetoWindow, vec![]));
    world.clock.wall_ms += 599_999;
    assert_eq!(world.step(), vec![]);
    world.clock.wall_ms += 1;
    let acts = world.step();
    assert!(matches!(&acts[..], [Act::Close { .. }]), "{acts:?}");
    executes(&mut world, &p);
    // Without that word the owner does not go by silence.
    let permit = world.status(&p).permit.expect("a permit");
    let body = Permit { window: None, ..world.ledger.permit(&permit).expect("here").body.clone() };
    let bare = world.put(2, "site/lyon", KIND_PERMIT, &body);
    assert_eq!(world.judge(&bare).code(), Some(Code::Silence));
}

#[test]
fn an_objection_asks_people_and_so_does_silence_that_nobody_could_break() {
    let mut world = World::with_policy(VETO);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    world.vote("cy", &p, Choice::Object);
    assert_eq!(world.state(&p), State::VetoWindow, "cy is not asked");
    world.vote("bo", &p, Choice::Object);
    assert_eq!(world.state(&p), State::PendingApproval);
    world.clock.wall_ms += 600_000;
    assert_eq!(world.step(), vec![], "no window closes over an objection");
    world.vote("ana", &p, Choice::Approve);
    executes(&mut world, &p);
    let mut world = World::with_policy(VETO);
    world.revoke("ana");
    world.revoke("bo");
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    assert_eq!(world.state(&p), State::PendingApproval, "{:?}", world.status(&p).why);
}

#[test]
fn an_objection_that_the_coordinator_hides_is_missed_at_the_owner() {
    let mut world = World::with_policy(VETO);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    world.clock.wall_ms += 600_000;
    world.run();
    let permit = world.status(&p).permit.expect("a permit");
    world.vote("ana", &p, Choice::Object);
    assert_eq!(world.judge(&permit).code(), Some(Code::Quorum), "it was heard before the start");
}

#[test]
fn what_a_coordinator_reports_only_makes_it_stricter() {
    let rego = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\"}\ndeny contains {\"rule\": \"d\", \"why\": \"contested elsewhere\"} if input.reported.agent.recent.contested_30d > 0";
    let mut world = World::with_policy(rego);
    let p = world.propose(proposal("198.51.100.7"));
    let written = world.run();
    executes(&mut world, &p);
    let decided = world.decision(&p);
    let reported = br#"{"agent":{"recent":{"contested_30d":1}}}"#.to_vec();
    let id = world.put(2, "site/lyon", KIND_DECISION, &Decision { reported: Some(reported), ..decided });
    let permit = world.ledger.permit(written.last().expect("a permit")).expect("here").body.clone();
    let permit = world.put(2, "site/lyon", KIND_PERMIT, &Permit { decision: id, ..permit });
    assert_eq!(world.judge(&permit).code(), Some(Code::Policy));
}

#[test]
fn a_coordinator_cannot_talk_an_owner_into_anything() {
    let rego = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\"} if input.reported.agent.recent.contested_30d >= 0";
    let mut world = World::with_policy(rego);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    assert_eq!(world.state(&p), State::Denied, "policy here needs what only a coordinator could tell");
    let mut world = World::with_policy(&rego.replace(">= 0", "< 0"));
    let p = world.propose(proposal("198.51.100.7"));
    let decided = Decision {
        outcome: Outcome::Allow,
        reported: Some(br#"{"agent":{"recent":{"contested_30d":-1}}}"#.to_vec()),
        ..allowed(&world, &p)
    };
    let permit = permitted_by(&mut world, p, &decided);
    assert_eq!(world.judge(&permit).code(), Some(Code::Policy));
}

#[test]
fn an_owner_knows_whom_its_own_policy_tells_beside_those_that_the_decision_names() {
    let mut world = World::with_policy(
        "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"notify\": [\"hr\", \"finance\"]}",
    );
    let p = world.propose(proposal("198.51.100.7"));
    let mut decided = Decision { outcome: Outcome::Allow, ..allowed(&world, &p) };
    decided.obligations.notify = vec!["finance".into()];
    let permit = permitted_by(&mut world, p, &decided);
    let Verdict::Execute(verified) = world.judge(&permit) else { panic!("{:?}", world.judge(&permit)) };
    assert_eq!(*verified.notify(), ["hr".to_owned()].into());
}

/// hq writes this decision, and a permit that rests on it.
fn permitted_by(world: &mut World, p: FactId, decided: &Decision) -> FactId {
    let id = world.put(2, "site/lyon", KIND_DECISION, decided);
    let proposed = world.ledger.proposal(&p).expect("here").body.clone();
    let permit = Permit {
        issued_ms: NOW,
        execute_by_ms: NOW + 60_000,
        ..crate::coordinate::permit_for(
            (p, &proposed),
            (id, decided),
            (world.lyon.author_id(), 0),
            world.engine.catalogue(),
        )
    };
    world.put(2, "site/lyon", KIND_PERMIT, &permit)
}

/// What hq would have decided had it allowed `p`.
fn allowed(world: &World, p: &FactId) -> Decision {
    let acts = world.step();
    let found = acts.into_iter().find_map(|act| match act {
        Act::Decide { body, .. } if body.proposal == *p => Some(*body),
        _ => None,
    });
    let body = found.expect("a decision");
    let obligations = Obligations::none(body.obligations.decide_by_ms);
    Decision { obligations, rules: vec![], ..body }
}

#[test]
fn approvals_by_passkey_do_not_count_while_the_page_is_stopped() {
    let mut world = world("\"approvals\": [{\"group\": \"security-duty\", \"n\": 1}]");
    let pat = World::passkey("pat");
    world.enrol_passkey("pat", &["security-duty"]);
    let p = asked(&mut world);
    let credential = world.authority.person("pat").expect("enrolled").credentials[0].id();
    let statement = crate::vote::VoteStatement {
        person: "pat".into(),
        credential,
        ..world.statement_on("ana", &p, Choice::Approve)
    };
    let vote = statement.answered(&pat.assert(&statement.id()));
    world.put(3, "site/lyon", KIND_VOTE, &vote);
    assert_eq!(world.state(&p), State::Approved);
    world.restrict(2, "mesh#restrict", Target::Feature("approval-page".into()));
    assert_eq!(world.state(&p), State::PendingApproval);
    world.vote("ana", &p, Choice::Approve);
    executes(&mut world, &p);
}
