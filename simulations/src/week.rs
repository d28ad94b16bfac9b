//! A site that is cut off for days while people work on both sides, and what everybody shows of it meanwhile.
//!
//! No time is leapt over: every lease is asked for, every digest sent, every dial tried.

use std::collections::BTreeSet;

use cauldron_identity::FactId;

use crate::invariants::Violation;
use crate::network::Place;
use crate::queue::Ms;
use crate::rng::Rng;
use crate::run::Report;
use crate::scale::{CALM_MS, RESTRICTION_MS_MAX, SETTLE_MS, Tally, backlog_ms_max};
use crate::weather::Weather;
use crate::world::machine::Machine;
use crate::world::{HQ, World};

/// Nodes of each site; the first site is the one that is cut off.
const SITES: [usize; 2] = [3, 3];
/// Between two looks at what nodes show, and between two writes on each side.
const HOUR_MS: Ms = 3_600_000;
/// Sessions end within 45 s, and whoever lost a peer tells the others.
const NOTICED_MS: Ms = 120_000;

/// What a long partition left behind.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// How long it lasted.
    pub parted_ms: Ms,
    /// What was missing when it ended: facts times readers.
    pub backlog: usize,
    /// From healing to the last node that knows what was restricted meanwhile, milliseconds.
    pub restricted_healed_ms: Ms,
    /// From healing until nobody lacks anything, milliseconds.
    pub rejoined_ms: Ms,
    /// What that may take for such a backlog, milliseconds.
    pub rejoined_ms_max: Ms,
    /// Facts at hq.
    pub facts: usize,
}

impl World {
    fn of_a_week(seed: u64, print: bool) -> Self {
        let mut world = Self::found(seed, Rng::new(seed), Weather::wide(SITES.to_vec()), print);
        world.calm = true;
        world.tally = Some(Tally::new(&world.machines));
        world
    }

    /// Everybody says what is so: the site cannot be reached, since when, and by how much it is behind.
    fn tell_the_truth(&self, away: &BTreeSet<Place>, cut_ms: Ms) -> Result<(), Violation> {
        let now = self.now();
        for (place, m) in self.machines.iter().enumerate() {
            let Some(core) = m.core.as_ref() else { continue };
            let clock = m.clock.clone().read(now);
            let says = |text: String| Violation::new("TRUTH", format!("{} shows {text}", m.name));
            let parted_ms = now - cut_ms;
            let others: Vec<(Place, &Machine)> =
                self.machines.iter().enumerate().filter(|(p, _)| *p != place).collect();
            let peers = core.peers_view(clock);
            for (other, peer) in &others {
                let across = away.contains(&place) != away.contains(other);
                let name = peer.spiffe_id.to_string();
                let Some(shown) = peers.iter().find(|p| p.spiffe_id == name) else {
                    return Err(says(format!("no {name}")));
                };
                let reader = m.site.is_none() || peer.site.is_none() || m.site == peer.site;
                match shown.state {
                    "alive" if across => return Err(says(format!("{name} as alive"))),
                    state if !across && reader && state != "alive" => return Err(says(format!("{name} as {state}"))),
                    _ => {}
                }
                // Nothing can have come across for so long, whoever saw it.
                let age_ms = shown.seen.as_ref().map_or(u64::MAX, |seen| seen.age_ms);
                if across && age_ms.saturating_add(NOTICED_MS) < parted_ms {
                    return Err(says(format!("{name} as seen {age_ms} ms ago after {parted_ms} ms apart")));
                }
            }
            let torn = core.partitions_view(clock);
            let cut_off = torn.items.iter().filter(|part| part.state == "cut_off").map(|part| part.site.clone());
            let cut_off: BTreeSet<Option<String>> = cut_off.collect();
            let beyond = |p: &Place| away.contains(p) != away.contains(&place);
            let truly = others.iter().filter(|(p, _)| beyond(p)).map(|(_, m)| m.site.clone());
            let truly: BTreeSet<Option<String>> = truly.collect();
            if torn.state == "whole" || cut_off.is_empty() || !cut_off.is_subset(&truly) {
                return Err(says(format!("{} with {cut_off:?} cut off, where {truly:?} is", torn.state)));
            }
            // Work goes on each hour, so whoever was linked with somebody beyond knows it to be late by about the whole time.
            let late = core.lags_view(clock).into_iter().filter(|lag| !lag.linked && lag.scope == "mesh");
            for lag in
                late.filter(|lag| others.iter().any(|(p, m)| beyond(p) && m.spiffe_id.to_string() == lag.spiffe_id))
            {
                let oldest_ms = lag.oldest_unsynced_ms.unwrap_or(0);
                if parted_ms > 2 * HOUR_MS && (lag.behind == 0 || oldest_ms + 2 * HOUR_MS < parted_ms) {
                    return Err(says(format!("{} behind by {} since {oldest_ms} ms", lag.spiffe_id, lag.behind)));
                }
            }
        }
        Ok(())
    }

    /// It comes up, a site is cut off, people work on both sides, it heals and is level again.
    fn live_apart(&mut self, days: u64) -> Result<Figures, Violation> {
        let late = |what: &str| Violation::new("CONVERGE", format!("{what} in time"));
        self.run_for(SETTLE_MS);
        self.until_level(CALM_MS).ok_or_else(|| late("not everybody has everything of the founding"))?;
        let site = self.machines.iter().find_map(|m| m.site.clone());
        let shore = self.shore(&BTreeSet::from([site.clone()]));
        let away: BTreeSet<Place> =
            (0..self.machines.len()).filter(|place| self.machines[*place].site == site).collect();
        self.fall_silent(&shore);
        let (cut_ms, hours) = (self.now(), days * 24);
        let mut no: Option<FactId> = None;
        for hour in 1..=hours {
            self.write_a_little(&away, hour);
            if hour == hours / 2 {
                no = self.restrict_all();
            }
            self.run_for(cut_ms + hour * HOUR_MS - self.now());
            if let Some(violation) = &self.violation {
                return Err(violation.clone());
            }
            self.tell_the_truth(&away, cut_ms)?;
        }
        let no = no.ok_or_else(|| Violation::new("PROGRESS", "hq writes no restriction"))?;
        let written: Vec<u64> = self.machines.iter().map(|m| m.written).collect();
        let mut figures = Figures { parted_ms: self.now() - cut_ms, ..Figures::default() };
        figures.backlog = self.missing();
        figures.rejoined_ms_max = backlog_ms_max(figures.backlog);
        self.heal_silence(&shore, &written);
        let healed = self.now();
        let known = self.until_known(no, 0, RESTRICTION_MS_MAX);
        figures.restricted_healed_ms =
            known.ok_or_else(|| late("not every node knows of a restriction after healing"))?;
        let most = figures.rejoined_ms_max;
        self.until_level(most).ok_or_else(|| late("not everybody has what was written on both sides"))?;
        figures.rejoined_ms = self.now() - healed;
        figures.facts = self.machines[HQ].known.len();
        self.run_for(SETTLE_MS);
        self.same_hashes()?;
        crate::invariants::truth::shown_as_it_is(self)?;
        Ok(figures)
    }

    /// On each side of the cut somebody edits a document that all read, and somebody proposes something.
    fn write_a_little(&mut self, away: &BTreeSet<Place>, hour: u64) {
        let (inside, outside): (Vec<Place>, Vec<Place>) =
            (1..self.machines.len()).partition(|place| away.contains(place));
        for side in [inside, outside] {
            let place = side[self.rng.index(side.len())];
            self.edit_row(place, i64::try_from(hour).unwrap_or(0));
            let place = side[self.rng.index(side.len())];
            self.propose_block(place, &format!("198.51.100.{}", 1 + hour % 250));
        }
    }
}

/// Lives through a partition of so many days.
#[must_use]
pub fn run(seed: u64, days: u64, print: bool) -> (Report, Figures) {
    cauldron_identity::memo::activate();
    let mut world = World::of_a_week(seed, print);
    let figures = world.live_apart(days);
    if let Err(violation) = &figures {
        world.break_off(violation.clone());
    }
    world.finish();
    (Report::of(seed, world), figures.unwrap_or_default())
}
