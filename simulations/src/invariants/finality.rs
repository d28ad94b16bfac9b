//! A no stays a no, and a yes comes to an end.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_coordinator::bodies::{
    Compensated, Decision, Done, Ended, KIND_COMPENSATED, KIND_DECISION, KIND_DONE, KIND_ENDED, KIND_PERMIT,
    KIND_PROPOSAL, KIND_RESTRICTION, KIND_STARTED, KIND_VOTE, Permit, Proposal, Started,
};
use cauldron_coordinator::ledger::{Ledger, State};
use cauldron_coordinator::vote::{Choice, SignedVote};
use cauldron_crdt::doc::DocChange;
use cauldron_crdt::escrow::{Budget, Life};
use cauldron_identity::authority::{Authority, Entry, EntryBody, KIND_ENTRY, Term};
use cauldron_identity::budget::window_at;
use cauldron_identity::codec::from_cbor;
use cauldron_identity::{Fact, FactId, Scope};

use super::model::Model;
use super::{Holds, Violation, alone, once, seats};
use crate::facts::{Facts, Known, of_kind};
use crate::founding::BLOCKS;
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;
use crate::world::machine::Machine;
use crate::world::{HQ, World};

/// How often states are looked at, milliseconds. Folding is slow; the checks at each start and permit are the fine net.
const SAMPLE_MS: Ms = 25_000;

/// How long the rights of a window may take to reach an owner after it opens, milliseconds.
const NEW_WINDOW_MS: Ms = 20_000;

/// Facts that one proposal or one machine may lead to, votes, retries and board lines included. A generous guess, not a
/// measured bound: it is there to stop worlds that feed on themselves.
const FACTS_PER_CAUSE_MAX: usize = 60;

/// FINAL: a coordinator permits nothing to which somebody it knows of has said no.
pub(super) fn no_permit_after_a_no(world: &World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    let Some(permit) = fact.body::<Permit>() else { return Ok(()) };
    let Some(proposed) = m.known.get(&permit.proposal) else { return Ok(()) };
    let Some(proposal) = proposed.body::<Proposal>() else { return Ok(()) };
    let model = Model::new(&world.founding, m);
    if world.history.forged.contains(&fact.id) {
        return Ok(());
    }
    if model.is_beyond(proposed) {
        let text = format!("{} permits {}, which lies beyond its author's end", m.name, proposed.id.short());
        return Err(Violation::new("CUT", text));
    }
    if let Some(no) = alone::stopped_at_site(world, place, proposed, &proposal) {
        return Err(Violation::new("FINAL", format!("{} permits {}, but {no}", m.name, proposed.id.short())));
    }
    match model.noes(proposed, &proposal).first() {
        Some(no) => Err(Violation::new("FINAL", format!("{} permits {}, but {no}", m.name, proposed.id.short()))),
        None => Ok(()),
    }
}

/// Folds facts in the order given: the authority chain first, by position, as a gapless chain delivers it.
#[must_use]
pub fn fold<'f>(
    world: &World,
    terms: &[EntryBody],
    facts: impl Iterator<Item = &'f Arc<Known>> + Clone,
) -> Option<(Authority, Ledger)> {
    let founding = &world.founding;
    let charter = founding.charter.open(&founding.mesh).ok()?;
    let mut authority = Authority::new(founding.mesh, charter).ok()?;
    for term in terms {
        authority.apply_term(term);
    }
    let mut ledger = Ledger::new();
    let open = |known: &Arc<Known>| -> Option<Fact> { known.sealed.clone().reopen().ok() };
    let mut entries: Vec<&Arc<Known>> = facts.clone().filter(|f| f.header.scope == Scope::authority()).collect();
    entries.sort_by_key(|f| f.header.seq);
    for fact in entries.into_iter().chain(facts.filter(|f| f.header.scope != Scope::authority())).filter_map(open) {
        authority.apply(&fact);
        ledger.insert(&fact);
    }
    for (author, ends) in ledger.suspensions(&authority) {
        authority.suspend(author, &ends);
    }
    Some((authority, ledger))
}

/// PROGRESS: what was done and has left the file is recorded as over, also when the process died in between. (A machine that
/// was restored, cut or put out of its place began a life that does not answer for the old one.)
pub(super) fn ends_are_told(world: &World) -> Holds {
    // Also when a later copy of the disk had everything again: the life had ended.
    let forgets =
        |m: &Machine| world.history.restored.contains_key(&m.author) || world.history.liars.contains(&m.author);
    let same_life = |m: &&Machine| world.is_in_good_standing(m) && !forgets(m);
    for m in world.machines.iter().filter(same_life) {
        let ended: BTreeSet<FactId> = of_kind::<Ended>(&m.known, KIND_ENDED).map(|(_, e)| e.started).collect();
        let taken_back: BTreeSet<FactId> =
            of_kind::<Compensated>(&m.known, KIND_COMPENSATED).map(|(_, c)| c.started).collect();
        let done: BTreeSet<FactId> = of_kind::<Done>(&m.known, KIND_DONE).map(|(_, d)| d.started).collect();
        for (fact, start) in of_kind::<Started>(&m.known, KIND_STARTED).filter(|(f, _)| f.header.author == m.author) {
            let gone = m.blocklist.times(&start.permit) > 0 && !m.blocklist.lines().contains_key(&start.permit);
            let over = ended.contains(&fact.id) || taken_back.contains(&fact.id);
            if gone && done.contains(&fact.id) && !over {
                let text = format!("{} never says that {} is over", m.name, start.resource);
                return Err(Violation::new("PROGRESS", text));
            }
        }
    }
    Ok(())
}

/// PROGRESS: nodes do not keep each other busy with nothing: what they write is bounded by what people and agents do.
pub(super) fn no_storm(world: &World) -> Holds {
    let asked = world.weather.agents.proposals + world.history.proposals.len() + world.machines.len();
    let limit = FACTS_PER_CAUSE_MAX * asked;
    let written = world.history.facts.len();
    if written <= limit {
        return Ok(());
    }
    let mut kinds: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for fact in world.history.facts.values() {
        *kinds.entry(fact.kind()).or_default() += 1;
    }
    Err(Violation::new("PROGRESS", format!("a storm of {written} facts: {kinds:?}")))
}

/// BOUNDED: a node with nothing to do sleeps; a timer that is due again at once, for ever, burns a core.
pub(super) fn no_busy_loop(world: &World, place: Place) -> Holds {
    const WAKES_PER_SECOND_MAX: u32 = 100;
    let m = &world.machines[place];
    if m.woken.1 <= WAKES_PER_SECOND_MAX {
        return Ok(());
    }
    let text = format!("{} is woken more than {WAKES_PER_SECOND_MAX} times in a second, for {:?}", m.name, m.wake_for);
    Err(Violation::new("BOUNDED", text))
}

/// FINAL: at no node does a denied, expired or void proposal become open again.
pub(super) fn sample(world: &mut World) -> Holds {
    let now = world.now();
    if now < world.watch.sampled_at + SAMPLE_MS {
        return Ok(());
    }
    world.watch.sampled_at = now;
    let place = usize::try_from(now / SAMPLE_MS).unwrap_or(0) % world.machines.len();
    look_at(world, place)
}

fn look_at(world: &mut World, place: Place) -> Holds {
    let now = world.now();
    let m = &world.machines[place];
    // A restored or suspended node sees an older world; a wall clock that jumps back un-expires.
    if !m.is_up() || m.restored.is_some() || m.frozen || world.weather.faults.jump_ms.is_some() {
        return Ok(());
    }
    let Some((authority, ledger)) = fold(world, &m.terms(), m.known.values()) else { return Ok(()) };
    let (name, wall_ms) = (m.name.clone(), m.clock.wall(now));
    for status in ledger.statuses(&authority, wall_ms) {
        let before = world.watch.statuses.insert((place, status.id), status.state);
        if before.is_some_and(State::is_final) && status.state.is_open() {
            let text = format!("at {name}, {} went from {before:?} to {:?}", status.id.short(), status.state);
            return Err(Violation::new("FINAL", text));
        }
    }
    Ok(())
}

/// FINAL: the last look at every node, or at some of many.
pub(super) fn final_states(world: &mut World) -> Holds {
    let step = 1 + world.machines.len() / 50;
    (0..world.machines.len()).step_by(step).try_for_each(|place| look_at(world, place))
}

/// PROGRESS: once everything has settled, nothing that people approved is left half done: it was executed, or it is void.
pub(super) fn progress(world: &mut World) -> Holds {
    let mut lacked = false;
    let hq = &world.machines[HQ];
    let Some((authority, ledger)) = fold(world, &hq.terms(), hq.known.values()) else { return Ok(()) };
    let wall_ms = hq.clock.wall(world.now());
    for (id, owner) in &world.history.proposals {
        let owner = &world.machines[*owner];
        let Some(fact) = hq.known.get(id) else { continue };
        let beyond = Model::new(&world.founding, hq).is_beyond(fact);
        if !world.is_in_good_standing(owner) || world.forked_chain(&fact.header) || beyond {
            continue;
        }
        let Some(status) = ledger.status(id, &authority, wall_ms) else { continue };
        // Whoever edited it may have been revoked since: then it counts no more, and runs out.
        let hand = fact.body::<Proposal>().and_then(|p| p.hand);
        if hand.is_some_and(|hand| hand.verify(&authority).is_err()) {
            continue;
        }
        let waits = match status.state {
            State::Proposed | State::Started => true,
            State::Approved if is_used_up(&ledger, &authority, id) => false,
            State::Approved | State::Permitted if seats::waits_for_nobody(world, &ledger, &authority, &status) => false,
            // A step that waits for people before it.
            State::Approved if ledger.proposal(id).is_some_and(|p| ledger.awaits_step(p, &authority).is_some()) => {
                false
            }
            State::Approved | State::Permitted => !taken(world, fact) && rightly_permitted(world, owner, *id),
            _ => false,
        };
        if waits && status.state == State::Permitted && lacks_rights(world, owner, id) {
            lacked = true;
            continue;
        }
        if waits && !waits_for_a_dropped_entry(world, owner, id, &status.why) {
            let why = status.why.join("; ");
            let theirs = why_at(world, owner, id).join("; ");
            let text = format!(
                "{} on {} is still {:?}: {why}; its owner says: {theirs}",
                id.short(),
                owner.name,
                status.state
            );
            return Err(Violation::new("PROGRESS", text));
        }
    }
    if lacked {
        reached!(world, "budget.permit_lacked");
    }
    Ok(())
}

/// Whether nobody who reads the permit holds what its owner lacks, by the owner's own books and clock.
fn lacks_rights(world: &World, owner: &Machine, proposal: &FactId) -> bool {
    let (Some(takes), Some(core)) = (world.weather.takes, &owner.core) else { return false };
    let Ok(budget) = Budget::new(BLOCKS) else { return false };
    let window_of = |wall_ms| window_at(takes.window_ms.unwrap_or(0), wall_ms);
    let wall_ms = owner.clock.wall(world.now());
    let window = window_of(wall_ms);
    if window_of(wall_ms.saturating_sub(NEW_WINDOW_MS)) != window {
        return true;
    }
    // A clock that shows another window grants of another window.
    let readers = world.machines.iter().filter(|m| m.site.is_none() || m.site == owner.site);
    let readers = readers.filter(|m| window_of(m.clock.wall(world.now())) == window);
    let lives = readers.filter(|m| world.is_in_good_standing(m)).filter_map(|m| {
        core.authority().member(&m.author).map(|member| Life { author: m.author, incarnation: member.incarnation })
    });
    let balance = core.escrow().balance(&budget, window);
    let permitted = of_kind::<Permit>(&owner.known, KIND_PERMIT).any(|(_, p)| p.proposal == *proposal);
    permitted && lives.map(|life| balance.of(&life)).all(|share| share.held + share.in_flight == 0)
}

/// Whether the owner, or hq, waits for an authority entry that a vote or an edit names, in a world whose sequencer signed two for one place: it may
/// have been dropped by the term that ended that, and then the permit waits for its deadline (decision 0016).
fn waits_for_a_dropped_entry(world: &World, owner: &Machine, proposal: &FactId, at_hq: &[String]) -> bool {
    let waits = |why: &[String]| why.iter().any(|why| why.contains("an authority entry that has not arrived"));
    let lied = world.history.lie.is_some();
    lied && (waits(at_hq) || waits(&why_at(world, owner, proposal)) || is_edited_under_one(world, owner, proposal))
}

/// Whether the owner holds an edit that was signed under an entry which hq does not hold: there it took the proposal's place, and
/// nowhere else.
fn is_edited_under_one(world: &World, owner: &Machine, proposal: &FactId) -> bool {
    let edits = of_kind::<Proposal>(&owner.known, KIND_PROPOSAL).filter(|(_, p)| p.parent == Some(*proposal));
    let heads = edits.filter_map(|(_, p)| p.hand?.statement().ok()?.authority_head);
    let terms: Vec<FactId> = world.history.terms.iter().map(|term| Term::id(&world.founding.mesh, term)).collect();
    let hq = &world.machines[HQ];
    heads.into_iter().any(|head| !hq.known.contains_key(&head) && !terms.contains(&head))
}

/// What a machine's node says of a proposal.
fn why_at(world: &World, m: &Machine, proposal: &FactId) -> Vec<String> {
    let Some(core) = &m.core else { return Vec::new() };
    let views = core.proposals_view(m.clock.clone().read(world.now()));
    views.into_iter().find(|view| view.id == proposal.to_string()).map(|view| view.why).unwrap_or_default()
}

/// Whether hq knows that a past life of the owner may have acted on the lineage or its intent: nothing comes of it then.
fn is_used_up(ledger: &Ledger, authority: &Authority, id: &FactId) -> bool {
    ledger.proposal(id).is_some_and(|p| ledger.used_by(p, authority, None).is_some())
}

/// Whether the lineage or its intent had its effect under another proposal.
fn taken(world: &World, fact: &Known) -> bool {
    let Some(p) = fact.body::<Proposal>() else { return false };
    let lineage = p.lineage(fact.id);
    let same = |e: &crate::history::Effect| e.resource == p.resource && e.intent == p.intent_key;
    world.history.effects.iter().any(|e| e.lineage == lineage || same(e))
}

/// Whether there is a permit that its owner has no reason to refuse, or none at all. One with, say, a vote that ran out on
/// a wrong clock waits for its deadline, and is void then.
fn rightly_permitted(world: &World, owner: &Machine, proposal: FactId) -> bool {
    let model = Model::new(&world.founding, owner);
    let wall_ms = owner.clock.wall(world.now());
    // What a site permitted itself past its lease its owner refuses with a fresh one, and it runs out.
    let all = of_kind::<Permit>(&owner.known, KIND_PERMIT).filter(|(_, p)| p.proposal == proposal);
    let mut permits = all.map(|(f, p)| (f.header.author, p)).peekable();
    permits.peek().is_none()
        || permits.any(|(by, p)| {
            let enough = |d: &Decision| model.agreed(&p, d, Some(wall_ms)).is_ok();
            model.coordinates(&by)
                && p.incarnation == model.incarnation(&owner.author)
                && model.decision_of(&p).is_ok_and(|d| enough(&d))
        })
}

/// Counts the hard places that a new fact at a node shows.
pub(super) fn mark_hard_places(world: &mut World, place: Place, fact: &Known) {
    match fact.kind() {
        KIND_VOTE => mark_vote(world, place, fact),
        KIND_PERMIT => mark_permit(world, place, fact),
        KIND_ENTRY => {
            let entry = fact.body::<EntryBody>().and_then(|b| from_cbor::<Entry>(b.entry_bytes()).ok());
            if matches!(entry, Some(Entry::Incarnate(i)) if i.author == world.machines[place].author) {
                reached!(world, "restore.incarnated");
            }
        }
        cauldron_crdt::doc::KIND_SEAL => reached!(world, "document.sealed"),
        cauldron_crdt::doc::KIND if fact.body::<DocChange>().is_some_and(|change| change.again.is_some()) => {
            reached!(world, "document.late");
        }
        cauldron_crdt::doc::KIND if fact.body::<DocChange>().is_some_and(|change| change.round > 0) => {
            reached!(world, "document.said_again");
        }
        KIND_RESTRICTION
            if !world.coordinates(place) && open_permits(&world.machines[place].known).next().is_some() =>
        {
            reached!(world, "veto.known_at_owner");
        }
        KIND_PROPOSAL => {
            let site = world.machines[place].site.clone();
            let neighbour = world
                .machines
                .iter()
                .enumerate()
                .any(|(i, m)| i != place && m.site == site && m.known.contains_key(&fact.id));
            if site.is_some() && neighbour && once::lineage_of(fact).is_some() {
                reached!(world, "held_by.another");
            }
            let parent = fact.body::<Proposal>().filter(|p| p.hand.is_some()).and_then(|p| p.parent);
            let known = &world.machines[place].known;
            if site.is_some() && parent.is_some_and(|parent| open_permits(known).any(|(_, p)| p.proposal == parent)) {
                reached!(world, "edit.beats_permit");
            }
        }
        _ => {}
    }
}

fn open_permits(known: &Facts) -> impl Iterator<Item = (FactId, Permit)> + '_ {
    let permits = of_kind::<Permit>(known, KIND_PERMIT);
    permits
        .filter(|(f, _)| !of_kind::<Started>(known, KIND_STARTED).any(|(_, s)| s.permit == f.id))
        .map(|(f, p)| (f.id, p))
}

fn mark_vote(world: &mut World, place: Place, fact: &Known) {
    let Some(said) = fact.body::<SignedVote>().and_then(|v| v.statement().ok()) else { return };
    let known = &world.machines[place].known;
    let others: Vec<Choice> = of_kind::<SignedVote>(known, KIND_VOTE)
        .filter_map(|(_, v)| v.statement().ok())
        .filter(|s| s.proposal == said.proposal)
        .map(|s| s.choice)
        .collect();
    let decided = of_kind::<Decision>(known, KIND_DECISION).any(|(_, d)| d.proposal == said.proposal);
    let permitted = of_kind::<Permit>(known, KIND_PERMIT).any(|(_, p)| p.proposal == said.proposal);
    let started = of_kind::<Started>(known, KIND_STARTED).any(|(_, s)| s.proposal == said.proposal);
    if others.contains(&Choice::Deny) && others.contains(&Choice::Approve) && decided {
        reached!(world, "deny.concurrent_with_approve");
    }
    if said.choice == Choice::Deny && permitted && !started && !world.coordinates(place) {
        reached!(world, "deny.beats_permit");
    }
    if said.choice == Choice::Object && !started {
        reached!(world, "silence.broken");
    }
    if said.choice == Choice::Withdraw && !started {
        reached!(world, "withdraw.before_start");
    }
}

fn mark_permit(world: &mut World, place: Place, fact: &Known) {
    let Some(permit) = fact.body::<Permit>() else { return };
    let m = &world.machines[place];
    let other = |f: &Known, p: &Permit| p.proposal == permit.proposal && f.header.author != fact.header.author;
    if of_kind::<Permit>(&m.known, KIND_PERMIT).any(|(f, p)| other(f, &p)) {
        reached!(world, "coordinators.both_permitted");
    }
    let m = &world.machines[place];
    if permit.owner != m.author {
        return;
    }
    let forged = world.history.forged.contains(&fact.id);
    let used = m.restored.is_some() && m.blocklist.times(&fact.id) > 0;
    let dark = !world.machines[HQ].is_up() || !world.network.is_open(HQ, place);
    let stale = world.now().saturating_sub(m.fresh_at) > world.weather.lease_r1_ms;
    if forged {
        reached!(world, "permit.forged_at_owner");
    }
    if used {
        reached!(world, "restore.redelivered_permit");
    }
    if dark {
        reached!(world, "permit.waited_hq_dark");
    }
    if stale {
        reached!(world, "lease.expired_with_permit");
    }
}
