//! Every behaviour of three nodes that share four rights, with two crashes: the real fold and the real decider, checked
//! exhaustively with stateright.
//!
//! A node has what is durable and what is not; a crash takes the latter. Facts become public when they are durable, and
//! then reach others in the order of their chain, late, never, or again. A bug that lives in the node is a [`Bug`] of this
//! model, one that lives in the core is a planted bug (feature `planted`).

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cauldron_crdt::escrow::{Balance, Body, Budget, Decider, Escrow, Mint, Source, Verdict, Window, invariants};
use cauldron_identity::FactId;
use stateright::{Checker, HasDiscoveries, Model, Property};

mod state;

use state::{Books, Fact, Node, State, life, node_of, publish, purpose};

const NODES: usize = 3;
const TOKENS: u64 = 4;
const CRASHES: u8 = 2;
/// Grants that are ever made: enough for one to go on, and for one to come back and go elsewhere.
const GRANTS: usize = 2;
/// All states that can be reached.
const STATES: usize = 139_365;
const WINDOW: Window = 7;
const MINT: FactId = FactId::from_bytes([0xaa; 32]);

/// Mistakes that a node can make around the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Own facts are public before they are durable.
    SentBeforeDurable,
    /// A grant that is delivered again is credited again.
    CreditPerDelivery,
    /// An effect starts when its reservation is written, durable or not.
    StartBeforeDurable,
    /// A planted bug of the core.
    #[cfg_attr(not(feature = "planted"), allow(dead_code))]
    Core(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// Write one of the dues.
    Due(usize, usize),
    Refuse(usize, FactId),
    Grant(usize, usize, u64),
    Reserve(usize, u64),
    Settle(usize, u64),
    Persist(usize),
    Deliver(usize, Fact),
    Crash(usize),
}

/// Hard places that no single state shows.
#[derive(Debug, Default)]
struct Reached {
    crash_between_debit_and_send: AtomicUsize,
    crash_between_credit_and_disk: AtomicUsize,
    grant_delivered_again: AtomicUsize,
}

#[derive(Debug)]
struct Mesh {
    bug: Bug,
    budget: Budget,
    grants: usize,
    crashes: u8,
    reached: Arc<Reached>,
    /// Books by the facts in them.
    known: Mutex<BTreeMap<u64, Arc<Books>>>,
}

impl Mesh {
    fn new(bug: Bug) -> Self {
        let budget = Budget::new("demo").expect("a name");
        Self { bug, budget, grants: GRANTS, crashes: CRASHES, reached: Arc::default(), known: Mutex::default() }
    }

    /// Wakes the planted bug on this thread of the checker.
    fn wake(&self) {
        #[cfg(feature = "planted")]
        cauldron_identity::planted::activate(if let Bug::Core(name) = self.bug { Some(name) } else { None });
    }

    fn fresh_books(&self) -> Escrow {
        let mut books = Escrow::new();
        let (budget, window) = (self.budget.clone(), WINDOW);
        books.mint(MINT, 1, &Mint { budget, window, amount: TOKENS, holder: life(0), window_ms: 0 });
        books
    }

    fn books_of<'f>(&self, facts: impl Iterator<Item = &'f Fact>) -> Arc<Books> {
        let mut books = Books::new(self.fresh_books());
        facts.for_each(|fact| books.fold(fact));
        books
    }

    /// The books that were made of the same facts before, in whatever order: they must be the same, without a bug.
    fn shared(&self, books: &Arc<Books>, facts: impl Iterator<Item = u64>) -> Arc<Books> {
        if self.bug != Bug::None {
            return books.clone();
        }
        let mut hasher = DefaultHasher::new();
        facts.for_each(|tag| hasher.write_u64(tag));
        let mut known = self.known.lock().expect("nobody panics with it");
        let shared = known.entry(hasher.finish()).or_insert_with(|| books.clone()).clone();
        assert_eq!(shared.escrow, books.escrow, "one set of facts, one state of the books");
        shared
    }

    fn append(&self, state: &mut State, node: usize, body: Body) {
        let fact = Fact::new(node, state.nodes[node].chains[node].len() as u64 + 1, body);
        self.know(state, node, fact.clone());
        if self.bug == Bug::SentBeforeDurable {
            publish(&mut state.public[node], fact);
        }
        if self.bug == Bug::StartBeforeDurable {
            self.start(state, node, usize::MAX);
        }
    }

    fn know(&self, state: &mut State, node: usize, fact: Fact) {
        let node = Arc::make_mut(&mut state.nodes[node]);
        node.books.fold(&fact);
        node.chains[node_of(&fact.place.life)].push(fact);
        node.books = self.shared(&node.books, node.chains.iter().flatten().map(|fact| fact.tag));
    }

    fn persist(&self, state: &mut State, node: usize) {
        let known = Arc::make_mut(&mut state.nodes[node]);
        for fact in &known.chains[node][known.durable[node]..] {
            publish(&mut state.public[node], fact.clone());
            state.truth.fold(fact);
        }
        known.durable = std::array::from_fn(|author| known.chains[author].len());
        let durable = known.durable[node];
        let all = state.nodes.iter().enumerate();
        let facts = all.flat_map(|(node, known)| known.chains[node].iter().take(known.durable[node]));
        state.truth = self.shared(&state.truth, facts.map(|fact| fact.tag));
        self.start(state, node, durable);
    }

    /// Carries out what is reserved by the first `ready` own facts, once.
    fn start(&self, state: &mut State, node: usize, ready: usize) {
        let Some((id, reservation)) = self.decider(state, node).reservation(&self.budget, &purpose(node)) else {
            return;
        };
        let amount = reservation.amount;
        let own = &state.nodes[node].chains[node];
        if reservation.spent.is_none() && own.iter().take(ready).any(|fact| fact.place.id == id) {
            state.executed[node] = amount.max(state.executed[node]);
        }
    }

    fn crash(&self, state: &mut State, node: usize) {
        self.note_crash(state, node);
        let known = Arc::make_mut(&mut state.nodes[node]);
        for (chain, durable) in known.chains.iter_mut().zip(known.durable) {
            chain.truncate(durable);
        }
        let books = self.books_of(known.chains.iter().flatten());
        known.books = self.shared(&books, known.chains.iter().flatten().map(|fact| fact.tag));
        state.crashes += 1;
    }

    fn note_crash(&self, state: &State, node: usize) {
        let known = &state.nodes[node];
        for fact in &known.chains[node][known.durable[node]..] {
            match &*fact.body {
                Body::Debit(_) => self.reached.crash_between_debit_and_send.fetch_add(1, Ordering::Relaxed),
                Body::Credit(_) => self.reached.crash_between_credit_and_disk.fetch_add(1, Ordering::Relaxed),
                _ => continue,
            };
        }
    }

    fn is_known(&self, state: &State, node: usize, fact: &Fact) -> bool {
        state.nodes[node].chains[node_of(&fact.place.life)].len() as u64 >= fact.place.seq
    }

    /// A fact arrives that is new to the node, or is not and meets a bug. What concerns nobody here rides with the next
    /// that does.
    fn deliver(&self, state: &mut State, node: usize, fact: &Fact) {
        let author = node_of(&fact.place.life);
        if self.is_known(state, node, fact) {
            let own = &state.nodes[node].chains[node];
            let takes = |body: &Body| matches!(body, Body::Credit(credit) if credit.source.id() == fact.place.id);
            if let Some(credit) = own.iter().find(|own| takes(&own.body)) {
                let again = (*credit.body).clone();
                self.append(state, node, again);
            }
            return;
        }
        let from = state.nodes[node].chains[author].len() as u64 + 1;
        let public = state.public[author].clone();
        for seq in from..fact.place.seq {
            let between = public.iter().find(|known| known.place.seq == seq);
            between.into_iter().for_each(|known| self.know(state, node, known.clone()));
        }
        self.know(state, node, fact.clone());
    }

    fn decider<'s>(&self, state: &'s State, node: usize) -> Decider<'s> {
        state.nodes[node].books.escrow.decider(life(node), WINDOW)
    }

    fn hold(&self, state: &State, invariant: usize) -> bool {
        self.wake();
        let views = state.nodes.iter().map(|node| &node.books).chain([&state.truth]);
        views.into_iter().all(|books| books.holds()[invariant])
    }

    fn total(&self, state: &State) -> Balance {
        state.truth.escrow.balance(&self.budget, WINDOW)
    }

    /// Whether a delivery of `fact` can change what `node` does: it is in its favour, or other facts there wait for it.
    fn concerns(&self, known: &Node, node: usize, fact: &Fact) -> bool {
        let waits = || known.books.escrow.facts().any(|(_, _, verdict)| verdict == Verdict::Waits);
        match &*fact.body {
            Body::Debit(debit) => debit.to == life(node) || waits(),
            Body::Refuse(refuse) => refuse.debit.life == life(node) || waits(),
            _ => false,
        }
    }

    fn local_actions(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let (known, decider) = (&state.nodes[node], self.decider(state, node));
        let balance = known.books.escrow.balance(&self.budget, WINDOW).of(&life(node));
        for (place, due) in decider.dues().iter().enumerate() {
            actions.push(Action::Due(node, place));
            if let Body::Credit(credit) = due {
                let refusable = decider.refuse(credit.source.id()).is_ok();
                actions.extend(refusable.then(|| Action::Refuse(node, credit.source.id())));
            }
        }
        let made = state.nodes.iter().enumerate().flat_map(|(node, known)| &known.chains[node]);
        if made.filter(|fact| matches!(&*fact.body, Body::Debit(_))).count() < self.grants {
            for to in (0..NODES).filter(|to| *to != node) {
                let amounts = [1, balance.held].into_iter().take(if balance.held > 1 { 2 } else { 1 });
                actions.extend(
                    amounts
                        .filter(|amount| decider.debit(&self.budget, WINDOW, *amount, life(to)).is_ok())
                        .map(|amount| Action::Grant(node, to, amount)),
                );
            }
        }
        match decider.reservation(&self.budget, &purpose(node)) {
            None if decider.reserve(&self.budget, balance.held, purpose(node)).is_ok() => {
                actions.push(Action::Reserve(node, balance.held));
            }
            // Nothing was done yet, or all of it.
            Some((_, reservation)) if reservation.spent.is_none() => {
                actions.push(Action::Settle(node, state.executed[node]));
            }
            _ => {}
        }
        if (0..NODES).any(|author| known.durable[author] < known.chains[author].len()) {
            actions.push(Action::Persist(node));
            actions.extend((state.crashes < self.crashes).then_some(Action::Crash(node)));
        }
    }
}

impl Model for Mesh {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let books = Books::new(self.fresh_books());
        let node = Arc::new(Node { chains: Default::default(), durable: [0; NODES], books });
        let nodes = std::array::from_fn(|_| node.clone());
        let truth = Books::new(self.fresh_books());
        vec![State { nodes, public: Default::default(), executed: [0; NODES], crashes: 0, truth }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.wake();
        for node in 0..NODES {
            self.local_actions(state, node, actions);
            for author in (0..NODES).filter(|author| *author != node) {
                let held = &state.nodes[node].chains[author];
                for fact in state.public[author].iter() {
                    let seq = fact.place.seq as usize;
                    let news = seq > held.len() && self.concerns(&state.nodes[node], node, fact);
                    let grant =
                        matches!(&*fact.body, Body::Debit(debit) if debit.to == life(node)) && seq <= held.len();
                    if news || grant {
                        actions.push(Action::Deliver(node, fact.clone()));
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.wake();
        if let Action::Deliver(node, fact) = &action
            && self.is_known(last, *node, fact)
        {
            self.reached.grant_delivered_again.fetch_add(1, Ordering::Relaxed);
            if !matches!(self.bug, Bug::CreditPerDelivery | Bug::Core("credit-counted-twice")) {
                return None;
            }
        }
        let mut state = last.clone();
        let decides = |node| self.decider(last, node);
        match action {
            Action::Due(node, place) => self.append(&mut state, node, decides(node).dues().get(place)?.clone()),
            Action::Refuse(node, debit) => {
                self.append(&mut state, node, Body::Refuse(decides(node).refuse(debit).ok()?));
            }
            Action::Grant(node, to, amount) => {
                let debit = decides(node).debit(&self.budget, WINDOW, amount, life(to)).ok()?;
                self.append(&mut state, node, Body::Debit(debit));
            }
            Action::Reserve(node, amount) => {
                let reserve = decides(node).reserve(&self.budget, amount, purpose(node)).ok()?;
                self.append(&mut state, node, Body::Reserve(reserve));
            }
            Action::Settle(node, spent) => {
                let (id, _) = decides(node).reservation(&self.budget, &purpose(node))?;
                self.append(&mut state, node, Body::Settle(decides(node).settle(id, spent).ok()?));
            }
            Action::Persist(node) => self.persist(&mut state, node),
            Action::Deliver(node, fact) => self.deliver(&mut state, node, &fact),
            Action::Crash(node) => self.crash(&mut state, node),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("CONSERVE", |mesh: &Self, state: &State| mesh.hold(state, 0)),
            Property::always("NONNEG", |mesh: &Self, state: &State| mesh.hold(state, 1)),
            Property::always("CREDIT-ONCE", |mesh: &Self, state: &State| mesh.hold(state, 2)),
            Property::always("BUDGET", |mesh: &Self, state: &State| {
                let executed = state.executed.iter().sum();
                invariants::budget(&state.truth.escrow, &mesh.budget, WINDOW, executed).is_ok()
            }),
            Property::sometimes("a grant in flight after a crash", |mesh: &Self, state: &State| {
                state.crashes > 0 && (1..NODES).any(|node| mesh.total(state).of(&life(node)).in_flight > 0)
            }),
            Property::sometimes("a grant refused and taken back", |_, state: &State| {
                let back =
                    |body: &Body| matches!(body, Body::Credit(credit) if matches!(credit.source, Source::Refuse(_)));
                state.nodes[0].chains[0].iter().any(|fact| back(&fact.body))
            }),
            Property::sometimes("everything spent by three nodes", |mesh: &Self, state: &State| {
                let spent = mesh.total(state);
                spent.total().spent == TOKENS && (0..NODES).all(|node| spent.of(&life(node)).spent > 0)
            }),
            Property::sometimes("a fact that waits for another", |_, state: &State| {
                state
                    .nodes
                    .iter()
                    .any(|node| node.books.escrow.facts().any(|(_, _, verdict)| verdict == Verdict::Waits))
            }),
        ]
    }
}

#[test]
fn escrow_holds_on_three_nodes_with_four_tokens_and_two_crashes() {
    let mesh = Mesh::new(Bug::None);
    let reached = mesh.reached.clone();
    let started = std::time::Instant::now();
    let checker = mesh.checker().threads(2).spawn_bfs().join();
    println!(
        "{} unique states, {} in all, depth {}, {:?}; {reached:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    checker.assert_properties();
    // Without a bound of depth, count or time, it ends when no state is left.
    assert!(checker.is_done());
    assert_eq!(checker.unique_state_count(), STATES, "another core, or another model, has other states");
    for place in
        [&reached.crash_between_debit_and_send, &reached.crash_between_credit_and_disk, &reached.grant_delivered_again]
    {
        assert!(place.load(Ordering::Relaxed) > 0, "{reached:?}");
    }
}

/// Checks a mutant until `invariant` breaks.
#[track_caller]
fn breaks(bug: Bug, invariant: &'static str) {
    let until = HasDiscoveries::AnyOf([invariant].into());
    let checker = Mesh { grants: 1, crashes: 1, ..Mesh::new(bug) }.checker().finish_when(until).spawn_bfs().join();
    let path = checker.assert_any_discovery(invariant);
    let steps = path.into_actions().len();
    println!("{bug:?} breaks {invariant} in {steps} steps, found after {} states", checker.unique_state_count());
}

#[test]
fn a_grant_sent_before_its_debit_is_durable_breaks_the_budget() {
    breaks(Bug::SentBeforeDurable, "BUDGET");
}

#[test]
fn an_effect_before_its_reservation_is_durable_breaks_the_budget() {
    breaks(Bug::StartBeforeDurable, "BUDGET");
}

#[test]
fn a_credit_per_delivery_is_void_in_the_fold() {
    breaks(Bug::CreditPerDelivery, "NONNEG");
}

#[cfg(feature = "planted")]
#[test]
fn planted_credit_counted_twice_makes_rights_of_nothing() {
    breaks(Bug::Core("credit-counted-twice"), "CONSERVE");
    breaks(Bug::Core("credit-counted-twice"), "CREDIT-ONCE");
    breaks(Bug::Core("credit-counted-twice"), "BUDGET");
}

#[cfg(feature = "planted")]
#[test]
fn planted_refund_by_timeout_breaks_the_budget() {
    breaks(Bug::Core("refund-by-timeout"), "BUDGET");
    breaks(Bug::Core("refund-by-timeout"), "CREDIT-ONCE");
}
