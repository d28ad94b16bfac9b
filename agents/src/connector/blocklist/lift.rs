//! Letting an address back in: by a permit of its own, or because a block is taken back. Lines of others stay.

use std::net::IpAddr;

use super::journal::{Journal, What};
use super::{Blocklist, Entry, ended, text, version};
use crate::connector::file::{self, Replaced};
use crate::connector::{ConnectorError, Effect, EndedWhy, Held, Outcome, Probe, is_id};
use crate::net::canonical;

/// What a permit asks for.
#[derive(Clone, Debug)]
pub(super) struct Lift {
    pub(super) address: IpAddr,
    pub(super) permit_id: String,
    pub(super) idempotency_key: String,
}

/// For people: a line that is not ours lists the address.
pub(super) fn left_alone(line: u64) -> String {
    format!("line {line} lists it too; it is somebody else's and is left alone")
}

impl Blocklist {
    pub(super) fn lift(&mut self, lift: &Lift) -> Result<Outcome, ConnectorError> {
        let Lift { permit_id, idempotency_key: key, .. } = lift;
        let address = canonical(lift.address);
        if let Some(bad) = [permit_id, key].into_iter().find(|id| !is_id(id)) {
            return Err(ConnectorError::refused(format!(
                "`{}` cannot stand in the journal as an id",
                bad.escape_debug()
            )));
        }
        for _ in 0..super::ATTEMPTS_MAX {
            let mut journal = Journal::read(&self.path)?;
            if self.look_for_lift(&journal, key)? == Some(Probe::Applied) {
                return self.nothing(Effect::AlreadyApplied, address);
            }
            let gone: Vec<Entry> = self.entries()?.into_iter().filter(|e| e.address == address).collect();
            let Some(entry) = gone.into_iter().next() else {
                journal.note(What::Lifted(address), key, permit_id);
                journal.save()?;
                return self.nothing(Effect::NothingThere, address);
            };
            journal.note(What::Lifting(address), key, permit_id);
            if let Some(outcome) = self.try_lift(journal, address, |e| e.address == address)? {
                let mut journal = Journal::read(&self.path)?;
                journal.note(What::Lifted(address), key, permit_id);
                journal.save()?;
                return Ok(Outcome { replaced: Some(ended(entry, EndedWhy::Lifted)), ..outcome });
            }
        }
        Err(ConnectorError::Contended { path: self.path.clone() })
    }

    /// Takes out the lines that were made under `key`, and no others.
    pub(super) fn take_back(&mut self, key: &str, address: IpAddr) -> Result<Outcome, ConnectorError> {
        for _ in 0..super::ATTEMPTS_MAX {
            let journal = Journal::read(&self.path)?;
            let ours = |journal: &Journal, e: &Entry| journal.has_begun(key, &e.permit_id);
            let permits: Vec<String> =
                self.entries()?.into_iter().filter(|e| ours(&journal, e)).map(|e| e.permit_id).collect();
            if permits.is_empty() {
                return self.nothing(Effect::NothingThere, address);
            }
            if let Some(outcome) = self.try_lift(journal, address, |e| permits.contains(&e.permit_id))? {
                return Ok(outcome);
            }
        }
        Err(ConnectorError::Contended { path: self.path.clone() })
    }

    /// `None`: the file changed under our hands, look again.
    fn try_lift(
        &self,
        mut journal: Journal,
        address: IpAddr,
        goes: impl Fn(&Entry) -> bool,
    ) -> Result<Option<Outcome>, ConnectorError> {
        let old = file::read(&self.path)?;
        text::entries(&old.bytes).iter().filter(|e| goes(e)).for_each(|e| journal.end(&e.permit_id));
        journal.save()?;
        let new = text::without(&old.bytes, goes);
        let (before, after) = (|| (self.fault)("effect.before"), || (self.fault)("effect.after"));
        if file::replace(&self.path, &old, &new, before, after)? != Replaced::Yes {
            return Ok(None);
        }
        let foreign = text::foreign_line_with(&new, address);
        Ok(Some(Outcome {
            effect: Effect::Applied,
            effect_ref: format!("{address} is not blocked by this node any more"),
            until_ms: None,
            before: version(&old.bytes),
            after: version(&new),
            replaced: None,
            told: foreign.map(left_alone).into_iter().collect(),
        }))
    }

    fn nothing(&self, effect: Effect, address: IpAddr) -> Result<Outcome, ConnectorError> {
        let bytes = file::read(&self.path)?.bytes;
        let mut told: Vec<String> = text::foreign_line_with(&bytes, address).map(left_alone).into_iter().collect();
        if text::entries(&bytes).iter().any(|e| e.address == address) {
            told.push("another permit of this node blocks it".into());
        }
        let (at, effect_ref) = (version(&bytes), format!("{address} in {}", self.path.display()));
        Ok(Outcome { effect, effect_ref, until_ms: None, before: at.clone(), after: at, replaced: None, told })
    }

    /// What became of an end of blocks. None where `key` stands for a block, or for nothing.
    pub(super) fn look_for_lift(&self, journal: &Journal, key: &str) -> Result<Option<Probe>, ConnectorError> {
        match journal.other(key) {
            Some(What::Lifted(_)) => Ok(Some(Probe::Applied)),
            Some(What::Lifting(address)) => {
                // A block that came later does not count: the line that was to go is what tells.
                let stands = |e: &Entry| e.address == address && journal.is_older(&e.permit_id, key);
                let absent = self.entries()?.iter().any(stands);
                Ok(Some(if absent { Probe::Absent } else { Probe::Applied }))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn is_listed(&self, key: &str) -> Result<Held, ConnectorError> {
        let journal = Journal::read(&self.path)?;
        let bytes = file::read(&self.path)?.bytes;
        if let Some(entry) = text::entries(&bytes).into_iter().find(|e| journal.has_begun(key, &e.permit_id)) {
            return Ok(Held::Yes(entry.line()));
        }
        let foreign = match journal.other(key) {
            Some(What::Foreign(address)) => text::foreign_line_with(&bytes, address),
            _ => None,
        };
        Ok(match foreign {
            Some(n) => Held::Yes(format!("line {n}, which is somebody else's, lists it")),
            None => Held::No("no line of this permit stands in the blocklist".into()),
        })
    }

    pub(super) fn is_unlisted(&self, key: &str) -> Result<Held, ConnectorError> {
        let journal = Journal::read(&self.path)?;
        let Some(What::Lifting(address) | What::Lifted(address)) = journal.other(key) else {
            return Ok(Held::No("there is no trace of such an action".into()));
        };
        let entry = self.entries()?.into_iter().find(|e| e.address == address);
        Ok(match entry {
            Some(entry) => Held::No(entry.line()),
            None => Held::Yes(format!("no line of this node lists {address}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use cauldron_coordinator::action::{Action, Catalogue};
    use cauldron_identity::SpiffeId;
    use serde_json::json;

    use super::super::{Block, CHECK_LISTED, CHECK_UNLISTED};
    use super::*;
    use crate::connector::{Connector, FaultHook};

    const NOW_MS: u64 = 1_795_338_000_000;
    const ADDRESS: &str = "198.51.100.7";

    fn open(path: &Path, hook: FaultHook) -> Blocklist {
        let lyon: SpiffeId = "spiffe://demo.cauldron.internal/site/lyon/node/lyon".parse().unwrap();
        Blocklist::open(path, &lyon, hook).unwrap()
    }

    fn listing(content: &str) -> (tempfile::TempDir, Blocklist) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocklist");
        fs::write(&path, content).unwrap();
        let list = open(&path, Box::new(|_| {}));
        (dir, list)
    }

    fn block(list: &mut Blocklist, key: &str) -> Outcome {
        let (permit_id, idempotency_key) = (format!("permit-{key}"), key.to_owned());
        let block = Block { address: ADDRESS.parse().unwrap(), ttl_s: 60, permit_id, idempotency_key };
        list.apply(&block, NOW_MS).unwrap()
    }

    fn lift(key: &str) -> Lift {
        Lift { address: ADDRESS.parse().unwrap(), permit_id: format!("permit-{key}"), idempotency_key: key.into() }
    }

    #[test]
    fn an_unblock_takes_our_line_and_leaves_a_foreign_one() {
        let (_dir, mut list) = listing("203.0.113.9\n");
        block(&mut list, "b1");
        fs::write(list.path(), fs::read_to_string(list.path()).unwrap() + "198.51.100.7 by hand\n").unwrap();
        let done = list.lift(&lift("u1")).unwrap();
        assert_eq!((done.effect, done.told), (Effect::Applied, vec![left_alone(2)]));
        assert_eq!(done.replaced.map(|e| (e.permit_id, e.why)), Some(("permit-b1".into(), EndedWhy::Lifted)));
        assert_eq!(fs::read_to_string(list.path()).unwrap(), "203.0.113.9\n198.51.100.7 by hand\n");
        assert_eq!((list.probe("u1").unwrap(), list.probe("b1").unwrap()), (Probe::Applied, Probe::Ended));
        assert!(matches!(list.check("u1", CHECK_UNLISTED).unwrap(), Held::Yes(_)));
        assert!(matches!(list.check("b1", CHECK_LISTED).unwrap(), Held::No(_)));
        assert_eq!(list.lift(&lift("u1")).unwrap().effect, Effect::AlreadyApplied);
        assert_eq!(list.lift(&lift("u2")).unwrap().effect, Effect::NothingThere);
    }

    #[test]
    fn an_undo_takes_back_its_own_block_and_no_later_one() {
        let (_dir, mut list) = listing("");
        block(&mut list, "b1");
        assert!(matches!(list.check("b1", CHECK_LISTED).unwrap(), Held::Yes(_)));
        let undone = list.take_back("b1", ADDRESS.parse().unwrap()).unwrap();
        assert_eq!((undone.effect, list.entries().unwrap().len()), (Effect::Applied, 0));
        assert_eq!(list.take_back("b1", ADDRESS.parse().unwrap()).unwrap().effect, Effect::NothingThere);
        block(&mut list, "b2");
        let nothing = list.take_back("b1", ADDRESS.parse().unwrap()).unwrap();
        assert_eq!(nothing.told, ["another permit of this node blocks it"]);
        assert_eq!(list.entries().unwrap().len(), 1);
    }

    #[test]
    fn a_block_of_what_somebody_else_lists_is_checked_there() {
        let (_dir, mut list) = listing("198.51.100.7\n");
        assert_eq!(block(&mut list, "b1").effect, Effect::AlreadyListed);
        assert!(matches!(list.check("b1", CHECK_LISTED).unwrap(), Held::Yes(_)));
        let nothing = list.take_back("b1", ADDRESS.parse().unwrap()).unwrap();
        assert_eq!((nothing.effect, nothing.told), (Effect::NothingThere, vec![left_alone(1)]));
    }

    #[test]
    fn an_unblock_that_dies_is_found_and_does_not_end_a_later_block() {
        for point in ["effect.before", "effect.after"] {
            let (dir, mut list) = listing("");
            block(&mut list, "b1");
            let path = list.path().to_owned();
            drop(list);
            let mut list = open(&path, Box::new(move |at| assert_ne!(at, point)));
            let died = catch_unwind(AssertUnwindSafe(|| list.lift(&lift("u1")).map(drop)));
            assert!(died.is_err(), "{point}");
            drop(list);
            let mut list = open(&path, Box::new(|_| {}));
            let happened = list.entries().unwrap().is_empty();
            assert_eq!(list.probe("u1").unwrap(), if happened { Probe::Applied } else { Probe::Absent }, "{point}");
            if happened {
                block(&mut list, "b2");
                assert_eq!(list.lift(&lift("u1")).unwrap().effect, Effect::AlreadyApplied);
                assert_eq!(list.entries().unwrap().len(), 1, "the later block stands");
            }
            drop(dir);
        }
    }

    #[test]
    fn what_would_change_and_what_is_listed_can_be_seen_before() {
        let (_dir, mut list) = listing("");
        let action =
            |operation: &str, args| Action::new(Catalogue::built_in(), operation, Some("blocklist"), &args).unwrap();
        let to_block = action("security.address.block", json!({ "address": ADDRESS, "ttl_s": 60, "reason": "r" }));
        let to_lift = action("security.address.unblock", json!({ "address": ADDRESS }));
        let dry = |list: &Blocklist, action: &Action| list.dry_run(action, NOW_MS).unwrap().text;
        assert_eq!(dry(&list, &to_block), "+198.51.100.7 # until 2026-11-22T09:01:00Z permit …\n");
        assert_eq!(dry(&list, &to_lift), "(nothing changes: no line of this node lists it)\n");
        block(&mut list, "b1");
        assert_eq!(dry(&list, &to_lift), "-198.51.100.7 # until 2026-11-22T09:01:00Z permit permit-b1\n");
        let read = list.read(&action("security.blocklist.read", json!({ "list": "addresses" }))).unwrap();
        let lines: serde_json::Value = serde_json::from_slice(&read.bytes).unwrap();
        assert_eq!(lines, json!([{ "address": ADDRESS, "until": "2026-11-22T09:01:00Z", "permit": "permit-b1" }]));
        assert!(list.read(&to_lift).is_err());
    }
}
