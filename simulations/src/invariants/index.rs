//! What a clean stop leaves behind.

use cauldron_crdt::log::INDEX_HEAD;
use cauldron_identity::Clock;
use cauldron_node_core::{NodeCore, OpenError, Output};

use super::{Holds, Violation};

/// INDEX: a node that starts by the index of a clean stop is the node that starts by reading every fact, does the same first,
/// and takes the index away before anything else.
pub(crate) fn index(name: &str, now: Clock, mut whole: NodeCore, indexed: Result<NodeCore, OpenError>) -> Holds {
    let violation = |why: String| Err(Violation::new("INDEX", format!("{name}, started by its index, {why}")));
    let mut indexed = match indexed {
        Ok(core) => core,
        Err(why) => return violation(format!("does not start: {why}")),
    };
    match indexed.poll() {
        Output::Persist(record) if record.key == INDEX_HEAD && record.value.is_none() => {}
        other => return violation(format!("first says {other:?}")),
    }
    for (ours, theirs) in [(views(&whole, now), views(&indexed, now)), (outputs(&mut whole), outputs(&mut indexed))] {
        if let Some((one, other)) = ours.iter().zip(&theirs).find(|(one, other)| one != other) {
            return violation(format!("differs: {other} where {one} belongs"));
        }
        if ours.len() != theirs.len() {
            return violation(format!("says {} things where {} belong", theirs.len(), ours.len()));
        }
    }
    Ok(())
}

fn views(core: &NodeCore, now: Clock) -> Vec<String> {
    let documents = core.documents();
    let facts = documents.iter().map(|key| format!("{key:?}: {:?}", core.document_facts(key).len()));
    vec![
        format!("{:?}", core.self_view(now)),
        format!("{:?}", core.sync_view(now)),
        format!("{:?}", core.proposals_view(now)),
        format!("{:?}", core.restrictions_view(now)),
        format!("{:?}", core.audit_tail(usize::MAX, None)),
    ]
    .into_iter()
    .chain(facts)
    .collect()
}

fn outputs(core: &mut NodeCore) -> Vec<String> {
    let mut outputs = Vec::new();
    loop {
        match core.poll() {
            Output::Idle { until } => {
                outputs.push(format!("{until:?}"));
                return outputs;
            }
            output => outputs.push(format!("{output:?}")),
        }
    }
}
