//! Proposals, approvals and the audit, as people and programs read them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::{Evidence, KIND_PROPOSAL, Obligations};
use cauldron_coordinator::ledger::{Ballot, Held, State, Status};
use cauldron_coordinator::vote::present_decision;
use cauldron_crdt::Row;
use cauldron_crdt::doc::{DocChange, KIND as KIND_CHANGE, KIND_SEAL, Seal};
use cauldron_identity::authority::KIND_HELD;
use cauldron_identity::{Clock, Digest, Fact, FactId, SealedFact};
use serde_json::{Value, json};

use crate::core::NodeCore;
use crate::names;
use crate::show::summary_of_entry;
use crate::view::{ApprovalView, AuditEntry, ProposalView, Time};

/// A proposal that waits for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The proposal in short.
    pub line: ProposalView,
    /// What is agreed to.
    pub terms: Digest,
    /// Groups of which somebody is asked for still, or may object.
    pub groups: BTreeSet<String>,
    /// Why they are asked.
    pub turn: Turn,
}

/// Why people are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Somebody must say yes.
    Approve,
    /// The same, after an objection, or where nobody could have objected: silence would have allowed it.
    ApproveAfterAll,
    /// It is allowed unless somebody objects until this time.
    Object(Time),
}

impl NodeCore {
    /// Proposals that this node holds, newest first.
    #[must_use]
    pub fn proposals_view(&self, now: Clock) -> Vec<ProposalView> {
        let ids = self.ledger.proposals().map(|p| p.id);
        newest_first(ids.filter_map(|id| self.line_of(now, &id)).collect())
    }

    /// A status as this node goes by it; from the docket, where it is not cut off.
    pub(crate) fn status_seen(&self, now: Clock, id: &FactId) -> Option<Cow<'_, Status>> {
        if self.is_cut_off() {
            return self.status_here(id, now).map(Cow::Owned);
        }
        self.docket.status(&self.ledger, &self.authority, id, now.wall_ms)
    }

    /// What is open, as this node goes by it.
    pub(crate) fn open_here(&self, now: Clock) -> Vec<Cow<'_, Status>> {
        if !self.is_cut_off() {
            return self.docket.open(&self.ledger, &self.authority, now.wall_ms);
        }
        let all = self.ledger.proposals().filter_map(|p| self.status_here(&p.id, now));
        all.filter(|status| status.state.is_open()).map(Cow::Owned).collect()
    }

    /// Those of them that wait for a person.
    #[must_use]
    pub fn waiting_view(&self, now: Clock) -> Vec<ProposalView> {
        let waiting = self.open_here(now).into_iter().filter(|s| s.state == State::PendingApproval);
        let waiting = self.in_turn(waiting.collect());
        waiting.iter().filter_map(|s| self.proposal_line(now, s)).collect()
    }

    /// In the order in which people should decide: what ends first, then what was asked first; the steps of a saga together, as they
    /// would be done.
    pub(crate) fn in_turn<'a>(&self, waiting: Vec<Cow<'a, Status>>) -> Vec<Cow<'a, Status>> {
        // Of sagas, where the first of their steps that wait stands; thousands wait, and few of them are steps.
        let mut sagas: BTreeMap<FactId, (u64, u64)> = BTreeMap::new();
        let with = |s: Cow<'a, Status>| {
            let p = self.ledger.proposal(&s.id)?;
            let ends = (s.deadline_ms, p.body.created_ms);
            let is_single = p.body.saga.is_none() && p.body.lineage.is_none();
            let (saga, step) = if is_single { (p.id, 0) } else { self.ledger.saga_place(p) };
            if !is_single {
                sagas.entry(saga).and_modify(|at| *at = (*at).min(ends)).or_insert(ends);
            }
            Some((ends, saga, step, s))
        };
        let mut placed: Vec<_> = waiting.into_iter().filter_map(with).collect();
        // Once for each of them: a comparison looks nothing up and moves no status.
        placed.sort_by_cached_key(|(ends, saga, step, s)| {
            (sagas.get(saga).copied().unwrap_or(*ends), *saga, *step, *ends, s.id)
        });
        placed.into_iter().map(|(.., s)| s).collect()
    }

    /// One of them.
    #[must_use]
    pub fn line_of(&self, now: Clock, id: &FactId) -> Option<ProposalView> {
        let status = self.status_seen(now, id)?;
        self.proposal_line(now, &status)
    }

    /// Whom each proposal that waits for people waits for, or who may still object to it, and under which terms: what does not change
    /// until they should be asked again.
    #[must_use]
    pub fn asked(&self, now: Clock) -> Vec<Asked> {
        let one = |status: &Status| {
            let p = self.ledger.proposal(&status.id)?;
            let decision = self.ledger.decisions_on(&status.id).find(|d| Some(d.id) == status.decision)?;
            let obligations = &decision.body.obligations;
            let ballot = || Ballot::new(&self.ledger, &self.authority, p, &decision.body);
            let (turn, groups) = match (&obligations.veto, status.state) {
                (Some(window), State::VetoWindow) => {
                    let (until_ms, _) = self.ledger.awaits_silence(p, decision, &self.authority)?;
                    (Turn::Object(Time(until_ms)), window.groups.iter().cloned().collect())
                }
                (_, State::VetoWindow) => return None,
                (Some(window), _) if ballot().silence_is_no_yes(window).is_some() => {
                    (Turn::ApproveAfterAll, waits_for(now, status, obligations))
                }
                _ => (Turn::Approve, waits_for(now, status, obligations)),
            };
            Some(Asked { line: self.proposal_line(now, status)?, terms: decision.body.terms(), groups, turn })
        };
        let asks = |s: &&Cow<'_, Status>| matches!(s.state, State::PendingApproval | State::VetoWindow);
        self.open_here(now).iter().filter(asks).filter_map(|s| one(s)).collect()
    }

    pub(crate) fn proposal_line(&self, now: Clock, status: &Status) -> Option<ProposalView> {
        let p = self.ledger.proposal(&status.id)?;
        let as_of_ms = if p.header.author == self.me {
            now.wall_ms
        } else {
            self.last_seen_ms.get(&p.header.author).copied().unwrap_or(0)
        };
        let source = if p.header.author == self.me { "direct" } else { "peer" };
        let observer = self.authority.member(&p.header.author).map(|m| m.spiffe_id.to_string());
        Some(ProposalView {
            id: p.id.to_string(),
            short: p.id.short(),
            lineage: status.lineage.to_string(),
            state: state_word(status.state),
            contested: status.contested,
            ended: status.ended,
            break_glass: self.glass_word(&status.id),
            saga: self.saga_line(now, p),
            operation: p.body.operation.clone(),
            target: p.body.resource.clone(),
            summary: p.body.rationale.clone(),
            class: format!("{:?}", p.body.risk),
            confidence_ppm: p.body.confidence_ppm,
            agent: p.body.agent.clone(),
            // Of the scope: what the proposal says of itself is the same, or it does not count.
            site: p.header.scope.site_name().map_or_else(|| p.header.scope.to_string(), str::to_owned),
            opened: Time(p.body.created_ms),
            expires: Time(status.deadline_ms),
            why: self.why_of(status),
            seen: self.seen(now, as_of_ms, observer.unwrap_or_default(), source),
        })
    }

    /// The ledger's sentences, with what this node's own judgement and its links add.
    fn why_of(&self, status: &Status) -> Vec<String> {
        let mut why = status.why.clone();
        why.extend(status.permit.and_then(|id| self.work.verdicts.get(&id)).cloned());
        why.extend(self.why_alone(status));
        why.extend(self.why_unknown(status));
        why.extend(self.why_coordinators(status));
        why.extend(self.why_attention(&status.id));
        if status.state == State::Proposed {
            why.extend(self.ledger.proposal(&status.id).and_then(|p| self.docket.held(p)).map(Held::says));
        }
        why.extend(self.ledger.proposal(&status.id).and_then(|p| self.saga_line(self.now, p)));
        let waits_for_coordinator = matches!(status.state, State::Proposed | State::Approved);
        let coordinator_up = self.coordinates()
            || self.links.values().any(|p| {
                !p.shared.is_empty() && self.authority.member(&p.author).is_some_and(|m| m.role.is_mesh_coordinator())
            });
        if waits_for_coordinator && !coordinator_up {
            why.push("no coordinator is connected; it waits until one is back".into());
        }
        why
    }

    /// One proposal with everything known about it.
    #[must_use]
    pub fn proposal_view(&self, now: Clock, id: &FactId) -> Option<Value> {
        let status = self.status_here(id, now)?;
        let line = self.proposal_line(now, &status)?;
        let p = self.ledger.proposal(id)?;
        Some(json!({
            "summary": line,
            "proposal": p.body,
            "status": status,
            "review": self.to_review(id),
            "break_glass": self.glass_view().into_iter().filter(|g| g.proposal == id.to_string()).collect::<Vec<_>>(),
            "timeline": self.ledger.timeline(&status.lineage, &self.authority),
            "traceparent": p.header.traceparent,
        }))
    }

    /// What a person must see, and what their vote must say.
    ///
    /// # Errors
    /// A sentence, when there is nothing to decide.
    pub fn approval_view(&self, now: Clock, id: &FactId) -> Result<ApprovalView, String> {
        let status = self.status_here(id, now);
        let status = status.ok_or_else(|| format!("{id} is not a proposal that this node holds"))?;
        let line = self.proposal_line(now, &status).ok_or("the proposal is not here")?;
        let decision = status.decision.and_then(|d| self.ledger.decisions_on(id).find(|r| r.id == d));
        let (Some(p), Some(decision)) = (self.ledger.proposal(id), decision) else {
            return Err(format!("{} is {}: {}", id.short(), line.state, line.why.join("; ")));
        };
        let presentation = present_decision(&p.body, &decision.body);
        let obligations = &decision.body.obligations;
        let groups = waits_for(now, &status, obligations);
        let objectors =
            obligations.veto.iter().filter(|_| status.state == State::VetoWindow).flat_map(|v| v.groups.clone());
        Ok(ApprovalView {
            waiting_for: groups.into_iter().collect(),
            needs: obligations.approvals.iter().map(ToString::to_string).collect(),
            objectors: objectors.collect(),
            assurance: obligations.assurance.name(),
            terms: decision.body.terms().to_string(),
            presentation: presentation.lines.clone(),
            presentation_digest: presentation.digest().to_string(),
            served_by: self.me.to_string(),
            authority_head: self.authority.head().map(|h| h.to_string()),
            mesh: self.authority.mesh().to_string(),
            deadline: Time(status.deadline_ms),
            evidence: p.body.evidence.iter().map(evidence_line).collect(),
            proposal: line,
        })
    }

    /// The permits of a proposal.
    #[must_use]
    pub fn permits_of(&self, proposal: &FactId) -> Vec<FactId> {
        self.ledger.permits_on(proposal).map(|permit| permit.id).collect()
    }

    /// The state of the peer that `name` names, as in [`PeerView`](crate::view::PeerView).
    #[must_use]
    pub fn peer_state(&self, now: Clock, name: &str) -> Option<&'static str> {
        self.peer_called(now, name).map(|peer| peer.state)
    }

    /// What a proposal, permit or peer waits for.
    ///
    /// # Errors
    /// A sentence, when nothing has that name.
    pub fn why(&self, now: Clock, name: &str) -> Result<Vec<String>, String> {
        if let Some(peer) = self.peer_called(now, name) {
            let behind = peer.behind.map_or_else(|| "unknown".into(), |n| n.to_string());
            return Ok(vec![format!(
                "{} is {}; its standing is {}; facts it lacks: {behind}",
                peer.spiffe_id, peer.state, peer.standing
            )]);
        }
        let id = self.find(name)?;
        if let Some(why) = self.work.verdicts.get(&id) {
            return Ok(vec![why.clone()]);
        }
        let proposal = self.ledger.permit(&id).map_or(id, |p| p.body.proposal);
        let status = self.status_here(&proposal, now);
        let status = status.ok_or_else(|| format!("{id} is neither a proposal nor a permit nor a peer"))?;
        Ok(self.why_of(&status))
    }

    /// The newest facts, oldest first.
    #[must_use]
    pub fn audit_tail(&self, limit: usize, kind: Option<&str>) -> Vec<AuditEntry> {
        // Only those that are shown are read, and those whose kind nothing else tells.
        let is_asked = |row: &Row<'_>| match (kind, row.kind) {
            (Some(kind), Some(known)) => known == kind,
            (Some(kind), None) => self.log.at(row.chain, row.seq).is_some_and(|fact| fact.header().kind == kind),
            (None, _) => true,
        };
        let mut newest = BTreeMap::new();
        for row in self.log.rows().filter(is_asked) {
            newest.insert((row.hlc, row.id), (row.chain, row.seq));
            if newest.len() > limit {
                newest.pop_first();
            }
        }
        let facts = newest.into_values().filter_map(|(chain, seq)| self.log.at(chain, seq));
        facts.map(|fact| self.audit_entry(&fact)).collect()
    }

    /// The lineage of a proposal or of anything about it, the facts of its story as they were signed, and how far each member has
    /// said that it holds the authority chain.
    #[must_use]
    pub fn lineage_facts(&self, id: &FactId) -> Option<(FactId, Vec<SealedFact>, Vec<SealedFact>)> {
        let lineage = self.lineage_of(id)?;
        let events = self.ledger.timeline(&lineage, &self.authority);
        let facts = events.iter().filter_map(|event| self.log.get(&event.id)).map(|fact| fact.sealed().clone());
        let mut held = BTreeMap::new();
        for fact in self.log.of_kind(KIND_HELD) {
            let header = fact.header();
            let newest = held.entry(header.author).or_insert_with(|| fact.clone());
            if newest.header().hlc < header.hlc {
                *newest = fact;
            }
        }
        Some((lineage, facts.collect(), held.into_values().map(|fact| fact.sealed().clone()).collect()))
    }

    /// Every fact of a lineage's story, in the order of its authors' clocks.
    #[must_use]
    pub fn audit_lineage(&self, id: &FactId) -> Vec<AuditEntry> {
        let Some(lineage) = self.lineage_of(id) else { return Vec::new() };
        let events = self.ledger.timeline(&lineage, &self.authority);
        let entry = |event: cauldron_coordinator::ledger::Event| {
            let fact = self.log.get(&event.id)?;
            let mut entry = self.audit_entry(&fact);
            entry.summary = event.says;
            if let Some(void) = event.void {
                entry.summary.push_str(&format!(" (counts for nothing: {void})"));
            }
            Some(entry)
        };
        events.into_iter().filter_map(entry).collect()
    }

    fn audit_entry(&self, fact: &Fact) -> AuditEntry {
        let header = fact.header();
        AuditEntry {
            id: fact.id().to_string(),
            kind: header.kind.clone(),
            scope: header.scope.to_string(),
            author: header.author.to_string(),
            spiffe_id: self.authority.member(&header.author).map(|m| m.spiffe_id.to_string()),
            incarnation: header.incarnation,
            seq: header.seq,
            time: Time(header.wall_ms()),
            summary: self.summary(fact),
            standing: names::standing(self.authority.standing(header, fact.id())),
            traceparent: header.traceparent.clone(),
        }
    }

    fn summary(&self, fact: &Fact) -> String {
        let kind = fact.header().kind.as_str();
        match kind {
            "authority.entry" => {
                let applied = self.authority.entries().find(|a| a.id == fact.id());
                let entry = applied.and_then(|a| a.entry.as_ref());
                entry.map_or_else(|| "an entry of a later version".into(), summary_of_entry)
            }
            KIND_HELD => "holds the authority chain up to here".into(),
            KIND_CHANGE => match fact.decode_body::<DocChange>() {
                Ok(change) => format!("changes {}", change.doc),
                Err(_) => "changes a document that cannot be read".into(),
            },
            KIND_SEAL => match fact.decode_body::<Seal>() {
                Ok(seal) => format!("seals epoch {} of {}", seal.epoch, seal.doc),
                Err(_) => "seals a document that cannot be read".into(),
            },
            KIND_PROPOSAL => {
                let p = self.ledger.proposal(&fact.id());
                p.map_or_else(String::new, |p| format!("{} on {}", p.body.operation, p.body.resource))
            }
            other => format!("{other}, {} bytes", fact.header().body_len),
        }
    }
}

/// The groups of which somebody is asked for still.
fn waits_for(now: Clock, status: &Status, obligations: &Obligations) -> BTreeSet<String> {
    let asked = obligations.approvals.iter().flat_map(|need| &need.any_of).map(|need| need.group.clone());
    let mut asked: BTreeSet<String> = match &status.quorum {
        Some(fill) => fill.missing.iter().cloned().collect(),
        None => asked.collect(),
    };
    // Whoever was added in time may take any of these seats.
    let added = obligations.escalation.iter().filter(|e| e.at_ms <= now.wall_ms);
    if !asked.is_empty() {
        asked.extend(added.map(|e| e.add.clone()));
    }
    asked
}

fn newest_first(mut views: Vec<ProposalView>) -> Vec<ProposalView> {
    views.sort_by(|a, b| b.opened.cmp(&a.opened).then_with(|| a.id.cmp(&b.id)));
    views
}

pub(crate) fn state_word(state: State) -> &'static str {
    match state {
        State::Proposed => "PROPOSED",
        State::Evaluated => "EVALUATED",
        State::Deferred => "DEFERRED",
        State::PendingApproval => "PENDING_APPROVAL",
        State::Approved => "APPROVED",
        State::Permitted => "PERMITTED",
        State::Started => "STARTED",
        State::Done => "DONE",
        State::Failed => "FAILED",
        State::Unknown => "UNKNOWN",
        State::Verified => "VERIFIED",
        State::VerifyFailed => "VERIFY_FAILED",
        State::Compensating => "COMPENSATING",
        State::Compensated => "COMPENSATED",
        State::CompensationFailed => "COMPENSATION_FAILED",
        State::Denied => "DENIED",
        State::Expired => "EXPIRED",
        State::VetoWindow => "VETO_WINDOW",
        State::Superseded => "SUPERSEDED",
        State::Void => "VOID",
    }
}

fn evidence_line(e: &Evidence) -> String {
    format!("{}:{} {}", e.source, e.line_no, e.text)
}
