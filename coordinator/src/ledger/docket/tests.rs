//! The docket says what is computed anew says, whatever happens in whatever order.

use cauldron_identity::{Digest, Fact};
use proptest::prelude::*;
use proptest::sample::Index;

use super::queue::{Held, Queue};
use super::*;
use crate::bodies::*;
use crate::coordinate::{Act, step, step_on};
use crate::ledger::people_tests::{deputy, edit, shorter};
use crate::ledger::tests::{Op, PEOPLE, apply, op};
use crate::testkit::{World, proposal, sitting};

/// Asks people, lets silence speak, and defers, each for some addresses.
const REGO: &str = r#"package cauldron.guardrail
last := substring(input.proposal.intent_key, 0, -1)
step_up contains {"rule": "people", "why": "w", "approvals": [{"group": "security-duty", "n": 1}], "escalate": [{"after_ms": 60000, "add": "hr"}]} if contains(last, "198.51.100.0")
allow contains {"rule": "silence", "why": "w", "veto": {"within_ms": 600000, "groups": ["security-duty"]}} if contains(last, "198.51.100.1")
defer contains {"rule": "later", "why": "w"} if { contains(last, "198.51.100.2"); input.now_ms < 1795341900000 }
step_up contains {"rule": "two", "why": "w", "approvals": [{"group": "security-duty", "n": 2}]} if contains(last, "198.51.100.2")
"#;
/// Fewer than are proposed.
const LIMITS: Limits = Limits { open_per_agent: 3, open_per_site: 5, open_total: 4, permit_ms: 600_000 };

#[derive(Debug, Clone)]
enum Happens {
    As(Op),
    /// Another agent proposes.
    Agent(u8),
    /// A step of one of two sessions; its index, and whether it names the step before it.
    Step(bool, u8, bool),
    Edit(u8, Index),
    Object(u8, Index),
    Deputy(u8, u8),
    TakeBack(u8, u8),
    Suspend(u8),
    Back(u64),
    /// A saga of so many steps, of which the last ones may be missing.
    Saga(u8, u8),
    /// Another proposal that says to follow one.
    Twin(Index),
    /// An owner says that it will not do one; or somebody else does.
    Abort(Index, bool),
    /// An owner says that it took one back, or that it could not.
    Undone(Index, bool),
    /// The owner of a start says that it does not know what came of it; and a person says whether it happened.
    Word(Index, u8, bool),
    Lost(Index),
    /// Something is proposed, approved, permitted and begun.
    Begun,
}

fn happens() -> impl Strategy<Value = Happens> {
    let person = 0u8..3;
    prop_oneof![
        20 => op().prop_map(Happens::As),
        2 => (0u8..4).prop_map(Happens::Agent),
        2 => (any::<bool>(), 1u8..4, any::<bool>()).prop_map(|(s, n, p)| Happens::Step(s, n, p)),
        2 => (person.clone(), any::<Index>()).prop_map(|(w, p)| Happens::Edit(w, p)),
        1 => (person.clone(), any::<Index>()).prop_map(|(w, p)| Happens::Object(w, p)),
        1 => (person.clone(), person.clone()).prop_map(|(w, t)| Happens::Deputy(w, t)),
        1 => (person.clone(), person).prop_map(|(w, t)| Happens::TakeBack(w, t)),
        1 => (0u8..12).prop_map(Happens::Suspend),
        1 => (1u64..900_000).prop_map(Happens::Back),
        2 => (2u8..4, 0u8..2).prop_map(|(n, missing)| Happens::Saga(n, missing)),
        1 => any::<Index>().prop_map(Happens::Twin),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(p, own)| Happens::Abort(p, own)),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(s, well)| Happens::Undone(s, well)),
        4 => (any::<Index>(), 0u8..3, any::<bool>()).prop_map(|(s, w, well)| Happens::Word(s, w, well)),
        1 => any::<Index>().prop_map(Happens::Lost),
        1 => Just(Happens::Begun),
    ]
}

fn happen(world: &mut World, what: &Happens) {
    let proposals: Vec<FactId> = world.ledger.proposals().map(|p| p.id).collect();
    let enrolled = |world: &World, who: u8| world.authority.person(PEOPLE[who as usize]).is_some();
    match what {
        Happens::As(op) => apply(world, op),
        Happens::Agent(n) => {
            let mut body = proposal(&format!("198.51.100.{}", proposals.len() % 3));
            body.agent = body.agent.replace("sshd-bruteforce", &format!("agent-{n}"));
            (body.created_ms, body.expires_ms) = (world.clock.wall_ms, world.clock.wall_ms + 3_600_000);
            world.propose(body);
        }
        Happens::Step(session, index, follows) => {
            let id = Digest::of("session", &[u8::from(*session)]);
            let prev = world.ledger.session_head(&id).map(|(_, p)| p.id).filter(|_| *follows);
            let (principal, role, delegation) = ("cy".to_owned(), "hr".to_owned(), vec![]);
            let step = SessionStep { id, principal, role, delegation, index: u64::from(*index), prev, purpose: None };
            let created_ms = world.clock.wall_ms;
            world.propose(Proposal { session: Some(Box::new(step)), created_ms, ..proposal("198.51.100.0") });
        }
        Happens::Edit(who, p) if !proposals.is_empty() && enrolled(world, *who) => {
            let p = *p.get(&proposals);
            let child = edit(world, &p, PEOPLE[*who as usize], shorter);
            world.put(3, "site/lyon", KIND_PROPOSAL, &child);
        }
        Happens::Object(who, p) if !proposals.is_empty() => {
            let p = *p.get(&proposals);
            if world.ledger.decisions_on(&p).next().is_some() {
                world.vote(PEOPLE[*who as usize], &p, Choice::Object);
            }
        }
        Happens::Deputy(who, to) if enrolled(world, *who) => {
            let said = deputy(world, PEOPLE[*who as usize], PEOPLE[*to as usize], |_| ());
            let fact = world.sealed(3, "mesh", KIND_DEPUTY, &said);
            world.ledger.insert(&fact);
            world.facts.push(fact);
        }
        Happens::TakeBack(who, to) if enrolled(world, *who) => {
            let (who, to) = (PEOPLE[*who as usize], PEOPLE[*to as usize]);
            let said = deputy(world, who, to, |_| ()).id();
            let back = deputy(world, who, to, |d| d.takes_back = Some(said));
            let fact = world.sealed(3, "mesh", KIND_DEPUTY, &back);
            world.ledger.insert(&fact);
            world.facts.push(fact);
        }
        Happens::Suspend(0) => {
            world.restrict(2, "site/lyon#restrict", Target::Author(world.lyon.author_id(), vec![]));
        }
        Happens::Back(ms) => world.clock.wall_ms -= ms,
        Happens::Saga(of, missing) => {
            let mut after = None;
            for index in 1..=of - missing {
                let saga = Some(SagaStep { index: index.into(), of: (*of).into(), after });
                let body = proposal(&format!("198.51.100.{}", (proposals.len() + usize::from(index)) % 4));
                let (created_ms, expires_ms) = (world.clock.wall_ms, world.clock.wall_ms + 3_600_000);
                after = Some(world.propose(Proposal { saga, created_ms, expires_ms, ..body }));
            }
        }
        Happens::Twin(p) if !proposals.is_empty() => {
            let before = world.ledger.proposal(p.get(&proposals)).expect("here").clone();
            let step = before.body.saga.map_or((1, 2), |s| (s.index, s.of));
            let saga = Some(SagaStep { index: step.0 + 1, of: step.1, after: Some(before.id) });
            let created_ms = world.clock.wall_ms;
            world.propose(Proposal { saga, created_ms, ..proposal("198.51.100.0") });
        }
        Happens::Abort(p, own) if !proposals.is_empty() => {
            let step = *p.get(&proposals);
            world.abort(if *own { 3 } else { 4 }, &step);
        }
        Happens::Undone(s, well) => {
            let starts: Vec<FactId> = world.ledger.starts().map(|s| s.id).collect();
            if starts.is_empty() {
                return;
            }
            let (started, at_ms) = (*s.get(&starts), world.clock.wall_ms);
            if *well {
                world.compensated(&started);
            } else {
                let failed = CompensationFailed { started, reason: "busy".into(), at_ms };
                world.put(3, "site/lyon", KIND_COMPENSATION_FAILED, &failed);
            }
        }
        Happens::Word(s, who, happened) if enrolled(world, *who) => {
            let starts: Vec<FactId> = world.ledger.starts().map(|s| s.id).collect();
            if !starts.is_empty() {
                world.lost(s.get(&starts));
                world.word(PEOPLE[*who as usize], s.get(&starts), *happened);
            }
        }
        Happens::Begun => {
            let (created_ms, expires_ms) = (world.clock.wall_ms, world.clock.wall_ms + 3_600_000);
            let p = world.propose(Proposal { created_ms, expires_ms, ..proposal("198.51.100.0") });
            world.run();
            if enrolled(world, 0) && world.ledger.decisions_on(&p).next().is_some() {
                world.vote("ana", &p, Choice::Approve);
            }
            world.run();
            let permits: Vec<FactId> = world.ledger.permits_on(&p).map(|permit| permit.id).collect();
            for permit in permits {
                if matches!(world.judge(&permit), crate::owner::Verdict::Execute(_)) {
                    world.start(&permit);
                }
            }
        }
        Happens::Lost(s) => {
            let starts: Vec<FactId> = world.ledger.starts().map(|s| s.id).collect();
            if !starts.is_empty() {
                world.lost(s.get(&starts));
            }
        }
        _ => {}
    }
    for (author, ends) in world.ledger.suspensions(&world.authority) {
        world.authority.suspend(author, &ends);
    }
}

fn touch(docket: &mut Docket, ledger: &Ledger, facts: &[Fact]) {
    facts.iter().for_each(|fact| docket.touch(ledger.touched_by(fact)));
}

/// CACHED: what the docket says of every proposal and of all open ones is what is computed anew.
fn check_same(docket: &Docket, ledger: &Ledger, authority: &Authority, now_ms: u64) -> Result<(), TestCaseError> {
    for fresh in ledger.statuses(authority, now_ms) {
        let kept = docket.status(ledger, authority, &fresh.id, now_ms).map(Cow::into_owned);
        prop_assert_eq!(kept, Some(fresh));
    }
    let calls = ledger.statuses(authority, now_ms);
    let calls = calls.iter().filter_map(|s| {
        let call = ledger.call(s, authority)?;
        Some((s.id, call, ledger.matter(s, call, authority)))
    });
    prop_assert_eq!(
        docket.calls().map(|(id, call, matter)| (*id, call, matter)).collect::<Vec<_>>(),
        calls.collect::<Vec<_>>()
    );
    let open: Vec<Status> = docket.open(ledger, authority, now_ms).into_iter().map(Cow::into_owned).collect();
    prop_assert_eq!(open, ledger.open(authority, now_ms));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_kept_status_is_the_one_computed_anew(
        what in proptest::collection::vec((happens(), 0u64..700_000), 1..40),
    ) {
        let mut world = World::with_policy(REGO);
        let mut docket = Docket::new(LIMITS);
        let me = world.hq.author_id();
        for (what, later_ms) in &what {
            let before = world.facts.len();
            happen(&mut world, what);
            touch(&mut docket, &world.ledger, &world.facts[before..]);
            loop {
                docket.refresh(&world.ledger, &world.authority, world.clock.wall_ms);
                check_same(&docket, &world.ledger, &world.authority, world.clock.wall_ms)?;
                // What a coordinator writes that looks at nothing but what changed is what it would write had it looked at all.
                let (ledger, authority, engine) = (&world.ledger, &world.authority, Some(&world.engine));
                let acts = step_on(&mut docket, ledger, authority, engine, &world.clock, &sitting(&me), &LIMITS).acts;
                prop_assert_eq!(&acts, &step(ledger, authority, engine, &world.clock, &sitting(&me), &LIMITS));
                if acts.is_empty() {
                    break;
                }
                let before = world.facts.len();
                world.write(&acts);
                touch(&mut docket, &world.ledger, &world.facts[before..]);
            }
            // Somebody looks later, before the next input.
            check_same(&docket, &world.ledger, &world.authority, world.clock.wall_ms + later_ms)?;
        }
    }

    #[test]
    fn in_any_order_a_kept_status_is_the_one_computed_anew(
        what in proptest::collection::vec(happens(), 1..30),
        order in proptest::collection::vec(any::<u32>(), 200),
    ) {
        let mut world = World::with_policy(REGO);
        for what in &what {
            happen(&mut world, what);
        }
        let mut shuffled: Vec<(u32, &Fact)> = world.facts.iter().zip(order.iter().cycle()).map(|(f, n)| (*n, f)).collect();
        shuffled.sort_by_key(|(n, fact)| (*n, fact.id()));
        let (mut ledger, mut docket) = (Ledger::new(), Docket::new(LIMITS));
        let mut now_ms = world.clock.wall_ms - 1_000_000;
        for (n, fact) in shuffled {
            ledger.insert(fact);
            docket.touch(ledger.touched_by(fact));
            now_ms += u64::from(n % 90_000);
            docket.refresh(&ledger, &world.authority, now_ms);
            check_same(&docket, &ledger, &world.authority, now_ms)?;
        }
    }

    #[test]
    fn the_queue_is_the_oldest_of_each_agent_of_each_site_in_turn(
        moves in proptest::collection::vec((any::<bool>(), 0u8..3, 0u8..3, 0u64..12), 1..80),
    ) {
        let limits = Limits { open_per_agent: 2, open_per_site: 3, open_total: 5, permit_ms: 0 };
        let mut queue = Queue::new(limits);
        let mut open: BTreeSet<(String, String, Place)> = BTreeSet::new();
        let mut turn: BTreeSet<Place> = BTreeSet::new();
        for (comes, site, agent, age) in moves {
            let place = (age, FactId::from_bytes([site * 3 + agent; 32]));
            let (site, agent) = (format!("s{site}"), format!("s{site}/a{agent}"));
            if comes {
                queue.insert(&agent, &site, place);
                open.insert((site, agent, place));
            } else {
                queue.remove(&agent, &site, place);
                open.remove(&(site, agent, place));
            }
            queue.share();
            let expected = turns(&open, &limits);
            for (site, _, place) in &open {
                prop_assert_eq!(queue.held(site, *place).is_none(), expected.contains(place));
            }
            // Whoever rises is named.
            let risen = queue.risen();
            let here = |place: &&Place| comes && place.0 == age;
            for place in expected.difference(&turn).filter(|place| !here(place)) {
                prop_assert!(risen.contains(&place.1), "{place:?} rose and is not named");
            }
            turn = expected;
        }
    }
}

#[test]
fn the_random_worlds_of_the_docket_reach_the_hard_places() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut seen, mut held, mut said) = (BTreeSet::new(), false, false);
    use crate::ledger::State::*;
    let hard =
        [Proposed, Deferred, PendingApproval, VetoWindow, Approved, Permitted, Started, Denied, Expired, Superseded];
    for _ in 0..300 {
        if held && said && hard.iter().all(|state| seen.contains(state)) {
            return;
        }
        let what = proptest::collection::vec(happens(), 40).new_tree(&mut runner).expect("a world").current();
        let mut world = World::with_policy(REGO);
        let mut docket = Docket::new(LIMITS);
        for what in &what {
            let before = world.facts.len();
            happen(&mut world, what);
            touch(&mut docket, &world.ledger, &world.facts[before..]);
            docket.refresh(&world.ledger, &world.authority, world.clock.wall_ms);
            seen.extend(world.ledger.statuses(&world.authority, world.clock.wall_ms).iter().map(|s| s.state));
            said |= world.ledger.starts().any(|s| world.ledger.word_on(s, &world.authority).is_some());
            held |= world.ledger.proposals().any(|p| docket.held(p).is_some());
        }
    }
    panic!("never reached, held back: {held}; a word: {said}; states: {seen:?}");
}

/// The same rule, written down as it is said.
fn turns(open: &BTreeSet<(String, String, Place)>, limits: &Limits) -> BTreeSet<Place> {
    let mut by_age: Vec<_> = open.iter().collect();
    by_age.sort_by_key(|(_, _, place)| *place);
    let (mut agents, mut sites) = (BTreeMap::<&str, usize>::new(), BTreeMap::<&str, usize>::new());
    let mut ranked = Vec::new();
    for (site, agent, place) in by_age {
        let of_agent = agents.entry(agent).or_default();
        let of_site = sites.entry(site).or_default();
        if *of_agent < limits.open_per_agent && *of_site < limits.open_per_site {
            ranked.push((*of_site, *place));
            (*of_agent, *of_site) = (*of_agent + 1, *of_site + 1);
        }
    }
    ranked.sort_unstable();
    ranked.into_iter().take(limits.open_total).map(|(_, place)| place).collect()
}

#[test]
fn what_is_above_the_limits_is_told_once_and_judged_when_its_turn_comes() {
    let mut world = World::new();
    let mut docket = Docket::new(Limits::default());
    let me = world.hq.author_id();
    let ids: Vec<FactId> = (0..21)
        .map(|n| {
            let address = format!("198.51.100.{n}");
            world.propose(Proposal { created_ms: world.clock.wall_ms + n, ..proposal(&address) })
        })
        .collect();
    touch(&mut docket, &world.ledger, &world.facts);
    let mut seen = 0;
    let mut turn = |world: &mut World, docket: &mut Docket| {
        touch(docket, &world.ledger, &world.facts[seen..]);
        seen = world.facts.len();
        docket.refresh(&world.ledger, &world.authority, world.clock.wall_ms);
        let done = step_on(
            docket,
            &world.ledger,
            &world.authority,
            Some(&world.engine),
            &world.clock,
            &sitting(&me),
            &Limits::default(),
        );
        world.write(&done.acts);
        (done.acts.len(), done.held)
    };
    assert_eq!(turn(&mut world, &mut docket), (20, vec![(ids[20], Held::Agent(20))]));
    let says = docket.held(world.ledger.proposal(&ids[20]).expect("here")).expect("held").says();
    assert!(says.contains("20 older proposals of its agent are open"), "{says}");
    assert_eq!(turn(&mut world, &mut docket), (0, vec![]), "told once");
    world.vote("ana", &ids[3], Choice::Deny);
    assert_eq!(turn(&mut world, &mut docket), (1, vec![]), "its turn has come");
    assert_eq!(world.ledger.decisions_on(&ids[20]).count(), 1);
}

#[test]
fn no_site_crowds_out_another() {
    let limits = Limits { open_per_agent: 20, open_per_site: 500, open_total: 30, permit_ms: 0 };
    let mut queue = Queue::new(limits);
    let place = |n: u8, site: u8| (u64::from(n), FactId::from_bytes([n * 10 + site; 32]));
    for n in 0..20 {
        queue.insert("loud/a", "loud", place(n, 1));
        queue.insert("loud/b", "loud", place(n, 2));
    }
    // Later than everything of the loud one.
    for n in 20..22 {
        queue.insert("calm/a", "calm", place(n, 3));
    }
    queue.share();
    assert!((20..22).all(|n| queue.held("calm", place(n, 3)).is_none()));
    let loud = (0..20).flat_map(|n| [place(n, 1), place(n, 2)]);
    let held: Vec<Held> = loud.filter_map(|at| queue.held("loud", at)).collect();
    assert_eq!(held, vec![Held::Total(30); 12]);
}

/// What one act means for the others is theirs to say; here it is enough that it is one of this proposal.
fn proposal_of(act: &Act) -> Option<FactId> {
    match act {
        Act::Decide { body, .. } => Some(body.proposal),
        Act::Modify { body, .. } => body.parent,
        Act::Close { body, .. } => Some(body.proposal),
        Act::Permit { body, .. } => Some(body.proposal),
    }
}

#[test]
fn one_input_looks_at_what_it_concerns() {
    let mut world = World::new();
    let mut docket = Docket::new(Limits { open_per_agent: 1_000, ..Limits::default() });
    let me = world.hq.author_id();
    let limits = Limits { open_per_agent: 1_000, ..Limits::default() };
    let ids: Vec<FactId> = (0..200u64)
        .map(|n| {
            let created_ms = world.clock.wall_ms + n;
            world.propose(Proposal { created_ms, ..proposal(&format!("198.51.100.{n}")) })
        })
        .collect();
    world.run();
    touch(&mut docket, &world.ledger, &world.facts);
    docket.refresh(&world.ledger, &world.authority, world.clock.wall_ms);
    assert!(
        !step_on(
            &mut docket,
            &world.ledger,
            &world.authority,
            Some(&world.engine),
            &world.clock,
            &sitting(&me),
            &limits
        )
        .acts
        .is_empty()
    );
    let before = world.facts.len();
    world.vote("ana", &ids[7], Choice::Approve);
    let touched = world.ledger.touched_by(&world.facts[before]);
    assert_eq!(touched, Touched::These(BTreeSet::from([ids[7]])));
    docket.touch(touched);
    docket.refresh(&world.ledger, &world.authority, world.clock.wall_ms);
    let acts = step_on(
        &mut docket,
        &world.ledger,
        &world.authority,
        Some(&world.engine),
        &world.clock,
        &sitting(&me),
        &limits,
    )
    .acts;
    assert_eq!(acts.iter().filter_map(proposal_of).collect::<Vec<_>>(), [ids[7]]);
}
