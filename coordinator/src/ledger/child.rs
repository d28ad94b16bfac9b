//! Children: proposals that edit, modify or take up another one of their lineage.

use std::collections::BTreeSet;

use cauldron_identity::authority::Authority;
use cauldron_identity::{AuthorId, FactId};
use serde_json::Value;

use super::{Ledger, Recorded, may_decide};
use crate::action::{Action, ActionError, Catalogue, Resource};
use crate::bodies::{Decision, Hand, Outcome, Proposal};
use crate::json::{canonical, from_canonical, merge_patch};
use crate::planted;

/// Generations of one lineage; a lineage that needs more is talked about, not edited.
pub const GENERATIONS_MAX: usize = 64;

/// As of when the word of a person is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// They must be enrolled still.
    Now,
    /// It is enough that they were when they said it.
    Then,
}

impl Ledger {
    /// The proposals made out of one, in the order of their ids.
    pub fn children(&self, parent: &FactId) -> impl Iterator<Item = &Recorded<Proposal>> {
        self.children.of(parent).filter_map(|id| self.proposal(id))
    }

    /// The edit or the modification that took a proposal's place. It does so for good, whatever becomes of whoever wrote it: what was
    /// asked for was another thing. An agent that merely proposes again takes nothing back.
    #[must_use]
    pub fn superseded_by(&self, p: &FactId, authority: &Authority) -> Option<FactId> {
        if planted::active("edit-beside-its-parent") {
            return None;
        }
        let replaces = |child: &&Recorded<Proposal>| {
            let own = self.is_own(child, authority);
            (child.body.hand.is_some() || !own) && self.follows(child, own, When::Then, authority).is_ok()
        };
        self.children(p).find(replaces).map(|child| child.id)
    }

    /// Whether author, signature and parent of a proposal fit each other. `own` says that its author is the node of its agent.
    pub(super) fn follows(
        &self,
        p: &Recorded<Proposal>,
        own: bool,
        when: When,
        authority: &Authority,
    ) -> Result<(), String> {
        let parent = match &p.body.parent {
            None if p.body.lineage.is_some() => return Err("it names a lineage and no parent".to_owned()),
            None => None,
            Some(parent) => Some(self.parent_of(p, parent)?),
        };
        match (&p.body.hand, parent) {
            (Some(hand), parent) => self.is_by_hand(p, hand, parent, own, when, authority),
            (None, _) if own => Ok(()),
            (None, Some(parent)) => self.is_modification(p, parent, authority),
            (None, None) => Err(format!("its author is not the node of the agent {}", p.body.agent)),
        }
    }

    fn parent_of(&self, p: &Recorded<Proposal>, parent: &FactId) -> Result<&Recorded<Proposal>, String> {
        let parent = self.proposal(parent).ok_or("its parent has not arrived here")?;
        if p.body.lineage != Some(parent.body.lineage(parent.id)) {
            return Err("it is not of its parent's lineage".to_owned());
        }
        let is = |p: &Proposal| (p.agent.clone(), p.site.clone(), p.action_class.clone());
        if is(&p.body) != is(&parent.body) {
            return Err("it is of another agent, site or action class than its parent".to_owned());
        }
        if p.body.saga != parent.body.saga {
            return Err("it is another step of a saga than its parent".to_owned());
        }
        if self.ancestors(parent).count() >= GENERATIONS_MAX {
            return Err(format!("its lineage has more than {GENERATIONS_MAX} generations"));
        }
        Ok(parent)
    }

    /// A person wrote it at the agent's own node, or edited what they are asked to approve.
    fn is_by_hand(
        &self,
        p: &Recorded<Proposal>,
        hand: &Hand,
        parent: Option<&Recorded<Proposal>>,
        own: bool,
        when: When,
        authority: &Authority,
    ) -> Result<(), String> {
        let said = match when {
            When::Now => hand.verify(authority),
            When::Then => hand.verify_then(authority),
        };
        let (statement, person) = said.map_err(|e| format!("the signature of who wrote it: {e}"))?;
        if statement.content != p.body.content() && !planted::active("edit-unbound") {
            return Err(format!("{} signed another text", statement.person));
        }
        let Some(parent) = parent else {
            return if own { Ok(()) } else { Err("it was written at another node than its agent's".to_owned()) };
        };
        if place(&p.body) != place(&parent.body) {
            return Err("it acts at another node than its parent".to_owned());
        }
        // What came from outside does not become trustworthy by an edit.
        if !parent.body.taint.iter().all(|label| p.body.taint.contains(label)) {
            return Err("it lacks a taint label of its parent".to_owned());
        }
        let asked = self
            .decisions_on(&parent.id)
            .filter(|d| self.decision_restricts(parent, d, authority))
            .flat_map(|d| &d.body.obligations.approvals)
            .flat_map(|n| &n.any_of);
        let may = asked.map(|n| &n.group).any(|group| person.groups.contains(group));
        let wrote = self.writers(parent).contains(&statement.person);
        if may || wrote {
            Ok(())
        } else {
            Err(format!("{} is not asked about its parent, and may not edit it", statement.person))
        }
    }

    /// A coordinator carried out what policy said of the parent.
    fn is_modification(
        &self,
        p: &Recorded<Proposal>,
        parent: &Recorded<Proposal>,
        authority: &Authority,
    ) -> Result<(), String> {
        if !may_decide(authority, &p.header.author, &p.header.scope) {
            return Err("its author is neither the agent's node nor a coordinator of its site".to_owned());
        }
        let own = |d: &&Recorded<Decision>| d.header.author == p.header.author && d.body.outcome == Outcome::Modify;
        let fits = |d: &Recorded<Decision>| modified(parent, &d.body).is_some_and(|m| m.content() == p.body.content());
        let unbound = planted::active("modification-unbound");
        if self.decisions_on(&parent.id).filter(own).any(|d| unbound || fits(d)) {
            Ok(())
        } else {
            Err("it is not what policy made of its parent".to_owned())
        }
    }

    /// A proposal and those it came from, the nearest first.
    pub fn ancestors<'a>(&'a self, p: &'a Recorded<Proposal>) -> impl Iterator<Item = &'a Recorded<Proposal>> {
        let next = |p: &&'a Recorded<Proposal>| p.body.parent.and_then(|parent| self.proposal(&parent));
        std::iter::successors(Some(p), next).take(GENERATIONS_MAX + 1)
    }

    /// The people who wrote or edited a proposal or one that it came from, or for whom it was made: none of them fills a seat on it.
    #[must_use]
    pub fn writers(&self, p: &Recorded<Proposal>) -> BTreeSet<String> {
        let of = |p: &Recorded<Proposal>| {
            let hand = p.body.hand.as_ref().and_then(|h| h.statement().ok()).map(|s| s.person);
            let session = p.body.session.as_ref().map(|s| s.principal.clone());
            let delegators = p.body.session.iter().flat_map(|s| &s.delegation).map(|d| d.from.clone());
            let all = hand.into_iter().chain(session).chain(p.body.on_behalf_of.clone()).chain(delegators);
            all.collect::<Vec<_>>()
        };
        self.ancestors(p).flat_map(of).collect()
    }

    /// Whether `author` wrote a proposal or one that it came from.
    pub(super) fn proposed(&self, p: &Recorded<Proposal>, author: &AuthorId) -> bool {
        self.ancestors(p).any(|a| a.header.author == *author && a.body.hand.is_none())
    }
}

/// The site, node and connector that a proposal acts at.
fn place(p: &Proposal) -> Option<(String, String, String)> {
    p.resource.parse::<Resource>().ok().map(|r| (r.site, r.node, r.connector))
}

/// The child that a decision to modify makes of a proposal; none where its patch is none, or changes what is acted on.
#[must_use]
pub fn modified(parent: &Recorded<Proposal>, decision: &Decision) -> Option<Proposal> {
    let patch = from_canonical(decision.modify.as_deref()?).ok()?;
    let mut args = from_canonical(&parent.body.args).ok()?;
    merge_patch(&mut args, &patch);
    let args = canonical(&args).ok()?;
    Some(Proposal {
        lineage: Some(parent.body.lineage(parent.id)),
        parent: Some(parent.id),
        args_digest: Proposal::digest_of_args(&args),
        args,
        // They were about other arguments.
        dry_run: None,
        hand: None,
        session: None,
        ..parent.body.clone()
    })
}

/// The child that a person makes of a proposal by a JSON merge patch for its arguments; for them to sign. What was said about the
/// old arguments (the dry run) is not said about the new ones.
///
/// # Errors
/// [`ActionError`]: the new arguments are none.
pub fn edited(parent: &Recorded<Proposal>, patch: &Value, catalogue: &Catalogue) -> Result<Proposal, ActionError> {
    let old = Action::of_proposal(catalogue, &parent.body)?;
    let mut args = old.args().clone();
    merge_patch(&mut args, patch);
    let new = Action::new(catalogue, old.operation(), Some(old.connector()), &args)?;
    let mut resource: Resource = parent.body.resource.parse()?;
    resource.object = new.object().to_owned();
    // Behind the arguments stands what the proposer named: it stays.
    let suffix = parent.body.intent_key.strip_prefix(&old.intent_with("")).unwrap_or_default();
    let conflict_key = match parent.body.conflict_key == parent.body.resource {
        true => resource.to_string(),
        false => parent.body.conflict_key.clone(),
    };
    Ok(Proposal {
        lineage: Some(parent.body.lineage(parent.id)),
        parent: Some(parent.id),
        args_digest: Proposal::digest_of_args(new.bytes()),
        args: new.bytes().to_vec(),
        resource: resource.to_string(),
        conflict_key,
        intent_key: new.intent_with(suffix),
        dry_run: None,
        hand: None,
        session: None,
        created_ms: 0,
        expires_ms: 0,
        ..parent.body.clone()
    })
}
