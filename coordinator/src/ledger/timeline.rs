//! The story of a lineage, for `audit show` and `why`.

use cauldron_identity::FactId;
use cauldron_identity::authority::Authority;
use serde::Serialize;

use super::rights::stands;
use super::{Ledger, Origin};
use crate::json::rfc3339;
use crate::signed::with_reason;

/// One fact of a lineage's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When its author says, milliseconds since the Unix epoch. For display only.
    pub at_ms: u64,
    /// The fact.
    pub id: FactId,
    /// Its kind.
    pub kind: String,
    /// The SPIFFE ID of its author.
    pub author: String,
    /// The scope that carries it.
    pub scope: String,
    /// What it says, in one sentence.
    pub says: String,
    /// Why it counts for nothing, when it does.
    pub void: Option<String>,
}

impl Ledger {
    /// Everything about a lineage, in the order its authors' clocks give.
    #[must_use]
    pub fn timeline(&self, lineage: &FactId, authority: &Authority) -> Vec<Event> {
        let mut events: Vec<(u64, Event)> = Vec::new();
        let mut add = |header: &Origin, id: FactId, says: String, void: Option<String>| {
            let author = authority.member(&header.author);
            let author = author.map_or_else(|| header.author.to_string(), |m| m.spiffe_id.to_string());
            let (kind, scope) = (header.kind.to_owned(), header.scope.to_string());
            events.push((header.hlc, Event { at_ms: header.wall_ms(), id, kind, author, scope, says, void }));
        };
        for p in self.lineage(lineage) {
            let says = format!("{} on {}: {}", p.body.operation, p.body.resource, p.body.rationale);
            let edited = p.body.hand.as_ref().and_then(|h| h.statement().ok()).map(|h| match h.reason.trim() {
                "" => format!("{}: ", h.person),
                reason => format!("{} ({reason}): ", h.person),
            });
            add(&p.header, p.id, edited.unwrap_or_default() + &says, self.proposal_counts(p, authority).err());
            for w in self.windows_on(&p.id) {
                let says = "nobody objected in time".to_owned();
                add(&w.header, w.id, says, stands(&w.header, w.id, authority).err());
            }
            for d in self.decisions_on(&p.id) {
                let says = format!("{:?}: {}", d.body.outcome, d.body.rules.join("; "));
                add(&d.header, d.id, says, stands(&d.header, d.id, authority).err());
            }
            for (vote, carriers) in self.votes.get(&p.id).into_iter().flatten() {
                let void = vote.verify(authority).err().map(|e| e.to_string());
                let says = vote.statement().map_or_else(
                    |e| e.to_string(),
                    |s| with_reason(format!("{} votes {:?}", s.person, s.choice), &s.reason),
                );
                for (id, header) in carriers {
                    add(header, *id, says.clone(), void.clone());
                }
            }
            for permit in self.permits_on(&p.id) {
                let says = format!("permits once until {}", rfc3339(permit.body.execute_by_ms));
                let unbacked = || "no decision and votes here support it".to_owned();
                let void = stands(&permit.header, permit.id, authority).err();
                add(
                    &permit.header,
                    permit.id,
                    says,
                    void.or_else(|| (!self.is_backed(permit, authority)).then(unbacked)),
                );
            }
            for used in self.broken_glass_on(&p.id) {
                let foreign =
                    || "its token is none that the council gave this site, or signed something else".to_owned();
                let void = (!self.is_glass_for(used, p, authority)).then(foreign);
                add(&used.header, used.id, with_reason("breaks the glass", &used.body.reason), void);
                for (review, carriers) in self.reviews.get(&used.id).into_iter().flatten() {
                    let Ok(s) = review.statement() else { continue };
                    let void = review.verify(authority).err().map(|e| e.to_string());
                    for (id, header) in carriers {
                        add(
                            header,
                            *id,
                            with_reason(format!("{} looked at broken glass", s.person), &s.note),
                            void.clone(),
                        );
                    }
                }
            }
            for (r, order) in self.restrictions_on(p, authority) {
                let lifted = authority.lifted(&r.id).filter(|_| !order.target.is_final());
                let since = lifted.map(|l| format!("; lifted by entry {} for what is proposed since", l.index));
                let says = with_reason(format!("{} stops it", order.by), &order.reason) + &since.unwrap_or_default();
                for (lift, carriers) in self.site_lifts.get(&r.id).into_iter().flatten() {
                    let Ok(s) = lift.statement() else { continue };
                    let void = lift.verify(authority).err().map(|e| e.to_string());
                    for (id, header) in carriers {
                        let says = with_reason(format!("{} lifts it while the site is isolated", s.person), &s.reason);
                        add(header, *id, says, void.clone());
                    }
                }
                add(&r.header, r.id, says, None);
            }
        }
        for abort in self.aborts.on(lineage) {
            let foreign = || "its author does not own the resource".to_owned();
            let void = (!self.may_abort(abort, authority)).then(foreign);
            add(&abort.header, abort.id, with_reason("will not be done", &abort.body.reason), void);
        }
        for start in self.starts.values().filter(|s| s.body.lineage == *lineage) {
            let foreign = || "its author does not own the resource".to_owned();
            let p = self.proposal(&start.body.proposal);
            let owned = super::rights::owned(start, authority)
                && p.is_none_or(|p| super::rights::is_its_owners(start, p, authority));
            let void = (!owned).then(foreign);
            add(&start.header, start.id, format!("starts on permit {}", start.body.permit.short()), void.clone());
            let seen = std::iter::once(&start.id).chain(self.told_of(&start.id).map(|r| &r.id));
            for (review, carriers) in seen.filter_map(|id| self.reviews.get(id)).flatten() {
                let Ok(s) = review.statement() else { continue };
                let void = review.verify(authority).err().map(|e| e.to_string());
                for (id, header) in carriers {
                    add(header, *id, format!("{} looked at it: {}", s.person, s.note), void.clone());
                }
            }
            for report in self.told_of(&start.id) {
                let says = report.body.says();
                let void = (report.header.author != start.header.author).then(foreign).or_else(|| void.clone());
                add(&report.header, report.id, says, void);
            }
            for (id, header, says, void) in self.words_on(start, authority) {
                add(header, *id, says, void);
            }
        }
        events.sort_by_key(|(hlc, event)| (*hlc, event.id));
        events.dedup_by_key(|(_, event)| event.id);
        events.into_iter().map(|(_, event)| event).collect()
    }

    /// Sentences that say what a proposal, or the proposal of a permit, waits for. None when neither is known.
    #[must_use]
    pub fn why(&self, id: &FactId, authority: &Authority, now_ms: u64) -> Option<Vec<String>> {
        let proposal = self.permit(id).map_or(*id, |permit| permit.body.proposal);
        if self.permit(id).is_some() && self.proposal(&proposal).is_none() {
            return Some(vec!["its proposal has not arrived here".into()]);
        }
        self.status(&proposal, authority, now_ms).map(|s| s.why)
    }
}
