//! Seals: readers say that an epoch ends, and what the next one begins from.
//!
//! A seal is no order but a finding, which every reader can repeat: the epoch is nearly full at these heads, and folds to this
//! hash. It needs two readers, so that one with a bug or a bad disk ends nothing; and who holds the facts checks both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use automerge::ChangeHash;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Digest, Fact, planted};
use minicbor::{Decode, Encode};

use super::closed::Closed;
use super::document::Document;
use super::epoch::{EpochId, Epochs, Found, Slot};
use super::{Applied, Changed, DocKey, Documents, Unfit, What, limits};

/// The kind of the facts that carry seals.
pub const KIND_SEAL: &str = "doc.seal";

/// The body of a [`KIND_SEAL`] fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seal {
    /// Which document: a [`DocId`](super::DocId).
    #[n(0)]
    pub doc: String,
    /// The epoch that ends.
    #[n(1)]
    pub epoch: u32,
    /// What that one began from; none for the first.
    #[n(2)]
    pub genesis: Option<Digest>,
    /// The Automerge hashes of the changes that it ends with, in ascending order: what lies behind them is folded.
    #[n(3)]
    pub heads: Vec<Digest>,
    /// What they fold to: the hash that the next epoch begins from.
    #[n(4)]
    pub next: Digest,
}

/// A reader's word.
#[derive(Debug)]
pub(super) struct Vote {
    pub fact: Arc<Fact>,
    pub heads: Vec<ChangeHash>,
    pub next: Digest,
    /// False beyond a cut.
    pub counts: bool,
}

/// A document that needs this node's seal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealDue {
    /// Which.
    pub key: DocKey,
    /// Which epoch of it.
    pub epoch: EpochId,
    /// Whose finding is to be confirmed; none when nobody has sealed it yet.
    pub next: Option<Digest>,
}

/// What is said of an epoch's end: what follows on it, and at which heads.
pub(super) type Finding = (Digest, Vec<ChangeHash>);

impl Seal {
    /// The epoch that it ends, and its heads; none when it is not well formed.
    pub(super) fn read(&self) -> Option<(EpochId, Vec<ChangeHash>)> {
        let ascends = self.heads.is_sorted_by(|a, b| a < b);
        let fits = (1..=limits::CHANGE_DEPS_MAX).contains(&self.heads.len()) && ascends;
        let heads = self.heads.iter().map(|head| ChangeHash(*head.as_bytes())).collect();
        EpochId::of(self.epoch, self.genesis).filter(|_| fits).map(|epoch| (epoch, heads))
    }
}

impl Epochs {
    /// Who says what of the end of an epoch, those who count.
    fn findings(&self, id: &EpochId) -> BTreeMap<Finding, BTreeSet<AuthorId>> {
        let mut findings: BTreeMap<Finding, BTreeSet<AuthorId>> = BTreeMap::new();
        for vote in self.votes.get(id).into_iter().flatten() {
            let authors = findings.entry((vote.next, vote.heads.clone())).or_default();
            if vote.counts {
                authors.insert(vote.fact.header().author);
            }
        }
        findings
    }

    /// Looks at how an epoch ends, and takes in the epochs that begin then. Gives those that there is something to do for.
    fn turn(&mut self, id: &EpochId, changes: u64) -> Vec<EpochId> {
        let (of, findings) = (id, self.findings(id));
        let readers = if planted::active("seal-of-one") { 1 } else { limits::SEAL_READERS };
        if let Some(closed) = self.held.get(id).and_then(Slot::closed) {
            match self.ends_of_closed(closed, &findings, readers) {
                Some(ends) => self.note_ends(id, ends),
                None => self.want(id),
            }
            self.refresh();
            return Vec::new();
        }
        let known: BTreeSet<EpochId> = self.held.keys().copied().collect();
        // Of a document in one piece it is not known yet who said what.
        let here = self.held.get_mut(id).and_then(Slot::here_mut).filter(|document| document.base.is_none());
        let Some(document) = here else { return Vec::new() };
        let (mut wanted, mut ends, mut begun) = (false, Vec::new(), Vec::new());
        for ((next, heads), authors) in findings {
            let next = id.then(next);
            let stands = authors.len() >= readers;
            // What does not stand is of use where somebody wrote on top of it.
            let asked = stands || self.ahead.contains_key(&next);
            let Some(takes) = asked.then(|| document.may_end(&heads, changes)).flatten() else { continue };
            match document.folded(&heads) {
                None => {
                    document.want_fold(&heads);
                    wanted = true;
                }
                Some(Some(genesis)) if genesis.id == next => {
                    begun.push(genesis.clone());
                    if stands {
                        ends.push(Found { next, heads, changes: takes });
                    }
                }
                // Two readers lie, or one reader twice.
                Some(_) => {}
            }
        }
        if wanted {
            return vec![*id];
        }
        self.note_ends(id, ends);
        let mut todo = Vec::new();
        for genesis in begun {
            let id = genesis.id;
            let before = self.held.get_mut(of).and_then(Slot::here_mut).filter(|_| !known.contains(&id));
            if let Some(document) = before.and_then(|before| before.take_begun(genesis)) {
                self.begin(document);
                todo.push(id);
            }
        }
        self.refresh();
        todo
    }

    /// The ends of a closed epoch that hold; none when one was not looked at, or leads to an epoch that is not at hand.
    fn ends_of_closed(
        &self,
        closed: &Closed,
        findings: &BTreeMap<Finding, BTreeSet<AuthorId>>,
        readers: usize,
    ) -> Option<Vec<Found>> {
        let mut ends = Vec::new();
        for (finding, authors) in findings {
            let next = closed.id.then(finding.0);
            let (stands, asked) = (authors.len() >= readers, self.ahead.contains_key(&next));
            if !stands && !asked {
                continue;
            }
            let Some(changes) = *closed.judged.get(finding)? else { continue };
            if !self.held.contains_key(&next) {
                return None;
            }
            ends.push(Found { next, heads: finding.1.clone(), changes });
        }
        Some(ends)
    }

    fn note_ends(&mut self, id: &EpochId, ends: Vec<Found>) {
        self.unchecked |= self.ends.get(id).map_or(&[][..], Vec::as_slice) != ends;
        if ends.is_empty() {
            self.ends.remove(id);
        } else {
            self.ends.insert(*id, ends);
        }
    }

    /// What was found of an epoch's end, as far as it was looked at.
    pub fn judged(&self, document: &Document, changes: u64) -> BTreeMap<Finding, Option<u64>> {
        let judge = |(next, heads): Finding| {
            let takes = document.may_end(&heads, changes);
            let holds = match takes {
                Some(_) => document.folded(&heads)?.as_ref().is_some_and(|g| g.id == document.id.then(next)),
                None => false,
            };
            Some(((next, heads), takes.filter(|_| holds)))
        };
        self.findings(&document.id).into_keys().filter_map(judge).collect()
    }

    /// What this reader has to say of the end of the epoch in use, if it has.
    fn due(&self, me: &AuthorId, changes: u64) -> Option<Option<Finding>> {
        let id = self.current();
        let document = self.here().filter(|d| d.cost() == 0 && d.base.is_none())?;
        if self.unproven() > 0 {
            return None;
        }
        let mine = self.votes.get(&id).into_iter().flatten().filter(|vote| vote.fact.header().author == *me).count();
        if mine >= limits::SEALS_MAX {
            return None;
        }
        let findings = self.findings(&id);
        let others = findings.into_iter().filter(|(_, authors)| !authors.is_empty());
        // The same one for all who have the same choice.
        let first = others.into_iter().find(|((next, heads), _)| {
            let folds = document.folded(heads);
            let wrong = folds.is_some_and(|g| g.as_ref().is_none_or(|g| g.id != id.then(*next)));
            !wrong && document.may_end(heads, changes).is_some()
        });
        match first {
            Some((_, authors)) if authors.contains(me) => None,
            Some((finding, _)) => Some(Some(finding)),
            None => {
                let heads: Vec<ChangeHash> = document.fence.heads().iter().copied().collect();
                // Where it does not fold, nobody has anything to say until more was written.
                let folds = document.folded(&heads).is_none_or(Option::is_some);
                let fits = heads.len() <= limits::CHANGE_DEPS_MAX && document.may_end(&heads, changes).is_some();
                (fits && folds).then_some(None)
            }
        }
    }
}

impl Documents {
    /// Takes a [`KIND_SEAL`] fact. `counts` is false when it lies beyond a cut of its author, or of a fork.
    pub fn apply_seal(&mut self, fact: &Arc<Fact>, counts: bool) -> Applied {
        match self.feed_seal(fact, counts) {
            Ok((key, epoch)) => {
                self.settle(&key, &epoch);
                Applied::Yes
            }
            Err(applied) => applied,
        }
    }

    /// Takes a seal without looking at it yet: call [`Documents::settle_all`] after the last one.
    ///
    /// # Errors
    /// What becomes of a seal that no document takes.
    pub fn feed_seal(&mut self, fact: &Arc<Fact>, counts: bool) -> Result<(DocKey, EpochId), Applied> {
        let malformed = Applied::Refused(Unfit::Malformed);
        let seal = super::read_body::<Seal>(fact).ok_or(malformed)?;
        let (epoch, heads) = seal.read().ok_or(malformed)?;
        let header = fact.header();
        // A reader seals what others wrote: that makes no document, and counts as none of its own.
        let key = DocKey { scope: header.scope.clone(), doc: seal.doc.parse().map_err(|_| malformed)? };
        let votes = self.epochs(&key).votes.entry(epoch).or_default();
        let same = |vote: &&Vote| {
            let of = vote.fact.header();
            (of.author, of.incarnation) == (header.author, header.incarnation)
        };
        if votes.iter().filter(same).count() >= limits::SEALS_MAX {
            return Err(Applied::Refused(Unfit::Banned));
        }
        votes.push(Vote { fact: fact.clone(), heads: heads.clone(), next: seal.next, counts });
        let epochs = self.epochs(&key);
        epochs.named.entry(epoch.then(seal.next)).or_default().insert((epoch, heads));
        epochs.unchecked = true;
        Ok((key, epoch))
    }

    /// Looks at the end of an epoch that is decided. Gives the epochs that there is something to do for.
    pub(super) fn turn(&mut self, key: &DocKey, id: &EpochId) -> Vec<EpochId> {
        let changes = self.epoch_changes;
        let Some(epochs) = self.docs.get_mut(key) else { return Vec::new() };
        let before = (epochs.current(), epochs.ends.clone());
        let todo = epochs.turn(id, changes);
        let current = epochs.current();
        let moved = before != (current, epochs.ends.clone());
        epochs.check_closed(self.me.as_ref().map(|me| &me.0));
        if epochs.held.len() > limits::EPOCHS_OPEN_BEHIND as usize + 1 {
            self.closable.insert(key.clone());
        }
        if before.0 != current {
            self.changed.push_back(Changed { key: key.clone(), what: What::Epoch(current.number) });
        }
        if moved {
            self.owing.insert(key.clone());
        }
        todo
    }

    /// Documents whose epoch in use is nearly full and that need this node's seal.
    #[must_use]
    pub fn seals_due(&self) -> Vec<SealDue> {
        let Some((me, _)) = self.me else { return Vec::new() };
        let due = |(key, epochs): (&DocKey, &Epochs)| {
            let next = epochs.due(&me, self.epoch_changes)?;
            Some(SealDue { key: key.clone(), epoch: epochs.current(), next: next.map(|(next, _)| next) })
        };
        self.docs.iter().filter_map(due).collect()
    }

    /// The body of this node's seal, to be appended. None when it has nothing to say, or has to fold first: ask again when
    /// [`Documents::work`] was done.
    #[must_use]
    pub fn seal(&mut self, due: &SealDue) -> Option<Vec<u8>> {
        let (me, _) = self.me?;
        let epochs = self.docs.get_mut(&due.key)?;
        let id = epochs.current();
        let finding = epochs.due(&me, self.epoch_changes).filter(|_| id == due.epoch)?;
        let document = epochs.here_mut()?;
        let heads = match finding {
            Some((_, heads)) => heads,
            // What was folded before still serves: a busy document has other heads by now.
            None => match document.folded_heads(self.epoch_changes) {
                Some(heads) => heads.clone(),
                None => document.fence.heads().iter().copied().collect(),
            },
        };
        match document.folded(&heads) {
            None => {
                document.want_fold(&heads);
                self.settle(&due.key, &id);
                None
            }
            Some(None) => None,
            Some(Some(genesis)) => {
                let next = genesis.id.genesis?;
                let heads = heads.iter().map(|head| Digest::from_bytes(head.0)).collect();
                let doc = due.key.doc.to_string();
                Some(to_cbor(&Seal { doc, epoch: id.number, genesis: id.genesis, heads, next }))
            }
        }
    }
}
