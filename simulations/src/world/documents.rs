//! Documents: people and programs write to them at any node, and what is long is built beside the loop.

use std::collections::BTreeMap;

use cauldron_crdt::doc::{DocKey, Edit, Field, Work};
use cauldron_identity::Scope;
use cauldron_node_core::Command;

use super::{Asked, Happening, World};
use crate::network::Place;

/// How long building a document takes, at most: as long as on a slow box.
const BUILD_MS_MAX: u64 = 2_000;

impl World {
    /// Somebody writes to a document at a random node that runs.
    pub(crate) fn write_something(&mut self) {
        let Some(mean) = self.weather.write_ms.filter(|_| !self.calm) else { return };
        let next = self.rng.between(mean / 2, mean * 3 / 2);
        self.queue.after(next, Happening::Write);
        let up: Vec<Place> =
            (0..self.machines.len()).filter(|p| self.machines[*p].is_up() && self.machines[*p].has_joined()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        let site = self.machines[place].site.clone().and_then(|site| Scope::site(&site).ok());
        let scope = site.filter(|_| self.rng.percent(25)).unwrap_or_else(Scope::mesh);
        let (doc, edit) = if self.rng.percent(60) {
            let row = *self.rng.pick(&["lyon", "porto", "hq"]).unwrap_or(&"hq");
            let field = format!("k{}", self.rng.below(4));
            let value = self.rng.percent(85).then(|| Field::Int(i64::try_from(self.rng.below(1_000)).unwrap_or(0)));
            ("config/main", Edit::Row { row: row.to_owned(), fields: BTreeMap::from([(field, value)]) })
        } else {
            let remove = usize::from(self.rng.percent(30));
            let insert = if remove == 0 { format!("{} ", self.rng.below(100)) } else { String::new() };
            ("notes/log", Edit::Text { at: 0, remove, insert })
        };
        let key = DocKey { scope, doc: doc.parse().expect("a document") };
        self.ask(place, Command::Edit { key, edit, if_digest: None }, Asked::Other);
    }

    /// A node sent a document away to be built.
    pub(crate) fn build(&mut self, place: Place, work: Work) {
        let delay = self.rng.between(1, BUILD_MS_MAX);
        let process = self.machines[place].process;
        self.queue.after(
            delay,
            Happening::Built { place, process, work: Box::new(work.run(&cauldron_crdt::doc::check::unpack)) },
        );
    }
}
