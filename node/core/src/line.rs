//! The site's public line: how much its nodes did and how much of it stands, never what.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Started;
use cauldron_coordinator::ledger::{Recorded, Report};
use cauldron_crdt::doc::{DocId, DocKey, Edit, Field};
use cauldron_identity::{FactId, Scope};

use crate::core::NodeCore;

/// What this node's starts come to, counted as they change: to count all of them at each would take longer with every action.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Starts of which something may be new.
    moved: BTreeSet<FactId>,
    /// All of them are to be looked at again.
    all: bool,
    counted: BTreeMap<FactId, Come>,
    sum: Sum,
    /// What was written last.
    told: Option<Sum>,
}

/// What one start came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Come {
    done: bool,
    stands: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    done: u64,
    standing: u64,
}

impl Line {
    /// Something of one start may be new.
    pub(crate) fn moved(&mut self, started: FactId) {
        self.moved.insert(started);
    }

    /// Something of any start may be new.
    pub(crate) fn all_moved(&mut self) {
        self.all = true;
    }

    /// Whether something may be new.
    pub(crate) fn is_moved(&self) -> bool {
        self.all || !self.moved.is_empty()
    }

    fn count(&mut self, started: FactId, now: Come) {
        let before = self.counted.insert(started, now).unwrap_or_default();
        self.sum.done = self.sum.done + u64::from(now.done) - u64::from(before.done);
        self.sum.standing = self.sum.standing + u64::from(now.stands) - u64::from(before.stands);
    }
}

impl NodeCore {
    /// Writes the line anew, once this node has acted and when it says something else than before.
    pub(crate) fn publish_line(&mut self) {
        let Some(site) = self.role.site().map(str::to_owned) else { return };
        if self.may_write().is_err() {
            return;
        }
        self.recount_line();
        let line = &self.work.line;
        // A line costs every node of the mesh a change of a document, and a document has room for few writers.
        if line.counted.is_empty() || line.told == Some(line.sum) {
            return;
        }
        let sum = line.sum;
        let count = |n: u64| Some(Field::Int(i64::try_from(n).unwrap_or(i64::MAX)));
        // Each node has fields of its own: two nodes of a site that wrote one field would answer each other for ever.
        let name = self.role.name();
        let fields = BTreeMap::from([
            (format!("{name}.done"), count(sum.done)),
            (format!("{name}.standing"), count(sum.standing)),
        ]);
        let key = DocKey { scope: Scope::mesh(), doc: DocId::sites() };
        match self.write_document(&key, &Edit::Row { row: site, fields }) {
            Ok(_) => self.work.line.told = Some(sum),
            // It is being built: this comes again when it is done.
            Err(why) if why.code == "not-writable" => {}
            Err(why) => self.count_refusal(why.code, why.reason),
        }
    }

    fn recount_line(&mut self) {
        let line = &mut self.work.line;
        if !line.is_moved() {
            return;
        }
        let mut moved = std::mem::take(&mut line.moved);
        if std::mem::take(&mut line.all) {
            (line.counted, line.sum) = (BTreeMap::new(), Sum::default());
            moved = self.ledger.starts_by(&self.me).map(|start| start.id).collect();
        }
        for id in moved {
            let Some(start) = self.ledger.start(&id).filter(|start| start.header.author == self.me) else { continue };
            let come = self.come(start);
            self.work.line.count(id, come);
        }
    }

    fn come(&self, start: &Recorded<Started>) -> Come {
        // Whoever takes something back went by that it was done, by a person's word perhaps.
        let (mut happened, mut over) = (self.happened_by_word(start) == Some(true), false);
        for report in self.ledger.reports_on(&start.id) {
            match report.body {
                Report::Done(_) | Report::Compensating(_) | Report::CompensationFailed(_) => happened = true,
                Report::Ended(_) | Report::Compensated(_) => over = true,
                _ => {}
            }
        }
        Come { done: happened || over, stands: happened && !over }
    }
}

#[cfg(test)]
mod tests {
    use cauldron_coordinator::bodies::{Ended, KIND_ENDED};
    use cauldron_coordinator::testkit::World;

    use super::*;
    use crate::testing::lyon;

    #[test]
    fn what_is_counted_as_it_changes_is_what_counting_all_gives() {
        let mut world = World::new();
        let mut core = lyon(&world);
        let mut counts = |world: &World, moved: &FactId| {
            core.ledger = world.ledger.clone();
            core.work.line.moved(*moved);
            core.recount_line();
            let counted = core.work.line.counted.clone();
            let Sum { done, standing } = core.work.line.sum;
            core.work.line.all_moved();
            core.recount_line();
            assert_eq!((&core.work.line.counted, core.work.line.sum), (&counted, Sum { done, standing }));
            (done, standing)
        };
        let [a, b] = ["203.0.113.7", "203.0.113.8"].map(|address| {
            let permit = world.permitted(address);
            world.start(&permit)
        });
        assert_eq!((counts(&world, &a), counts(&world, &b)), ((0, 0), (0, 0)));
        world.done(&a);
        assert_eq!(counts(&world, &a), (1, 1));
        world.lost(&b);
        assert_eq!(counts(&world, &b), (1, 1));
        world.word("bo", &b, true);
        assert_eq!(counts(&world, &b), (2, 2), "by a person's word");
        let ended = Ended { started: a, effect_ref: "a".into(), ended_ms: world.clock.wall_ms };
        world.put(3, "site/lyon", KIND_ENDED, &ended);
        assert_eq!(counts(&world, &a), (2, 1));
        assert_eq!(counts(&world, &a), (2, 1), "and once");
    }
}
