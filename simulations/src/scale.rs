//! Many nodes: sites of ten around one hq, parted and healed, with the figures of a large mesh.
//!
//! The weather is calm but for one partition: what is asked here is not what goes wrong, but whether what is right stays
//! cheap and quick when there is much of it. Every node is enrolled by the founding, so that no time goes into joining.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Target;
use cauldron_crdt::doc::{DocKey, Edit, Field};
use cauldron_identity::{FactId, Lane, Scope};
use cauldron_node_core::{Command, NodeCore};

use crate::facts::Known;
use crate::invariants::Violation;
use crate::network::Place;
use crate::queue::Ms;
use crate::rng::Rng;
use crate::run::Report;
use crate::weather::Weather;
use crate::world::machine::Machine;
use crate::world::{Asked, HQ, World};

/// Nodes of a site; the last one has the rest.
const SITE_NODES: usize = 10;
/// Every so many sites one is cut off.
const CUT_EVERY: usize = 3;
/// How long the partition lasts: all sessions across it end, and redials fail.
const PARTED_MS: Ms = 60_000;
/// Long enough for everything to be up, said and quiet: a node speaks of the authority chain within a minute.
pub(crate) const SETTLE_MS: Ms = 90_000;
/// How long nothing is done, to see what nothing costs: two of the longest beats of digests.
const IDLE_MS: Ms = 128_000;
/// Edits of a document that every node reads, and as many proposals that only a site and hq read, in each busy phase.
const WRITES: usize = 30;
/// Between two writes.
const WRITE_EVERY_MS: Ms = 200;
/// After a write it is everywhere, unless something is cut off.
pub(crate) const CALM_MS: Ms = 10_000;
/// Architecture §3: a restriction is known at connected nodes after this, and after healing everywhere.
pub(crate) const RESTRICTION_MS_MAX: Ms = 10_000;
/// CONVERGE's bound: 10 s, as for restrictions, and a millisecond for each 100 facts that readers lack when the sites are
/// reached again, for they come through hq.
const BACKLOG_PER_MS: usize = 100;

/// How long it may take until nobody lacks anything of such a backlog: facts times readers.
pub(crate) fn backlog_ms_max(backlog: usize) -> Ms {
    RESTRICTION_MS_MAX + (backlog / BACKLOG_PER_MS) as Ms
}

/// Who has what, counted as it happens.
#[derive(Debug, Default)]
pub struct Tally {
    /// Readers of a site's scopes, hq included; of the mesh's under no name.
    readers: BTreeMap<Option<String>, usize>,
    /// When each fact was written, and how many of its readers lack it.
    facts: BTreeMap<FactId, (Ms, usize)>,
    /// Readers that lack a fact, over all facts.
    missing: usize,
    /// Milliseconds from writing to having it, each counted.
    delays: BTreeMap<Ms, u64>,
    /// Bytes of frames that each node sent.
    bytes: BTreeMap<Place, u64>,
}

impl Tally {
    pub(crate) fn new(machines: &[Machine]) -> Self {
        let mut readers = BTreeMap::from([(None, machines.len())]);
        for site in machines.iter().filter_map(|m| m.site.clone()) {
            *readers.entry(Some(site)).or_insert(1) += 1;
        }
        Self { readers, ..Self::default() }
    }

    /// A node keeps a fact that it did not have.
    pub(crate) fn kept(&mut self, now: Ms, fact: &Known) {
        let (facts, missing) = (&mut self.facts, &mut self.missing);
        let site = fact.header.scope.site_name().map(str::to_owned);
        let readers = self.readers.get(&site).copied().unwrap_or(0);
        let (written, lack) = facts.entry(fact.id).or_insert_with(|| {
            *missing += readers;
            (now, readers)
        });
        *lack = lack.saturating_sub(1);
        *missing = missing.saturating_sub(1);
        *self.delays.entry(now - *written).or_default() += 1;
    }

    /// A frame leaves a node.
    pub(crate) fn sent(&mut self, place: Place, bytes: usize) {
        *self.bytes.entry(place).or_default() += bytes as u64;
    }

    /// The delay within which `share` of all deliveries lie.
    fn delay(&self, share: f64) -> Ms {
        let all: u64 = self.delays.values().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        let mut within = self.delays.iter().take_while(|(_, count)| {
            let more = left > 0;
            left = left.saturating_sub(**count);
            more
        });
        within.by_ref().last().map_or(0, |(delay, _)| *delay)
    }
}

/// What a large mesh cost and how quick it was.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Sessions between nodes.
    pub sessions: usize,
    /// Bytes of frames that a node sends per second while nothing happens, on average, and the busiest node's.
    pub idle: (f64, f64),
    /// Of a hundred deliveries, the delay of the 50th and 99th, milliseconds, while nothing is cut off.
    pub push_ms: (Ms, Ms),
    /// Copies of a fact that reach a node, on average.
    pub copies: f64,
    /// From the restriction to the last connected node that knows it, milliseconds.
    pub restricted_ms: Ms,
    /// From healing to the last node that knows it, milliseconds.
    pub restricted_healed_ms: Ms,
    /// From healing until nobody lacks anything, milliseconds.
    pub rejoined_ms: Ms,
    /// What was missing at that moment: facts times readers.
    pub backlog: usize,
    /// Facts at hq.
    pub facts: usize,
}

impl World {
    /// A mesh of so many nodes, hq included, at the moment of its founding.
    #[must_use]
    pub fn of_many(seed: u64, nodes: usize, print: bool) -> Self {
        let others = nodes.saturating_sub(1).max(1);
        let count = others.div_ceil(SITE_NODES);
        let sites = (0..count).map(|site| SITE_NODES.min(others - site * SITE_NODES)).collect();
        let mut world = Self::found(seed, Rng::new(seed), Weather::wide(sites), print);
        world.calm = true;
        world.tally = Some(Tally::new(&world.machines));
        world
    }

    fn tally(&mut self) -> &mut Tally {
        self.tally.get_or_insert_default()
    }

    /// Facts times readers that lack them.
    pub(crate) fn missing(&mut self) -> usize {
        self.tally().missing
    }

    /// Runs until nobody lacks anything, for at most `most`. Returns how long that took.
    pub(crate) fn until_level(&mut self, most: Ms) -> Option<Ms> {
        let begun = self.now();
        while self.tally().missing > 0 && self.violation.is_none() {
            if self.now() >= begun + most {
                return None;
            }
            self.run_for(10);
        }
        Some(self.now() - begun)
    }

    /// What hq and every node said of sync: facts that came, and those of them that were new.
    fn came(&self) -> (u64, u64) {
        let stats = self.machines.iter().filter_map(|m| m.core.as_ref()).map(NodeCore::sync_stats);
        stats.fold((0, 0), |(all, new), s| (all + s.facts_new + s.facts_duplicate + s.facts_unasked, new + s.facts_new))
    }

    /// A node edits its own row of a document that all nodes read.
    pub(crate) fn edit_row(&mut self, place: Place, load: i64) {
        let fields = BTreeMap::from([("load".to_owned(), Some(Field::Int(load)))]);
        let edit = Edit::Row { row: self.machines[place].name.clone(), fields };
        let key = DocKey { scope: Scope::mesh(), doc: "config/main".parse().expect("a document") };
        self.ask(place, Command::Edit { key, edit, if_digest: None }, Asked::Other);
    }

    /// Edits that all nodes read and proposals that a site reads, by nodes all over the mesh.
    fn write_all_over(&mut self) {
        for n in 0..WRITES {
            let place = 1 + self.rng.index(self.machines.len() - 1);
            self.edit_row(place, i64::try_from(n).unwrap_or(0));
            let place = 1 + self.rng.index(self.machines.len() - 1);
            self.propose_block(place, &format!("198.51.100.{}", 1 + n));
            self.run_for(WRITE_EVERY_MS);
        }
    }

    /// hq kills an action class; the id of what it wrote.
    pub(crate) fn restrict_all(&mut self) -> Option<FactId> {
        let before: BTreeSet<FactId> = self.restrictions();
        self.restrict(Target::ActionClass("security.address.block/other".into()), "hq says no");
        self.run_for(50);
        self.restrictions().difference(&before).next().copied()
    }

    fn restrictions(&self) -> BTreeSet<FactId> {
        let facts = self.history.facts.values();
        facts.filter(|f| f.header.scope.lane() == Lane::Restrict).map(|f| f.id).collect()
    }

    /// Runs until only these machines lack a fact, for at most `most`. Returns how long that took.
    pub(crate) fn until_known(&mut self, fact: FactId, but: usize, most: Ms) -> Option<Ms> {
        let begun = self.now();
        while self.tally().facts.get(&fact).is_none_or(|(_, lack)| *lack > but) && self.violation.is_none() {
            if self.now() >= begun + most {
                return None;
            }
            self.run_for(10);
        }
        Some(self.now() - begun)
    }

    /// Everything that is between a site and the rest.
    pub(crate) fn shore(&self, cut: &BTreeSet<Option<String>>) -> Vec<(Place, Place)> {
        let is_cut = |place: &Place| cut.contains(&self.machines[*place].site);
        let across = self.network.pairs().into_iter().filter(|(a, b)| is_cut(a) != is_cut(b));
        across.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
    }

    /// The life of a large mesh: it comes up, idles, writes, is parted, writes on both sides, heals and is level again.
    fn live_as_many(&mut self) -> Result<Figures, Violation> {
        let late = |what: &str| Violation::new("CONVERGE", format!("{what} in time"));
        let mut figures = Figures::default();
        self.run_for(SETTLE_MS);
        self.until_level(CALM_MS).ok_or_else(|| late("not everybody has everything of the founding"))?;
        figures.sessions = self.network.links().len();

        self.tally().bytes.clear();
        self.run_for(IDLE_MS);
        let sent = &self.tally().bytes;
        let per_s = |bytes: u64| bytes as f64 * 1_000.0 / IDLE_MS as f64;
        let (all, most) = (sent.values().sum(), sent.values().max().copied().unwrap_or(0));
        figures.idle = (per_s(all) / self.machines.len() as f64, per_s(most));

        self.tally().delays.clear();
        let before = self.came();
        self.write_all_over();
        self.until_level(CALM_MS).ok_or_else(|| late("not everybody has what was written"))?;
        let after = self.came();
        figures.push_ms = (self.tally().delay(0.5), self.tally().delay(0.99));
        figures.copies = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;

        let cut: BTreeSet<Option<String>> = self.machines.iter().filter_map(|m| m.site.clone()).map(Some).collect();
        let cut: BTreeSet<Option<String>> = cut.into_iter().step_by(CUT_EVERY).collect();
        let away = self.machines.iter().filter(|m| cut.contains(&m.site)).count();
        let shore = self.shore(&cut);
        self.fall_silent(&shore);
        self.run_for(PARTED_MS / 2);
        let no = self.restrict_all().ok_or_else(|| Violation::new("PROGRESS", "hq writes no restriction"))?;
        let known = self.until_known(no, away, RESTRICTION_MS_MAX);
        figures.restricted_ms = known.ok_or_else(|| late("not every connected node knows of a restriction"))?;
        self.write_all_over();
        self.run_for(PARTED_MS / 2);
        figures.backlog = self.missing();
        let written: Vec<u64> = self.machines.iter().map(|m| m.written).collect();
        self.heal_silence(&shore, &written);
        let healed = self.now();
        let known = self.until_known(no, 0, RESTRICTION_MS_MAX);
        figures.restricted_healed_ms =
            known.ok_or_else(|| late("not every node knows of a restriction after healing"))?;
        let most = backlog_ms_max(figures.backlog);
        self.until_level(most).ok_or_else(|| late("not everybody has what was written on both sides"))?;
        figures.rejoined_ms = self.now() - healed;
        figures.facts = self.machines[HQ].known.len();
        self.run_for(CALM_MS);
        self.same_hashes()?;
        Ok(figures)
    }

    /// CONVERGE: what the nodes themselves would show of it. All hashes of one realm are equal.
    pub(crate) fn same_hashes(&self) -> Result<(), Violation> {
        let mut seen: BTreeMap<String, (&str, String)> = BTreeMap::new();
        for m in &self.machines {
            let Some(core) = &m.core else { continue };
            for (realm, hash) in core.sync_view(m.clock.clone().read(self.now())).state_hash {
                let (name, first) = seen.entry(realm.clone()).or_insert((&m.name, hash.clone()));
                if *first != hash {
                    let text = format!("{realm} is {first} at {name} and {hash} at {}", m.name);
                    return Err(Violation::new("CONVERGE", text));
                }
            }
        }
        Ok(())
    }
}

/// Lives through a large mesh. What of it cannot be judged at each of many nodes is judged at some:
/// the order of facts (MERGE-LAWS) and final states (FINAL).
#[must_use]
pub fn run(seed: u64, nodes: usize, print: bool) -> (Report, Figures) {
    cauldron_identity::memo::activate();
    let mut world = World::of_many(seed, nodes, print);
    let figures = world.live_as_many();
    if let Err(violation) = &figures {
        world.break_off(violation.clone());
    }
    world.finish();
    (Report::of(seed, world), figures.unwrap_or_default())
}
