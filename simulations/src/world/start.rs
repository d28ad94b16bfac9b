//! The start of a process, on whatever the disk holds.

use cauldron_identity::AuthorKey;
use cauldron_node_core::{Input, NodeConfig, NodeCore, Opening, Output, Seed};

use super::World;
use crate::disk::Disk;
use crate::invariants::model::Model;
use crate::invariants::{self, Violation};
use crate::network::Place;
use crate::reached;
use crate::rng::Rng;

impl World {
    /// Starts a process on a machine that has none.
    pub(crate) fn start(&mut self, place: Place) {
        let seed = Seed(self.rng.bytes());
        let now = self.queue.now();
        let (charter, mesh) = (self.founding.charter.clone(), self.founding.mesh);
        let m = &mut self.machines[place];
        let Some(bootstrap) = m.bootstrap.clone() else { return };
        if m.is_up() {
            return;
        }
        m.recall();
        m.life_at_start = Model::new(&self.founding, m).incarnation(&m.author);
        let used = m.known.values().any(|f| f.header.author == m.author);
        m.resumed_at = (m.process > 0 && used).then_some(now);
        let clock = m.clock.read(now);
        let (boot_id, used_before, far_facts) = (m.clock.boot_id(&m.name), m.process > 0, self.weather.far_facts);
        let epoch_changes = self.weather.epoch_changes;
        let (key, spiffe_id) = (m.seed, m.spiffe_id.clone());
        let (budgets, window_max) = self.weather.links();
        let config = || NodeConfig {
            key: AuthorKey::from_seed(&key),
            spiffe_id: spiffe_id.clone(),
            charter: charter.clone(),
            mesh,
            boot_id: boot_id.clone(),
            bootstrap: bootstrap.to_vec(),
            seed,
            place: cauldron_node_core::Place::default(),
            far_facts,
            epoch_changes,
            budgets: budgets.clone(),
            window_max,
            hands: cauldron_coordinator::owner::Hands::new(),
            misbehave: cauldron_node_core::Misbehave::default(),
            used_before,
            terms: vec![],
        };
        let hot_bytes = self.weather.hot_bytes;
        let open = |disk: &Disk| {
            let mut opening = Opening::over(mesh, disk.archive(), hot_bytes);
            disk.records().iter().try_for_each(|(key, value)| opening.take(key, value))?;
            NodeCore::open_with(config(), opening, clock)
        };
        if hot_bytes == 0 {
            reached!(self, "store.cold");
        }
        let m = &mut self.machines[place];
        // Chance of its own: whether a store is tampered with changes nothing that follows.
        let mut dice = Rng::new(seed.0.iter().fold(0, |sum, byte| sum << 7 ^ u64::from(*byte)));
        if dice.percent(30)
            && let Some((what, records)) = invariants::tampered(&mut dice, without_index(&m.disk))
        {
            reached!(self, "store.tampered");
            if open(&records.into_iter().collect()).is_ok() {
                let text = format!("{} opened its store although a fact in it was {what}", m.name);
                return self.break_off(Violation::new("TAMPER", text));
            }
        }
        let mut indexed = false;
        // A stop in order comes after whatever a start has to make durable.
        let keeps_nothing =
            |disk: &Disk| open(&without_index(disk).into_iter().collect()).is_ok_and(|mut core| !persists(&mut core));
        if dice.percent(20)
            && keeps_nothing(&m.disk)
            && let Ok(whole) = open(&without_index(&m.disk).into_iter().collect())
        {
            reached!(self, "store.indexed");
            indexed = true;
            whole.index().for_each(|record| m.disk.write(&record));
            if let Err(violation) = invariants::index(&m.name, clock, whole, open(&m.disk)) {
                return self.break_off(violation);
            }
        }
        match open(&m.disk) {
            Ok(mut core) => {
                // That the index goes first was just seen. Here it takes no time, so that a world is the same without one.
                if indexed && let Output::Persist(first) = core.poll() {
                    m.disk.write(&first);
                }
                m.core = Some(core);
            }
            Err(why) => {
                let text = format!("{} cannot open its own store: {why}", m.name);
                return self.break_off(Violation::new("RECOVERY", text));
            }
        }
        let (clock, addresses) = (m.clock.read(now), vec![format!("place-{place}:7443")]);
        if let Some(core) = &mut m.core {
            core.handle(clock, Input::Addresses(addresses));
        }
        self.note(place, "start", &[], String::new);
        self.drain(place, false);
        self.pump(place);
        for (a, b) in self.network.pairs_of(place).collect::<Vec<_>>() {
            self.redial(a, b);
        }
    }
}

/// The records of a disk as an unclean stop leaves them.
fn persists(core: &mut NodeCore) -> bool {
    loop {
        match core.poll() {
            Output::Persist(_) => return true,
            Output::Idle { .. } => return false,
            _ => {}
        }
    }
}

fn without_index(disk: &Disk) -> Vec<(Vec<u8>, Vec<u8>)> {
    disk.records().into_iter().filter(|(key, _)| !cauldron_crdt::Record::is_index(key)).collect()
}
