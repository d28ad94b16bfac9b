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
use cauldron_identity::AuthorId;
use cauldron_identity::authority::{Applied, Entry};

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
            let given_ms = self.work.leases_given.get(node).filter(|_| *author == self.me);
            last_ms = last_ms.max(given_ms.map_or(since_ms, |given| since_ms.min(*given)));
        }
        Some(last_ms.saturating_add(longest).max(self.glass_ms_max(node)))
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
        classes: &[RiskClass],
        waiting: &mut [(AuthorId, Waiting)],
        enforces: &dyn Fn(&AuthorId) -> Option<u64>,
    ) -> Halt {
        let mut bounds = Vec::new();
        for (author, shown) in waiting {
            let ends_ms = self.ends_by(author, classes, enforces);
            shown.latest_by = ends_ms.map(Time);
            bounds.push(ends_ms);
        }
        Halt::of(&bounds)
    }
}

#[cfg(test)]
mod tests {
    use cauldron_coordinator::bodies::{Order, Restriction};
    use cauldron_identity::authority::{Amend, Enrol, EntryBody};
    use cauldron_identity::budget::Life;
    use cauldron_identity::charter::{ClassAges, Seat};
    use cauldron_identity::isolation::{BreakGlass, HORIZONS_MAX, IsolationGrant};
    use cauldron_identity::{Digest, SpiffeId};

    use super::*;
    use crate::testing::{NOW, charter, config, key};
    use crate::{Command, Input};

    fn seat(n: u8, name: &str) -> Seat {
        Seat { author: key(n).public(), spiffe_id: format!("spiffe://acme.test/coordinator/{name}") }
    }

    /// hq, whose council is key 2, and lyon (key 4), which is away; the council has written `more`, and everything is killed.
    fn killed(more: &[Entry]) -> NodeCore {
        let charter = charter(seat(1, "hq"));
        let config = config(key(1), "spiffe://acme.test/coordinator/hq", &charter);
        let mut core = NodeCore::open(config, [], NOW).expect("it opens");
        let lyon = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("id");
        let mut write = |entry: &Entry| {
            let mut body = EntryBody::new(core.authority.head(), core.authority.index() + 1, entry);
            body.sign(&charter.mesh_id(), &key(2));
            core.handle(NOW, Input::Command { ticket: 1, command: Box::new(Command::Authority(Box::new(body))) });
        };
        write(&Entry::Enrol(Enrol::new(&charter.mesh_id(), &key(4), &lyon)));
        more.iter().for_each(&mut write);
        let order = Order {
            mesh: charter.mesh_id(),
            target: Target::All,
            by: "hq".into(),
            reason: "stop".into(),
            issued_ms: NOW.wall_ms,
        };
        let restrict = Command::Restrict(Box::new(Restriction::by_coordinator(&order)));
        core.handle(NOW, Input::Command { ticket: 1, command: Box::new(restrict) });
        core
    }

    #[test]
    fn without_a_grant_the_authority_of_who_is_away_ends_with_its_lease() {
        let core = killed(&[]);
        let views = core.restrictions_view(NOW);
        let view = &views[0];
        assert_eq!((view.state, view.of, view.enforced_by), ("PARTIAL", Some(2), Some(1)), "{view:?}");
        let ages = ClassAges::default();
        let day = Some(Time(NOW.wall_ms + ages.r0_ms));
        assert_eq!((view.latest_by, view.waiting[0].latest_by), (day, day), "no lease was given: since hq enforces it");
        assert_eq!(
            (view.sites[0].site.as_str(), view.sites[0].state, view.sites[0].latest_by),
            ("lyon", "PARTIAL", day)
        );
        assert_eq!(core.authority_ms_max(Some("lyon"), RiskClass::R2), ages.r2_ms);
        let classes = classes_of(&core, &Target::ActionClass("security.address.block/blocklist".into()));
        assert_eq!(classes, [RiskClass::R1, RiskClass::R2, RiskClass::R3]);
    }

    #[test]
    fn a_grant_or_a_sealed_token_lets_who_is_away_go_on_for_longer() {
        let site = || "lyon".to_owned();
        let grant = |horizon| {
            Entry::Isolation(IsolationGrant {
                site: site(),
                acting: vec!["spiffe://acme.test/site/lyon/node/lyon".into()],
                horizon,
                groups: vec!["security-duty".into()],
                escrow: vec![],
                lift: 1,
            })
        };
        let shorter = ClassAges { r0_ms: 2 * HORIZONS_MAX.r1_ms, ..HORIZONS_MAX };
        let core = killed(&[grant(HORIZONS_MAX), grant(shorter)]);
        let month = Some(Time(NOW.wall_ms + HORIZONS_MAX.r0_ms));
        assert_eq!(core.restrictions_view(NOW)[0].latest_by, month, "lyon may not have heard of the shorter one");
        assert_eq!(core.authority_ms_max(Some("porto"), RiskClass::R0), ClassAges::default().r0_ms);
        let expires_ms = NOW.wall_ms + 2 * HORIZONS_MAX.r0_ms;
        let holder = Life { author: key(4).author_id(), incarnation: 0 };
        let tokens = BreakGlass { site: site(), holder, digests: vec![Digest::of("token", b"1")], expires_ms };
        let core = killed(&[grant(HORIZONS_MAX), Entry::BreakGlass(tokens)]);
        assert_eq!(core.restrictions_view(NOW)[0].latest_by, Some(Time(expires_ms)), "a token needs no lease");
    }

    #[test]
    fn while_a_coordinator_has_not_said_so_nobody_knows() {
        let coordinators = Some(vec![seat(1, "hq"), seat(5, "hq-2")]);
        let core = killed(&[Entry::Amend(Box::new(Amend { coordinators, ..Amend::default() }))]);
        let view = &core.restrictions_view(NOW)[0];
        assert_eq!((view.state, view.of, view.enforced_by, view.latest_by), ("UNKNOWN", Some(3), Some(1), None));
        assert!(view.waiting.iter().all(|w| w.latest_by.is_none()), "it may go on giving leases: {view:?}");
    }

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
