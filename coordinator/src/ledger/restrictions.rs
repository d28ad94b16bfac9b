//! What is restricted, and what a lift leaves of it.

use cauldron_identity::authority::{Authority, ChainEnd};
use cauldron_identity::{AuthorId, Scope};

use super::{Ledger, Recorded};
use crate::bodies::{Feature, Order, Proposal, Restriction, Target};

impl Ledger {
    /// The restrictions that count here, lifted or not, with their orders.
    pub fn restrictions<'a>(
        &'a self,
        authority: &'a Authority,
    ) -> impl Iterator<Item = (&'a Recorded<Restriction>, Order)> {
        self.restrictions.values().filter_map(|r| r.body.judge(&r.header, authority).ok().map(|order| (r, order)))
    }

    /// Those that nobody has lifted.
    pub fn in_force<'a>(
        &'a self,
        authority: &'a Authority,
    ) -> impl Iterator<Item = (&'a Recorded<Restriction>, Order)> {
        self.restrictions(authority).filter(|(r, order)| order.target.is_final() || authority.lifted(&r.id).is_none())
    }

    /// The restrictions that stop a proposal. What one stopped before it was lifted stays stopped; a veto of a lineage is a deny,
    /// which nothing lifts.
    pub fn restrictions_on<'a>(
        &'a self,
        proposal: &'a Recorded<Proposal>,
        authority: &'a Authority,
    ) -> impl Iterator<Item = (&'a Recorded<Restriction>, Order)> {
        self.restrictions(authority).filter(move |(r, order)| {
            let lifted = authority.lifted(&r.id).filter(|_| !order.target.is_final());
            covers(&r.header.scope, &proposal.header.scope)
                && lifted.is_none_or(|lifted| proposal.body.created_ms < lifted.at_ms)
                && stops(&order.target, proposal)
        })
    }

    /// What stops a feature in `scope`, where something does.
    #[must_use]
    pub fn stopped(&self, feature: &Feature, scope: &Scope, authority: &Authority) -> Option<Order> {
        let names = |target: &Target| matches!(target, Target::Feature(name) if name.parse().as_ref() == Ok(feature));
        let mut orders =
            self.in_force(authority).filter(|(r, order)| covers(&r.header.scope, scope) && names(&order.target));
        orders.next().map(|(_, order)| order)
    }

    /// Authors that restrictions in force suspend, for [`Authority::suspend`].
    #[must_use]
    pub fn suspensions(&self, authority: &Authority) -> Vec<(AuthorId, Vec<ChainEnd>)> {
        let author = |(_, order): (_, Order)| match order.target {
            Target::Author(author, ends) => Some((author, ends)),
            _ => None,
        };
        self.in_force(authority).filter_map(author).collect()
    }
}

/// Whether a restriction carried in one scope holds in another: in the whole mesh, or in its own realm.
fn covers(carried_in: &Scope, scope: &Scope) -> bool {
    carried_in.site_name().is_none() || carried_in.realm() == scope.realm()
}

fn stops(target: &Target, proposal: &Recorded<Proposal>) -> bool {
    let p = &proposal.body;
    match target {
        Target::Lineage(lineage) => *lineage == p.lineage(proposal.id),
        Target::ActionClass(class) => *class == p.action_class,
        Target::Agent(agent) => *agent == p.agent,
        Target::Site(site) => *site == p.site,
        Target::All => true,
        Target::Author(..) => false,
        Target::Build(build) => *build == p.agent_build,
        Target::Feature(name) => match name.parse() {
            Ok(Feature::Connector(connector)) => p.resource.split('/').nth(2) == Some(&connector),
            Ok(Feature::Sessions) => p.session.is_some(),
            // These stop what approves, not what is proposed.
            Ok(Feature::ApprovalPage | Feature::Autonomy) | Err(_) => false,
        },
    }
}
