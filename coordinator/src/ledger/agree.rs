//! Which decision governs, how far people agree with it, and which permits rest on that.

use cauldron_identity::FactId;
use cauldron_identity::authority::Authority;

use super::rights::stands;
use super::state::PERMIT_MS_MAX;
use super::tally::Ballot;
use super::{Ledger, Recorded, entitled};
use crate::bodies::{Decision, Outcome, Permit, Proposal, VetoWindow, WindowClosed};
use crate::json::rfc3339;
use crate::quorum::{Fill, fill};

impl Ledger {
    /// How far the approvals for one decision fill its seats now.
    #[must_use]
    pub fn quorum(&self, p: &Recorded<Proposal>, decision: &Decision, authority: &Authority, now_ms: u64) -> Fill {
        Ballot::new(self, authority, p, decision).fill(now_ms, None)
    }

    /// When a proposal lapses: the earliest deadline that it or an entitled coordinator named.
    pub(super) fn deadline_ms(&self, p: &Recorded<Proposal>, authority: &Authority) -> u64 {
        let decisions = self.decisions_on(&p.id).filter(|d| self.decision_restricts(p, d, authority));
        decisions.map(|d| d.body.obligations.decide_by_ms).fold(p.body.expires_ms, u64::min)
    }

    /// Until when somebody may still object to a decision, and who; none where no silence is needed, or a coordinator has said
    /// that it was kept.
    #[must_use]
    pub fn awaits_silence(
        &self,
        p: &Recorded<Proposal>,
        d: &Recorded<Decision>,
        authority: &Authority,
    ) -> Option<(u64, String)> {
        let window = d.body.obligations.veto.as_ref()?;
        let ballot = Ballot::new(self, authority, p, &d.body);
        // Then people have to say yes, and a yes needs no silence.
        if ballot.silence_is_no_yes(window).is_some() || self.silence(p, d, window, authority).is_some() {
            return None;
        }
        Some((d.body.decided_ms.saturating_add(window.ms), window.groups.join(", ")))
    }

    /// The word of a coordinator in good standing that the time to object to a decision is over.
    pub(crate) fn silence(
        &self,
        p: &Recorded<Proposal>,
        d: &Recorded<Decision>,
        window: &VetoWindow,
        authority: &Authority,
    ) -> Option<&Recorded<WindowClosed>> {
        self.windows_on(&p.id).find(|w| {
            w.body.decision == d.id
                && w.body.closed_ms >= d.body.decided_ms.saturating_add(window.ms)
                && w.header.scope == p.header.scope
                && entitled(authority, &w.header.author, &p.header.scope)
                && stands(&w.header, w.id, authority).is_ok()
        })
    }

    /// The decisions that govern: of those that count, the ones under the newest policy, and of these the strictest.
    /// A deferral gives way to what its own author decided under the same rules later. In the order of their ids.
    #[must_use]
    pub fn governing(&self, p: &Recorded<Proposal>, authority: &Authority) -> Vec<&Recorded<Decision>> {
        let resolved = |d: &Recorded<Decision>| {
            d.body.outcome == Outcome::Defer
                && self.decisions_on(&p.id).any(|other| {
                    other.header.author == d.header.author
                        && other.body.policy.class_version == d.body.policy.class_version
                        && other.body.outcome != Outcome::Defer
                })
        };
        let counting = self.decisions_on(&p.id).filter(|d| self.decision_grants(p, d, authority) && !resolved(d));
        let ranked = counting.filter_map(|d| Some(((authority.index_of(&d.body.policy.entry)?, d.body.outcome), d)));
        let ranked: Vec<_> = ranked.collect();
        let top = ranked.iter().map(|(rank, _)| *rank).max();
        ranked.into_iter().filter(|(rank, _)| Some(*rank) == top).map(|(_, d)| d).collect()
    }

    /// Whether a permit rested on an entitled coordinator, a decision and, where that asked for people, their votes when
    /// it was written. A permit out of thin air is ignored: it neither helps nor hinders.
    pub(crate) fn is_backed(&self, permit: &Recorded<Permit>, authority: &Authority) -> bool {
        let Some(p) = self.proposals.get(&permit.body.proposal) else { return false };
        if permit.body.break_glass.is_some() {
            return self.is_by_glass(permit, authority);
        }
        let decision = self.decisions_on(&p.id).find(|d| d.id == permit.body.decision);
        let Some(decision) = decision.filter(|d| self.decision_restricts(p, d, authority)) else { return false };
        let consistent = self.permit_entitled(p, permit, authority)
            && permit.body.lineage == p.body.lineage(p.id)
            && permit.body.terms == decision.body.terms()
            && permit.body.execute_by_ms <= permit.body.issued_ms.saturating_add(PERMIT_MS_MAX);
        let ballot = Ballot::new(self, authority, p, &decision.body);
        let agreed = match decision.body.outcome {
            Outcome::Allow | Outcome::StepUp => {
                // What was asked for then: an objection that came later voids it elsewhere.
                fill(&decision.body.obligations.approvals, &ballot.voters_then(&permit.body)).is_complete()
            }
            Outcome::Defer | Outcome::Deny | Outcome::Modify => false,
        };
        consistent && agreed
    }

    /// Why a backed permit is void.
    pub(super) fn void_reason(
        &self,
        p: &Recorded<Proposal>,
        permit: &Recorded<Permit>,
        authority: &Authority,
        now_ms: u64,
    ) -> Option<String> {
        if now_ms > permit.body.execute_by_ms {
            return Some(format!("its permit could be used until {}", rfc3339(permit.body.execute_by_ms)));
        }
        let index = |entry: &FactId| authority.index_of(entry).unwrap_or(0);
        let newer = self.decisions_on(&p.id).any(|d| {
            self.decision_restricts(p, d, authority)
                && index(&d.body.policy.entry) > index(&permit.body.policy.entry)
                && d.body.policy.class_version != permit.body.policy.class_version
        });
        if newer {
            return Some("a newer policy judged it after its permit".to_owned());
        }
        self.moved_since(&permit.body, authority).map(str::to_owned)
    }

    /// Whether a permit is usable now, as far as facts alone tell.
    pub(super) fn is_live(
        &self,
        p: &Recorded<Proposal>,
        permit: &Recorded<Permit>,
        authority: &Authority,
        now_ms: u64,
    ) -> bool {
        if permit.body.break_glass.is_some() {
            return stands(&permit.header, permit.id, authority).is_ok() && self.is_backed(permit, authority);
        }
        let decision = self.decisions_on(&p.id).find(|d| d.id == permit.body.decision);
        let Some(decision) = decision.filter(|d| self.decision_grants(p, d, authority)) else { return false };
        stands(&permit.header, permit.id, authority).is_ok()
            && self.is_backed(permit, authority)
            && self.quorum(p, &decision.body, authority, now_ms).is_complete()
            && self.awaits_silence(p, decision, authority).is_none()
    }
}
