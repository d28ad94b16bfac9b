//! Cut: a coordinator and the owner are cut while they write, and a term of the council goes back behind both cuts.
//!
//! Nine things reach a node in any order. Two nodes that hold the same of them must judge the same, however they came there: a state is what is
//! here *and* all that the node made of it, so that every order is gone through that makes a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use cauldron_identity::authority::{
    ChainEnd, Cut, Entry, EntryBody, Held, KIND_ENTRY, KIND_HELD, Standing, Term, TermOutcome,
};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Authority, Fact, FactId, HeaderDraft, Scope};
use stateright::{Checker, Model, Property};

use super::digest;
use crate::bodies::*;
use crate::coordinate::permit_for;
use crate::ledger::{Ledger, State as Stands};
use crate::owner::{Bench, Verdict, judge};
use crate::testkit::{NOW, World, key, proposal};

const ALLOW: &str = "package cauldron.guardrail\nallow contains {\"rule\":\"x\",\"why\":\"y\"}";
/// The coordinator that is cut.
const CUT: u8 = 101;
/// Whoever holds the chain beside lyon.
const PORTO: u8 = 4;
/// Sets of what can be here.
const SETS: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// Two proposals of lyon, the last that it wrote before its end.
    Proposals,
    /// The first is decided and permitted before the coordinator's end, the second behind it.
    Before,
    Beyond,
    /// Lyon did the second, before it heard of anything.
    Done,
    CutCoordinator,
    CutOwner,
    /// The council goes back to before both cuts, and names hq again, in a new life.
    Term,
    /// Hq's next entry, behind the term.
    Next,
    /// Porto holds the chain up to the second cut.
    Held,
}

const ITEMS: [Item; 9] = [
    Item::Proposals,
    Item::Before,
    Item::Beyond,
    Item::Done,
    Item::CutCoordinator,
    Item::CutOwner,
    Item::Term,
    Item::Next,
    Item::Held,
];

#[derive(Debug, Clone)]
enum Told {
    Governance(Fact),
    Authority(Fact),
    Term(Box<EntryBody>),
}

/// A node, as far as it matters here.
#[derive(Debug, Clone)]
struct Node {
    here: BTreeSet<Item>,
    authority: Authority,
    ledger: Ledger,
    /// All that the node made of it.
    made: u64,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        (&self.here, self.made) == (&other.here, other.made)
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.here.iter().for_each(|item| (*item as usize).hash(state));
        self.made.hash(state);
    }
}

struct Mesh {
    world: World,
    told: BTreeMap<Item, Vec<Told>>,
    proposals: [FactId; 2],
    /// Decision and permit, before and beyond the coordinator's end.
    before: [Fact; 2],
    beyond: [Fact; 2],
    /// What nodes with one set of facts say.
    said: Mutex<BTreeMap<BTreeSet<Item>, String>>,
}

impl Mesh {
    fn new() -> Self {
        let mut world = World::with_coordinators(2);
        world.activate(&World::bundle(ALLOW));
        let base = world.authority.clone();
        let mut told = BTreeMap::new();
        let one = world.propose(proposal("198.51.100.7"));
        let two = world.propose(proposal("198.51.100.8"));
        let governance = |facts: &[Fact]| facts.iter().cloned().map(Told::Governance).collect::<Vec<_>>();
        told.insert(Item::Proposals, governance(&world.facts));
        let mut pair = |p: FactId| {
            let from = world.facts.len();
            let acts = world.step();
            let decides = acts
                .into_iter()
                .find(|act| matches!(act, crate::coordinate::Act::Decide { body, .. } if body.proposal == p));
            world.write_as(CUT, &[decides.expect("undecided")]);
            let decision = world.ledger.decisions_on(&p).next().expect("decided").clone();
            let recorded = world.ledger.proposal(&p).expect("here").body.clone();
            let owner = world.ledger.owner_of(&recorded.resource, &world.authority).expect("an owner");
            let permit = Permit {
                issued_ms: NOW,
                execute_by_ms: NOW + 60_000,
                ..permit_for(
                    (p, &recorded),
                    (decision.id, &decision.body),
                    (owner.author, owner.incarnation),
                    world.engine.catalogue(),
                )
            };
            world.put(CUT, "site/lyon", KIND_PERMIT, &permit);
            let pair: [Fact; 2] = world.facts[from..].to_vec().try_into().expect("a decision and a permit");
            pair
        };
        let (before, beyond) = (pair(one), pair(two));
        told.insert(Item::Before, governance(&before));
        told.insert(Item::Beyond, governance(&beyond));
        let from = world.facts.len();
        let started = world.start(&beyond[1].id());
        world.done(&started);
        told.insert(Item::Done, governance(&world.facts[from..]));
        let end =
            |seq: u64, fact: FactId| ChainEnd { scope: "site/lyon".parse().expect("a scope"), seq, id: Some(fact) };
        let cut = |n: u8, end: ChainEnd| {
            Entry::Cut(Cut { author: key(n).author_id(), incarnation: 0, ends: vec![end], fork: vec![] })
        };
        let chain = Chain::behind(&world, &base);
        let first = chain.entry(&world, 0, chain.head, chain.index + 1, &cut(CUT, end(2, before[1].id())));
        let second = chain.entry(&world, 0, Some(first.id()), chain.index + 2, &cut(3, end(2, two)));
        // Hq's chain of entries ends where the term goes back to, and so does all else of that life.
        let ends = vec![ChainEnd { scope: Scope::authority(), seq: chain.index, id: chain.head }];
        let sequencer = base.sequencer().clone();
        let mut term = EntryBody::new(
            chain.head,
            chain.index + 1,
            &Entry::Term(Term { n: 1, sequencer, ends, root_keys: vec![] }),
        );
        term.sign(&base.mesh(), &world.council);
        let next = chain.entry(
            &world,
            1,
            Some(Term::id(&base.mesh(), &term)),
            chain.index + 2,
            &Entry::RevokePerson("bo".into()),
        );
        let held = Held { head: second.id(), index: chain.index + 2, suspensions: vec![], trust: None };
        let held = chain.fact(&world, &key(PORTO), 0, 100, Scope::mesh(), KIND_HELD, to_cbor(&held));
        for (item, fact) in
            [(Item::CutCoordinator, first), (Item::CutOwner, second), (Item::Next, next), (Item::Held, held)]
        {
            told.insert(item, vec![Told::Authority(fact)]);
        }
        told.insert(Item::Term, vec![Told::Term(Box::new(term))]);
        world.authority = base;
        Self { world, told, proposals: [one, two], before, beyond, said: Mutex::default() }
    }

    fn judge(&self, node: &Node, permit: &Fact) -> Verdict {
        let me = self.world.me();
        judge(&permit.id(), &Bench { ledger: &node.ledger, authority: &node.authority, ..self.world.bench(&me) })
    }

    /// Everything that a node with this says of anything.
    fn says(&self, node: &Node) -> String {
        let standing = |fact: &Fact| format!("{:?}", node.authority.standing(fact.header(), fact.id()));
        let all = self.told.values().flatten().filter_map(|told| match told {
            Told::Governance(fact) => Some(standing(fact)),
            _ => None,
        });
        let people: Vec<&str> = node.authority.people().iter().map(|p| p.id.as_str()).collect();
        let statuses = node.ledger.statuses(&node.authority, NOW);
        let verdicts = [&self.before[1], &self.beyond[1]].map(|permit| format!("{:?}", self.judge(node, permit)));
        format!(
            "{:?} {people:?} {statuses:?} {verdicts:?} {:?} {}",
            all.collect::<Vec<_>>(),
            node.authority.head(),
            node.authority.index()
        )
    }

    fn node(&self, here: BTreeSet<Item>, authority: Authority, ledger: Ledger) -> Arc<Node> {
        // How often the node looked anew is nobody's business.
        let text = format!("{authority:?}");
        let revision = format!("revision: {}", authority.revision());
        let made = digest(&text.replace(&revision, ""));
        Arc::new(Node { here, authority, ledger, made })
    }
}

/// Where hq's chain of entries is continued.
struct Chain {
    head: Option<FactId>,
    index: u64,
}

impl Chain {
    fn behind(world: &World, authority: &Authority) -> Self {
        assert_eq!(world.authority.head(), authority.head());
        Self { head: authority.head(), index: authority.index() }
    }

    /// An entry by this life of hq's that the council signed.
    fn entry(&self, world: &World, life: u32, prev: Option<FactId>, index: u64, entry: &Entry) -> Fact {
        let mut body = EntryBody::new(prev, index, entry);
        body.sign(&world.authority.mesh(), &world.council);
        let seq = if life == 0 { index } else { 1 };
        self.fact(world, &key(2), life, seq, Scope::authority(), KIND_ENTRY, to_cbor(&body))
    }

    #[allow(clippy::too_many_arguments)]
    fn fact(
        &self,
        world: &World,
        author: &cauldron_identity::AuthorKey,
        incarnation: u32,
        seq: u64,
        scope: Scope,
        kind: &str,
        body: Vec<u8>,
    ) -> Fact {
        let draft = HeaderDraft {
            mesh: world.authority.mesh(),
            scope,
            incarnation,
            seq,
            prev: (seq > 1).then(|| FactId::from_bytes([0xcc; 32])),
            hlc: NOW << 16,
            kind: kind.into(),
            deps: vec![],
            traceparent: None,
        };
        Fact::seal(author, draft, body)
    }
}

/// Shared by the threads of the checker.
struct Shared(Arc<Mesh>);

impl Model for Shared {
    type State = Arc<Node>;
    type Action = Item;

    fn init_states(&self) -> Vec<Arc<Node>> {
        vec![self.0.node(BTreeSet::new(), self.0.world.authority.clone(), Ledger::new())]
    }

    fn actions(&self, node: &Arc<Node>, actions: &mut Vec<Item>) {
        actions.extend(ITEMS.into_iter().filter(|item| !node.here.contains(item)));
    }

    fn next_state(&self, last: &Arc<Node>, item: Item) -> Option<Arc<Node>> {
        let Node { mut here, mut authority, mut ledger, .. } = (**last).clone();
        here.insert(item);
        for told in &self.0.told[&item] {
            match told {
                Told::Governance(fact) => drop(ledger.insert(fact)),
                Told::Authority(fact) => {
                    authority.apply(fact);
                    assert!(
                        !authority.apply(fact) || fact.header().kind == KIND_HELD,
                        "told again, it changes nothing"
                    );
                }
                Told::Term(term) => {
                    let outcome = authority.apply_term(term);
                    assert!(!matches!(outcome, TermOutcome::Refused(_)), "{outcome:?}");
                }
            }
        }
        Some(self.0.node(here, authority, ledger))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn has(node: &Node, items: &[Item]) -> bool {
            items.iter().all(|item| node.here.contains(item))
        }
        fn counts(node: &Node, fact: &Fact) -> bool {
            node.authority.standing(fact.header(), fact.id()) == Standing::Counts
        }
        vec![
            Property::always("CUT: nothing beyond it grants", |mesh: &Self, node: &Arc<Node>| {
                !has(node, &[Item::CutCoordinator])
                    || (mesh.0.beyond.iter().all(|fact| !counts(node, fact))
                        && !matches!(mesh.0.judge(node, &mesh.0.beyond[1]), Verdict::Execute(_)))
            }),
            Property::always("CUT: what lies before it counts", |mesh: &Self, node: &Arc<Node>| {
                mesh.0.before.iter().all(|fact| counts(node, fact))
            }),
            Property::always("CUT: nothing that happened is forgotten", |mesh: &Self, node: &Arc<Node>| {
                let status = node.ledger.status(&mesh.0.proposals[1], &node.authority, NOW);
                !has(node, &[Item::Proposals, Item::Done]) || status.is_some_and(|s| s.state == Stands::Done)
            }),
            Property::always("ONCE: what happened is not done again", |mesh: &Self, node: &Arc<Node>| {
                !has(node, &[Item::Done]) || !matches!(mesh.0.judge(node, &mesh.0.beyond[1]), Verdict::Execute(_))
            }),
            Property::always("one set of facts, one judgement", |mesh: &Self, node: &Arc<Node>| {
                let says = mesh.0.says(node);
                let mut said = mesh.0.said.lock().expect("nobody panics with it");
                *said.entry(node.here.clone()).or_insert_with(|| says.clone()) == says
            }),
            Property::sometimes(
                "what lies beyond executes while nobody has heard of the cut",
                |mesh: &Self, node: &Arc<Node>| matches!(mesh.0.judge(node, &mesh.0.beyond[1]), Verdict::Execute(_)),
            ),
            Property::sometimes("what lies before the cut executes behind it", |mesh: &Self, node: &Arc<Node>| {
                has(node, &[Item::CutCoordinator])
                    && matches!(mesh.0.judge(node, &mesh.0.before[1]), Verdict::Execute(_))
            }),
            Property::sometimes("a cut that the term took out of the chain", |_, node: &Arc<Node>| {
                node.authority.cuts_beside().count() == 2 && node.authority.term() == 1
            }),
            Property::sometimes("the chain goes on behind the term", |_, node: &Arc<Node>| {
                let next = node.authority.entries().last().filter(|_| node.authority.term() == 1);
                next.is_some_and(|entry| matches!(entry.entry, Some(Entry::RevokePerson(_))) && entry.refused.is_none())
                    && has(node, &[Item::CutOwner])
            }),
        ]
    }
}

#[test]
fn a_cut_holds_and_forgets_nothing_whatever_arrives_in_whatever_order() {
    let started = std::time::Instant::now();
    let mesh = Arc::new(Mesh::new());
    let checker = Shared(mesh.clone()).checker().threads(1).spawn_bfs().join();
    let sets = mesh.said.lock().expect("nobody panics with it").len();
    println!("{} unique states of {sets} sets of facts, {:?}", checker.unique_state_count(), started.elapsed());
    checker.assert_properties();
    assert!(checker.is_done());
    assert_eq!(sets, SETS, "every set of facts was reached");
}
