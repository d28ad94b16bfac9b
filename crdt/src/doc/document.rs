//! One document: the facts it was fed, what the fence made of them, and Automerge.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use automerge::{ActorId, Change, ChangeHash};
use cauldron_identity::{AuthorId, Digest, Fact};

use super::base::Base;
use super::engine::Engine;
use super::epoch::EpochId;
use super::fence::{Fence, Source, screen};
use super::genesis::{End, Genesis};
use super::{Applied, DocChange, DocKey, Unfit, View, actor_of, limits, look};

mod recount;

/// Who writes: an author in one of its lives.
pub(super) type Writer = (AuthorId, u32);

/// A change that waits for its causes, or for an earlier one of its writer.
#[derive(Debug)]
struct Waiting {
    change: Change,
    fact: Arc<Fact>,
}

/// One writer's facts about this document, in the order of its chain.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub fed: Vec<Arc<Fact>>,
    /// Of these, how many count: those behind lie beyond a cut.
    pub counting: usize,
    /// Of these, how many were looked at.
    taken: usize,
    /// Of those beyond a cut, how many were marked as such, counted from the start of `fed`.
    marked: usize,
    /// Changes in the facts looked at, with the place of the first that carried each.
    pub own: BTreeMap<ChangeHash, usize>,
    /// How often the writer began anew, because what it followed was taken out.
    pub round: u32,
    /// The first one blocks the rest, so that the verdict on each is the same everywhere.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Refusals that are its own fault.
    faults: usize,
    /// Changes of this round were taken out because of others.
    pub lost: bool,
    /// Changes of this round wait for what nobody has.
    pub stuck: bool,
}

/// One epoch of a document, and all that is needed to build it anew.
#[derive(Debug)]
pub(super) struct Document {
    pub key: DocKey,
    pub id: EpochId,
    /// What it began from; none for the first epoch.
    pub genesis: Option<Arc<Genesis>>,
    /// How it ended, if it did.
    pub end: Option<End>,
    /// What it folds to at some heads; nothing where it does not fold.
    pub folds: BTreeMap<Vec<ChangeHash>, Option<Arc<Genesis>>>,
    pub to_fold: BTreeSet<Vec<ChangeHash>>,
    /// What was folded, at its beginning, until it is asked for.
    pub begun: BTreeMap<EpochId, Box<Document>>,
    pub chains: BTreeMap<Writer, Chain>,
    pub fence: Fence,
    pub engine: Engine,
    /// Where it came from, until the facts are here.
    pub base: Option<Base>,
    /// The engine holds more or other than the fence.
    stale: bool,
    /// Changes that are to be given to the engine one by one: among them is poison.
    suspects: Vec<ChangeHash>,
    /// Changes that the engine did not bear. They are refused before it from then on.
    poison: BTreeSet<ChangeHash>,
    /// Something was fed or taken out since the last look at what waits.
    touched: bool,
    /// Facts whose changes took effect, or left, since this was asked last.
    pub news: Vec<Arc<Fact>>,
    /// Somebody's change was taken out because of others, since this was asked last.
    pub lost: bool,
    /// As people see it, once somebody asked.
    view: OnceLock<Arc<View>>,
}

impl Chain {
    /// Whether all of it was looked at: there was room for what must wait.
    pub fn is_read(&self) -> bool {
        self.taken >= self.counting
    }

    /// Whether nothing of it is still to be decided.
    pub fn is_decided(&self) -> bool {
        self.taken >= self.counting && self.waiting.is_empty()
    }
}

impl Document {
    /// An epoch with nothing in it.
    pub fn new(key: DocKey, id: EpochId) -> Self {
        let fence = Fence::new(key.doc.kind());
        Self {
            key,
            id,
            genesis: None,
            end: None,
            folds: BTreeMap::new(),
            to_fold: BTreeSet::new(),
            begun: BTreeMap::new(),
            chains: BTreeMap::new(),
            fence,
            engine: Engine::new(),
            base: None,
            stale: false,
            suspects: Vec::new(),
            poison: BTreeSet::new(),
            touched: false,
            news: Vec::new(),
            lost: false,
            view: OnceLock::new(),
        }
    }

    /// Takes the next fact of its writer's chain. `counts` is false beyond a cut.
    pub fn feed(&mut self, fact: Arc<Fact>, counts: bool) {
        let writer = (fact.header().author, fact.header().incarnation);
        let chain = self.chains.entry(writer).or_default();
        if counts && chain.counting == chain.fed.len() {
            chain.counting += 1;
        }
        chain.fed.push(fact);
        self.touched = true;
    }

    /// The change in a fact, if it is its writer's own: another's could be copied to have it refused.
    pub(super) fn own_change(&self, writer: &Writer, fact: &Fact) -> Option<Change> {
        let body = DocChange::of(fact)?;
        screen(&self.actor(writer, body.round), &body.change).ok()
    }

    /// How many changes the next [`Document::step`] may have to look at; 0 when there is nothing to do.
    pub fn cost(&self) -> usize {
        if self.stale {
            return 1 + self.fence.accepted().len();
        }
        if !self.touched {
            return if self.to_fold.is_empty() { 0 } else { 1 + self.fence.accepted().len() };
        }
        1 + self.chains.values().map(|c| c.counting - c.taken).sum::<usize>()
    }

    /// Does the next piece of work.
    pub fn step(&mut self) {
        if self.stale {
            self.rebuild();
        } else if !self.touched {
            self.fold();
        } else {
            self.touched = false;
            let batch = self.decide();
            if self.settle_base() || batch.is_empty() {
                return;
            }
            self.view = OnceLock::new();
            if self.stale {
                // Something was taken out meanwhile: the engine is built anew from what is left.
                self.tell(&batch);
            } else {
                self.give(&batch);
            }
        }
    }

    /// The engine anew, from the changes that are held; suspects one by one behind the others.
    fn rebuild(&mut self) {
        self.stale = false;
        self.view = OnceLock::new();
        let suspects = std::mem::take(&mut self.suspects);
        let (mut solid, mut doubtful) = (Vec::new(), Vec::new());
        for accepted in self.fence.accepted() {
            let Some(change) = accepted.change() else { continue };
            if suspects.contains(&accepted.hash) { doubtful.push(change) } else { solid.push(change) }
        }
        match Engine::of(&solid) {
            Some(engine) => self.engine = engine,
            // What holds the poison is found by giving all of them one by one.
            None => {
                self.engine = Engine::new();
                solid.append(&mut doubtful);
                doubtful = solid;
            }
        }
        for (index, change) in doubtful.iter().enumerate() {
            if self.engine.apply(std::slice::from_ref(change)) {
                continue;
            }
            self.suspects = doubtful.iter().skip(index + 1).map(Change::hash).collect();
            self.poison(change);
            return;
        }
    }

    /// Takes a change into the history without checking it.
    #[cfg(test)]
    pub fn around_the_fence(&mut self, change: &Change, fact: &Arc<Fact>) {
        self.fence.believe(change, fact);
    }

    pub(super) fn give(&mut self, batch: &[Change]) {
        if self.engine.apply(batch) {
            return self.tell(batch);
        }
        match batch {
            [one] => self.poison(one),
            many => {
                self.suspects = many.iter().map(Change::hash).collect();
                self.stale = true;
            }
        }
    }

    fn tell(&mut self, batch: &[Change]) {
        self.news.extend(batch.iter().filter_map(|c| self.fence.find(&c.hash())?.fact().cloned()));
    }

    /// Everything is decided anew, as if it had been known from the start: what came later was judged in its presence.
    fn poison(&mut self, change: &Change) {
        self.poison.insert(change.hash());
        self.replay();
    }

    /// Decides every change that can be decided, until none can.
    fn decide(&mut self) -> Vec<Change> {
        let mut batch = Vec::new();
        let writers: Vec<Writer> = self.chains.keys().copied().collect();
        loop {
            let mut progress = false;
            for writer in &writers {
                self.pump(writer);
                progress |= self.mark_beyond(writer);
                while let Some(waiting) = self.next_decidable(writer) {
                    progress = true;
                    let hash = waiting.change.hash();
                    if self.poison.contains(&hash) {
                        self.refuse(writer, hash, Unfit::Poison);
                    } else if !self.fence.adopt(&hash, &waiting.fact) {
                        // What a base brought was checked then.
                        match self.fence.accept(&waiting.change, Source::Fact(waiting.fact)) {
                            Ok(()) => batch.push(waiting.change),
                            Err(why) => self.refuse(writer, hash, why),
                        }
                    }
                    self.pump(writer);
                }
            }
            if !progress {
                return batch;
            }
        }
    }

    /// What lies beyond a cut is refused by name, so that those who follow it need not wait.
    fn mark_beyond(&mut self, writer: &Writer) -> bool {
        let Some(chain) = self.chains.get_mut(writer).filter(|c| c.taken == c.counting) else { return false };
        let from = chain.marked.max(chain.counting);
        chain.marked = chain.fed.len();
        let beyond: Vec<Arc<Fact>> = chain.fed.iter().skip(from).cloned().collect();
        let hashes: Vec<ChangeHash> =
            beyond.iter().filter_map(|f| self.own_change(writer, f)).map(|c| c.hash()).collect();
        for hash in &hashes {
            // A copy of what counts takes nothing away from it.
            if self.chains.get(writer).is_some_and(|chain| !chain.own.contains_key(hash)) {
                self.fence.refuse(*hash, Unfit::Cut);
            }
        }
        !hashes.is_empty()
    }

    fn refuse(&mut self, writer: &Writer, hash: ChangeHash, why: Unfit) {
        self.fence.refuse(hash, why);
        let Some(chain) = self.chains.get_mut(writer) else { return };
        match why {
            Unfit::RefusedDep => (chain.lost, self.lost) = (true, true),
            Unfit::Poison => chain.faults += limits::POISON_FAULTS,
            _ => chain.faults += 1,
        }
    }

    fn next_decidable(&mut self, writer: &Writer) -> Option<Waiting> {
        let fence = &self.fence;
        let chain = self.chains.get_mut(writer)?;
        let front = chain.waiting.front()?;
        let place = match fence.decidable(&front.change) {
            true => 0,
            false if chain.round == 0 => return None,
            // What was kept of an earlier round may wait for what nobody sends, e.g. what lies beyond another's cut: what began anew
            // behind it does not rest on it.
            false => {
                let rounds = chain.waiting.iter().zip(chain.waiting.iter().skip(1)).enumerate();
                let begins = rounds.filter(|(_, (a, b))| a.change.actor_id() != b.change.actor_id());
                begins.filter(|(_, (_, b))| fence.decidable(&b.change)).map(|(place, _)| place + 1).next()?
            }
        };
        let next = chain.waiting.remove(place)?;
        chain.waiting_bytes -= next.change.raw_bytes().len();
        Some(next)
    }

    /// Looks at a writer's next facts while there is room for what must wait.
    fn pump(&mut self, writer: &Writer) {
        while let Some(chain) = self.chains.get_mut(writer) {
            let room = chain.waiting.len() < limits::WAITING_MAX && chain.waiting_bytes < limits::WAITING_BYTES_MAX;
            if !room || chain.taken >= chain.counting {
                return;
            }
            let Some(fact) = chain.fed.get(chain.taken).cloned() else { return };
            chain.taken += 1;
            if chain.faults >= limits::DOC_FAULTS_MAX {
                continue;
            }
            match self.open(writer, &fact) {
                Ok(change) => {
                    let Some(chain) = self.chains.get_mut(writer) else { return };
                    if chain.own.contains_key(&change.hash()) {
                        chain.faults += 1;
                        continue;
                    }
                    chain.own.insert(change.hash(), chain.taken - 1);
                    chain.waiting_bytes += change.raw_bytes().len();
                    chain.waiting.push_back(Waiting { change, fact });
                }
                Err(_) => {
                    if let Some(chain) = self.chains.get_mut(writer) {
                        chain.faults += 1;
                    }
                }
            }
        }
    }

    /// Reads a fact's change; a writer that begins anew takes back what it had not kept.
    fn open(&mut self, writer: &Writer, fact: &Fact) -> Result<Change, Unfit> {
        let body = DocChange::of(fact).ok_or(Unfit::Malformed)?;
        let round = self.chains.get(writer).map_or(0, |chain| chain.round);
        let actor = self.actor(writer, body.round);
        let change = screen(&actor, &body.change)?;
        if body.round == round && body.keeps.is_none() {
            return Ok(change);
        }
        let begins = body.round == round + 1 && body.round <= limits::DOC_ROUNDS_MAX && change.seq() == 1;
        let keeps = body.keeps.filter(|_| begins).ok_or(Unfit::Round)?;
        self.begin_round(writer, keeps);
        Ok(change)
    }

    /// The writer keeps the first `keeps` changes of its last round; the others are taken back.
    fn begin_round(&mut self, writer: &Writer, keeps: u64) {
        let Some(chain) = self.chains.get_mut(writer) else { return };
        let old = chain.round;
        chain.round += 1;
        (chain.lost, chain.stuck) = (false, false);
        let actor = self.actor(writer, old);
        let Some(chain) = self.chains.get_mut(writer) else { return };
        let mut out = BTreeMap::new();
        // What it keeps may still wait here, and what it kept of earlier rounds.
        chain.waiting.retain(|waiting| {
            let stays = *waiting.change.actor_id() != actor || waiting.change.seq() <= keeps;
            if !stays {
                chain.waiting_bytes -= waiting.change.raw_bytes().len();
                out.insert(waiting.change.hash(), Unfit::Withdrawn);
            }
            stays
        });
        let kept = usize::try_from(keeps).unwrap_or(usize::MAX);
        out.extend(self.fence.of_actor(&actor).iter().skip(kept).map(|hash| (*hash, Unfit::Withdrawn)));
        self.take_out(out);
    }

    pub fn actor(&self, writer: &Writer, round: u32) -> ActorId {
        actor_of(&self.key, &self.id, &writer.0, writer.1, round)
    }

    fn take_out(&mut self, out: BTreeMap<ChangeHash, Unfit>) {
        self.touched = true;
        for (source, why) in self.fence.take_out(out) {
            self.stale = true;
            let Source::Fact(fact) = source else { continue };
            let writer = (fact.header().author, fact.header().incarnation);
            if let Some(chain) = self.chains.get_mut(&writer).filter(|_| why == Unfit::RefusedDep) {
                (chain.lost, self.lost) = (true, true);
            }
            self.news.push(fact);
        }
    }

    /// The document as people see it.
    pub fn view(&self) -> Arc<View> {
        let read = || {
            // The fence keeps the document sound; if Automerge panics all the same, an empty one is better than no node.
            let (kind, doc) = (self.key.doc.kind(), &self.engine.doc);
            let view = catch_unwind(AssertUnwindSafe(|| look::read(kind, doc)));
            Arc::new(view.unwrap_or_else(|_| look::empty(kind)))
        };
        self.view.get_or_init(read).clone()
    }

    /// What became of the change in a fact that was fed.
    pub fn verdict(&self, fact: &Fact) -> Applied {
        let writer = (fact.header().author, fact.header().incarnation);
        let Some(chain) = self.chains.get(&writer) else { return Applied::Waiting };
        let Some(change) = self.own_change(&writer, fact) else {
            return Applied::Refused(self.judge(&writer, fact).err().unwrap_or(Unfit::Malformed));
        };
        let hash = change.hash();
        if let Some(why) = self.fence.refused().get(&hash) {
            return Applied::Refused(*why);
        }
        if self.fence.holds(&hash) {
            return if self.is_outside(&hash) { Applied::Refused(Unfit::Late) } else { Applied::Yes };
        }
        let place = chain.fed.iter().position(|f| f.id() == fact.id());
        if place.is_some_and(|place| place >= chain.counting) {
            return Applied::Refused(Unfit::Cut);
        }
        let waits = chain.waiting.iter().any(|w| w.change.hash() == hash);
        match place {
            Some(place) if place < chain.taken && !waits => {
                // It was looked at and is nowhere: its own content says why, or its writer is heard no more.
                let why = self.judge(&writer, fact).err().unwrap_or(Unfit::Banned);
                Applied::Refused(why)
            }
            _ => Applied::Waiting,
        }
    }

    fn judge(&self, writer: &Writer, fact: &Fact) -> Result<(), Unfit> {
        let body = DocChange::of(fact).ok_or(Unfit::Malformed)?;
        screen(&self.actor(writer, body.round), &body.change)?;
        let faults = self.chains.get(writer).map_or(0, |chain| chain.faults);
        if faults >= limits::DOC_FAULTS_MAX { Err(Unfit::Banned) } else { Err(Unfit::Round) }
    }

    /// Whether Automerge holds exactly what the fence accepted.
    pub fn is_true(&self) -> bool {
        let heads = self.engine.doc.get_heads();
        self.cost() > 0 || heads.iter().collect::<BTreeSet<_>>() == self.fence.heads().iter().collect()
    }

    /// Whether changes of this writer wait for others.
    pub fn waits(&self, writer: &Writer) -> bool {
        self.chains.get(writer).is_some_and(|chain| !chain.waiting.is_empty())
    }

    /// One hash for the set of changes held.
    pub fn digest(&self) -> Digest {
        let begun = self.id.genesis.iter().flat_map(|genesis| *genesis.as_bytes());
        let all: Vec<u8> = begun.chain(self.fence.hashes().flat_map(|hash| hash.0)).collect();
        Digest::of("cauldron/document/v1", &all)
    }

    /// Number of changes that wait for others.
    pub fn waiting(&self) -> usize {
        self.chains.values().map(|c| c.waiting.len() + (c.counting - c.taken)).sum()
    }
}
