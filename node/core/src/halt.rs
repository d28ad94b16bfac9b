//! How far a stop has got: who is known to enforce it, and by when at the latest the authority of everybody else ends by itself.
//!
//! A node that has not said that it enforces a restriction may act until its lease is too old. From the moment a mesh coordinator
//! enforces it, that coordinator's leases reach only nodes that hold it ([`cauldron_coordinator::lease`]). So a node's authority ends
//! at the latest when every mesh coordinator that it may still believe enforces the restriction and the longest age of a lease
//! has passed since, or the horizon of its site's isolation grant; a sealed token that breaks the glass needs no lease, and holds until
//! it expires. Where one of them has not said so, nobody knows.

use cauldron_coordinator::alone::horizon_ms;
use cauldron_coordinator::bodies::{RiskClass, Target};
use cauldron_coordinator::lease::age_ms_max;
use cauldron_coordinator::planted;
use cauldron_identity::authority::{Applied, Entry};
use cauldron_identity::{AuthorId, Clock};

use crate::core::NodeCore;
use crate::view::{Time, Waiting};

pub(crate) const CLASSES: [RiskClass; 4] = [RiskClass::R0, RiskClass::R1, RiskClass::R2, RiskClass::R3];

/// How far one stop has got, among some nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Halt {
    /// `CLOSED`, `PARTIAL` or `UNKNOWN`.
    pub(crate) state: &'static str,
    /// When the last authority without it ends, milliseconds since the Unix epoch; only for `PARTIAL`.
    pub(crate) latest_ms: Option<u64>,
}

impl Halt {
    /// Of these bounds, one for each node that has not said that it enforces the stop; none for a node without one.
    pub(crate) fn of(bounds: &[Option<u64>]) -> Self {
        if bounds.is_empty() || planted::active("kill-closed-unconfirmed") {
            return Self { state: "CLOSED", latest_ms: None };
        }
        match bounds.iter().copied().collect::<Option<Vec<u64>>>() {
            Some(bounds) => Self { state: "PARTIAL", latest_ms: bounds.into_iter().max() },
            None => Self { state: "UNKNOWN", latest_ms: None },
        }
    }

    /// The less of two.
    pub(crate) fn and(self, other: Self) -> Self {
        let rank = |halt: &Self| match halt.state {
            "CLOSED" => 0,
            "PARTIAL" => 1,
            _ => 2,
        };
        if rank(&self) == rank(&other) {
            return Self { latest_ms: self.latest_ms.max(other.latest_ms), ..self };
        }
        if rank(&self) > rank(&other) { self } else { other }
    }
}

/// The classes of actions that a target may be of: of one class of action, the schema's and all above, for policy raises it.
pub(crate) fn classes_of(core: &NodeCore, target: &Target) -> Vec<RiskClass> {
    let least = match target {
        Target::ActionClass(class) => core.catalogue().get(class).map(|schema| schema.about().class),
        _ => None,
    };
    CLASSES.into_iter().filter(|class| least.is_none_or(|least| *class >= least)).collect()
}

impl NodeCore {
    /// How long after its lease began the authority of a node of `site` ends by itself, milliseconds, for one class: at the age that
    /// the charter allows, or at the horizon of the site's isolation grant. Who waits may hold an earlier grant still, so the
    /// longest of all that the site was ever given counts.
    pub(crate) fn authority_ms_max(&self, site: Option<&str>, class: RiskClass) -> u64 {
        let given = self.authority.entries().filter_map(|applied| match (&applied.entry, &applied.refused) {
            (Some(Entry::Isolation(grant)), None) if Some(grant.site.as_str()) == site => {
                Some(horizon_ms(grant, class))
            }
            _ => None,
        });
        given.fold(age_ms_max(class, &self.authority.charter().class_ages), u64::max)
    }

    /// Until when a node may break the glass, which needs no lease, milliseconds since the Unix epoch.
    fn glass_ms_max(&self, node: &AuthorId) -> u64 {
        let given = self.authority.entries().filter_map(|applied| match (&applied.entry, &applied.refused) {
            (Some(Entry::BreakGlass(tokens)), None) if tokens.holder.author == *node => Some(tokens.expires_ms),
            _ => None,
        });
        given.max().unwrap_or(0)
    }

    /// When at the latest the authority of a node ends that does not enforce something, milliseconds since the Unix epoch. `enforces`
    /// tells since when an author says that it does. None where nobody knows: a mesh coordinator needs no lease, and one that does not
    /// enforce it may go on giving some.
    pub(crate) fn ends_by(
        &self,
        now: Clock,
        node: &AuthorId,
        classes: &[RiskClass],
        enforces: &dyn Fn(&AuthorId) -> Option<u64>,
    ) -> Option<u64> {
        let member = self.authority.member(node)?;
        if member.role.is_mesh_coordinator() {
            return None;
        }
        let longest = classes.iter().map(|class| self.authority_ms_max(member.role.site(), *class)).max()?;
        let mut last_ms = 0;
        let coordinators = self.authority.members().filter(|(_, m)| m.role.is_mesh_coordinator());
        for (author, _) in coordinators.filter(|(author, _)| !self.knows_cut(node, author)) {
            let since_ms = enforces(author)?;
            let given_ms = Some(*author).filter(|a| *a == self.me).and_then(|_| self.given_ms(now, node));
            last_ms = last_ms.max(given_ms.map_or(since_ms, |given| given.min(since_ms)));
        }
        Some(last_ms.saturating_add(longest).max(self.glass_ms_max(node)))
    }

    /// When this node last gave a lease to another since it started, milliseconds since the Unix epoch.
    fn given_ms(&self, now: Clock, node: &AuthorId) -> Option<u64> {
        let given_ms = self.work.leases_given.get(node)?;
        Some(now.wall_ms.saturating_sub(now.boottime_ms.saturating_sub(*given_ms)))
    }

    /// Whether a node has said that it holds the entry that cuts an author: then it takes no lease of it.
    fn knows_cut(&self, node: &AuthorId, author: &AuthorId) -> bool {
        let life = self.authority.member(author).map(|m| m.incarnation);
        if !life.is_some_and(|life| self.authority.is_cut(author, life)) {
            return false;
        }
        let cuts = |applied: &Applied| match &applied.entry {
            Some(Entry::Cut(cut)) => applied.refused.is_none() && cut.author == *author,
            Some(Entry::Term(_)) => applied.refused.is_none(),
            _ => false,
        };
        let last =
            (1..).zip(self.authority.entries()).filter(|(_, applied)| cuts(applied)).map(|(index, _)| index).last();
        last.is_some_and(|index: u64| self.authority.holds(node) >= index)
    }

    /// Puts bounds to those who wait, and says what it comes to.
    pub(crate) fn halt(
        &self,
        now: Clock,
        classes: &[RiskClass],
        waiting: &mut [(AuthorId, Waiting)],
        enforces: &dyn Fn(&AuthorId) -> Option<u64>,
    ) -> Halt {
        let mut bounds = Vec::new();
        for (author, shown) in waiting {
            let ends_ms = self.ends_by(now, author, classes, enforces);
            shown.latest_by = ends_ms.map(Time);
            bounds.push(ends_ms);
        }
        Halt::of(&bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_closed_while_somebody_has_not_said_so() {
        #[cfg(feature = "planted")]
        if let Ok(name) = std::env::var("CAULDRON_PLANTED") {
            assert!(planted::activate_everywhere(&name), "no bug is called {name}");
        }
        let halt = |state, latest_ms| Halt { state, latest_ms };
        assert_eq!(Halt::of(&[]), halt("CLOSED", None));
        assert_eq!(Halt::of(&[Some(5), Some(9)]), halt("PARTIAL", Some(9)));
        assert_eq!(Halt::of(&[Some(5), None]), halt("UNKNOWN", None));
        let all = [halt("PARTIAL", Some(5)), halt("CLOSED", None), halt("PARTIAL", Some(9))];
        assert_eq!(all.into_iter().reduce(Halt::and), Some(halt("PARTIAL", Some(9))));
        assert_eq!(halt("PARTIAL", Some(5)).and(halt("UNKNOWN", None)), halt("UNKNOWN", None));
    }
}
