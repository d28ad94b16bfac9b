//! Random scripts of honest and dishonest authors against the reference, in any order of delivery.

use proptest::prelude::*;

use super::reference::{Reference, Said};
use super::*;

/// Authors 0 to 2 are honest and know only what reached them; author 3 writes what it likes.
const AUTHORS: usize = 4;
const LIAR: usize = 3;

/// One step of a script; what the numbers mean depends on what is possible then.
type Step = (u8, u8, u8, u8);

/// A chain, whole.
type Facts = [(Place, Option<Body>)];

fn author(n: usize) -> AuthorId {
    AuthorId::from_bytes([n as u8 + 1; 32])
}

fn kinds() -> [(Budget, Window); 2] {
    [(demo(), NOW), (Budget::new("other").expect("a name"), NOW + 1)]
}

struct World {
    reference: Reference,
    /// What each author holds.
    books: Vec<Escrow>,
    lives: [Life; AUTHORS],
    ends: Vec<(Life, u64)>,
    next: u32,
    /// By budget: what honest authors carried out, or may have.
    executed: [u64; 2],
    reached: Reached,
}

#[derive(Debug, Default, Clone, Copy)]
struct Reached {
    granted: bool,
    refused: bool,
    cut: bool,
    incarnated: bool,
    void: bool,
    waits: bool,
}

impl World {
    fn new() -> Self {
        let lives = std::array::from_fn(|n| Life { author: author(n), incarnation: 0 });
        let [(demo, now), (other, later)] = kinds();
        let mint = |budget, window, amount, holder| Mint { budget, window, amount, holder, window_ms: 0 };
        let mints = vec![
            (FactId::from_bytes([0xa1; 32]), mint(demo.clone(), now, 10, lives[0])),
            (FactId::from_bytes([0xa2; 32]), mint(demo, now, 50, lives[LIAR])),
            (FactId::from_bytes([0xa3; 32]), mint(other, later, 9, lives[1])),
        ];
        let mut empty = Escrow::new();
        for (index, (entry, mint)) in mints.iter().enumerate() {
            empty.mint(*entry, index as u64, mint);
        }
        let mut reference = Reference::default();
        reference.mints = mints;
        let books = vec![empty; AUTHORS];
        Self { reference, books, lives, ends: vec![], next: 0, executed: [0; 2], reached: Reached::default() }
    }

    fn write(&mut self, n: usize, body: Option<Body>) {
        self.next += 1;
        let chain = self.reference.chains.entry(self.lives[n]).or_default();
        let mut id = [0xff; 32];
        id[..4].copy_from_slice(&self.next.to_le_bytes());
        let place = Place { life: self.lives[n], seq: chain.len() as u64 + 1, id: FactId::from_bytes(id) };
        chain.push((place, body.clone()));
        assert_eq!(self.books[n].fold_body(place, Some(body)), Folded::New);
    }

    /// The next facts of a chain reach an author, some of them again.
    fn deliver(&mut self, n: usize, from: usize, count: usize) {
        for (life, chain) in &self.reference.chains {
            if life.author != author(from) {
                continue;
            }
            let held = self.books[n].chains.get(life).map_or(0, |chain| chain.held as usize);
            for (place, body) in chain.iter().skip(held.saturating_sub(1)).take(count) {
                self.books[n].fold_body(*place, Some(body.clone()));
            }
        }
    }

    fn step(&mut self, (who, what, a, b): Step) {
        let n = usize::from(who) % AUTHORS;
        match what % 12 {
            0..=2 => self.deliver(n, usize::from(a) % AUTHORS, usize::from(b) % 6 + 1),
            3 => self.learn_end(n, a),
            4 if a % 8 == 0 => self.end(n, b),
            5 if a % 8 == 0 && b % 2 == 0 => self.incarnate(n),
            _ if n == LIAR => self.lie(what, a, b),
            _ => self.decide(n, what, a, b),
        }
    }

    fn decide(&mut self, n: usize, what: u8, a: u8, b: u8) {
        let (life, which) = (self.lives[n], usize::from(b) % 2);
        let (budget, window) = kinds()[which].clone();
        let decider = self.books[n].decider(life, window);
        let body = match what % 12 {
            6 => {
                let dues = decider.dues();
                dues.get(usize::from(a) % dues.len().max(1)).cloned()
            }
            7 => {
                let to = self.lives[usize::from(a) % AUTHORS];
                decider.debit(&budget, window, u64::from(b) % 5 + 1, to).ok().map(Body::Debit)
            }
            8 | 9 => decider.reserve(&budget, u64::from(a) % 5 + 1, purpose(b / 2)).ok().map(Body::Reserve),
            10 => {
                let open: Vec<FactId> = decider_open(&self.books[n], life);
                open.first().and_then(|id| decider.settle(*id, u64::from(a) % 5).ok()).map(Body::Settle)
            }
            4 | 11 => decider.dues().iter().find_map(|due| match due {
                Body::Credit(credit) => decider.refuse(credit.source.id()).ok().map(Body::Refuse),
                _ => None,
            }),
            _ => None,
        };
        self.account(n, body.as_ref());
        if let Some(body) = body {
            self.write(n, Some(body));
        }
    }

    /// Counts what an honest author may carry out: all that it reserves, less what it settles as not spent.
    fn account(&mut self, n: usize, body: Option<&Body>) {
        let which = |budget: &Budget| kinds().iter().position(|(known, _)| known == budget).expect("known");
        match body {
            Some(Body::Reserve(body)) => self.executed[which(&body.budget)] += body.amount,
            Some(Body::Settle(body)) => {
                let mut own = self.books[n].reservations(self.lives[n]);
                let (_, found) = own.find(|(id, _)| *id == body.reserve).expect("was decided");
                self.executed[which(&found.budget)] -= found.amount - body.spent;
            }
            Some(Body::Debit(_)) => self.reached.granted = true,
            Some(Body::Refuse(_)) => self.reached.refused = true,
            _ => {}
        }
    }

    fn lie(&mut self, what: u8, a: u8, b: u8) {
        let (budget, window) = kinds()[usize::from(b) % 2].clone();
        let places: Vec<Place> = self.reference.chains.values().flatten().map(|(place, _)| *place).collect();
        let any = places.get(usize::from(a) % places.len().max(1)).copied();
        let ahead = Place { life: self.lives[usize::from(a) % AUTHORS], seq: u64::from(b), id: purpose_id(a) };
        let place = any.filter(|_| !b.is_multiple_of(7)).unwrap_or(ahead);
        let amount = [u64::from(a), u64::MAX, 1, u64::from(a) % 4][usize::from(b) % 4];
        let body = match what % 12 {
            6 => Body::Credit(Credit { budget, window, source: Source::Debit(place) }),
            7 => Body::Debit(Debit { budget, window, amount, to: self.lives[usize::from(a) % AUTHORS], purpose: None }),
            8 => Body::Reserve(Reserve { budget, window, amount, purpose: purpose(b) }),
            9 => Body::Credit(Credit { budget, window, source: Source::Refuse(place) }),
            10 => Body::Settle(Settle { reserve: place.id, spent: amount }),
            11 => Body::Refuse(Refuse { budget, window, debit: place }),
            _ => {
                let mints: Vec<FactId> = self.reference.mints.iter().map(|(id, _)| *id).collect();
                Body::Credit(Credit { budget, window, source: Source::Mint(mints[usize::from(a) % mints.len()]) })
            }
        };
        self.write(LIAR, if a == b { None } else { Some(body) });
    }

    fn end(&mut self, n: usize, b: u8) {
        let len = self.reference.chains.get(&self.lives[n]).map_or(0, Vec::len) as u64;
        self.ends.push((self.lives[n], len.saturating_sub(u64::from(b) % 4)));
        self.reached.cut = true;
    }

    /// A node is restored from a backup: it begins again, with nothing, and knows what ended.
    fn incarnate(&mut self, n: usize) {
        let len = self.reference.chains.get(&self.lives[n]).map_or(0, Vec::len) as u64;
        self.ends.push((self.lives[n], len));
        self.books[n].end(self.lives[n], len);
        self.lives[n].incarnation += 1;
        self.reached.incarnated = true;
    }

    fn learn_end(&mut self, n: usize, a: u8) {
        if let Some((life, seq)) = self.ends.get(usize::from(a) % self.ends.len().max(1)) {
            self.books[n].end(*life, *seq);
        }
    }

    fn honest(life: &Life) -> bool {
        life.author != author(LIAR)
    }

    fn check(&mut self, n: usize) {
        let books = &self.books[n];
        let results =
            [invariants::conserve(books), invariants::credit_once(books), invariants::nonneg(books, Self::honest)];
        results.into_iter().for_each(|result| assert_eq!(result, Ok(())));
        for ((budget, window), executed) in kinds().iter().zip(self.executed) {
            assert_eq!(invariants::budget(books, budget, *window, executed), Ok(()));
        }
        self.reached.waits |= books.facts().any(|(_, _, verdict)| verdict == Verdict::Waits);
        self.reached.void |= books.facts().any(|(_, _, verdict)| matches!(verdict, Verdict::Void(_)));
    }

    /// The whole set in an order that `seed` draws: facts in the order of their chains, mints, ends and forks anywhere.
    fn in_order(&self, seed: u64, forks: &[(Life, u64)]) -> Escrow {
        let (mut books, mut dice) = (Escrow::new(), Dice(seed | 1));
        let mut queues: Vec<(usize, &Facts)> =
            self.reference.chains.values().map(|chain| (0, chain.as_slice())).collect();
        let mints = self.reference.mints.iter().enumerate();
        let mut mints: Vec<(u64, &FactId, &Mint)> = mints.map(|(index, (id, mint))| (index as u64, id, mint)).collect();
        let (mut ends, mut forks) = (self.ends.clone(), forks.to_vec());
        while queues.iter().any(|(next, chain)| *next < chain.len()) || mints.len() + ends.len() + forks.len() > 0 {
            let pick = dice.roll();
            match pick % 8 {
                5 if !mints.is_empty() => {
                    let (index, id, mint) = mints.remove(pick % mints.len());
                    books.mint(*id, index, mint);
                }
                6 if !ends.is_empty() => {
                    let (life, seq) = ends.remove(pick % ends.len());
                    books.end(life, seq);
                }
                7 if !forks.is_empty() => {
                    let (life, seq) = forks.remove(pick % forks.len());
                    books.fork(life, seq);
                }
                _ => {
                    let count = queues.len().max(1);
                    let Some((next, chain)) = queues.get_mut(pick % count) else { continue };
                    for (place, body) in chain.iter().skip(next.saturating_sub(pick % 2)).take(2) {
                        books.fold_body(*place, Some(body.clone()));
                    }
                    *next = books
                        .chains
                        .get(&chain[0].0.life)
                        .map_or(0, |known| known.held as usize)
                        .max(*next + 1)
                        .min(chain.len());
                }
            }
        }
        books
    }
}

/// Draws of one seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }
}

fn purpose_id(n: u8) -> FactId {
    FactId::from_bytes([n; 32])
}

fn decider_open(books: &Escrow, life: Life) -> Vec<FactId> {
    books.reservations(life).filter(|(_, reservation)| reservation.spent.is_none()).map(|(id, _)| id).collect()
}

fn script() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<Step>(), 20..160)
}

fn play(script: Vec<Step>) -> World {
    let mut world = World::new();
    for step in script {
        world.step(step);
        world.check(usize::from(step.0) % AUTHORS);
    }
    world
}

proptest! {
    /// CONSERVE, NONNEG, CREDIT-ONCE and BUDGET at every step of every view; and the fold agrees with the reference.
    #[test]
    fn the_fold_keeps_its_invariants_and_agrees_with_the_reference(script in script(), seed in any::<u64>()) {
        let mut world = play(script);
        let books = world.in_order(seed, &[]);
        for (place, _, verdict) in books.facts() {
            let said = match verdict {
                Verdict::Counts => Said::Counts,
                Verdict::Void(_) => Said::Void,
                Verdict::Waits => Said::Waits,
            };
            prop_assert_eq!(world.reference.verdict(place.life, place.seq), said, "{:?}", place);
        }
        for (budget, window) in kinds() {
            for (life, mut share) in books.balance(&budget, window).by {
                if books.is_ended(&life) {
                    share.held = books.books.purses[&books::Account { budget: budget.clone(), window, life }].held;
                    share.in_flight = share.lost - share.held;
                    share.lost = 0;
                }
                prop_assert_eq!(world.reference.share(life, &budget, window), share, "{}", life);
            }
        }
    }

    /// MERGE-LAWS: the set decides, not the order in which authors, mints, ends and forks arrive, nor repetition.
    #[test]
    fn any_order_with_repetition_gives_the_same_books(
        script in script(), one in any::<u64>(), other in any::<u64>(), fork in proptest::option::of((0usize..AUTHORS, 1u64..12))
    ) {
        let world = play(script);
        let forks: Vec<(Life, u64)> = fork.map(|(n, seq)| (world.lives[n], seq)).into_iter().collect();
        let (one, other) = (world.in_order(one, &forks), world.in_order(other, &forks));
        prop_assert_eq!(&one, &other);
        let mut again = one.clone();
        again.refold();
        prop_assert_eq!(&again, &one, "made anew");
        prop_assert_eq!(invariants::conserve(&one), Ok(()));
        prop_assert_eq!(invariants::credit_once(&one), Ok(()));
    }
}

/// NOT-VACUOUS: scripts as above reach grants, refusals, cuts, new lives, void facts and facts that wait.
#[test]
fn random_scripts_reach_the_hard_places() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts = [0; 6];
    for _ in 0..200 {
        let r = play(script().new_tree(&mut runner).expect("a script").current()).reached;
        for (count, reached) in counts.iter_mut().zip([r.granted, r.refused, r.cut, r.incarnated, r.void, r.waits]) {
            *count += usize::from(reached);
        }
    }
    assert!(counts.iter().all(|count| *count >= 10), "of 200 scripts: {counts:?}");
}
