//! Two worlds step by step side by side, one of which closes epochs: everything that anybody signs and sees is the same in both.

use proptest::prelude::*;

use super::closed::told;
use super::*;

/// Nodes, what each wrote in each of its lives, what each knows of it, and who is cut where.
struct World {
    nodes: Vec<Node>,
    sent: BTreeMap<(usize, u32), Vec<Arc<Fact>>>,
    known: Vec<BTreeMap<(usize, u32), usize>>,
    cuts: Vec<BTreeMap<AuthorId, u64>>,
    key: DocKey,
}

const EPOCH: u64 = 4;

impl World {
    fn new(key: DocKey, keeps_all: bool) -> Self {
        crate::testing::wake();
        let node = |seed| {
            let mut node = Node::with_epoch(seed, EPOCH);
            node.shelf.keeps_all = keeps_all;
            node
        };
        Self {
            nodes: (1..=4).map(node).collect(),
            sent: BTreeMap::new(),
            known: vec![BTreeMap::new(); 4],
            cuts: vec![BTreeMap::new(); 4],
            key,
        }
    }

    fn send(&mut self, who: usize, facts: Vec<Arc<Fact>>) {
        let life = self.nodes[who].life;
        self.sent.entry((who, life)).or_default().extend(facts);
    }

    fn hear(&mut self, who: usize, mask: usize, upto: usize) {
        let own = (who, self.nodes[who].life);
        let cuts = self.cuts[who].clone();
        let counts = |fact: &Fact| cuts.get(&fact.header().author).is_none_or(|seq| fact.header().seq <= *seq);
        for (chain, facts) in self.sent.clone() {
            if chain == own || mask & (1 << chain.0) == 0 {
                continue;
            }
            let known = self.known[who].entry(chain).or_default();
            let end = facts.len().min(known.saturating_add(upto));
            let news = facts[*known..end].to_vec();
            *known = end;
            self.nodes[who].take_counting(&news, &counts);
        }
    }

    fn recount(&mut self, who: usize) {
        let cuts = self.cuts[who].clone();
        self.nodes[who].recounted(&|fact| cuts.get(&fact.header().author).is_none_or(|seq| fact.header().seq <= *seq));
    }

    fn step(&mut self, (who, row, value, what): (usize, u8, u8, u8)) {
        match what {
            0..=5 => self.hear(who, usize::from(row) | usize::from(value), 1 + usize::from(value % 16)),
            6..=8 => {
                let facts = self.nodes[who].heal();
                self.send(who, facts);
            }
            9..=11 => {
                let facts = self.nodes[who].seal();
                self.send(who, facts);
            }
            12 => {
                let node = self.nodes.remove(who);
                self.nodes.insert(who, node.restarted(value % 2 == 0));
            }
            13 if who < 2 => {
                let author = self.nodes[2 + usize::from(row % 2)].key.author_id();
                if value % 3 == 0 {
                    self.cuts[who].remove(&author);
                } else {
                    self.cuts[who].insert(author, u64::from(value % 24));
                }
                self.recount(who);
            }
            14 if who == 2 && self.nodes[2].life == 0 && value % 4 == 0 => {
                let mut node = Node::reborn(3, EPOCH);
                node.shelf.keeps_all = self.nodes[2].shelf.keeps_all;
                node.hlc = self.nodes[2].hlc;
                self.nodes[2] = node;
                self.known[2].clear();
            }
            _ => {
                let facts = self.nodes[who].scribble(&self.key, row, value);
                self.send(who, facts);
            }
        }
    }

    /// What an insider may say of the end of an epoch: truly folded, at heads of its choice; and a change on top of it.
    fn attack(&mut self, who: usize, row: u8, value: u8) -> Option<(Vec<u8>, Vec<u8>)> {
        let me = (self.nodes[who].key.author_id(), self.nodes[who].life);
        let epochs = self.nodes[who].docs.docs.get(&self.key)?;
        let held: Vec<&Document> = epochs.held.values().filter_map(Slot::here).collect();
        let document = held.get(usize::from(row) % held.len().max(1))?;
        let all: Vec<_> = document.fence.accepted().iter().filter_map(|held| held.change()).collect();
        let upto = all.len().checked_sub(usize::from(value) % 6)?;
        let deps: BTreeSet<_> = all.iter().take(upto).flat_map(|change| change.deps().to_vec()).collect();
        let mut heads: Vec<_> = all.iter().take(upto).map(Change::hash).filter(|hash| !deps.contains(hash)).collect();
        heads.sort();
        if heads.is_empty() || heads.len() > limits::CHANGE_DEPS_MAX {
            return None;
        }
        let (genesis, _) = super::super::genesis::Genesis::fold(document, &heads)?;
        let seal = Seal {
            doc: self.key.doc.to_string(),
            epoch: document.id.number,
            genesis: document.id.genesis,
            heads: heads.iter().map(|head| Digest::from_bytes(head.0)).collect(),
            next: genesis.id.genesis?,
        };
        let mut begun = Document::begin(self.key.clone(), genesis)?;
        let edit = if self.key.doc.kind().is_table() {
            put("porto", "z.z", &value.to_string())
        } else {
            Edit::Text { at: 0, remove: 0, insert: "Z".into() }
        };
        let change = begun.draft(&me, &edit).ok()?.pop()?;
        Some((cauldron_identity::codec::to_cbor(&seal), change))
    }

    fn say(&mut self, who: usize, kind: &str, body: Vec<u8>) {
        let node = &mut self.nodes[who];
        let fact = node.sign_as(kind, Scope::mesh(), body);
        if kind == KIND_SEAL {
            let _ = node.docs.apply_seal(&fact, true);
        } else {
            let _ = node.docs.apply(&fact, true);
        }
        work(&mut node.docs);
        node.tend();
        self.send(who, vec![fact]);
    }

    fn ids(&self) -> Vec<Vec<String>> {
        let view = |fact: &Arc<Fact>| format!("{} {} {:?}", fact.header().kind, fact.header().seq, fact.id());
        self.sent.values().map(|facts| facts.iter().map(view).collect()).collect()
    }

    fn state(&mut self, who: usize) -> BTreeSet<String> {
        let key = self.key.clone();
        let node = &mut self.nodes[who];
        if node.docs.status(&key).is_none() {
            return BTreeSet::new();
        }
        let mut all = told(node, &key);
        all.insert(format!("owed {:?} refused {:?}", node.docs.owed(), node.docs.left_out(&key)));
        all
    }
}

fn compare(open: &mut World, closing: &mut World, deep: bool) -> Result<(), String> {
    let (one, other) = (open.ids(), closing.ids());
    if one != other {
        return Err(format!(
            "said {:?}\nand   {:?}",
            one.iter().map(Vec::len).collect::<Vec<_>>(),
            other.iter().map(Vec::len).collect::<Vec<_>>()
        ));
    }
    for who in 0..4 {
        let key = open.key.clone();
        let (a, b) = (open.nodes[who].docs.view(&key), closing.nodes[who].docs.view(&key));
        let status =
            |node: &Node| node.docs.status(&key).map(|s| (s.building, s.epoch, s.changes, s.refused, s.digest));
        let (c, d) = (status(&open.nodes[who]), status(&closing.nodes[who]));
        if a != b || c != d {
            return Err(format!("node {who} {c:?} {d:?}"));
        }
        if deep {
            let (one, other) = (open.state(who), closing.state(who));
            let only: Vec<_> = one.difference(&other).collect();
            let more: Vec<_> = other.difference(&one).collect();
            if !only.is_empty() || !more.is_empty() {
                return Err(format!("node {who}\nopen    {only:#?}\nclosing {more:#?}"));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, max_shrink_iters: 1500, ..ProptestConfig::default() })]

    #[test]
    fn lockstep(
        table in any::<bool>(),
        script in proptest::collection::vec((0usize..4, any::<u8>(), any::<u8>(), 0u8..28), 40..260),
    ) {
        let key = if table { sites() } else { doc("notes/a") };
        let (mut open, mut closing) = (World::new(key.clone(), true), World::new(key, false));
        for (n, step) in script.into_iter().enumerate() {
            let (who, row, value, what) = step;
            if what >= 24 {
                let who = 2 + who % 2;
                if let Some((seal, change)) = open.attack(who, row, value) {
                    if what == 26 {
                        open.say(who, KIND, change.clone());
                        closing.say(who, KIND, change.clone());
                    }
                    // Two insiders may say the same.
                    for who in if row % 2 == 0 { vec![2, 3] } else { vec![who] } {
                        open.say(who, KIND_SEAL, seal.clone());
                        closing.say(who, KIND_SEAL, seal.clone());
                    }
                    if what == 27 {
                        open.say(who, KIND, change.clone());
                        closing.say(who, KIND, change.clone());
                    }
                }
            } else {
                open.step(step);
                closing.step(step);
            }
            if let Err(why) = compare(&mut open, &mut closing, n % 16 == 0) {
                let closed: Vec<Vec<u32>> = closing.nodes.iter().map(|n| n.docs.closed_epochs(&closing.key).map(|(n, _)| n).collect()).collect();
                prop_assert!(false, "after step {n} {step:?}: {why}\n{closed:?}");
            }
        }
        for round in 0..3 {
            for who in 0..4 {
                for step in [(who, 255, 255, 0), (who, 0, 0, 6), (who, 0, 0, 9)] {
                    open.step(step);
                    closing.step(step);
                    if let Err(why) = compare(&mut open, &mut closing, true) {
                        prop_assert!(false, "at the end {round} {step:?}: {why}");
                    }
                }
            }
        }
    }
}
