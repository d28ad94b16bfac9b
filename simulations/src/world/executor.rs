//! An owner's own key in the wrong hands: starts that nobody permitted, ends of what never was, rights that it does not hold.
//!
//! What its machine can reach it could change without any of this (`docs/security-model.md`); here it lies to the others.

use std::sync::Arc;

use cauldron_coordinator::bodies::{
    Compensated, Done, Ended, Failed, KIND_COMPENSATED, KIND_DONE, KIND_ENDED, KIND_FAILED, KIND_PERMIT, KIND_PROPOSAL,
    KIND_STARTED, Permit, Proposal, Started,
};
use cauldron_crdt::escrow::{Body, Budget, Debit, KIND_RESERVE, Life, Reserve, Settle, purpose_of};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId, Scope};

use super::process::Death;
use super::{HQ, World};
use crate::facts::{Known, of_kind};
use crate::founding::BLOCKS;
use crate::network::Place;
use crate::reached;

/// What a compromised owner writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It started what nobody permitted, and did it.
    Unpermitted,
    /// It started what it had started, under another number.
    Twice,
    /// It did something on its own resource in the name of a proposal that another owner has to carry out.
    ForAnother,
    /// It did that on the other's resource.
    AtAnother,
    /// What another owner started is done, over, taken back, or never happened.
    Outcome,
    /// The rights that another owner set aside were not used.
    Unspent,
    /// It sets more aside than it holds.
    Overspent,
    /// It grants what it does not hold.
    FromNothing,
}

const LIES: [Lie; 8] = [
    Lie::Unpermitted,
    Lie::Twice,
    Lie::ForAnother,
    Lie::AtAnother,
    Lie::Outcome,
    Lie::Unspent,
    Lie::Overspent,
    Lie::FromNothing,
];

impl World {
    /// Somebody with the key of one owner, the same in all of a world, writes into its chains while it is down.
    pub(crate) fn executor_lies(&mut self, place: Place) {
        let author = self.history.liars.iter().next().copied().unwrap_or(self.machines[place].author);
        let Some(place) = self.machines.iter().position(|m| m.author == author) else { return };
        if !self.machines[place].has_joined() || self.coordinates(place) {
            return;
        }
        // On a disk that lies behind it would fork its chain, and what becomes of forks is another fault's to show.
        let m = &self.machines[place];
        if m.restored.as_ref().is_some_and(|restored| restored.lost.keys().any(|id| !m.known.contains_key(id))) {
            return;
        }
        let Some(lie) = self.rng.pick(&LIES).copied() else { return };
        self.lie_as(place, lie);
    }

    /// The node of an owner writes this with its own key. Returns what it wrote, unless there is nothing to lie about.
    pub fn lie_as(&mut self, place: Place, lie: Lie) -> Option<FactId> {
        self.history.liars.insert(self.machines[place].author);
        self.die(place, Death::Kill);
        self.machines[place].recall();
        let written = match lie {
            Lie::Unpermitted | Lie::Twice | Lie::ForAnother | Lie::AtAnother => self.false_start(place, lie),
            Lie::Outcome => self.false_outcome(place),
            Lie::Unspent | Lie::Overspent | Lie::FromNothing => self.false_rights(place, lie),
        }?;
        reached!(self, "executor.lied");
        if matches!(lie, Lie::ForAnother | Lie::AtAnother) {
            reached!(self, "executor.started_for_another");
        }
        self.note(place, "LIED", written.as_bytes(), || format!("{lie:?} {}", written.short()));
        Some(written)
    }

    fn owns(&self, place: Place, proposal: &Proposal) -> bool {
        let m = &self.machines[place];
        proposal.resource.starts_with(&format!("{}/{}/", m.site.as_deref().unwrap_or_default(), m.name))
    }

    fn false_start(&mut self, place: Place, lie: Lie) -> Option<FactId> {
        let known = &self.machines[place].known;
        let proposals: Vec<(Arc<Known>, Proposal)> =
            of_kind::<Proposal>(known, KIND_PROPOSAL).map(|(f, p)| (f.clone(), p)).collect();
        let author = self.machines[place].author;
        let starts: Vec<(Arc<Known>, Started)> = of_kind::<Started>(known, KIND_STARTED)
            .filter(|(f, _)| f.header.author == author)
            .map(|(f, s)| (f.clone(), s))
            .collect();
        let number = starts.iter().map(|(_, s)| s.owner_seq).max().unwrap_or(0) + 1;
        if lie == Lie::Twice {
            let (fact, start) = self.rng.pick(&starts)?.clone();
            let again = Started { owner_seq: number, ..start };
            return self.write_start(place, &fact.header.scope, &again);
        }
        let wanted = |p: &Proposal| self.owns(place, p) == (lie == Lie::Unpermitted);
        let candidates: Vec<(Arc<Known>, Proposal)> = proposals.into_iter().filter(|(_, p)| wanted(p)).collect();
        let (fact, proposal) = self.rng.pick(&candidates)?.clone();
        let permit = of_kind::<Permit>(&self.machines[place].known, KIND_PERMIT).find(|(_, p)| p.proposal == fact.id);
        let permit = permit.map_or(FactId::from_bytes([7; 32]), |(f, _)| f.id);
        let mut resource = proposal.resource.clone();
        if lie == Lie::ForAnother {
            let m = &self.machines[place];
            let rest = resource.splitn(3, '/').nth(2)?.to_owned();
            resource = format!("{}/{}/{rest}", m.site.as_deref()?, m.name);
        }
        let start = Started {
            permit,
            proposal: fact.id,
            lineage: proposal.lineage(fact.id),
            resource,
            intent_key: proposal.intent_key,
            owner_seq: number,
            idempotency_key: "00".repeat(16),
            input_digest: Digest::of("sim/nothing", b""),
            started_ms: self.machines[place].clock.wall(self.queue.now()),
        };
        let started = self.write_start(place, &fact.header.scope, &start)?;
        let done = Done {
            started,
            effect_ref: start.resource.clone(),
            result_digest: Digest::of("sim/nothing", b""),
            before_version: Some("1".into()),
            after_version: Some("2".into()),
            until_ms: None,
            done_ms: start.started_ms,
            labels: vec![],
        };
        self.inject(place, &fact.header.scope, KIND_DONE, vec![started], to_cbor(&done))?;
        Some(started)
    }

    fn write_start(&mut self, place: Place, scope: &Scope, start: &Started) -> Option<FactId> {
        self.inject(place, scope, KIND_STARTED, vec![], to_cbor(start))
    }

    fn false_outcome(&mut self, place: Place) -> Option<FactId> {
        let m = &self.machines[place];
        let theirs: Vec<Arc<Known>> = of_kind::<Started>(&m.known, KIND_STARTED)
            .filter(|(f, _)| f.header.author != m.author)
            .map(|(f, _)| f.clone())
            .collect();
        let start = self.rng.pick(&theirs)?.clone();
        let (started, now_ms) = (start.id, self.machines[place].clock.wall(self.queue.now()));
        let effect_ref = "elsewhere".to_owned();
        let (kind, body) = match self.rng.below(3) {
            0 => (KIND_ENDED, to_cbor(&Ended { started, effect_ref, ended_ms: now_ms })),
            1 => {
                let body = Compensated { started, effect_ref, after_version: Some("9".into()), at_ms: now_ms };
                (KIND_COMPENSATED, to_cbor(&body))
            }
            _ => {
                let reason = "it never happened".to_owned();
                let body = Failed { started, probed_no_effect: true, reason, failed_ms: now_ms, labels: vec![] };
                (KIND_FAILED, to_cbor(&body))
            }
        };
        self.inject(place, &start.header.scope, kind, vec![started], body)
    }

    fn false_rights(&mut self, place: Place, lie: Lie) -> Option<FactId> {
        let budget = Budget::new(BLOCKS).ok()?;
        let m = &self.machines[place];
        let body = match lie {
            Lie::Unspent => {
                let author = m.author;
                let theirs: Vec<FactId> = of_kind::<Reserve>(&m.known, KIND_RESERVE)
                    .filter(|(f, _)| f.header.author != author)
                    .map(|(f, _)| f.id)
                    .collect();
                Body::Settle(Settle { reserve: *self.rng.pick(&theirs)?, spent: 0 })
            }
            Lie::Overspent => {
                let purpose = purpose_of(&FactId::from_bytes(self.rng.bytes()));
                Body::Reserve(Reserve { budget, window: 0, amount: 1_000, purpose })
            }
            _ => {
                let to = self.rng.index(self.machines.len());
                if to == place {
                    return None;
                }
                let (author, incarnation) = (self.machines[to].author, self.incarnation_of(&self.machines[to]));
                let incarnation = if to == HQ { 0 } else { incarnation };
                Body::Debit(Debit { budget, window: 0, amount: 1_000, to: Life { author, incarnation }, purpose: None })
            }
        };
        self.inject(place, &Scope::mesh(), body.kind(), body.deps(), body.to_bytes())
    }

    /// Whether an adversary holds the key of a machine that owns something.
    #[must_use]
    pub fn is_liar(&self, place: Place) -> bool {
        self.history.liars.contains(&self.machines[place].author)
    }
}
