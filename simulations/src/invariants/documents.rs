//! Documents: the same everywhere, nothing in them from beyond a cut, and no honest work missing.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_crdt::doc::DocKey;
use cauldron_identity::FactId;
use cauldron_identity::authority::ChainEnd;
use cauldron_node_core::NodeCore;
use cauldron_node_core::view::DocStepView;

use super::{Holds, Violation};
use crate::world::World;
use crate::world::machine::Machine;

/// CONVERGE: all readers of a document hold the same changes in it, each with its fact, and see the same.
pub(super) fn the_same_everywhere(world: &World) -> Holds {
    let mut seen: BTreeMap<DocKey, (&Machine, &NodeCore)> = BTreeMap::new();
    for m in world.machines.iter().filter(|m| world.is_in_good_standing(m)) {
        let Some(core) = m.core.as_ref() else { continue };
        for key in core.documents() {
            let to_come = core.doc_to_come(&key);
            if core.doc_epochs_to_come(&key) > 0 {
                let text = format!("{} still waits for the facts of epochs of {}", m.name, key.doc);
                return Err(Violation::new("CONVERGE", text));
            }
            if to_come > 0 {
                let text = format!("{} still waits for the facts of {to_come} changes of {}", m.name, key.doc);
                return Err(Violation::new("CONVERGE", text));
            }
            let (first, known) = *seen.entry(key.clone()).or_insert((m, core));
            holds_all(&key, (first, known), (m, core))?;
            holds_all(&key, (m, core), (first, known))?;
            shows_the_same(world, &key, (first, known), (m, core))?;
        }
    }
    Ok(())
}

fn holds_all(key: &DocKey, a: (&Machine, &NodeCore), b: (&Machine, &NodeCore)) -> Holds {
    let held: BTreeSet<FactId> = b.1.document_facts(key).iter().map(|fact| fact.id()).collect();
    if let Some(fact) = a.1.document_facts(key).iter().find(|fact| !held.contains(&fact.id())) {
        let (id, header) = (fact.id().to_string(), fact.header());
        let history = history(b.1, key);
        let why = history.iter().find(|step| step.fact == id).and_then(|step| step.left_out.clone());
        let text = format!(
            "{} of {}: {} has change {} of {}, {} has not: {}",
            key.doc,
            key.scope,
            a.0.name,
            header.seq,
            header.author.short(),
            b.0.name,
            why.unwrap_or_else(|| "it is not here".into())
        );
        return Err(Violation::new("CONVERGE", text));
    }
    Ok(())
}

/// What each change did, in all epochs.
fn history(core: &NodeCore, key: &DocKey) -> Vec<DocStepView> {
    let closed =
        core.doc_closed_epochs(key).into_iter().filter_map(|(epoch, _)| core.doc_closed_history(key, epoch)?.run());
    let mut steps: Vec<DocStepView> = closed.flat_map(|steps| core.doc_steps(&steps)).collect();
    steps.extend(core.doc_history(key, None).unwrap_or_default());
    steps
}

fn shows_the_same(world: &World, key: &DocKey, a: (&Machine, &NodeCore), b: (&Machine, &NodeCore)) -> Holds {
    let content = |(m, core): (&Machine, &NodeCore)| {
        let now = m.clock.clone().read(world.now());
        core.doc_view(now, key).map(|view| view.content.to_string())
    };
    let (one, other) = (content(a), content(b));
    if one != other {
        let text = format!("{} of {} is {one:?} at {}, {other:?} at {}", key.doc, key.scope, a.0.name, b.0.name);
        return Err(Violation::new("CONVERGE", text));
    }
    Ok(())
}

/// CUT: nothing beyond an author's cut is in a document of a node that holds the cut in its authority chain.
pub(super) fn nothing_beyond_a_cut(world: &World) -> Holds {
    for m in world.machines.iter().filter(|m| world.is_in_good_standing(m)) {
        let Some(core) = m.core.as_ref() else { continue };
        for key in core.documents() {
            for fact in core.document_facts(&key) {
                let header = fact.header();
                let Some(cuts) = world.history.cut_ends.get(&(header.author, header.incarnation)) else { continue };
                let end =
                    |cut: &Vec<ChainEnd>| cut.iter().find(|end| end.scope == header.scope).map_or(0, |end| end.seq);
                let end = cuts.iter().map(end).max().unwrap_or(0);
                // A liar's branches may take the cut out of the chain again; then the node's own chain says what holds.
                let stands = world.weather.faults.lie_ms.is_none() || core.authority().is_beyond_end(header, fact.id());
                if stands && m.cut_known.contains(&(header.author, header.incarnation)) && header.seq > end {
                    let text = format!(
                        "{} shows in {} what {} wrote at {}, beyond its cut at {end}",
                        m.name,
                        key.doc,
                        header.author.short(),
                        header.seq
                    );
                    return Err(Violation::new("CUT", text));
                }
            }
        }
    }
    Ok(())
}

/// HEAL: what an honest author wrote on top of changes that were taken out, or to an epoch that had ended, it has said again.
pub(super) fn nothing_honest_is_missing(world: &World) -> Holds {
    let honest: BTreeSet<String> =
        world.machines.iter().filter(|m| world.is_in_good_standing(m)).map(|m| m.author.to_string()).collect();
    let late = cauldron_crdt::doc::Unfit::Late.to_string();
    for m in world.machines.iter().filter(|m| world.is_in_good_standing(m)) {
        let Some(core) = m.core.as_ref() else { continue };
        for key in core.documents() {
            let steps = history(core, &key);
            let of = |step: &&DocStepView| honest.contains(&step.author) && step.left_out.as_ref() == Some(&late);
            if let Some(step) = steps.iter().find(of) {
                let text =
                    format!("{} shows in {} as late what {} wrote at {}", m.name, key.doc, step.author, step.seq);
                return Err(Violation::new("HEAL", text));
            }
        }
        if let Some(key) = m.core.as_ref().and_then(|core| core.documents_owed().into_iter().next()) {
            let text = format!("{} has not said again in {} what it lost", m.name, key.doc);
            return Err(Violation::new("HEAL", text));
        }
    }
    Ok(())
}
