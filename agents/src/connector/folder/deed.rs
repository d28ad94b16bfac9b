//! How an effect is made, once: staged, written down, compared, moved into place, written down again.

use cauldron_coordinator::action::{Action, OP_FILE_DELETE, OP_FILE_RESTORE, OP_FILE_WRITE};

use super::journal::{Journal, Record, State, Verb};
use super::place::same;
use super::{Folder, Seen, nothing, version};
use crate::connector::{ConnectorError, Effect, Limits, Outcome, is_id};

/// Attempts to replace a file that others keep touching.
const ATTEMPTS_MAX: usize = 5;
const UNDO: &str = "undo-";

/// What is to be done to one file.
pub(super) struct Deed {
    pub(super) verb: Verb,
    pub(super) key: String,
    pub(super) permit: String,
    pub(super) path: String,
    /// Only if it is at this version.
    pub(super) expected: String,
    /// None: the file goes.
    pub(super) new: Option<Vec<u8>>,
}

/// The key under which the effect of `key` is taken back.
pub(super) fn undo_key(key: &str) -> String {
    format!("{UNDO}{key}")
}

impl Folder {
    /// Carries out an action under a key, within the limits of its permit.
    pub(super) fn act_within(
        &self,
        action: &Action,
        key: &str,
        permit: &str,
        expected: &str,
        limits: &Limits,
    ) -> Result<Outcome, ConnectorError> {
        let verb = match action.operation() {
            OP_FILE_WRITE => Verb::Write,
            OP_FILE_RESTORE => Verb::Restore,
            OP_FILE_DELETE => Verb::Delete,
            other => return Err(ConnectorError::refused(format!("{other} is nothing that changes a file"))),
        };
        let path = action.object().to_owned();
        let (key, permit, expected) = (key.to_owned(), permit.to_owned(), expected.to_owned());
        let mut deed = Deed { verb, key, permit, path, expected, new: None };
        if let Some(outcome) = self.done_before(&deed)? {
            return Ok(outcome);
        }
        let seen = self.see(&deed.path)?;
        self.expect(&deed, &seen)?;
        deed.new = self.wanted(action, &seen)?;
        limits.admit_bytes(deed.new.as_ref().map_or(0, Vec::len))?;
        self.carry_out(&deed)
    }

    /// Makes a deed real, unless that happened before.
    pub(super) fn carry_out(&self, deed: &Deed) -> Result<Outcome, ConnectorError> {
        for id in [&deed.key, &deed.permit] {
            if !is_id(id) {
                return Err(ConnectorError::refused(format!("`{}` is no id", id.escape_debug())));
            }
        }
        if let Some(outcome) = self.done_before(deed)? {
            return Ok(outcome);
        }
        for _ in 0..ATTEMPTS_MAX {
            let seen = self.see(&deed.path)?;
            self.expect(deed, &seen)?;
            if let Some(outcome) = self.attempt(deed, &seen)? {
                return Ok(outcome);
            }
        }
        Err(ConnectorError::Contended { path: self.path.join(&deed.path) })
    }

    /// Whether the effect of a record happened. The staged file is moved by the same rename that makes the effect: a new
    /// content is there until then, an old one from then on.
    pub(super) fn happened(&self, record: &Record) -> Result<bool, ConnectorError> {
        match record.state {
            State::Done | State::Undone => Ok(true),
            State::Begun => Ok(self.stage.stat(&record.key)?.is_some() == record.removes()),
        }
    }

    /// After a crash: what happened is written down, what did not is forgotten, and nothing half done is left lying about.
    pub(super) fn recover(&self) -> Result<(), ConnectorError> {
        let mut journal = Journal::read(&self.home)?;
        let begun: Vec<Record> = journal.newest().filter(|r| r.state == State::Begun).cloned().collect();
        for record in begun {
            if self.happened(&record)? {
                self.finish(&mut journal, &record)?;
            } else {
                self.forget(&mut journal, &record.key)?;
            }
        }
        let deleted: Vec<Record> = journal.newest().filter(|r| r.verb == Verb::Delete).cloned().collect();
        deleted.iter().try_for_each(|record| self.copies.purge(&journal, record))?;
        for left in self.stage.names()? {
            self.stage.remove(&left)?;
        }
        self.stage.sync()
    }

    fn done_before(&self, deed: &Deed) -> Result<Option<Outcome>, ConnectorError> {
        let mut journal = Journal::read(&self.home)?;
        let Some(record) = journal.get(&deed.key).cloned() else { return Ok(None) };
        if !self.happened(&record)? {
            self.forget(&mut journal, &record.key)?;
            return Ok(None);
        }
        let effect = if record.state == State::Undone { Effect::AlreadyEnded } else { Effect::AlreadyApplied };
        if record.state == State::Begun {
            self.finish(&mut journal, &record)?;
        }
        let again = nothing(effect, &record.path, record.after);
        Ok(Some(Outcome { before: record.before, ..again }))
    }

    fn expect(&self, deed: &Deed, seen: &Seen) -> Result<(), ConnectorError> {
        let found = seen.version();
        if found == deed.expected {
            return Ok(());
        }
        Err(ConnectorError::Changed { path: self.path.join(&deed.path), expected: deed.expected.clone(), found })
    }

    /// `None`: somebody touched the file under our hands, look again.
    fn attempt(&self, deed: &Deed, seen: &Seen) -> Result<Option<Outcome>, ConnectorError> {
        let mut journal = Journal::read(&self.home)?;
        let record = Record {
            state: State::Begun,
            verb: deed.verb,
            key: deed.key.clone(),
            permit: deed.permit.clone(),
            before: seen.version(),
            after: version(deed.new.as_deref()),
            path: deed.path.clone(),
        };
        let mut told = Vec::new();
        if let (Verb::Write | Verb::Restore, Some(found)) = (deed.verb, &seen.found) {
            told = self.copies.keep(&journal, &record, &found.bytes)?;
        }
        let stat = seen.found.as_ref().map(|found| &found.stat);
        let moved = self.begin(deed, seen, &mut journal, &record).and_then(|()| {
            (self.fault)("effect.before");
            if !same(seen.dir.stat(&seen.name)?.as_ref(), stat) {
                return Ok(false);
            }
            match deed.new {
                Some(_) => self.stage.rename(&deed.key, &seen.dir, &seen.name)?,
                None => seen.dir.rename(&seen.name, &self.stage, &deed.key)?,
            }
            Ok(true)
        });
        match moved {
            Ok(true) => {}
            Ok(false) => {
                self.forget(&mut journal, &deed.key)?;
                return Ok(None);
            }
            Err(error) => {
                // The first error is the one that matters; what is left is tidied up at the next try.
                let _ = self.forget(&mut journal, &deed.key);
                return Err(error);
            }
        }
        (self.fault)("effect.moved");
        seen.dir.sync()?;
        self.stage.sync()?;
        (self.fault)("effect.after");
        self.finish(&mut journal, &record)?;
        let effect_ref = format!("{} at {}", record.path, record.after);
        let (before, after) = (record.before, record.after);
        Ok(Some(Outcome { effect: Effect::Applied, effect_ref, until_ms: None, before, after, replaced: None, told }))
    }

    fn begin(&self, deed: &Deed, seen: &Seen, journal: &mut Journal, record: &Record) -> Result<(), ConnectorError> {
        if let Some(bytes) = &deed.new {
            self.stage.write_new(&deed.key, bytes, seen.found.as_ref().map(|found| &found.stat))?;
            (self.fault)("effect.staged");
        }
        journal.push(record.clone());
        journal.save(&self.home)
    }

    /// Writes down that an effect happened, and clears up after it.
    fn finish(&self, journal: &mut Journal, record: &Record) -> Result<(), ConnectorError> {
        journal.mark(&record.key, State::Done);
        if let Some(undone) = record.key.strip_prefix(UNDO).filter(|_| record.verb == Verb::Undo) {
            journal.mark(undone, State::Undone);
        }
        journal.save(&self.home)?;
        (self.fault)("effect.noted");
        if record.verb == Verb::Delete {
            self.copies.purge(journal, record)?;
        }
        if record.removes() {
            self.stage.remove(&record.key)?;
        }
        Ok(())
    }

    /// Forgets a deed that had no effect: first the note, then what it staged.
    fn forget(&self, journal: &mut Journal, key: &str) -> Result<(), ConnectorError> {
        journal.forget(key);
        journal.save(&self.home)?;
        self.stage.remove(key)?;
        self.copies.drop(key)
    }
}
