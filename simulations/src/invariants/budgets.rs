//! Budgets: what was executed, counted where it is on disks, and the books of every node.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_crdt::escrow::{
    Budget, Credit, Debit, Escrow, KIND_CREDIT, KIND_DEBIT, KIND_REFUSE, KIND_RESERVE, KIND_SETTLE, Mint, Place as At,
    Refuse, Reserve, Settle, Share, Source, Verdict, Window, invariants,
};
use cauldron_identity::authority::{Entry, EntryBody, KIND_ENTRY};
use cauldron_identity::{AuthorId, FactId};

use super::{Holds, Violation};
use crate::facts::{Known, of_kind};
use crate::network::Place;
use crate::reached;
use crate::world::machine::Machine;
use crate::world::{HQ, World};

/// What is counted beside the nodes' books.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Reserved and not settled, or spent, by honest nodes.
    executed: BTreeMap<(Budget, Window), u64>,
    /// What was minted, by entry.
    mints: BTreeMap<FactId, Mint>,
    reserves: BTreeMap<FactId, Reserve>,
    settled: BTreeSet<FactId>,
    /// Machines whose books have changed since they were looked at.
    changed: BTreeSet<Place>,
}

fn is_of_a_budget(fact: &Known) -> bool {
    fact.kind().starts_with("budget.")
}

fn minted(fact: &Known) -> Option<Mint> {
    let body = (fact.kind() == KIND_ENTRY).then(|| fact.body::<EntryBody>()).flatten()?;
    if let Ok(Entry::Mint(mint)) = body.entry() { Some(mint) } else { None }
}

/// BUDGET: what honest nodes have reserved or spent of a budget in a window, by their disks, is at most what was minted.
pub(super) fn budget(world: &mut World, place: Place, fact: &Known) -> Holds {
    if let Some(mint) = minted(fact) {
        world.watch.budgets.mints.insert(fact.id, mint);
        return Ok(());
    }
    if fact.header.author != world.machines[place].author || world.history.forged.contains(&fact.id) {
        return Ok(());
    }
    let ledger = &mut world.watch.budgets;
    match fact.kind() {
        KIND_RESERVE => {
            let Some(reserve) = fact.body::<Reserve>() else { return Ok(()) };
            if ledger.reserves.insert(fact.id, reserve.clone()).is_none() {
                let key = (reserve.budget, reserve.window);
                *ledger.executed.entry(key.clone()).or_default() += reserve.amount;
                return within(world, &key);
            }
        }
        KIND_SETTLE => {
            let Some(settle) = fact.body::<Settle>() else { return Ok(()) };
            let reserve = ledger.reserves.get(&settle.reserve).filter(|_| !ledger.settled.contains(&settle.reserve));
            if let Some(reserve) = reserve {
                let key = (reserve.budget.clone(), reserve.window);
                let back = reserve.amount.saturating_sub(settle.spent);
                *ledger.executed.entry(key).or_default() -= back;
                ledger.settled.insert(settle.reserve);
            }
        }
        _ => {}
    }
    Ok(())
}

fn within(world: &mut World, key: &(Budget, Window)) -> Holds {
    let ledger = &world.watch.budgets;
    let of = |mint: &&Mint| (&mint.budget, mint.window) == (&key.0, key.1);
    // hq mints once; where it lied, a crash may have taken the first of two mints before it left.
    let limit = ledger.mints.values().filter(of).map(|mint| mint.amount).max().unwrap_or(0);
    let executed = ledger.executed.get(key).copied().unwrap_or(0);
    if executed == limit {
        reached!(world, "budget.used_up");
    }
    if executed <= limit || executed <= limit + lost_with_disks(world, key) {
        return Ok(());
    }
    let text = format!("{executed} of {} are reserved or spent in window {}, {limit} were minted", key.0, key.1);
    Err(Violation::new("BUDGET", text))
}

/// A store that was put back holds rights that its node had used: nobody can tell, as long as nobody else had heard. It
/// uses at most what it was ever given, once more for each time.
fn lost_with_disks(world: &World, key: &(Budget, Window)) -> u64 {
    let given = |author: &AuthorId| {
        let debits = of_kind::<Debit>(&world.history.facts, KIND_DEBIT).map(|(_, debit)| debit);
        let granted = debits.filter(|d| (&d.budget, d.window) == (&key.0, key.1) && d.to.author == *author);
        let mints = world.watch.budgets.mints.values().filter(|m| (&m.budget, m.window) == (&key.0, key.1));
        let minted = mints.filter(|m| m.holder.author == *author).map(|m| m.amount);
        granted.map(|d| d.amount).chain(minted).sum::<u64>()
    };
    world.history.restored.iter().map(|(author, times)| given(author) * times).sum()
}

/// The same for a budget by its name.
pub(super) fn forgotten_with_disks(world: &World, budget: &str, window: Window) -> u64 {
    Budget::new(budget).map_or(0, |budget| lost_with_disks(world, &(budget, window)))
}

/// NONNEG: no honest node writes a grant or a reservation of more than it holds, or a credit that does not count.
pub(super) fn nonneg(world: &World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    let honest = !world.is_liar(place) && !world.history.forged.contains(&fact.id);
    let Some(core) = m.core.as_ref().filter(|_| is_of_a_budget(fact) && honest) else {
        return Ok(());
    };
    let at = At::of(&fact.header, fact.id);
    let overdrawn =
        core.escrow().reservations(at.life).find(|(id, _)| *id == fact.id).map_or(0, |(_, r)| r.overdrawn());
    match core.escrow().verdict(&at) {
        Some(Verdict::Counts) if overdrawn == 0 => Ok(()),
        // It has heard of a fork of its own chain in the same moment.
        None => Ok(()),
        verdict => {
            let text =
                format!("{} wrote {} {}: {verdict:?}, overdrawn {overdrawn}", m.name, fact.kind(), fact.id.short());
            Err(Violation::new("NONNEG", text))
        }
    }
}

/// INCARNATE: a node that was restarted grants and reserves nothing before somebody has spoken to it: its store may be older
/// than what it did.
pub(super) fn rights_are_confirmed(world: &World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    if [KIND_DEBIT, KIND_RESERVE].contains(&fact.kind()) && m.resumed_at.is_some() && m.spoken.is_empty() {
        let text = format!("{} restarted and wrote {} before anybody had spoken to it", m.name, fact.kind());
        return Err(Violation::new("INCARNATE", text));
    }
    Ok(())
}

/// CONSERVE and CREDIT-ONCE: in the books of every node, whatever has reached it, nothing is taken twice and everything adds
/// up to what was minted.
pub(super) fn books_hold(world: &mut World) -> Holds {
    for place in std::mem::take(&mut world.watch.budgets.changed) {
        let m = &world.machines[place];
        let Some(core) = m.core.as_ref() else { continue };
        books(&m.name, core.escrow())?;
    }
    Ok(())
}

fn books(name: &str, escrow: &Escrow) -> Holds {
    let named = |invariant, why| Violation::new(invariant, format!("at {name}: {why}"));
    invariants::conserve(escrow).map_err(|why| named("CONSERVE", why))?;
    invariants::credit_once(escrow).map_err(|why| named("CREDIT-ONCE", why))
}

/// CONVERGE: once everything has settled, all nodes have the same books, those that follow from their disks in any other
/// order, and nobody owes a credit or a refusal.
pub(super) fn settled(world: &mut World) -> Holds {
    let mut first: Option<(&Machine, Sums)> = None;
    let mut lost = false;
    for m in &world.machines {
        let Some(core) = m.core.as_ref() else { continue };
        books(&m.name, core.escrow())?;
        if !world.is_in_good_standing(m) {
            continue;
        }
        if let Some(due) = core.rights_due().first() {
            return Err(Violation::new("PROGRESS", format!("{} has not written what is due: {due:?}", m.name)));
        }
        if world.history.restored.is_empty() && world.history.lie.is_none() {
            let forged = |author: &AuthorId| {
                *author == world.machines[HQ].author && !world.history.forged.is_empty()
                    || world.history.liars.contains(author)
            };
            let nonneg = invariants::nonneg(core.escrow(), |life| !forged(&life.author));
            nonneg.map_err(|why| Violation::new("NONNEG", format!("at {}: {why}", m.name)))?;
        }
        let sums = sums(world, core.escrow());
        lost |= sums.values().any(|share| share.lost > 0);
        let again = refolded(world, m, core);
        if again != sums && !world.any_fork_in_mesh() {
            let text = format!("the books of {} are {sums:?}, those of its disk {again:?}", m.name);
            return Err(Violation::new("MERGE-LAWS", text));
        }
        match &first {
            Some((other, theirs)) if *theirs != sums => {
                let text = format!("books of budgets: {theirs:?} at {}, {sums:?} at {}", other.name, m.name);
                return Err(Violation::new("CONVERGE", text));
            }
            Some(_) => {}
            None => first = Some((m, sums)),
        }
    }
    if lost {
        reached!(world, "budget.lost");
    }
    Ok(())
}

type Sums = BTreeMap<(Budget, Window, AuthorId, u32), Share>;

/// Every share; where hq lied, nodes may know of different lives that are over, so what is lost counts as held.
fn sums(world: &World, escrow: &Escrow) -> Sums {
    let mut all = Sums::new();
    for (budget, window) in escrow.minted_windows() {
        for (life, mut share) in escrow.balance(budget, window).by {
            if world.history.lie.is_some() {
                share.held += share.in_flight + share.lost;
                (share.in_flight, share.lost) = (0, 0);
            }
            all.insert((budget.clone(), window, life.author, life.incarnation), share);
        }
    }
    all
}

/// The books of what is on a machine's disk, chain by chain from the last author to the first, mints last.
fn refolded(world: &World, m: &Machine, core: &cauldron_node_core::NodeCore) -> Sums {
    use cauldron_crdt::escrow::{Body, Life};
    let mesh = cauldron_identity::Scope::mesh();
    let mut facts: Vec<&Known> = m.known.values().map(AsRef::as_ref).filter(|f| f.header.scope == mesh).collect();
    facts.sort_by_key(|f| (std::cmp::Reverse(f.header.author), f.header.incarnation, f.header.seq));
    let mut books = Escrow::new();
    for f in facts {
        let body = Body::read(f.kind(), f.sealed.body().unwrap_or_default()).map(Result::ok);
        books.fold_body(At::of(&f.header, f.id), body);
    }
    for (index, id, mint) in core.authority().mints() {
        books.mint(id, index, mint);
    }
    for ((author, incarnation), seq) in core.authority().ends_in(&mesh) {
        books.end(Life { author, incarnation }, seq);
    }
    sums(world, &books)
}

impl World {
    fn any_fork_in_mesh(&self) -> bool {
        let mesh = cauldron_identity::Scope::mesh();
        self.history.positions.iter().any(|((_, _, scope, _), ids)| *scope == mesh && ids.len() > 1)
    }
}

/// Hard places of budgets.
pub(super) fn mark_hard_places(world: &mut World, place: Place, fact: &Known, own: bool) {
    if is_of_a_budget(fact) || fact.kind() == KIND_ENTRY {
        world.watch.budgets.changed.insert(place);
    }
    let hq = world.machines[HQ].author;
    if let Some(debit) = fact.body::<Debit>().filter(|_| own && fact.kind() == KIND_DEBIT) {
        world.tempt_with_a_grant(place, &debit);
    }
    match fact.kind() {
        KIND_CREDIT if own => match fact.body::<Credit>().map(|credit| credit.source) {
            Some(Source::Debit(debit)) if debit.life.author != hq && !world.network.is_open(HQ, place) => {
                reached!(world, "budget.borrow_under_partition");
            }
            _ => {}
        },
        KIND_CREDIT if world.is_second_credit(fact) => reached!(world, "budget.credited_twice"),
        KIND_DEBIT if !own && world.history.forged.contains(&fact.id) => {
            reached!(world, "budget.granted_from_nothing");
        }
        KIND_DEBIT if world.lost_credits(place).contains(&fact.id) => reached!(world, "budget.duplicate_grant"),
        KIND_REFUSE if own && fact.body::<Refuse>().is_some() => reached!(world, "budget.refused"),
        _ => {}
    }
}
