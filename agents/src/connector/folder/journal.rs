//! `.cauldron/journal`: what this connector began, under which idempotency key, and what came of it. The newest record of a path
//! also says which copy leads back.
//!
//! One line each, oldest first: `<state> <verb> <key> <permit> <version before> <version after> <path>`.

use std::collections::VecDeque;
use std::str::FromStr;

use super::place::Dir;
use crate::connector::ConnectorError;

/// Records that are kept; counted and not timed, so that a clock that jumps forgets nothing. Copies are dropped far earlier.
pub(super) const RECORDS_MAX: usize = 4096;
/// Bytes that are read: records of the longest path, and room.
const BYTES_MAX: u64 = RECORDS_MAX as u64 * 1024;
const NAME: &str = "journal";
const NEW_NAME: &str = "journal.new";

/// How far a deed has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Written before the effect: whether it followed, the staged file tells.
    Begun,
    /// The effect happened.
    Done,
    /// It was taken back since.
    Undone,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Write,
    Restore,
    Delete,
    Undo,
}

const STATES: [(State, &str); 3] = [(State::Begun, "begun"), (State::Done, "done"), (State::Undone, "undone")];
const VERBS: [(Verb, &str); 4] =
    [(Verb::Write, "write"), (Verb::Restore, "restore"), (Verb::Delete, "delete"), (Verb::Undo, "undo")];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) state: State,
    pub(super) verb: Verb,
    pub(super) key: String,
    pub(super) permit: String,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) path: String,
}

#[derive(Default)]
pub(super) struct Journal(VecDeque<Record>);

impl Journal {
    /// Reads the journal in `home`. Lines that are none of ours are left out: the journal is for this connector alone.
    pub(super) fn read(home: &Dir) -> Result<Self, ConnectorError> {
        let found = home.read(NAME, BYTES_MAX)?.map(|found| found.bytes).unwrap_or_default();
        Ok(Self(String::from_utf8_lossy(&found).lines().filter_map(|line| line.parse().ok()).collect()))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Record> {
        self.0.iter().rev().find(|record| record.key == key)
    }

    /// Records, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().rev()
    }

    pub(super) fn push(&mut self, record: Record) {
        self.forget(&record.key);
        self.0.push_back(record);
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.0.retain(|record| record.key != key);
    }

    pub(super) fn mark(&mut self, key: &str, state: State) {
        self.0.iter_mut().filter(|record| record.key == key).for_each(|record| record.state = state);
    }

    /// Makes it durable.
    pub(super) fn save(&mut self, home: &Dir) -> Result<(), ConnectorError> {
        let surplus = self.0.len().saturating_sub(RECORDS_MAX);
        self.0.drain(..surplus);
        let text: String = self.0.iter().map(Record::line).collect();
        home.write_new(NEW_NAME, text.as_bytes(), None)?;
        home.rename(NEW_NAME, home, NAME)?;
        home.sync()
    }
}

impl Record {
    fn line(&self) -> String {
        let word = |pair: Option<&(State, &'static str)>| pair.map_or("", |(_, word)| *word);
        let state = word(STATES.iter().find(|(state, _)| *state == self.state));
        let verb = VERBS.iter().find(|(verb, _)| *verb == self.verb).map_or("", |(_, word)| *word);
        let Self { key, permit, before, after, path, .. } = self;
        format!("{state} {verb} {key} {permit} {before} {after} {path}\n")
    }

    /// Whether its effect is that the file is gone.
    pub(super) fn removes(&self) -> bool {
        self.after == crate::connector::ABSENT
    }
}

impl FromStr for Record {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.splitn(7, ' ');
        let mut next = || words.next().filter(|word| !word.is_empty()).ok_or(());
        let (state, verb) = (next()?, next()?);
        Ok(Self {
            state: STATES.iter().find(|(_, word)| *word == state).ok_or(())?.0,
            verb: VERBS.iter().find(|(_, word)| *word == verb).ok_or(())?.0,
            key: next()?.to_owned(),
            permit: next()?.to_owned(),
            before: next()?.to_owned(),
            after: next()?.to_owned(),
            path: next()?.to_owned(),
        })
    }
}
