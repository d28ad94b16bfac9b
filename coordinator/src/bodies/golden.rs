//! What the wire looks like in v1, by length and hash of each encoding: see `docs/wire.md`, "What pins it". A value that changes
//! here is another wire. `UPDATE_EXPECT=1 cargo test` writes them anew.

use std::collections::BTreeSet;

use cauldron_identity::authority::{Accept, Assurance, ChainEnd, Offer};
use cauldron_identity::budget::Life;
use cauldron_identity::charter::KeySignature;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::sha256;
use cauldron_identity::{Digest, FactId, MeshId, Scope};
use minicbor::{Decode, Encode};

use super::*;
use crate::lease::{LeaseAsk, LeaseGrant};
use crate::ledger::{Inserted, Ledger};
use crate::signed::{Signed, Statement};
use crate::testkit::{NOW, World, key, proposal};
use crate::vote::{Choice, SignedVote};

const MESH: MeshId = MeshId::from_bytes([9; 32]);

fn d(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn id(n: u8) -> FactId {
    FactId::from_bytes([n; 32])
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

/// The lines of a golden list, and the kinds in it.
#[derive(Default)]
struct Golden {
    text: String,
    kinds: BTreeSet<&'static str>,
}

impl Golden {
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.text += &format!("{name} {} {}\n", bytes.len(), Digest::from_bytes(sha256(bytes)));
    }

    /// One value, which reads back, and which a reader of today reads with a key of tomorrow in it.
    #[track_caller]
    fn value<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        let mut bytes = to_cbor(value);
        self.bytes(name, &bytes);
        assert_eq!(from_cbor::<T>(&bytes).as_ref(), Ok(value), "{name}");
        let entries = usize::from(bytes[0] & 0x1f);
        assert_eq!(bytes[0] >> 5, 5, "{name}: a map");
        match entries {
            0..23 => bytes[0] += 1,
            23 => drop(bytes.splice(..1, [0xb8, 24])),
            _ => bytes[1] += 1,
        }
        bytes.extend_from_slice(&[0x18, 0x63, 0x01]); // 99: 1
        assert_eq!(from_cbor::<T>(&bytes).as_ref(), Ok(value), "{name}: a key of a later build");
    }

    #[track_caller]
    fn body<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &'static str,
        value: &T,
    ) {
        self.kinds.insert(kind);
        self.value(kind, value);
    }

    /// A statement, signed, and its id.
    #[track_caller]
    fn said<T: Statement + PartialEq + std::fmt::Debug>(&mut self, kind: &'static str, statement: &T) {
        self.value(&format!("statement of {kind}"), statement);
        let signed = Signed::sign(statement, &World::person_key("ana"));
        self.bytes(&format!("id of {kind}"), signed.id().as_bytes());
        self.body(kind, &signed);
    }
}

fn full_proposal() -> Proposal {
    let link = Delegated { from: "ana".into(), to: "bo".into(), operations: texts(&["erp.*"]), expires_ms: NOW };
    let session = SessionStep {
        id: d(1),
        principal: "ana".into(),
        role: "clerk".into(),
        delegation: vec![link],
        index: 2,
        prev: Some(id(2)),
        purpose: Some("pay".into()),
    };
    let hand = HandStatement {
        mesh: MESH,
        person: "ana".into(),
        credential: World::credential("ana"),
        authority_head: Some(id(3)),
        content: d(4),
        reason: "shorter".into(),
        issued_ms: NOW,
        nonce: d(5),
    };
    Proposal {
        lineage: Some(id(6)),
        expected_version: Some("v7".into()),
        parent: Some(id(7)),
        session: Some(session),
        on_behalf_of: Some("ana".into()),
        agent_model: Some(d(8)),
        agent_prompt: Some(d(9)),
        agent_tools: Some(d(10)),
        calibration: Some(Calibration { right_ppm: 970_000, n: 120, table: d(11) }),
        blast: vec![Blast { what: "addresses".into(), n: 1 }],
        dry_run: Some("+ 198.51.100.7".into()),
        alternatives: texts(&["wait"]),
        budgets: vec![Amount { budget: "blocks".into(), amount: 3 }],
        hand: Some(Hand::sign(&hand, &World::person_key("ana"))),
        ..proposal("198.51.100.7")
    }
}

fn policy() -> PolicyRef {
    PolicyRef { entry: id(20), digest: d(21), class_version: d(22) }
}

fn obligations() -> Obligations {
    Obligations {
        approvals: vec![Need { any_of: vec![GroupNeed { group: "hr".into(), n: 2 }] }],
        decide_by_ms: NOW,
        distinct_from: texts(&DISTINCT),
        assurance: Assurance::Verified,
        escalation: vec![Escalation { add: "oncall".into(), at_ms: NOW }],
        veto: Some(VetoWindow { ms: 60_000, groups: texts(&["hr"]) }),
        reserve: vec![Amount { budget: "blocks".into(), amount: 3 }],
        sandbox: texts(&["no-net"]),
        post_checks: texts(&["answers"]),
        audit_ppm: 10_000,
        notify: texts(&["hr"]),
    }
}

/// Everything whose bytes rest on those of a proposal, in one place.
fn proposals(golden: &mut Golden) {
    let full = full_proposal();
    golden.body(KIND_PROPOSAL, &full);
    golden.value("proposal without what may be absent", &proposal("198.51.100.7"));
    golden.bytes("content of a proposal", full.content().as_bytes());
    golden.bytes("arguments", Proposal::digest_of_args(&full.args).as_bytes());
    let read = Read {
        outcome: Outcome::Allow,
        rules: texts(&["r"]),
        policy: policy(),
        input_digest: d(1),
        authority_head: Some(id(2)),
        risk: RiskClass::R0,
        requester: Requester::of(&full),
        result: Some(Returned { digest: d(3), len: 7, labels: texts(&["untrusted:log"]) }),
        problem: Some("none".into()),
        at_ms: NOW,
        proposal: full,
    };
    golden.body(KIND_READ, &read);
    // What a whole round comes to: terms, presentation, input, class version and idempotency key are in these.
    let rego = "package cauldron.guardrail\nstep_up contains {\"rule\":\"r\",\"why\":\"w\",\"approvals\":[{\"group\":\"security-duty\",\"n\":1}]}";
    let mut world = World::with_policy(rego);
    let permit = world.permitted("198.51.100.7");
    world.start(&permit);
    let kinds: Vec<_> = world.facts.iter().map(|fact| fact.header().kind.clone()).collect();
    assert_eq!(kinds, [KIND_PROPOSAL, KIND_DECISION, KIND_VOTE, KIND_PERMIT, KIND_STARTED]);
    for fact in &world.facts {
        golden.bytes(&format!("{} of a round", fact.header().kind), fact.body().expect("present"));
    }
}

/// All other bodies.
fn others(golden: &mut Golden) {
    let decision = Decision {
        proposal: id(1),
        outcome: Outcome::Modify,
        obligations: obligations(),
        rules: texts(&["r"]),
        policy: policy(),
        input_digest: d(2),
        authority_head: Some(id(3)),
        risk: RiskClass::R2,
        decided_ms: NOW,
        requester: Requester {
            agent: "spiffe://acme.test/site/lyon/node/lyon/agent/a".into(),
            principal: Some("ana".into()),
            role: Some("clerk".into()),
            delegation: vec![],
            session: Some(d(4)),
        },
        session_head: Some(id(5)),
        resolves: Some(Resolution { deferred: id(6), reason: texts(&["r"]), deferred_ms: NOW }),
        modify: Some(b"{}".to_vec()),
        reported: Some(b"{}".to_vec()),
    };
    golden.body(KIND_DECISION, &decision);
    golden.value("obligations", &obligations());
    golden.bytes("terms", decision.terms().as_bytes());
    golden.bytes("undo", undo_digest("security.address.unblock/blocklist", b"{}").as_bytes());
    let permit = Permit {
        proposal: id(1),
        lineage: id(2),
        decision: id(3),
        votes: vec![d(4)],
        owner: key(3).author_id(),
        incarnation: 1,
        resource: "lyon/lyon/blocklist/198.51.100.7".into(),
        expected_version: Some("v7".into()),
        args_digest: d(5),
        max_uses: 1,
        issued_ms: NOW,
        execute_by_ms: NOW + 1,
        authority_head: Some(id(6)),
        policy: policy(),
        terms: d(7),
        window: Some(id(8)),
        budgets: vec![Amount { budget: "blocks".into(), amount: 3 }],
        sandbox: texts(&["no-net"]),
        post_checks: texts(&["answers"]),
        undo: Some(d(9)),
        break_glass: Some(id(10)),
    };
    golden.body(KIND_PERMIT, &permit);
    golden.body(
        KIND_WINDOW,
        &WindowClosed {
            proposal: id(1),
            decision: id(2),
            authority_head: Some(id(3)),
            votes: vec![d(4)],
            closed_ms: NOW,
        },
    );
    outcomes(golden);
    people(golden);
    let ends = vec![ChainEnd { scope: Scope::mesh(), seq: 9, id: Some(id(1)) }];
    let targets = [
        Target::Lineage(id(1)),
        Target::ActionClass("security.address.block/blocklist".into()),
        Target::Agent("spiffe://acme.test/site/lyon/node/lyon/agent/a".into()),
        Target::Site("lyon".into()),
        Target::All,
        Target::Author(key(3).author_id(), ends),
        Target::Feature("autonomy".into()),
        Target::Build(d(2)),
    ];
    let order = |target| Order { mesh: MESH, target, by: "hq".into(), reason: "stop".into(), issued_ms: NOW };
    for target in targets {
        golden.body(KIND_RESTRICTION, &Restriction::by_coordinator(&order(target)));
    }
    let order = order(Target::All);
    golden.value("order", &order);
    golden.body(KIND_RESTRICTION, &Restriction::by_person(&order, &World::person_key("ana")));
    let signature = World::person_key("bo").sign_ssh(ORDER_NAMESPACE, &to_cbor(&order));
    let council = vec![KeySignature { key: World::person_key("bo").public().into(), signature }];
    golden.body(KIND_RESTRICTION, &Restriction::by_council(&order, council));
    let to = Life { author: key(4).author_id(), incarnation: 1 };
    golden.body(KIND_HANDOVER, &Offer { prefix: "lyon/lyon/blocklist".into(), to });
    golden.body(KIND_TAKEOVER, &Accept { offer: id(1) });
    let files = [("manifest.json".to_owned(), br#"{"version":"1","classes":{}}"#.to_vec())];
    let bundle = crate::policy::Bundle::new(files.into()).expect("a small bundle");
    golden.bytes(KIND_BUNDLE, bundle.packed());
    golden.bytes("digest of a bundle", bundle.digest().as_bytes());
    let ask = LeaseAsk { node: key(3).author_id(), nonce: d(1) };
    golden.value("lease ask", &ask);
    golden.value("lease grant", &LeaseGrant::new(&MESH, &key(2), &ask, Some(id(2)), d(3)));
    use {Outcome as O, Reversibility as V, RiskClass as R};
    golden.bytes("risks", &to_cbor(&vec![R::R0, R::R1, R::R2, R::R3]));
    golden.bytes("outcomes", &to_cbor(&vec![O::Allow, O::Modify, O::StepUp, O::Defer, O::Deny]));
    golden.bytes("reversibilities", &to_cbor(&vec![V::Reversible, V::Compensable, V::Irreversible]));
    golden.bytes("assurances", &to_cbor(&vec![Assurance::Software, Assurance::Verified]));
}

/// What owners write.
fn outcomes(golden: &mut Golden) {
    let started = id(1);
    let labels = || texts(&["untrusted:log"]);
    golden.body(
        KIND_STARTED,
        &Started {
            permit: id(2),
            proposal: id(3),
            lineage: id(4),
            resource: "lyon/lyon/blocklist/198.51.100.7".into(),
            intent_key: "198.51.100.7".into(),
            owner_seq: 7,
            idempotency_key: d(5).to_string(),
            input_digest: d(6),
            started_ms: NOW,
        },
    );
    let done = Done {
        started,
        effect_ref: "e".into(),
        result_digest: d(2),
        before_version: Some("v1".into()),
        after_version: Some("v2".into()),
        until_ms: Some(NOW),
        done_ms: NOW,
        labels: labels(),
    };
    golden.body(KIND_DONE, &done);
    let reason = || "disk".to_owned();
    let failed = Failed { started, probed_no_effect: true, reason: reason(), failed_ms: NOW, labels: labels() };
    golden.body(KIND_FAILED, &failed);
    golden.body(KIND_UNKNOWN, &Unknown { started, reason: reason(), noticed_ms: NOW, labels: labels() });
    golden.body(KIND_ENDED, &Ended { started, effect_ref: "e".into(), ended_ms: NOW });
    let check = |held| Checked { name: "answers".into(), held, says: "200".into() };
    let verified = |checks| Verified { started, checks, at_ms: NOW };
    golden.body(KIND_VERIFIED, &verified(vec![check(Some(true))]));
    golden.body(KIND_VERIFY_FAILED, &verified(vec![check(Some(false)), check(None)]));
    golden.body(KIND_COMPENSATING, &Compensating { started, by: Some("ana".into()), reason: reason(), at_ms: NOW });
    let compensated = Compensated { started, effect_ref: "e".into(), after_version: Some("v1".into()), at_ms: NOW };
    golden.body(KIND_COMPENSATED, &compensated);
    golden.body(KIND_COMPENSATION_FAILED, &CompensationFailed { started, reason: reason(), at_ms: NOW });
}

/// What people say.
fn people(golden: &mut Golden) {
    let mesh = MESH;
    let (person, credential) = (|| "ana".to_owned(), World::credential("ana"));
    let (authority_head, nonce) = (Some(id(1)), d(2));
    for choice in [Choice::Approve, Choice::Abstain, Choice::Withdraw, Choice::Deny, Choice::Object, Choice::Comment] {
        let statement = crate::vote::VoteStatement {
            mesh,
            person: person(),
            credential,
            lineage: id(3),
            proposal: id(4),
            terms: d(5),
            presentation: d(6),
            served_by: key(2).author_id(),
            authority_head,
            choice,
            reason: "because".into(),
            dwell_ms: 12_000,
            issued_ms: NOW,
            expires_ms: NOW + 1,
            nonce,
        };
        golden.value("statement of vote", &statement);
        golden.body(KIND_VOTE, &statement.sign(&World::person_key("ana")));
        golden.body(KIND_VOTE, &statement.answered(&World::passkey("ana").assert(&statement.id())));
    }
    let deputy = DeputyStatement {
        mesh,
        person: person(),
        credential,
        authority_head,
        to: "bo".into(),
        groups: texts(&["hr"]),
        classes: texts(&["security.address.block/blocklist"]),
        from_ms: NOW,
        until_ms: NOW + 1,
        takes_back: Some(d(3)),
        nonce,
    };
    golden.said(KIND_DEPUTY, &deputy);
    let (used, issued_ms) = (id(3), NOW);
    let note = "right".to_owned();
    golden.said(
        KIND_REVIEW,
        &ReviewStatement { mesh, person: person(), credential, authority_head, used, note, issued_ms, nonce },
    );
    let (restriction, reason) = (id(3), "over".to_owned());
    golden.said(
        KIND_SITE_LIFT,
        &SiteLiftStatement {
            mesh,
            person: person(),
            credential,
            authority_head,
            restriction,
            reason,
            issued_ms,
            nonce,
        },
    );
    golden.body(KIND_BREAK_GLASS, &BrokenGlass::new(&key(60), &mesh, (id(1), id(2)), "now", NOW));
}

#[test]
fn wire_v1_of_proposals_is_pinned() {
    let mut golden = Golden::default();
    proposals(&mut golden);
    expect_test::expect![[r#""#]].assert_eq(&golden.text);
}

#[test]
fn wire_v1_of_bodies_is_pinned() {
    let mut golden = Golden::default();
    others(&mut golden);
    expect_test::expect![[r#""#]].assert_eq(&golden.text);
}

#[test]
fn every_kind_of_body_has_a_golden_line() {
    let mut golden = Golden::default();
    proposals(&mut golden);
    others(&mut golden);
    let missing: Vec<_> = KINDS.iter().filter(|kind| !golden.kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "write a line for {missing:?} in this file");
}

#[test]
fn a_kind_of_a_later_build_means_nothing_to_the_ledger() {
    let mut world = World::new();
    let fact = world.sealed(3, "site/lyon", "proposal-of-later", &proposal("198.51.100.7"));
    assert_eq!(world.ledger.insert(&fact), Inserted::NotGovernance);
    assert_eq!(world.ledger, Ledger::new());
}
