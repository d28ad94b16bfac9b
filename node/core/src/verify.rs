//! `audit verify`: everything this node holds, checked again from the bytes, without a network.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Started;
use cauldron_coordinator::ledger::{Ledger, Recorded, Report};
use cauldron_identity::authority::KIND_HELD;
use cauldron_identity::{AuthorId, Authority, Scope};

use crate::core::{NodeCore, Writers};
use crate::view::Check;

impl NodeCore {
    /// Checks charter, chains, signatures, authority and every effect this node knows of, from the stored bytes.
    #[must_use]
    pub fn verify(&self) -> Vec<Check> {
        let mut checks = vec![self.verify_charter()];
        let Ok(mut authority) = Authority::new(self.authority.mesh(), self.authority.founding().clone()) else {
            return checks;
        };
        let scope = Scope::authority();
        self.log.iter_scope(&scope).for_each(|fact| {
            authority.apply(&fact);
        });
        authority.apply_terms(self.authority.terms().map(|(_, body)| body));
        self.log.of_kind(KIND_HELD).for_each(|fact| {
            authority.apply(&fact);
        });
        checks.push(self.verify_chains(&authority));
        checks.push(verify_authority(&authority));
        let mut ledger = Ledger::new();
        let read = self.log.rows().filter(|row| row.kind.is_none_or(Ledger::reads));
        read.filter_map(|row| self.log.at(row.chain, row.seq)).for_each(|fact| {
            ledger.insert(&fact);
        });
        for (author, ends) in ledger.suspensions(&authority) {
            authority.suspend(author, &ends);
        }
        checks.push(verify_effects(&ledger, &authority));
        checks.push(verify_once(&ledger, &authority));
        checks.push(verify_owner_seq(&ledger));
        checks
    }

    fn verify_charter(&self) -> Check {
        let opened = self.charter.open(&self.authority.mesh());
        let detail = match &opened {
            Ok(charter) => format!(
                "{} of {} council keys needed, mesh {}",
                charter.threshold,
                charter.council.len(),
                self.authority.mesh().short()
            ),
            Err(why) => why.to_string(),
        };
        Check { name: "charter", ok: opened.is_ok(), detail }
    }

    /// Every header, link, body hash and signature, as if it came from a stranger.
    fn verify_chains(&self, authority: &Authority) -> Check {
        match self.log.check(&Writers(authority)) {
            Ok(()) => {
                let signed = match self.log.unproven() {
                    0 => "each signed and linked".to_owned(),
                    some => format!("all linked, {some} signed by way of a later one, the rest each"),
                };
                Check { name: "chains", ok: true, detail: format!("{} facts, {signed}", self.log.len()) }
            }
            Err(why) => Check { name: "chains", ok: false, detail: why.to_string() },
        }
    }
}

fn verify_authority(authority: &Authority) -> Check {
    let refused: Vec<String> =
        authority.entries().filter_map(|a| a.refused.as_ref().map(|why| format!("{}: {why}", a.id.short()))).collect();
    let detail = if refused.is_empty() {
        format!("{} entries, each with the signatures of its kind", authority.index())
    } else {
        format!("entries that change nothing: {}", refused.join("; "))
    };
    Check { name: "authority", ok: refused.is_empty(), detail }
}

/// Each start rests on a permit of its owner and, where people were asked, on enough of their votes, or on a token of the owner's.
fn verify_effects(ledger: &Ledger, authority: &Authority) -> Check {
    let mut wrong = Vec::new();
    let (mut count, mut broken) = (0, 0);
    for start in ledger.starts() {
        count += 1;
        let sentence = |what: &str| format!("{} {what}", start.id.short());
        let Some(permit) = ledger.permit(&start.body.permit) else {
            wrong.push(sentence("names a permit that is not here"));
            continue;
        };
        let Some(proposal) = ledger.proposal(&permit.body.proposal) else {
            wrong.push(sentence("rests on a proposal that is not here"));
            continue;
        };
        if permit.body.owner != start.header.author || permit.body.incarnation != start.header.incarnation {
            wrong.push(sentence("used a permit of another owner or life"));
        }
        if start.body.started_ms > permit.body.execute_by_ms {
            wrong.push(sentence("began after its permit had run out"));
        }
        let Some(decision) = ledger.decisions_on(&proposal.id).find(|d| d.id == permit.body.decision) else {
            wrong.push(sentence("rests on a decision that is not here"));
            continue;
        };
        if let Some(used) = &permit.body.break_glass {
            broken += 1;
            let token = ledger.broken_glass(used).map(|used| used.body.digest());
            let first = token.and_then(|token| ledger.bound_by(&token, &permit.body.owner));
            if !ledger.is_by_glass(permit, authority) || first.is_none_or(|first| first.id != permit.id) {
                wrong.push(sentence("rests on broken glass, and its token is not good for it or was used before"));
            }
            continue;
        }
        let quorum = ledger.quorum(proposal, &decision.body, authority, permit.body.issued_ms);
        if !quorum.is_complete() {
            wrong.push(sentence(&format!("rests on {} of {} votes", quorum.filled, quorum.needed)));
        }
    }
    let open = ledger.starts().filter(|s| ledger.reports_on(&s.id).next().is_none()).count();
    let glass = if broken == 0 { String::new() } else { format!(", {broken} of them by broken glass") };
    let sound = || format!("{count} starts, each permitted{glass}; {open} without an outcome yet");
    let detail = if wrong.is_empty() { sound() } else { wrong.join("; ") };
    Check { name: "effects", ok: wrong.is_empty(), detail }
}

/// No lineage and no intent on a resource is started twice, unless a probe saw, or people say, that the first had no effect.
fn verify_once(ledger: &Ledger, authority: &Authority) -> Check {
    let without_effect = |s: &Recorded<Started>| {
        let mut reports = ledger.reports_on(&s.id);
        reports.any(|r| matches!(&r.body, Report::Failed(f) if f.probed_no_effect))
            || ledger.was_freed_by_word(s, authority)
    };
    let mut seen = BTreeSet::new();
    let mut twice = Vec::new();
    for start in ledger.starts().filter(|s| !without_effect(s)) {
        let lineage_new = seen.insert(start.body.lineage.to_string());
        let intent_new = seen.insert(format!("{} {}", start.body.resource, start.body.intent_key));
        if !lineage_new || !intent_new {
            twice.push(start.id.short());
        }
    }
    let detail = if twice.is_empty() { "no lineage and no intent started twice".into() } else { twice.join(", ") };
    Check { name: "once", ok: twice.is_empty(), detail }
}

/// Completeness: an owner's starts are numbered without gaps.
fn verify_owner_seq(ledger: &Ledger) -> Check {
    let mut by_owner: BTreeMap<AuthorId, BTreeSet<u64>> = BTreeMap::new();
    let mut doubled = false;
    for start in ledger.starts() {
        doubled |= !by_owner.entry(start.header.author).or_default().insert(start.body.owner_seq);
    }
    let gap = by_owner.values().any(|seqs| seqs.iter().copied().ne(1..=seqs.len() as u64));
    let ok = !gap && !doubled;
    let detail =
        if ok { "owners number their starts without gaps".into() } else { "a start is missing or doubled".into() };
    Check { name: "owner-seq", ok, detail }
}
