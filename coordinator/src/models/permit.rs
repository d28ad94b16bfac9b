//! Permit and owner: two coordinators, of which one is compromised, and an owner that dies between its steps.
//!
//! Eleven things are written: a proposal and an edit of it, their decisions, votes and permits, a permit issued again, forgeries of the
//! compromised coordinator, and a no. They reach the owner in any order, and again. The owner judges whatever permit it holds with the
//! real [`judge`], on the real ledger of what it holds, and goes step by step: start written, start on disk, effect, outcome written, outcome on disk. It
//! may die twice between any of them; then it probes, and the real [`resume`] says how it goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cauldron_identity::{Fact, FactId};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::sealed;
use crate::bodies::*;
use crate::ledger::people_tests::{edit, shorter};
use crate::ledger::{Inserted, Ledger, State as Stands};
use crate::owner::{Probe, Verdict, judge, resume};
use crate::testkit::{NOW, World, proposal};
use crate::vote::Choice;

const TWO: &str = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}]}";
/// The compromised coordinator.
const LIAR: u8 = 101;
const CRASHES: u8 = 2;
/// All states that can be reached.
const STATES: usize = 6_744;

/// What is written, and arrives together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Item {
    Proposal,
    Decision,
    Ana,
    Dee,
    Permit,
    /// The compromised coordinator permits the same again, rightly.
    Again,
    /// It permits on one vote, on its own false allow, and other arguments.
    Forged,
    /// Cy's no to the proposal and to its edit.
    No,
    /// Bo edits it, and it is decided.
    Edit,
    EditVotes,
    EditPermit,
}

const ITEMS: [Item; 11] = [
    Item::Proposal,
    Item::Decision,
    Item::Ana,
    Item::Dee,
    Item::Permit,
    Item::Again,
    Item::Forged,
    Item::No,
    Item::Edit,
    Item::EditVotes,
    Item::EditPermit,
];

/// What the owner writes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Own {
    /// On the permit with this number.
    Started(usize),
    Done,
    Failed,
}

/// Mistakes that a node can make around the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// The effect does not wait for its start to be on disk.
    EffectBeforeDurable,
    /// After a crash, what was started is done without a probe or a judgement.
    BlindRetry,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// What has arrived, by place in [`ITEMS`].
    here: [bool; ITEMS.len()],
    own: Vec<Own>,
    durable: usize,
    /// Handed to the connector, which has not begun.
    handed: Option<usize>,
    /// What the connector answered waits to be written.
    answered: bool,
    /// A start without an outcome was found after a crash.
    probing: bool,
    /// Effects that happened, by the permit.
    effects: Vec<usize>,
    crashes: u8,
    /// What is wrong with something that was handed out, if anything.
    broken: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Arrive(usize),
    Judge(usize),
    Persist,
    Effect,
    Report,
    Crash,
    Probe,
}

/// All that can be written, and what the judge said of which set of it.
struct Universe {
    world: World,
    facts: BTreeMap<usize, Vec<Fact>>,
    /// With the item that brings it, and for which proposal it is.
    permits: Vec<(FactId, Item, FactId)>,
    first: FactId,
    ledgers: BTreeMap<([bool; ITEMS.len()], Vec<Own>), Rc<Ledger>>,
}

thread_local! {
    static UNIVERSE: RefCell<Universe> = RefCell::new(Universe::new());
}

impl Universe {
    fn new() -> Self {
        let mut world = World::with_coordinators(2);
        world.activate(&World::bundle(TWO));
        world.enrol_person("dee", &["security-duty"]);
        let (mut facts, mut permits, mut taken) = (BTreeMap::new(), Vec::new(), 0);
        let mut take = |world: &World, item: Item| {
            let place = ITEMS.iter().position(|i| *i == item).expect("an item");
            facts.insert(place, world.facts[taken..].to_vec());
            taken = world.facts.len();
        };
        let p = world.propose(proposal("198.51.100.7"));
        take(&world, Item::Proposal);
        world.run();
        take(&world, Item::Decision);
        world.vote("ana", &p, Choice::Approve);
        take(&world, Item::Ana);
        world.vote("dee", &p, Choice::Approve);
        take(&world, Item::Dee);
        let permit = world.run().pop().expect("a permit");
        permits.push((permit, Item::Permit, p));
        take(&world, Item::Permit);
        let good = world.ledger.permit(&permit).expect("here").body.clone();
        let again = Permit { issued_ms: NOW + 1, ..good.clone() };
        permits.push((world.put(LIAR, "site/lyon", KIND_PERMIT, &again), Item::Again, p));
        take(&world, Item::Again);
        let lie =
            Decision { outcome: Outcome::Allow, obligations: Obligations::none(NOW + 3_600_000), ..world.decision(&p) };
        let allowed = world.put(LIAR, "site/lyon", KIND_DECISION, &lie);
        let forgeries = [
            Permit { votes: vec![good.votes[0]], ..good.clone() },
            Permit { votes: vec![], decision: allowed, terms: lie.terms(), ..good.clone() },
            Permit { args_digest: Proposal::digest_of_args(b"{}"), ..good },
        ];
        for forged in forgeries {
            permits.push((world.put(LIAR, "site/lyon", KIND_PERMIT, &forged), Item::Forged, p));
        }
        take(&world, Item::Forged);
        let child = edit(&world, &p, "bo", shorter);
        let child = world.put(3, "site/lyon", KIND_PROPOSAL, &child);
        let acts = world.step();
        world.write(&acts);
        take(&world, Item::Edit);
        world.vote("ana", &child, Choice::Approve);
        world.vote("dee", &child, Choice::Approve);
        take(&world, Item::EditVotes);
        let permit = world.run().pop().expect("a permit");
        permits.push((permit, Item::EditPermit, child));
        take(&world, Item::EditPermit);
        for p in [p, child] {
            world.vote("cy", &p, Choice::Deny);
        }
        take(&world, Item::No);
        assert_eq!(facts.len(), ITEMS.len());
        Self { world, facts, permits, first: p, ledgers: BTreeMap::new() }
    }

    /// The ledger of what the owner holds. However it came to be, it is the same.
    fn ledger(&mut self, state: &State) -> Rc<Ledger> {
        let key = (state.here, state.own.clone());
        if let Some(known) = self.ledgers.get(&key) {
            return known.clone();
        }
        let here = state.here.iter().enumerate().filter(|(_, here)| **here).flat_map(|(item, _)| &self.facts[&item]);
        let mut all: Vec<Fact> = here.cloned().collect();
        all.extend(self.own(&state.own));
        let (mut ledger, mut other) = (Ledger::new(), Ledger::new());
        for fact in &all {
            assert_eq!(ledger.insert(fact), Inserted::New);
        }
        for fact in all.iter().rev() {
            other.insert(fact);
            assert_eq!(other.insert(fact), Inserted::Duplicate);
        }
        assert_eq!(ledger, other, "one set of facts, one ledger");
        let ledger = Rc::new(ledger);
        self.ledgers.insert(key, ledger.clone());
        ledger
    }

    /// The owner's own facts, in its chain behind the proposals that it carried.
    fn own(&self, own: &[Own]) -> Vec<Fact> {
        let (mut facts, mut open, mut starts): (Vec<Fact>, Option<FactId>, u64) = (Vec::new(), None, 0);
        for (seq, one) in (100..).zip(own) {
            let fact = match one {
                Own::Started(permit) => {
                    starts += 1;
                    let permit = self.world.ledger.permit(&self.permits[*permit].0).expect("written");
                    let p = self.world.ledger.proposal(&permit.body.proposal).expect("written");
                    let started = Started {
                        permit: permit.id,
                        proposal: p.id,
                        lineage: p.body.lineage(p.id),
                        resource: p.body.resource.clone(),
                        intent_key: p.body.intent_key.clone(),
                        owner_seq: starts,
                        idempotency_key: "k".into(),
                        input_digest: permit.body.terms,
                        started_ms: NOW,
                    };
                    let fact = sealed(&self.world, 3, seq, KIND_STARTED, &started);
                    open = Some(fact.id());
                    fact
                }
                Own::Done => {
                    let done = Done {
                        started: open.expect("started"),
                        effect_ref: "x".into(),
                        result_digest: cauldron_identity::Digest::of("result", b""),
                        before_version: None,
                        after_version: None,
                        until_ms: None,
                        done_ms: NOW,
                        labels: vec![],
                    };
                    sealed(&self.world, 3, seq, KIND_DONE, &done)
                }
                Own::Failed => {
                    let started = open.expect("started");
                    let failed =
                        Failed { started, probed_no_effect: true, reason: "r".into(), failed_ms: NOW, labels: vec![] };
                    sealed(&self.world, 3, seq, KIND_FAILED, &failed)
                }
            };
            facts.push(fact);
        }
        facts
    }

    fn judge(&mut self, state: &State, permit: usize) -> Verdict {
        let ledger = self.ledger(state);
        let me = self.world.me();
        judge(&self.permits[permit].0, &crate::owner::Bench { ledger: &ledger, ..self.world.bench(&me) })
    }

    /// As after a crash, with a probe that found nothing.
    fn resume(&mut self, state: &State) -> Verdict {
        let ledger = self.ledger(state);
        let me = self.world.me();
        let own = self.own(&state.own);
        let started = own.iter().rfind(|fact| fact.header().kind == KIND_STARTED).expect("started").id();
        resume(&started, &crate::owner::Bench { ledger: &ledger, ..self.world.bench(&me) }, Probe::Absent)
    }
}

impl State {
    fn has(&self, item: Item) -> bool {
        ITEMS.iter().zip(self.here).any(|(i, here)| *i == item && here)
    }

    /// Started, and no outcome.
    fn open(&self) -> Option<usize> {
        match self.own.last() {
            Some(Own::Started(permit)) => Some(*permit),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Owner {
    bug: Bug,
}

impl Owner {
    /// DECISION and FINAL, as they are said and not as they are coded: two other people agreed to exactly this, nobody said no, and no edit took
    /// its place.
    fn wrong(&self, state: &State, permit: usize) -> Option<&'static str> {
        let (_, item, _) = UNIVERSE.with_borrow(|all| all.permits[permit]);
        let agreed = match item {
            Item::Permit | Item::Again => {
                state.has(Item::Proposal) && state.has(Item::Decision) && state.has(Item::Ana) && state.has(Item::Dee)
            }
            Item::EditPermit => {
                state.has(Item::Edit)
                    && state.has(Item::EditVotes)
                    && state.has(Item::Proposal)
                    && state.has(Item::Decision)
            }
            _ => false,
        };
        let replaced = item != Item::EditPermit && state.has(Item::Edit);
        if !agreed {
            Some("DECISION")
        } else if state.has(Item::No) && state.has(Item::Proposal) {
            Some("FINAL")
        } else if replaced {
            Some("SUPERSEDED")
        } else {
            None
        }
    }

    fn hand_out(&self, state: &mut State, permit: usize) {
        state.broken = state.broken.or(self.wrong(state, permit));
        state.handed = Some(permit);
    }
}

impl Model for Owner {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            here: [false; ITEMS.len()],
            own: vec![],
            durable: 0,
            handed: None,
            answered: false,
            probing: false,
            effects: vec![],
            crashes: 0,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..ITEMS.len()).filter(|item| !state.here[*item]).map(Action::Arrive));
        if state.handed.is_none() && !state.answered {
            let permits = UNIVERSE.with_borrow(|all| all.permits.clone());
            let held = permits.iter().enumerate().filter(|(_, (_, item, _))| state.has(*item));
            actions.extend(held.map(|(permit, _)| Action::Judge(permit)));
        }
        if state.durable < state.own.len() {
            actions.push(Action::Persist);
        }
        if state.handed.is_some() && (state.durable == state.own.len() || self.bug == Bug::EffectBeforeDurable) {
            actions.push(Action::Effect);
        }
        if state.answered {
            actions.push(Action::Report);
        }
        let busy = state.durable < state.own.len() || state.handed.is_some() || state.answered;
        if busy && state.crashes < CRASHES {
            actions.push(Action::Crash);
        }
        if state.probing {
            actions.push(Action::Probe);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Arrive(item) => state.here[item] = true,
            Action::Judge(permit) => {
                let verdict = UNIVERSE.with_borrow_mut(|all| all.judge(last, permit));
                if !matches!(verdict, Verdict::Execute(_)) {
                    return None;
                }
                self.hand_out(&mut state, permit);
                state.own.push(Own::Started(permit));
            }
            Action::Persist => state.durable = state.own.len(),
            Action::Effect => {
                state.effects.push(state.handed.take()?);
                state.answered = true;
            }
            Action::Report => {
                state.answered = false;
                state.open()?;
                state.own.push(Own::Done);
            }
            Action::Crash => {
                state.own.truncate(state.durable);
                (state.handed, state.answered) = (None, false);
                state.probing = state.open().is_some();
                state.crashes += 1;
            }
            Action::Probe => {
                state.probing = false;
                let permit = state.open()?;
                if self.bug == Bug::BlindRetry {
                    state.handed = Some(permit);
                } else if state.effects.contains(&permit) {
                    state.own.push(Own::Done);
                } else {
                    match UNIVERSE.with_borrow_mut(|all| all.resume(last)) {
                        Verdict::Execute(_) => self.hand_out(&mut state, permit),
                        Verdict::Refuse { .. } | Verdict::Void { .. } => state.own.push(Own::Failed),
                        Verdict::Wait { .. } => return None,
                    }
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn by(state: &State, item: Item) -> bool {
            let of = |permit: &usize| UNIVERSE.with_borrow(|all| all.permits[*permit].1 == item);
            state.effects.iter().any(of)
        }
        vec![
            Property::always("PERMIT", |_, state: &State| {
                let durable = &state.own[..state.durable];
                state.effects.iter().all(|permit| durable.contains(&Own::Started(*permit)))
            }),
            Property::always("DECISION", |_, state: &State| state.broken != Some("DECISION")),
            Property::always("FINAL", |_, state: &State| state.broken != Some("FINAL")),
            Property::always("SUPERSEDED", |_, state: &State| state.broken != Some("SUPERSEDED")),
            Property::always("ONCE", |_, state: &State| state.effects.len() <= 1),
            // What the ledger says of a lineage whose effect happened is never that it did not.
            Property::always("TOLD", |_, state: &State| {
                let told = state.own[..state.durable].contains(&Own::Done);
                !told || !state.effects.is_empty()
            }),
            Property::sometimes("the first permit's effect", |_, state: &State| by(state, Item::Permit)),
            Property::sometimes("an effect by the permit that was issued again", |_, state: &State| {
                by(state, Item::Again)
            }),
            Property::sometimes("the edit's effect", |_, state: &State| by(state, Item::EditPermit)),
            Property::sometimes("an effect after a crash", |_, state: &State| {
                state.crashes == CRASHES && state.own.contains(&Own::Done)
            }),
            Property::sometimes("a no after a start without effect", |_, state: &State| {
                state.own.contains(&Own::Failed) && state.has(Item::No) && state.effects.is_empty()
            }),
            Property::sometimes("a no after the effect, which the ledger calls contested", |_, state: &State| {
                let all = state.here.iter().all(|here| *here) && state.own.contains(&Own::Done);
                all && UNIVERSE.with_borrow_mut(|universe| {
                    let (ledger, first) = (universe.ledger(state), universe.first);
                    let status = ledger.status(&first, &universe.world.authority, NOW).expect("here");
                    status.contested && status.state == Stands::Done
                })
            }),
        ]
    }
}

#[test]
fn an_owner_does_once_what_was_permitted_whatever_arrives_in_whatever_order() {
    let started = std::time::Instant::now();
    let checker = Owner { bug: Bug::None }.checker().threads(1).spawn_bfs().join();
    println!("{} unique states, depth {}, {:?}", checker.unique_state_count(), checker.max_depth(), started.elapsed());
    checker.assert_properties();
    assert!(checker.is_done());
    assert_eq!(checker.unique_state_count(), STATES, "another judge, or another model, has other states");
}

/// Checks a mutant until `invariant` breaks.
#[track_caller]
fn breaks(bug: Bug, invariant: &'static str) {
    let until = HasDiscoveries::AnyOf([invariant].into());
    let checker = Owner { bug }.checker().finish_when(until).threads(1).spawn_bfs().join();
    let steps = checker.assert_any_discovery(invariant).into_actions().len();
    println!("{bug:?} breaks {invariant} in {steps} steps, found after {} states", checker.unique_state_count());
}

#[test]
fn an_effect_before_its_start_is_durable_is_found() {
    breaks(Bug::EffectBeforeDurable, "PERMIT");
    breaks(Bug::EffectBeforeDurable, "ONCE");
}

#[test]
fn a_blind_retry_after_a_crash_is_found() {
    breaks(Bug::BlindRetry, "ONCE");
}
