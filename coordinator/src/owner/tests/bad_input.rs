//! What somebody may hand in on purpose, each by its name, and what it is answered. Docs/security-model.md lists them.

use super::*;
use crate::coordinate::{Limits, step};
use crate::ledger::Inserted;
use crate::policy::Bundle;
use crate::testkit::sitting;
use crate::vote::SignedVote;

const TWO: &str = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}]}";

/// Decided, and not agreed to by anybody.
fn asked(world: &mut World, address: &str) -> FactId {
    let p = world.propose(proposal(address));
    world.run();
    p
}

#[track_caller]
fn says(why: &str, rule: &str, code: Code) {
    assert!(why.contains(rule), "which rule: {why}");
    assert!(why.contains(code.remedy()), "what would satisfy it: {why}");
}

#[test]
fn a_forged_vote_fills_no_seat_and_a_forged_permit_is_refused() {
    let mut world = World::new();
    let p = asked(&mut world, "198.51.100.7");
    let statement = world.statement_on("ana", &p, Choice::Approve);
    let vote = world.cast(&statement, "eve");
    let permit = permit_with(&mut world, &p, vec![vote]);
    says(
        &refused(&world, &permit, Code::Quorum),
        "0 of 1 votes count; one: the signature does not verify",
        Code::Quorum,
    );
    // By the owner itself, and by a node of another site.
    for author in [3, 4] {
        let (world, permit) = forged(author, |_| ());
        says(&refused(&world, &permit, Code::Signer), "its signer may not permit in this scope", Code::Signer);
    }
}

#[test]
fn a_replayed_vote_counts_for_nothing_else_and_a_replayed_permit_is_used() {
    let mut world = World::new();
    let (one, two) = (asked(&mut world, "198.51.100.7"), asked(&mut world, "198.51.100.8"));
    let vote = world.vote("ana", &one, Choice::Approve);
    // Carried again, by another node: it is the same vote.
    let again = world.ledger.votes_on(&one).next().expect("here").clone();
    world.put(2, "site/lyon", KIND_VOTE, &again);
    assert_eq!(world.ledger.votes_on(&one).count(), 1);
    let permit = permit_with(&mut world, &two, vec![vote]);
    waits(&world, &permit, "vote");
    world.clock.wall_ms += 60_001;
    says(&refused(&world, &permit, Code::Late), "could be used until", Code::Late);

    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    world.start(&permit);
    says(&refused(&world, &permit, Code::Used), "this permit was used by start", Code::Used);
    let body = world.ledger.permit(&permit).expect("here").body.clone();
    let again = world.put(2, "site/lyon", KIND_PERMIT, &Permit { issued_ms: body.issued_ms + 1, ..body });
    says(&refused(&world, &again, Code::Used), "it was started as", Code::Used);
}

#[test]
fn an_expired_vote_fills_no_seat_and_an_expired_permit_is_void() {
    let mut world = World::new();
    let p = asked(&mut world, "198.51.100.7");
    let mut statement = world.statement_on("ana", &p, Choice::Approve);
    statement.expires_ms = NOW + 1_000;
    let vote = world.cast(&statement, "ana");
    let permit = permit_with(&mut world, &p, vec![vote]);
    executes(&world, &permit);
    world.clock.wall_ms += 1_001;
    says(&refused(&world, &permit, Code::Quorum), "one: it has expired", Code::Quorum);
    world.clock.wall_ms += 60_000;
    says(&refused(&world, &permit, Code::Late), "could be used until", Code::Late);
}

#[test]
fn a_re_targeted_vote_is_nobodys_and_a_re_targeted_permit_is_for_nobody() {
    let mut world = World::new();
    let (one, two) = (asked(&mut world, "198.51.100.7"), asked(&mut world, "198.51.100.8"));
    world.vote("ana", &one, Choice::Approve);
    let signed = world.ledger.votes_on(&one).next().expect("here").clone();
    let statement = crate::vote::VoteStatement { proposal: two, lineage: two, ..signed.statement().expect("reads") };
    let signature = statement.sign(&World::person_key("eve"));
    // Ana's signature under another statement: put together from what both hold.
    let parts = |vote: &SignedVote| cauldron_identity::codec::to_cbor(vote);
    assert_ne!(parts(&signature), parts(&signed));
    let vote = world.cast(&statement, "eve");
    let permit = permit_with(&mut world, &two, vec![vote]);
    says(&refused(&world, &permit, Code::Quorum), "the signature does not verify", Code::Quorum);

    let porto = key(4).author_id();
    let (world, permit) = forged(2, move |p| p.owner = porto);
    says(&refused(&world, &permit, Code::NotOwner), "it names another owner", Code::NotOwner);
    let (world, permit) = forged(2, |p| p.resource = "lyon/lyon/blocklist/203.0.113.9".into());
    says(&refused(&world, &permit, Code::Mismatch), "another resource or lineage", Code::Mismatch);
    let (world, permit) = forged(2, |p| p.args_digest = Digest::of("other", b""));
    says(&refused(&world, &permit, Code::Mismatch), "other arguments than were proposed", Code::Mismatch);
    let (world, permit) = forged(2, |p| p.incarnation = 7);
    says(&refused(&world, &permit, Code::OtherIncarnation), "another life", Code::OtherIncarnation);
}

#[test]
fn re_ordered_votes_and_permits_come_to_the_same() {
    let mut world = World::with_policy(TWO);
    let p = asked(&mut world, "198.51.100.7");
    world.vote("ana", &p, Choice::Approve);
    world.vote("bo", &p, Choice::Approve);
    let permit = world.run().pop().expect("a permit");
    world.clock.wall_ms += 1;
    world.vote("bo", &p, Choice::Withdraw);
    // The one that takes back arrives before the one it takes back, the permit before all of them.
    let mut reversed = World::with_policy(TWO);
    for fact in world.facts.iter().rev() {
        assert_eq!(reversed.ledger.insert(fact), Inserted::New);
        assert!(!matches!(reversed.judge(&permit), Verdict::Execute(_)), "at no time before all is here, nor then");
    }
    reversed.clock = world.clock;
    let why = refused(&reversed, &permit, Code::Quorum);
    assert_eq!(why, refused(&world, &permit, Code::Quorum));
    says(&why, "1 of 2 votes count", Code::Quorum);
}

#[test]
fn a_vote_re_quoted_under_other_terms_agrees_to_nothing() {
    let mut world = World::new();
    let p = asked(&mut world, "198.51.100.7");
    let vote = world.vote("ana", &p, Choice::Approve);
    // A coordinator that decides anew, with a later deadline and fewer words, and quotes the vote under that.
    let mut other = world.decision(&p);
    other.obligations.decide_by_ms -= 1;
    let decision = world.put(2, "site/lyon", KIND_DECISION, &other);
    let recorded = world.ledger.proposal(&p).expect("here").body.clone();
    let owner = world.ledger.owner_of(&recorded.resource, &world.authority).expect("an owner");
    let permit = Permit {
        votes: vec![vote],
        issued_ms: NOW,
        execute_by_ms: NOW + 60_000,
        ..permit_for((p, &recorded), (decision, &other), (owner.author, owner.incarnation), world.engine.catalogue())
    };
    let quoted = world.put(2, "site/lyon", KIND_PERMIT, &permit);
    says(&refused(&world, &quoted, Code::Quorum), "one: it agrees to other terms", Code::Quorum);
    // Under the old terms with the new decision's name, it contradicts itself.
    let terms = world.ledger.decisions_on(&p).find(|d| d.id != decision).expect("the first").body.terms();
    let mixed = world.put(2, "site/lyon", KIND_PERMIT, &Permit { terms, ..permit });
    says(&refused(&world, &mixed, Code::Mismatch), "its terms are not its decision's", Code::Mismatch);
}

#[test]
fn approving_text_a_while_signing_digest_b() {
    let mut world = World::new();
    let (a, b) = (asked(&mut world, "198.51.100.7"), asked(&mut world, "198.51.100.8"));
    // The page showed A; what it had signed is about B.
    let shown = world.statement_on("ana", &a, Choice::Approve).presentation;
    let mut statement = world.statement_on("ana", &b, Choice::Approve);
    statement.presentation = shown;
    let vote = world.cast(&statement, "ana");
    assert_eq!(world.state(&b), State::PendingApproval);
    let permit = permit_with(&mut world, &b, vec![vote]);
    says(&refused(&world, &permit, Code::Quorum), "one: its signer was shown something else", Code::Quorum);
}

#[test]
fn a_proposer_who_approves_fills_no_seat() {
    let mut world = World::new();
    let p = world.propose(Proposal { on_behalf_of: Some("ana".into()), ..proposal("198.51.100.7") });
    world.run();
    let vote = world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval);
    let permit = permit_with(&mut world, &p, vec![vote]);
    says(&refused(&world, &permit, Code::Quorum), "another person must approve", Code::Quorum);
    let other = world.vote("bo", &p, Choice::Approve);
    let permit = permit_with(&mut world, &p, vec![other]);
    executes(&world, &permit);
}

#[test]
fn one_person_with_two_keys_is_one_vote() {
    let mut world = World::with_policy(TWO);
    let p = asked(&mut world, "198.51.100.7");
    let one = world.vote("ana", &p, Choice::Approve);
    let mut second = world.statement_on("ana", &p, Choice::Approve);
    second.credential = World::credential("ana's other key");
    let two = world.cast(&second, "ana's other key");
    let permit = permit_with(&mut world, &p, vec![one, two]);
    says(&refused(&world, &permit, Code::Quorum), "1 of 2 votes count", Code::Quorum);
}

#[test]
fn a_quorum_split_across_a_partition_is_one_nowhere_before_it_is_whole() {
    let mut world = World::with_policy(TWO);
    let p = asked(&mut world, "198.51.100.7");
    let both = world.facts.len();
    let (ana, bo) = (world.vote("ana", &p, Choice::Approve), world.vote("bo", &p, Choice::Approve));
    let side = |vote: usize| {
        let mut side = World::with_policy(TWO);
        for fact in world.facts.iter().take(both).chain(world.facts.get(vote)) {
            side.ledger.insert(fact);
        }
        side
    };
    for (mut here, vote) in [(side(both), ana), (side(both + 1), bo)] {
        assert_eq!(here.step(), vec![], "no coordinator permits it on one vote");
        assert_eq!(here.state(&p), State::PendingApproval);
        let permit = permit_with(&mut here, &p, vec![vote]);
        says(&refused(&here, &permit, Code::Quorum), "1 of 2 votes count", Code::Quorum);
    }
    // Healed: the votes are united, whichever side looks.
    let permit = world.run().pop().expect("a permit");
    executes(&world, &permit);
    // Healed too late, it has lapsed.
    world.clock.wall_ms = world.decision(&p).obligations.decide_by_ms + 1;
    says(&refused(&world, &permit, Code::Late), "could be used until", Code::Late);
    assert_eq!(world.step(), vec![]);
}

/// A payment, as a connector's author would describe it, under a policy that forgot to ask anybody.
fn payments(class: &str) -> Bundle {
    let schema = serde_json::json!({
        "title": "Pay an invoice",
        "type": "object", "additionalProperties": false, "required": ["invoice", "amount"],
        "properties": { "invoice": { "type": "string" }, "amount": { "type": "integer", "minimum": 1 } },
        "cauldron": {
            "operation": "erp.invoice.pay", "connector": "erp", "class": class, "effect": "write",
            "object": "/invoice", "intent": { "fields": ["/invoice"], "each": "once" },
            "reversibility": "irreversible"
        }
    });
    let manifest = serde_json::json!({"version": "t", "classes": {"erp.invoice.pay/erp": {
        "risk": class, "files": ["pay.rego"], "schema": "pay.json"
    }}});
    let rego = "package cauldron.guardrail\nallow contains {\"rule\":\"all\",\"why\":\"y\"}";
    let file = |name: &str, text: String| (name.to_owned(), text.into_bytes());
    let files = [
        file("manifest.json", manifest.to_string()),
        file("pay.json", schema.to_string()),
        file("pay.rego", rego.into()),
    ];
    Bundle::new(files.into()).expect("valid bundle")
}

#[test]
fn an_agent_that_declares_a_payment_r0_waits_for_people_all_the_same() {
    for (class, rule) in
        [("R2", "floor.votes: class R2 needs 1 people"), ("R3", "floor.votes: class R3 needs 2 people")]
    {
        let mut world = World::with_bundle(&payments(class), 3);
        let p = world.propose(Proposal { risk: RiskClass::R0, ..payment(&world) });
        world.run();
        assert_eq!(world.state(&p), State::Denied, "{:?}", world.status(&p));
        assert!(world.status(&p).why.join(" ").contains(rule), "{:?}", world.status(&p).why);

        // A coordinator that lets it pass does not move its owner.
        let mut world = World::with_bundle(&payments(class), 3);
        let p = world.propose(Proposal { risk: RiskClass::R0, ..payment(&world) });
        let mut decision = decided_by_hand(&mut world, &p);
        decision.outcome = Outcome::Allow;
        let id = world.put(2, "site/lyon", KIND_DECISION, &decision);
        let recorded = world.ledger.proposal(&p).expect("here").body.clone();
        let owner = world.ledger.owner_of(&recorded.resource, &world.authority).expect("an owner");
        let permit = Permit {
            issued_ms: NOW,
            execute_by_ms: NOW + 60_000,
            ..permit_for((p, &recorded), (id, &decision), (owner.author, owner.incarnation), world.engine.catalogue())
        };
        for author in [2, 101] {
            world.put(author, "site/lyon", KIND_PERMIT, &permit);
        }
        let permits: Vec<FactId> = world.ledger.permits_on(&p).map(|permit| permit.id).collect();
        for permit in permits {
            let needed = if class == "R2" { "0 of 1 votes count" } else { "0 of 2 votes count" };
            says(&refused(&world, &permit, Code::Quorum), needed, Code::Quorum);
        }
    }
}

fn payment(world: &World) -> Proposal {
    let args = serde_json::json!({ "invoice": "2026-17", "amount": 900 });
    let action = Action::new(world.engine.catalogue(), "erp.invoice.pay", None, &args).expect("valid");
    let agent = spiffe("/site/lyon/node/lyon/agent/clerk").to_string();
    Proposal {
        created_ms: NOW,
        expires_ms: NOW + 3_600_000,
        agent_build: Digest::of("build", b"1"),
        rationale: "it is due".into(),
        ..action.proposal("lyon", "lyon", &agent, "")
    }
}

/// The decision that an honest coordinator would write, not written.
fn decided_by_hand(world: &mut World, p: &FactId) -> Decision {
    match &world.step()[..] {
        [crate::coordinate::Act::Decide { body, .. }] if body.proposal == *p => (**body).clone(),
        acts => panic!("{acts:?}"),
    }
}

#[test]
fn two_coordinators_that_modify_one_proposal_differently_come_to_one_effect() {
    let rego = |ttl_s: u32| {
        format!(
            "package cauldron.guardrail\nmodify contains {{\"rule\": \"short\", \"why\": \"w\", \"set\": {{\"ttl_s\": {ttl_s}}}}} if input.proposal.args.ttl_s > 60\nallow contains {{\"rule\": \"a\", \"why\": \"w\"}} if input.proposal.args.ttl_s <= 60"
        )
    };
    let mut world = World::with_coordinators(2);
    world.activate(&World::bundle(&rego(60)));
    let p = world.propose(proposal("198.51.100.7"));
    // The other one reads the same rules with other data: what it makes of the proposal is signed by it alone.
    let acts = world.step();
    let [crate::coordinate::Act::Decide { body, .. }] = &acts[..] else { panic!("{acts:?}") };
    let mut other = (**body).clone();
    other.modify = Some(br#"{"ttl_s":30}"#.to_vec());
    world.write(&acts);
    // Neither has heard of the other's child.
    let own = world.step();
    assert!(matches!(&own[..], [crate::coordinate::Act::Modify { .. }]), "{own:?}");
    world.write(&own);
    let decision = world.put(101, "site/lyon", KIND_DECISION, &other);
    let parent = world.ledger.proposal(&p).expect("here").clone();
    let mut child = crate::ledger::modified(&parent, &other).expect("a child");
    (child.created_ms, child.expires_ms) = (NOW, parent.body.expires_ms);
    let thirty = world.put(101, "site/lyon", KIND_PROPOSAL, &child);
    assert!(world.ledger.decisions_on(&p).any(|d| d.id == decision));
    let written = world.run();
    assert_eq!(world.state(&p), State::Superseded);
    let permits: Vec<FactId> = written.into_iter().filter(|id| world.ledger.permit(id).is_some()).collect();
    assert_eq!(permits.len(), 2, "one for each child");
    assert_eq!(world.ledger.lineage(&p).count(), 3);
    assert!(permits.iter().any(|id| world.ledger.permit(id).expect("here").body.proposal == thirty));
    world.start(&permits[0]);
    says(&refused(&world, &permits[1], Code::Used), "it was started as", Code::Used);
    // And no coordinator permits the rest.
    let (ledger, authority, limits) = (&world.ledger, &world.authority, Limits::default());
    for me in [key(2), key(101)] {
        let acts = step(ledger, authority, Some(&world.engine), &world.clock, &sitting(&me.author_id()), &limits);
        assert!(!acts.iter().any(|act| matches!(act, crate::coordinate::Act::Permit { .. })), "{acts:?}");
    }
}
