//! Who may say what.

use cauldron_identity::authority::{Authority, Standing, prefix_of};
use cauldron_identity::{AuthorId, FactId, Role, Scope, SpiffeId};

use super::child::When;
use super::index::intent;
use super::{Ledger, Origin, Recorded};
use crate::action::Resource;
use crate::alone::acts;
use crate::bodies::{Decision, Permit, Proposal, Started};
use crate::planted;

/// The node that alone may act on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its author.
    pub author: AuthorId,
    /// Its present life.
    pub incarnation: u32,
    /// Its SPIFFE ID.
    pub spiffe_id: SpiffeId,
}

/// Whether an author's role lets it decide and permit in `scope`. Its standing is another question.
#[must_use]
pub fn entitled(authority: &Authority, author: &AuthorId, scope: &Scope) -> bool {
    match authority.member(author).map(|m| &m.role) {
        Some(Role::Coordinator { .. }) => true,
        Some(Role::SiteCoordinator { site, .. }) => scope.site_name() == Some(site),
        _ => false,
    }
}

/// Whether an author may decide and permit in `scope`: by its role, or because the site's isolation grant names it. Whether the
/// site is isolated is the owner's to judge, by its own lease.
#[must_use]
pub fn may_decide(authority: &Authority, author: &AuthorId, scope: &Scope) -> bool {
    entitled(authority, author, scope) || scope.site_name().is_some_and(|site| acts(authority, author, site))
}

/// The same, now or ever.
fn might_decide(authority: &Authority, author: &AuthorId, scope: &Scope) -> bool {
    entitled(authority, author, scope) || scope.site_name().is_some_and(|site| authority.ever_acting(author, site))
}

impl Ledger {
    /// Whether a proposal may be acted on at all: its author stands and may write it, it lies in its site's scope, and it follows
    /// what it says it follows.
    ///
    /// # Errors
    /// A sentence.
    pub fn proposal_counts(&self, p: &Recorded<Proposal>, authority: &Authority) -> Result<(), String> {
        stands(&p.header, p.id, authority)?;
        let agent = SpiffeId::new(&p.body.agent).map_err(|e| format!("the agent {:?}: {e}", p.body.agent))?;
        let Ok(Role::Agent { site, .. }) = Role::of(&agent) else {
            return Err(format!("{} is no agent of a node", p.body.agent));
        };
        let home = p.header.scope.to_string() == format!("site/{site}") && p.body.site == site;
        if !home {
            return Err(format!("it is not in the scope of its site {site}"));
        }
        if self.read(&p.id).is_some()
            && self.owner_of(&p.body.resource, authority).is_none_or(|o| o.author != p.header.author)
        {
            return Err("it reads what belongs to another node".to_owned());
        }
        self.follows(p, self.is_own(p, authority), When::Now, authority)?;
        self.session_counts(p)?;
        self.saga_counts(p)
    }

    /// Whether a proposal's author is the node of its agent.
    pub(super) fn is_own(&self, p: &Recorded<Proposal>, authority: &Authority) -> bool {
        let Ok(agent) = SpiffeId::new(&p.body.agent) else { return false };
        let node = authority.member(&p.header.author).map(|m| (&m.spiffe_id, &m.role));
        match (Role::of(&agent), node) {
            (Ok(Role::Agent { site, node, .. }), Some((id, Role::Node { site: s, node: n }))) => {
                site == *s && node == *n && agent.trust_domain() == id.trust_domain()
            }
            _ => false,
        }
    }

    /// Whether a decision's author was ever entitled to it: enough for a denial.
    pub(super) fn decision_restricts(&self, p: &Recorded<Proposal>, d: &Recorded<Decision>, a: &Authority) -> bool {
        might_decide(a, &d.header.author, &p.header.scope) && d.header.scope == p.header.scope
    }

    /// Whether a decision may lead to a permit: its author stands too.
    pub(crate) fn decision_grants(&self, p: &Recorded<Proposal>, d: &Recorded<Decision>, a: &Authority) -> bool {
        may_decide(a, &d.header.author, &p.header.scope)
            && d.header.scope == p.header.scope
            && stands(&d.header, d.id, a).is_ok()
    }

    /// Whether a permit's author was ever entitled to it.
    pub(crate) fn permit_entitled(&self, p: &Recorded<Proposal>, permit: &Recorded<Permit>, a: &Authority) -> bool {
        might_decide(a, &permit.header.author, &p.header.scope) && permit.header.scope == p.header.scope
    }

    /// The starts of a proposal by the node that owns its resource, whatever became of that node.
    pub fn starts_of<'a>(
        &'a self,
        proposal: &'a FactId,
        authority: &'a Authority,
    ) -> impl Iterator<Item = &'a Recorded<Started>> {
        let starts = self.starts_of.of(proposal).filter_map(|id| self.starts.get(id));
        let p = self.proposal(proposal);
        starts.filter(move |s| p.map_or_else(|| owned(s, authority), |p| is_its_owners(s, p, authority)))
    }

    /// The number of an author's next start.
    #[must_use]
    pub fn next_owner_seq(&self, author: &AuthorId) -> u64 {
        let last = self.starts_by.get(author).and_then(|own| own.last());
        last.map_or(0, |(owner_seq, _)| *owner_seq).saturating_add(1)
    }

    /// What uses up a lineage or, on its resource, an intent: a start that is open, unknown or done, or a permit that a
    /// past life of its owner may have used. `except` is a start that does not count, for resuming it.
    #[must_use]
    pub fn used_by(&self, p: &Recorded<Proposal>, authority: &Authority, except: Option<&FactId>) -> Option<String> {
        if planted::active("intent-key-ignored") {
            return None;
        }
        let lineage = p.body.lineage(p.id);
        let intent = intent(&p.body.resource, &p.body.intent_key);
        let mut starts =
            self.starts_in.of(&lineage).chain(self.starts_on.of(&intent)).filter_map(|id| self.starts.get(id));
        // What was taken back may be wanted again, for other reasons: by a lineage of its own.
        let free = |s: &Recorded<Started>| {
            self.is_known_without_effect(s, authority) || (s.body.lineage != lineage && self.is_taken_back(s))
        };
        let counts = |s: &Recorded<Started>| is_its_owners(s, p, authority) && !free(s);
        let start = starts.find(|s| Some(&s.id) != except && counts(s));
        if let Some(start) = start {
            return Some(format!("it was started as {}", start.id.short()));
        }
        let wants = self.lineages.of(&lineage).chain(self.intents.of(&intent));
        let mut permits = wants.flat_map(|of| self.permits_on(of));
        let orphan = permits.find(|permit| self.is_orphaned(permit, authority));
        orphan.map(|permit| format!("a past life of its owner may have used permit {}", permit.id.short()))
    }

    /// Failed, and a probe saw no effect, or a person says so where its owner does not know.
    #[must_use]
    pub fn is_known_without_effect(&self, start: &Recorded<Started>, authority: &Authority) -> bool {
        let word = self.word_on(start, authority);
        if word.as_ref().is_some_and(|word| word.happened) {
            return false;
        }
        let mut free = word.is_some();
        for report in self.reports_on(&start.id) {
            match &report.body {
                super::Report::Failed(failed) => free |= failed.probed_no_effect,
                super::Report::Unknown(_) => {}
                // All others are about something that happened.
                _ => return false,
            }
        }
        free
    }

    /// Done, and taken back.
    fn is_taken_back(&self, start: &Recorded<Started>) -> bool {
        self.reports_on(&start.id).any(|r| matches!(r.body, super::Report::Compensated(_)))
    }

    /// A backed permit of an owner that began a new life, or was cut, without a start for it.
    pub(super) fn is_orphaned(&self, permit: &Recorded<Permit>, authority: &Authority) -> bool {
        let member = authority.member(&permit.body.owner);
        let gone = member.is_some_and(|m| m.incarnation > permit.body.incarnation)
            || authority.is_cut(&permit.body.owner, permit.body.incarnation);
        gone && self.is_backed(permit, authority) && self.starts_on_permit(&permit.id).next().is_none()
    }
}

/// Whether a fact of this header may grant.
///
/// # Errors
/// A sentence that says why not.
pub(crate) fn stands(header: &Origin, id: FactId, authority: &Authority) -> Result<(), String> {
    match authority.standing(header, id) {
        Standing::Counts => Ok(()),
        Standing::Pending => Err("its author's enrolment is not in effect yet".into()),
        Standing::BeyondCut => Err("its author was cut or began a new life before it".into()),
        Standing::Suspended => Err("its author is suspended".into()),
        Standing::Unknown => Err("its author is not enrolled here".into()),
    }
}

/// Whether a start is by a node that owns its resource, or did.
pub(super) fn owned(start: &Recorded<Started>, authority: &Authority) -> bool {
    ever_owned(&start.header.author, &start.body.resource, authority)
}

/// Whether an author owns a resource, or did.
pub(super) fn ever_owned(author: &AuthorId, resource: &str, authority: &Authority) -> bool {
    let known = resource.parse::<Resource>().is_ok();
    known && prefix_of(resource).is_some_and(|prefix| authority.ever_owned(author, prefix))
}

/// Whether a start is by a node that ever owned what it names and what the proposal is about: what others say that they did in its name
/// keeps nobody from it.
pub(super) fn is_its_owners(start: &Recorded<Started>, p: &Recorded<Proposal>, authority: &Authority) -> bool {
    let its = || prefix_of(&p.body.resource).is_some_and(|prefix| authority.ever_owned(&start.header.author, prefix));
    owned(start, authority) && (planted::active("start-by-hearsay") || its())
}
