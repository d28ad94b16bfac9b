//! Whose turn it is: the oldest open proposals of each agent, of these the oldest of each site, and of these as many from each
//! site while there are too many in all.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::FactId;

use crate::coordinate::Limits;

/// By age, the oldest first; never twice the same.
pub(super) type Place = (u64, FactId);

/// Why a proposal waits undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// So many older ones of its agent are open.
    Agent(usize),
    /// So many older ones of its site are open.
    Site(usize),
    /// So many are open in all, and its site has its share of them.
    Total(usize),
}

impl Held {
    /// The name under which it is counted.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Agent(_) => "agent_limit",
            Self::Site(_) => "site_limit",
            Self::Total(_) => "total_limit",
        }
    }

    /// What holds it back, and what helps.
    #[must_use]
    pub fn says(self) -> String {
        match self {
            Self::Agent(n) => {
                format!(
                    "held back: {n} older proposals of its agent are open; it is judged when one of them is decided or lapses"
                )
            }
            Self::Site(n) => {
                format!(
                    "held back: {n} older proposals of its site are open; it is judged when one of them is decided or lapses"
                )
            }
            Self::Total(n) => format!(
                "held back: {n} proposals are open in all, and its site has its share of them; it is judged when some are decided or lapse"
            ),
        }
    }
}

/// Open proposals in the order in which they are judged.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    limits: Limits,
    agents: BTreeMap<String, BTreeSet<Place>>,
    /// The oldest of each agent, as many as may be open.
    sites: BTreeMap<String, BTreeSet<Place>>,
    /// Of all sites, as many as may be open in each.
    all: usize,
    /// While there are too many in all: the first, by its rank in its site and its age, that is too many.
    beyond: Option<(usize, Place)>,
    /// Whether any site's part changed since it was shared last.
    moved: bool,
    /// Came to be among the oldest since this was last asked.
    risen: BTreeSet<FactId>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        let (agents, sites) = (BTreeMap::new(), BTreeMap::new());
        Self { limits, agents, sites, all: 0, beyond: None, moved: false, risen: BTreeSet::new() }
    }

    pub(super) fn insert(&mut self, agent: &str, site: &str, place: Place) {
        let most = self.limits.open_per_agent;
        let of_agent = self.agents.entry(agent.to_owned()).or_default();
        if !of_agent.insert(place) {
            return;
        }
        let out = of_agent.iter().nth(most).copied();
        if out.is_some_and(|out| place >= out) {
            return;
        }
        self.site(site, |of_site| {
            of_site.insert(place);
            out.map(|out| of_site.remove(&out));
        });
    }

    pub(super) fn remove(&mut self, agent: &str, site: &str, place: Place) {
        let Some(of_agent) = self.agents.get_mut(agent) else { return };
        if !of_agent.remove(&place) {
            return;
        }
        // The last of those that may be open now: it may be the one that rises.
        let last = self.limits.open_per_agent.checked_sub(1).and_then(|last| of_agent.iter().nth(last)).copied();
        if of_agent.is_empty() {
            self.agents.remove(agent);
        }
        let fallen = self.sites.get(site).is_some_and(|of_site| of_site.contains(&place));
        if !fallen {
            return;
        }
        self.site(site, |of_site| {
            of_site.remove(&place);
            of_site.extend(last);
        });
        self.risen.extend(last.map(|(_, id)| id));
        let last = self.limits.open_per_site.checked_sub(1);
        let last = last.and_then(|last| self.sites.get(site)?.iter().nth(last));
        self.risen.extend(last.map(|(_, id)| *id));
    }

    /// Changes one site's part, and keeps count.
    fn site(&mut self, site: &str, change: impl FnOnce(&mut BTreeSet<Place>)) {
        let of_site = self.sites.entry(site.to_owned()).or_default();
        let most = self.limits.open_per_site;
        let before = of_site.len().min(most);
        change(of_site);
        let after = of_site.len().min(most);
        if of_site.is_empty() {
            self.sites.remove(site);
        }
        self.all = self.all + after - before;
        self.moved = true;
    }

    /// Shares what may be open in all between the sites anew. Call after changes, before [`Queue::held`].
    pub(super) fn share(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        let beyond = self.first_beyond();
        let before = std::mem::replace(&mut self.beyond, beyond);
        // Every rank may have shifted.
        if before.is_some() || self.beyond.is_some() {
            let oldest = self.sites.values().flat_map(|of_site| of_site.iter().take(self.limits.open_per_site));
            self.risen.extend(oldest.map(|(_, id)| *id));
        }
    }

    fn first_beyond(&self) -> Option<(usize, Place)> {
        if self.all <= self.limits.open_total {
            return None;
        }
        // Every site's oldest before any site's second.
        let mut left = self.limits.open_total;
        for rank in 0..self.limits.open_per_site {
            let mut here: Vec<Place> =
                self.sites.values().filter_map(|of_site| of_site.iter().nth(rank)).copied().collect();
            if here.len() > left {
                here.sort_unstable();
                return here.get(left).map(|place| (rank, *place));
            }
            left -= here.len();
        }
        None
    }

    /// What holds a proposal back; nothing for one whose turn it is.
    pub(super) fn held(&self, site: &str, place: Place) -> Option<Held> {
        let of_site = self.sites.get(site).filter(|of_site| of_site.contains(&place));
        let Some(of_site) = of_site else { return Some(Held::Agent(self.limits.open_per_agent)) };
        let Some(rank) = of_site.iter().take(self.limits.open_per_site).position(|at| *at == place) else {
            return Some(Held::Site(self.limits.open_per_site));
        };
        let beyond = self.beyond.is_some_and(|beyond| (rank, place) >= beyond);
        beyond.then_some(Held::Total(self.limits.open_total))
    }

    /// Those that may have come to be among the oldest since this was asked last.
    pub(super) fn risen(&mut self) -> BTreeSet<FactId> {
        std::mem::take(&mut self.risen)
    }

    /// The open proposals of an agent, the oldest first.
    pub(super) fn of_agent(&self, agent: &str) -> impl Iterator<Item = &Place> {
        self.agents.get(agent).into_iter().flatten()
    }

    /// How many of a site are open, of each agent no more than may be.
    pub(super) fn of_site(&self, site: &str) -> usize {
        self.sites.get(site).map_or(0, BTreeSet::len)
    }
}
