//! A governed action from its proposal to its end, and every restriction, as deeds.

use cauldron_coordinator::action::Action;
use cauldron_coordinator::bodies::{
    Aborted, Checked, Compensated, Compensating, CompensationFailed, Done, Ended, Evidence, Failed, KIND_ABORTED,
    KIND_BUNDLE, KIND_COMPENSATED, KIND_COMPENSATING, KIND_COMPENSATION_FAILED, KIND_DECISION, KIND_DONE, KIND_ENDED,
    KIND_FAILED, KIND_PERMIT, KIND_PROPOSAL, KIND_RESTRICTION, KIND_STARTED, KIND_UNKNOWN, KIND_VERIFIED,
    KIND_VERIFY_FAILED, KIND_VOTE, KIND_WINDOW, Order, Proposal, SagaStep, Target, Unknown, Verified,
};
use cauldron_coordinator::coordinate::{Act, Limits, Sitting, step};
use cauldron_coordinator::lease::LeaseAge;
use cauldron_coordinator::ledger::Ledger;
use cauldron_coordinator::owner::{Bench, Me, NO_HANDS, Verdict, judge};
use cauldron_coordinator::policy::Bundle;
use cauldron_coordinator::vote::{Choice, VoteStatement, present_decision};
use cauldron_identity::authority::Credential;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId};
use minicbor::Encode;

use super::chains::{POLICY, as_frames, as_node};
use super::{Seed, seed};
use crate::chunks::join;
use crate::insider::{Deed, deed};
use crate::mesh::{ANA, ENGINE, HQ, LYON, Mesh, NOW, PORTO, key, spiffe_id};

pub(super) fn seeds() -> Vec<Seed> {
    let story = Story::told();
    let orders = orders();
    let bundle = vec![deed(HQ, "mesh", KIND_BUNDLE, 0, Bundle::default_bundle().packed())];
    let mut all = vec![seed("governance", "story", join(&story)), seed("governance", "orders", join(&orders))];
    all.push(seed("governance", "bundle", join(bundle)));
    all.push(seed("sync", "story", as_frames(0, &story)));
    all.push(seed("node", "story", as_node(POLICY, &story)));
    all.push(seed("node", "orders", as_node(POLICY, &orders)));
    let single = |(n, deed): (usize, &Vec<u8>)| seed("governance", format!("step-{n}"), join([deed]));
    all.extend(story.iter().enumerate().map(single));
    all
}

struct Story {
    mesh: Mesh,
    ledger: Ledger,
    deeds: Vec<Vec<u8>>,
}

impl Story {
    fn told() -> Vec<Vec<u8>> {
        let mut story = Self { mesh: Mesh::founded(), ledger: Ledger::new(), deeds: Vec::new() };
        let proposal = story.write(LYON, KIND_PROPOSAL, 0, &proposal());
        story.coordinate();
        let statement = story.statement(proposal);
        story.write(LYON, KIND_VOTE, 1, &statement);
        let permit = story.coordinate().expect("a permit");
        let started = story.start(permit);
        let digest = Digest::of("result", b"");
        let done = Done {
            started,
            effect_ref: "blocklist:198.51.100.7".into(),
            result_digest: digest,
            before_version: None,
            after_version: Some("2".into()),
            until_ms: Some(NOW.wall_ms + 3_600_000),
            done_ms: NOW.wall_ms,
            labels: vec!["untrusted:file".into()],
        };
        story.write(LYON, KIND_DONE, 0, &done);
        story.write(
            LYON,
            KIND_ENDED,
            0,
            &Ended { started, effect_ref: done.effect_ref.clone(), ended_ms: NOW.wall_ms },
        );
        let reason = "disk".to_owned();
        let failed =
            Failed { started, probed_no_effect: true, reason: reason.clone(), failed_ms: NOW.wall_ms, labels: vec![] };
        story.write(LYON, KIND_FAILED, 0, &failed);
        story.write(LYON, KIND_UNKNOWN, 0, &Unknown { started, reason, noticed_ms: NOW.wall_ms, labels: vec![] });
        story.aftermath(started);
        story.saga();
        story.deeds
    }

    /// Two steps, of which the second is given up.
    fn saga(&mut self) {
        let mut after = None;
        for index in 1..=2 {
            let saga = Some(SagaStep { index, of: 2, after });
            let step = Proposal { saga, ..proposal() };
            after = Some(self.write(LYON, KIND_PROPOSAL, 0, &step));
        }
        let reason = "denied".to_owned();
        let aborted = after.map(|proposal| Aborted { proposal, reason, at_ms: NOW.wall_ms });
        aborted.into_iter().for_each(|body| _ = self.write(LYON, KIND_ABORTED, 0, &body));
    }

    /// What is said of an effect after it was done.
    fn aftermath(&mut self, started: FactId) {
        let (at_ms, reason) = (NOW.wall_ms, "a check does not hold".to_owned());
        let checked = |held| Verified {
            started,
            checks: vec![Checked { name: "listed".into(), held, says: "looked".into() }],
            at_ms,
        };
        self.write(LYON, KIND_VERIFIED, 0, &checked(Some(true)));
        self.write(LYON, KIND_VERIFY_FAILED, 0, &checked(None));
        let by = Some("ana".to_owned());
        self.write(LYON, KIND_COMPENSATING, 0, &Compensating { started, by, reason: reason.clone(), at_ms });
        self.write(LYON, KIND_COMPENSATION_FAILED, 0, &CompensationFailed { started, reason, at_ms });
        let effect_ref = "blocklist:198.51.100.7".to_owned();
        let after_version = Some("absent".to_owned());
        self.write(LYON, KIND_COMPENSATED, 0, &Compensated { started, effect_ref, after_version, at_ms });
    }

    fn write<T: Encode<()>>(&mut self, author: u8, kind: &str, how: u8, body: &T) -> FactId {
        let deed = deed(author, "site/lyon", kind, how, &to_cbor(body));
        let Some(Deed::Fact(fact)) = self.mesh.insider(&deed) else { unreachable!("a body of ours can be read") };
        self.ledger.insert(&fact);
        self.deeds.push(deed);
        fact.id()
    }

    /// Lets hq write until it has nothing more to write; its last fact.
    fn coordinate(&mut self) -> Option<FactId> {
        let mut last = None;
        loop {
            let me = key(HQ).author_id();
            let sitting = Sitting { me: &me, lease: LeaseAge::Ms(0), budgets: &[] };
            let acts = step(&self.ledger, &self.mesh.authority, Some(&ENGINE), &NOW, &sitting, &Limits::default());
            for act in &acts {
                last = Some(match act {
                    Act::Decide { body, .. } => self.write(HQ, KIND_DECISION, 0, body),
                    Act::Modify { body, .. } => self.write(HQ, KIND_PROPOSAL, 0, body),
                    Act::Close { body, .. } => self.write(HQ, KIND_WINDOW, 0, body),
                    Act::Permit { body, .. } => self.write(HQ, KIND_PERMIT, 0, body),
                });
            }
            if acts.is_empty() {
                return last;
            }
        }
    }

    fn statement(&self, proposal: FactId) -> VoteStatement {
        let decision = &self.ledger.decisions_on(&proposal).next().expect("it was decided").body;
        let body = &self.ledger.proposal(&proposal).expect("it is here").body;
        VoteStatement {
            mesh: self.mesh.id,
            person: "ana".into(),
            credential: Credential::of(key(ANA).public().into()).id(),
            lineage: proposal,
            proposal,
            terms: decision.terms(),
            presentation: present_decision(body, decision).digest(),
            served_by: key(HQ).author_id(),
            authority_head: self.mesh.authority.head(),
            choice: Choice::Approve,
            reason: "because".into(),
            dwell_ms: 12_000,
            issued_ms: NOW.wall_ms,
            expires_ms: NOW.wall_ms + 3_600_000,
            nonce: Digest::of("nonce", b"1"),
        }
    }

    fn start(&mut self, permit: FactId) -> FactId {
        let id = spiffe_id(LYON);
        let author = key(LYON).author_id();
        let bench = Bench {
            ledger: &self.ledger,
            authority: &self.mesh.authority,
            engine: Some(&ENGINE),
            clock: &NOW,
            lease: LeaseAge::Ms(1_000),
            budgets: &[],
            me: Me { author, incarnation: 0, spiffe_id: &id, resource_version: None, hands: &NO_HANDS },
        };
        let verdict = judge(&permit, &bench);
        let Verdict::Execute(verified) = verdict else { panic!("an approved action is not carried out: {verdict:?}") };
        let started = verified.started(self.ledger.next_owner_seq(&author), NOW.wall_ms);
        self.write(LYON, KIND_STARTED, 0, &started)
    }
}

/// A sound proposal of lyon's agent to block an address for an hour.
fn proposal() -> Proposal {
    let action = Action::block("198.51.100.7", 3_600, "brute force").expect("within its bounds");
    let agent = format!("{}/agent/sshd-bruteforce", spiffe_id(LYON));
    Proposal {
        agent_build: Digest::of("build", b"1"),
        undo_plan: "remove the line".into(),
        confidence_ppm: 900_000,
        confidence_method: "test".into(),
        rationale: "9 failed logins in 10 minutes".into(),
        evidence: vec![Evidence {
            source: "auth.log".into(),
            line_no: 7,
            digest: Digest::of("line", b"7"),
            text: "Failed password for root".into(),
            labels: vec!["untrusted:log".into()],
        }],
        taint: vec!["untrusted:log".into()],
        created_ms: NOW.wall_ms,
        expires_ms: NOW.wall_ms + 12 * 3_600_000,
        ..action.proposal("lyon", "lyon", &agent, &cauldron_coordinator::json::rfc3339(NOW.wall_ms - 600_000))
    }
}

fn orders() -> Vec<Vec<u8>> {
    let mesh = Mesh::founded();
    let targets = [
        Target::Lineage(FactId::from_bytes([1; 32])),
        Target::ActionClass("security.address.block/blocklist".into()),
        Target::Agent(format!("{}/agent/sshd-bruteforce", spiffe_id(LYON))),
        Target::Site("lyon".into()),
        Target::All,
        Target::Author(key(PORTO).author_id(), vec![]),
    ];
    let order = |target| {
        let order = Order { mesh: mesh.id, target, by: "bo".into(), reason: "stop".into(), issued_ms: NOW.wall_ms };
        deed(LYON, "site/lyon#restrict", KIND_RESTRICTION, 1, &to_cbor(&order))
    };
    targets.into_iter().map(order).collect()
}
