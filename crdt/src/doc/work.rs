//! What takes too long for the loop: building a document, packing one for others, unpacking what others packed.

use std::collections::BTreeSet;

use cauldron_identity::Fact;

use super::check::NotUnpacked;
use super::document::{Document, Writer};
use super::epoch::{Epochs, Slot};
use super::{BaseError, Changed, DocKey, Documents, What, base, check, limits};
use crate::log::Access;

/// What takes too long for the loop. Call [`Work::run`], on a thread of its own where there is one, and give it back with
/// [`Documents::finish`].
#[derive(Debug)]
pub struct Work {
    key: DocKey,
    job: Job,
}

#[derive(Debug)]
enum Job {
    /// Decide what was fed to a document.
    Build(Box<Document>),
    /// Pack a document for others.
    Save(Box<base::Saving>),
    Saved(Option<Vec<u8>>),
    /// Unpack what others packed.
    Load(base::Checked),
    Loaded(Result<Box<Document>, BaseError>),
}

/// What came of [`Work`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The document is here again.
    Built,
    /// It is packed; nothing when Automerge could not.
    Saved(Option<Vec<u8>>),
    /// It was taken from a base, unless it is here already.
    Loaded(Result<(), BaseError>),
}

impl Work {
    pub(super) fn build(key: DocKey, document: Box<Document>) -> Self {
        Self { key, job: Job::Build(document) }
    }

    /// Does all that is to be done; docs/benchmarks.md says how long a full document takes. `unpack` is for a chunk of a
    /// stranger's: [`check::unpack`], in a process of its own, for a few bytes may grow without bound.
    #[must_use]
    pub fn run(self, unpack: &check::Unpack<'_>) -> Self {
        let Self { key, job } = self;
        let job = match job {
            Job::Build(mut document) => {
                while document.cost() > 0 {
                    document.step();
                }
                document.view();
                Job::Build(document)
            }
            Job::Save(saving) => Job::Saved(saving.run()),
            Job::Load(checked) => Job::Loaded(checked.build(&key, unpack).map(|document| {
                document.view();
                Box::new(document)
            })),
            done @ (Job::Saved(_) | Job::Loaded(_)) => done,
        };
        Self { key, job }
    }

    /// Which document it is about.
    #[must_use]
    pub fn key(&self) -> &DocKey {
        &self.key
    }
}

impl Documents {
    /// Takes finished work back. Ask for cuts again afterwards, with [`Documents::recount`]: they may have come meanwhile.
    pub fn finish(&mut self, work: Work) -> Done {
        let Work { key, job } = work;
        match job {
            Job::Build(mut document) => {
                let id = document.id;
                let epochs = self.epochs(&key);
                match epochs.held.remove(&id) {
                    Some(Slot::Away { pending, .. }) => {
                        pending.into_iter().for_each(|(fact, counts)| document.feed(fact, counts));
                        epochs.held.insert(id, Slot::Here(document));
                    }
                    // It was closed meanwhile: what that does not speak for has it built anew.
                    Some(Slot::Closed(closed)) => {
                        epochs.held.insert(id, Slot::Closed(closed));
                        for chain in document.chains.into_values() {
                            let facts = chain.fed.into_iter().enumerate();
                            facts.for_each(|(at, fact)| epochs.feed(&id, fact, at < chain.counting));
                        }
                    }
                    // Meanwhile the facts led elsewhere: all of it is looked at anew.
                    other => {
                        for slot in other.into_iter().chain([Slot::Here(document)]) {
                            epochs.held.insert(id, slot);
                            epochs.forget(&id);
                        }
                        epochs.refresh();
                        let before = epochs.held.keys().filter(|of| of.number.checked_add(1) == Some(id.number));
                        before.copied().collect::<Vec<_>>().iter().for_each(|of| self.settle(&key, of));
                    }
                }
                self.settle(&key, &id);
                Done::Built
            }
            Job::Loaded(Ok(document)) => {
                self.succeed(&key, document);
                Done::Loaded(Ok(()))
            }
            Job::Loaded(Err(why)) => Done::Loaded(Err(why)),
            Job::Saved(bytes) => Done::Saved(bytes),
            // It was never run, which is nobody's lie.
            Job::Save(_) => Done::Saved(None),
            Job::Load(_) => Done::Loaded(Err(BaseError::Chunk(NotUnpacked::Untried("nobody did".into())))),
        }
    }

    /// A base takes the place of a document that holds less.
    fn succeed(&mut self, key: &DocKey, mut document: Box<Document>) {
        let (epochs, id) = (self.epochs(key), document.id);
        epochs.begin_first(key);
        let current = epochs.current();
        if id != current && id.number <= current.number {
            // The facts here lead further already.
            return;
        }
        match epochs.held.remove(&id) {
            Some(Slot::Here(held)) if held.fence.accepted().len() < document.fence.accepted().len() => {
                if let Some(genesis) = held.genesis.clone() {
                    document.genesis = Some(genesis);
                }
                document.succeed(*held);
            }
            None => {}
            Some(more) => {
                epochs.held.insert(id, more);
                return;
            }
        }
        epochs.begin(document);
        if let Some(before) = epochs.vouched.replace(id).filter(|before| *before != id) {
            epochs.forget(&before);
        }
        epochs.refresh();
        self.changed.push_back(Changed { key: key.clone(), what: What::Base });
        self.settle(key, &id);
    }

    /// Whether one more document of this writer is within its bound, those counted that only a base has shown.
    fn has_room(&self, key: &DocKey, writer: &Writer) -> bool {
        let written = self.written.get(&(key.scope.clone(), *writer));
        if written.is_some_and(|docs| docs.contains(&key.doc)) {
            return true;
        }
        let shown = self.docs.iter().filter(|(other, epochs)| {
            let new = other.scope == key.scope && !written.is_some_and(|docs| docs.contains(&other.doc));
            new && epochs.has(writer)
        });
        written.map_or(0, BTreeSet::len) + shown.count() < limits::DOCS_PER_WRITER_MAX
    }

    /// Documents in which something is still to come: facts behind a base, or what own changes follow.
    #[must_use]
    pub fn unsettled(&self) -> Vec<DocKey> {
        let Some(me) = self.me else { return Vec::new() };
        let open = |document: &Document| document.base.is_some() || document.waits(&me);
        let open = |epochs: &Epochs| epochs.unproven() > 0 || epochs.here().is_some_and(open);
        self.docs.iter().filter(|(_, epochs)| open(epochs)).map(|(key, _)| key.clone()).collect()
    }

    /// Waits no longer for what is missing in a document: call it when everything that anybody has is here.
    pub fn give_up(&mut self, key: &DocKey) {
        let Some(me) = self.me else { return };
        let Some(epochs) = self.docs.get_mut(key).filter(|epochs| epochs.is_quiet()) else { return };
        let unproven = epochs.unproven() > 0;
        if let Some(vouched) = epochs.vouched.take_if(|_| unproven) {
            // The facts do not lead there.
            epochs.forget(&vouched);
            epochs.refresh();
        }
        let id = epochs.current();
        if epochs.held.get_mut(&id).and_then(Slot::here_mut).is_some_and(|document| document.give_up(&me)) || unproven {
            self.owing.insert(key.clone());
            self.settle(key, &id);
        }
    }

    /// Has a document packed for others, as [`Work`]: false when it cannot be now, or facts of it are missing.
    pub fn save(&mut self, key: &DocKey) -> bool {
        let Some(saving) = self.docs.get(key).and_then(base::Saving::of) else { return false };
        self.work.push_back(Work { key: key.clone(), job: Job::Save(Box::new(saving)) });
        true
    }

    /// Checks what a packed document is vouched for by, and has it unpacked, as [`Work`]. `counts` answers for facts that
    /// the log may not hold: false beyond a cut, a fork, or in a life that no entry began.
    ///
    /// # Errors
    /// [`BaseError`]; [`BaseError::blames_peer`] tells a lie from what the sender could not know.
    pub fn load(
        &mut self,
        key: &DocKey,
        bytes: &[u8],
        access: &dyn Access,
        counts: &dyn Fn(&Fact) -> bool,
    ) -> Result<(), BaseError> {
        let checked = base::Checked::read(key, bytes, access, counts)?;
        if checked.writers().any(|writer| !self.has_room(key, &writer)) {
            return Err(BaseError::Author);
        }
        self.work.push_back(Work { key: key.clone(), job: Job::Load(checked) });
        Ok(())
    }
}
