//! What the wire looks like in v1, by length and hash of each encoding: see `docs/wire.md`, "What pins it". A value that changes
//! here is another wire. `UPDATE_EXPECT=1 cargo test` writes them anew.

mod people;

use std::collections::BTreeSet;

use cauldron_identity::authority::{Accept, Assurance, ChainEnd, Offer};
use cauldron_identity::budget::Life;
use cauldron_identity::charter::KeySignature;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::sha256;
use cauldron_identity::{Digest, FactId, MeshId, Scope};
use minicbor::{Decode, Encode};

use self::people::people;
use super::*;
use crate::lease::{LeaseAsk, LeaseGrant};
use crate::ledger::{Inserted, Ledger};
use crate::signed::{Signed, Statement};
use crate::testkit::{NOW, World, key, proposal};
use crate::vote::Choice;

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
        session: Some(Box::new(session)),
        on_behalf_of: Some("ana".into()),
        agent_model: Some(d(8)),
        agent_prompt: Some(d(9)),
        agent_tools: Some(d(10)),
        calibration: Some(Box::new(Calibration { right_ppm: 970_000, n: 120, table: d(11) })),
        blast: vec![Blast { what: "addresses".into(), n: 1 }],
        dry_run: Some("+ 198.51.100.7".into()),
        alternatives: texts(&["wait"]),
        budgets: vec![Amount { budget: "blocks".into(), amount: 3 }],
        hand: Some(Box::new(Hand::sign(&hand, &World::person_key("ana")))),
        saga: Some(SagaStep { index: 2, of: 3, after: Some(id(8)) }),
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
        resolves: Some(Box::new(Resolution { deferred: id(6), reason: texts(&["r"]), deferred_ms: NOW })),
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

#[test]
fn wire_v1_of_proposals_is_pinned() {
    let mut golden = Golden::default();
    proposals(&mut golden);
    expect_test::expect![[r#"
        proposal 1303 cb67b0a7fe85f3669c2455cea880077280d49b47dc0007f8b98bcb1fa50ab82d
        proposal without what may be absent 584 81a1121ea655d8f7b807a2b2f8eee8784d2814fa145f8ee0fdccf73aa5785827
        content of a proposal 32 67ac55ab88ff5844295f2e43a021c9d63df7eb10620998d0617a2148eaf52e17
        arguments 32 465f141389d36003259f4d7e5ed51a91aa977a4d905619cef2431f4915e05e95
        read 1703 699f54787e55d3cf93ba0f8a0e17479f0d6145fd04288d63d4bb02958fe9da49
        proposal of a round 584 81a1121ea655d8f7b807a2b2f8eee8784d2814fa145f8ee0fdccf73aa5785827
        decision of a round 423 f5c7976062f57f8e8deca95c5cd0f39e5e47f7b35fe259c42bd0cd31ac1d4a4d
        vote of a round 428 95abc81a82a4b4c4eba695dfe5e61bdc2d7ee44b760fe0bdb4c18cbebb13e9e8
        permit of a round 489 416d5351a9c177424391aa758aa5be85cbdb310df83a16528f55f8589f9098d9
        started of a round 291 a175ac33c15423342c614d4bbd74c8e015814e80f214d64d6b9ef55accd33caf
    "#]]
    .assert_eq(&golden.text);
}

#[test]
fn wire_v1_of_bodies_is_pinned() {
    let mut golden = Golden::default();
    others(&mut golden);
    expect_test::expect![[r#"
        decision 548 eb5eea098dc8670d5ac374f1c810125c082331a990268d33caf20343caf85282
        obligations 122 db842cc0d29148baf67048a0cfe5f439984d8c261563a767ec90a9f019853cc7
        terms 32 24a616ef374db9be96f91894200fbd241e06475e8db5e568a79a26eb0fd4a7ae
        undo 32 0b56d1222565daa1ad2d922c1c7e348e25941a94a42698aeb14d85889e9beea9
        permit 590 38f492761cd680984f9a659c355d87cecb864cb209dd454e9ff9f4ae946230f9
        window-closed 152 bd8bd08d9d30519eaeb312082507eed2dbc9d0d9aa6df611f39e5d22300cb850
        started 269 61c373cb72b3cb3a21a308082c8d06ae88b2ba6d279654c92c48b1fac3f4f9cb
        done 118 013dc49c4588176a5927bec21a0ec0bdf9fabbdbe7fbb7cf6f52f0e2eb7ca5b1
        failed 70 fac9ab6fa20142a7531761702588410a7d90bb01a56545ce531bc5841898bf83
        unknown 68 c6939fe27ee8251816160ba05f5190e4f5e66404716da205371c0cd784ee4d2d
        ended 49 a56e16b0f88d816872d0f6e93b310f75844357ad46582e24d8633f3a5791a3f0
        verified 65 4a6346004cdced0b74994c65a44825f9db8d291ce8e86360989795d590a8e49a
        verify-failed 80 2b2a9b74302fc77d28227aa629d2902dec3d4b0526f6e443fa5ac92208e76ffd
        compensating 57 598a588d07c15004d1ec7cc667f2a1e317fef88c9ca6f94ff56daecefc4f80b5
        compensated 53 bc339eca6e437dd9794db04662f6d1301c7583c8262358404ee3139348a06828
        compensation-failed 52 5c5178e94d68de4744f9da973dcf121e0b468b32033009a099218712d763f827
        statement of vote 356 c9d0729311d7240a0daa4d1d23d092f34a68d12684e5df2f153ed35931758d06
        vote 428 5316cabcd694ae5cc0a6bdc85dbc8b921372fe8e73b10a6b51ceca63e4e5ac3b
        vote 609 3205257313317c56438f69bfce80f267e56d7f2b5680b265f230d044420015dc
        statement of vote 356 7b682965c332d5781110f493521cf1f41184d1fbd53938dfeaede41d4f02a2d9
        vote 428 b91405c9e023cc8907ca6e48d054f4be88cf77c5a9ca3c13c1ac6866f3e71aa2
        vote 609 48bc365446627b5fc23b9f960fd36066d1f9c44a63d8e83cb57881f4de6c2766
        statement of vote 356 928674e92a2f8134cdcc055c61b5448f659e434db84005b93a0e91d51a8023de
        vote 428 f3899bf6ea25ed9390be196e991ed79bcbca8c5c7f59c86dbefc1bc906d50f5a
        vote 609 f4c72d899cb4ae95ea9b8b9fe885eba1c96100300356d6795089f5247d285ba3
        statement of vote 356 246c0b283a34b73ab2ddc410982d41bd6cc072a836f8c903617174a875d36ce8
        vote 428 e40e4d79001bca8170dfb76e51d893603b1750479145dc03cdb5a4364f4d6b1d
        vote 609 4c25671091cf7023fe2061d65a18dd501eef5bb376aa630a8169b0d53bec9351
        statement of vote 356 72af9bcc2bb5f12566426e7cbce10546cb2bf1e73c9b0d41024546d285207957
        vote 428 32d26d196462230a3cd9ed89f08d2d0f51d602898c017ea017f531c6919f233a
        vote 609 2ce4bf5fa0bb88d052d3468d189947700cbf0ece51b871930489fa88662380f2
        statement of vote 356 15aeeaf7d0e3e5cfa07b28c4ccd58bca2f0eb9c9b07cc995627ca8843fe571fb
        vote 428 9663ddc8da443ebe382dafc89033104f824f121f9213d7365bb8b302e786111e
        vote 609 90ee2f3c0aee7b485af38584016ffa2a5ff8adf044e15fddbc026ba97fd73341
        statement of deputy 246 8d8d8040ca9da97cacd7af8f03090b86b37d145b706ab1722962aa70bdf5f557
        id of deputy 32 104b7aac8eafdfc5b3cde4983289ffc8157b7f298289e93689fc4117659bc357
        deputy 317 bbe7f58a906ce25b8c0433aae59f655cc1ea4c49146dfa2350cfa0a9425ccc2f
        statement of break-glass-review 198 f126551b57f5be4eda2c796899518c58c47f94fdf4315b3bf5abef57c81d29fc
        id of break-glass-review 32 87a0c481998c9263c896f8834edd18a03b03cdf35b9fcb3d43908159e32907c6
        break-glass-review 269 f792abc4e41b02c33b7cc15f27c7d105aa958d6cb4940619eac428bb4e484b31
        statement of site-lift 197 c6a3ddf219636c27090d34da1feed11ece2f1ae56d645d46bd4b82c5268a0a84
        id of site-lift 32 8b22e23fcfd246af8d628628b9c3a821ad58d30c690b69765a7117a1fa37c202
        site-lift 268 93fcc3729fda46dafa55c1cd50ebfda0ebae73ec029d1f943e4e62e2808ac69f
        statement of reconciled 201 943b55673e5f463ecd68a9ad084448d8956ffd3a02229b3af13e7a08ad80d8b3
        id of reconciled 32 fe04e8de95ce6d501c26898c9c5e17dc534366731ab5122bcd817fb1919cc9b5
        reconciled 272 1012316e59555c6c0b0a3e0d47a3c8e9b44845b1134b3ae429149541f09f19a7
        aborted 54 962b9d513177e08a1b1a9d4a3b28465f8fd991e092730ca5d97319186e8e8c02
        break-glass 188 969f15b0f40e2f2dec12c46eb94c887fc4e3ab3d2299eb6675cf00be47fff2e7
        restriction 100 15080e520f0c06cb182090ca81d13b96fed307e49749eb88c621c90ea1cf8a9e
        restriction 100 987283b719f2425a36c0aed81430effb984fee7c8df3af730f084046e76099fa
        restriction 114 ad4d01e4d0dbc289ff9978700fe0299e99d0334cf003b77db68854079dceda9a
        restriction 71 94d58bc540e8978c803f14a2ab0fdc1722b1724f290316fd994f27fe09d5e0c2
        restriction 66 90c2f5284504410032cf7c1b8d9baa21dc7ad7416fb64136ad83b2bd0f7eef78
        restriction 145 c4f5ade624d9f5c2a6e164009bb276fee2847159939d732a1a45fe2340c102b7
        restriction 75 cf90b15865b796ff5e1bf0018ef72feee1ba63036d271945dcbc2cbd20a818e8
        restriction 100 4500daac4a29e1824a17c47bfcef29d97bc3090668dd45dd5bdcc439bbe851e7
        order 60 f5247ac9cefd1fe09fe369b6ed59b16f9ad53a9c6723210cf09e3ddaf4ca7c55
        restriction 170 98fda50350b506beeafb8c6af655c12dd906862d5f1aac659271e56d5178dea5
        restriction 169 bc893e59483eb65b235f6f4fe3915379a8d20082c8618d3a8458c59da3dc2e51
        handover 61 0af12b56e218cad3456b5faa500d5fbbe4429f080c52047030f0f045806a37f1
        takeover 36 c3742440793b3d233cceb1a073874980f82b66de502de65fc458b5d77a430975
        policy.bundle 52 9645cf8c9742a3c92f27abd8d75af4fed2ac6346875a4eb5d04f491203534984
        digest of a bundle 32 b01eb1c56fe19acce896dfd849f45438feda2054b44f6f78c9695558663a29ce
        lease ask 71 1e97db97cc3d01e93283cd98be9aae1354fbfc2c3a805d3312748598dccc632b
        lease grant 245 1af9d14a8e0e2b68d2ab0cabf70ceb36e6db04f72ba49015f933a28a9a7afec5
        risks 5 e3fbd65c4c3f7fdba7b8ae0709da781c3637b13f4a4b920db90d2f9b23d412ff
        outcomes 6 f9dc6f4129989acc9dc863e4770098e5bfde620d9f3e163d372ec85f6eb12ded
        reversibilities 4 c17bb45e50cabd2b8f13ba5bd2bb3febab208fd779ff71b371cba0227a081034
        assurances 3 7be4753cd54111abb56c944c5959d60bf79da015cf82a3ea402e680090fec99c
    "#]]
    .assert_eq(&golden.text);
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
