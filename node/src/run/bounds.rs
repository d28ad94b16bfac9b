//! What a peer may ask of this node at most: guarantees §4 in one place, for `/v1/self` and `docs/reference/bounds.md`.
//!
//! The numbers are the constants that hold, each with its reason where it is defined; here is what they are called outside, and
//! the test in which somebody asks for more.

use std::collections::BTreeMap;

use cauldron_coordinator::ledger::APPROVALS_PER_HOUR_MAX;
use cauldron_crdt::limits as crdt;
use cauldron_identity::codec::DEPTH_MAX;
use cauldron_identity::x509::{CHAIN_BYTES_MAX, CHAIN_DEPTH_MAX};
use cauldron_mesh::limits as mesh;
use cauldron_node_core::{AHEAD_MS_MAX, OPEN_MAX, OPEN_PER_AGENT_MAX, OPEN_PER_SITE_MAX};
use serde::Serialize;

/// One bound.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bound {
    #[serde(skip)]
    name: &'static str,
    /// The most there may be.
    max: u64,
    /// Of what.
    unit: &'static str,
    /// What it keeps from whom.
    because: &'static str,
    /// Where somebody exceeds it.
    #[serde(skip)]
    #[cfg_attr(not(test), expect(dead_code, reason = "for the documentation, which a test compares"))]
    test: &'static str,
}

/// All bounds by name. A hub keeps more connections than an edge node.
pub fn bounds(hub: bool) -> BTreeMap<&'static str, Bound> {
    let mut all: BTreeMap<_, _> = TABLE.iter().map(|bound| (bound.name, *bound)).collect();
    if let Some(connections) = all.get_mut("connections").filter(|_| hub) {
        connections.max = mesh::CONNECTIONS_MAX_HUB as u64;
    }
    all
}

const fn bound(name: &'static str, max: u64, unit: &'static str, because: &'static str, test: &'static str) -> Bound {
    Bound { name, max, unit, because, test }
}

const TABLE: [Bound; 37] = [
    bound(
        "handshakes_pending",
        mesh::PENDING_HANDSHAKES_MAX as u64,
        "handshakes",
        "each costs memory and a millisecond of the processor before anybody is known",
        "handshakes_are_bounded_with_retry_before_refusal",
    ),
    bound(
        "handshakes_before_retry",
        mesh::PENDING_HANDSHAKES_RETRY as u64,
        "handshakes",
        "above it a stranger proves its address first, so invented ones get no cryptography",
        "handshakes_are_bounded_with_retry_before_refusal",
    ),
    bound(
        "handshake_ms",
        mesh::HANDSHAKE_TIME_MAX.as_millis() as u64,
        "ms",
        "nobody holds a place without proving who it is",
        "a_peer_that_never_proves_its_key_is_closed_within_the_handshake_time",
    ),
    bound(
        "connections_per_peer",
        mesh::CONNECTIONS_PER_PEER_MAX as u64,
        "connections",
        "both sides may dial at once; more serve nobody",
        "connections_are_bounded_with_a_code_the_dialer_reads",
    ),
    bound(
        "connections",
        mesh::CONNECTIONS_MAX_EDGE as u64,
        "connections",
        "memory: each has windows and buffers of its own",
        "connections_are_bounded_with_a_code_the_dialer_reads",
    ),
    bound(
        "streams_bidirectional",
        mesh::BIDI_STREAMS_MAX as u64,
        "streams per connection",
        "each has a window of its own",
        "whoever_opens_or_writes_more_than_it_may_waits_and_others_do_not",
    ),
    bound(
        "streams_unidirectional",
        mesh::UNI_STREAMS_MAX as u64,
        "streams per connection",
        "each has a window of its own",
        "whoever_opens_or_writes_more_than_it_may_waits_and_others_do_not",
    ),
    bound(
        "stream_window_bytes",
        mesh::STREAM_WINDOW_BYTES as u64,
        "bytes not read yet",
        "a slow reader holds back its own link and takes no memory",
        "whoever_opens_or_writes_more_than_it_may_waits_and_others_do_not",
    ),
    bound(
        "connection_window_bytes",
        mesh::CONNECTION_WINDOW_BYTES as u64,
        "bytes not read yet",
        "the same for all streams of a connection",
        "whoever_opens_or_writes_more_than_it_may_waits_and_others_do_not",
    ),
    bound(
        "frame_bytes",
        mesh::FRAME_BYTES_MAX as u64,
        "bytes",
        "judged by its length before memory is taken",
        "lengths_are_judged_before_memory_is_taken",
    ),
    bound(
        "frame_header_ms",
        mesh::HEADER_TIME_MAX.as_millis() as u64,
        "ms",
        "a started frame comes, or its link ends",
        "a_started_frame_that_stalls_is_closed_by_its_deadline",
    ),
    bound(
        "frame_ms",
        mesh::FRAME_TIME_MAX.as_millis() as u64,
        "ms",
        "the same for its body; time enough for a thin link",
        "a_started_frame_has_deadlines_and_an_idle_stream_has_none",
    ),
    bound(
        "sync_control_bytes",
        crdt::CONTROL_FRAME_LEN_MAX as u64,
        "bytes",
        "what carries no facts is small",
        "what_is_no_frame_is_told_apart",
    ),
    bound(
        "sync_facts_bytes",
        crdt::FACTS_LEN_MAX as u64,
        "bytes per answer",
        "one answer holds up nothing urgent for long",
        "every_answer_fits_its_frame_and_can_be_taken",
    ),
    bound(
        "sync_requests_per_peer",
        crdt::REQUESTS_MAX as u64,
        "requests",
        "a peer that asks for everything at once gets it in turn",
        "requests_and_answers_stay_within_their_bounds",
    ),
    bound(
        "sync_serve_bytes_per_s",
        crdt::SERVE_BYTES_PER_S,
        "bytes/s per peer",
        "asking costs little and answering much",
        "requests_and_answers_stay_within_their_bounds",
    ),
    bound(
        "decode_depth",
        DEPTH_MAX as u64,
        "levels",
        "nested input must not use up the stack",
        "depth_is_bounded_without_recursing_further",
    ),
    bound(
        "unpacked_growth",
        crdt::BULK_GROWTH_MAX as u64,
        "times the packed length",
        "a bomb is refused by what it says, and again while it is unpacked",
        "a_bomb_is_not_unpacked_and_a_wrong_length_is_told",
    ),
    bound(
        "unpacked_bytes",
        crdt::BULK_RAW_LEN_MAX as u64,
        "bytes",
        "the same, whatever the packed length",
        "a_bomb_is_not_unpacked_and_a_wrong_length_is_told",
    ),
    bound(
        "document_change_bytes",
        crdt::CHANGE_LEN_MAX as u64,
        "bytes",
        "looked through before the engine sees it",
        "chunks_of_other_kinds_and_bombs_are_refused_unopened",
    ),
    bound(
        "document_change_operations",
        crdt::CHANGE_OPS_MAX,
        "operations",
        "run-length encoding hides a million in a few bytes",
        "chunks_of_other_kinds_and_bombs_are_refused_unopened",
    ),
    bound(
        "document_actors",
        crdt::DOC_ACTORS_MAX as u64,
        "writers per epoch",
        "every reader pays for them in each fold",
        "a_document_with_all_the_writers_it_may_have_refuses_one_more",
    ),
    bound(
        "document_changes",
        crdt::DOC_CHANGES_MAX,
        "changes per epoch",
        "the same; an epoch ends before",
        "a_history_takes_what_its_bounds_allow_and_nothing_more",
    ),
    bound(
        "document_bytes",
        crdt::DOC_BYTES_MAX,
        "bytes per epoch",
        "the same",
        "a_history_takes_what_its_bounds_allow_and_nothing_more",
    ),
    bound(
        "changes_waiting",
        crdt::WAITING_MAX as u64,
        "changes per author",
        "what follows on something that never comes",
        "what_waits_beyond_the_bound_is_looked_at_later_and_never_lost",
    ),
    bound(
        "changes_waiting_bytes",
        crdt::WAITING_BYTES_MAX as u64,
        "bytes per author",
        "the same",
        "what_waits_beyond_the_bound_is_looked_at_later_and_never_lost",
    ),
    bound(
        "orphans",
        crdt::ORPHANS_MAX,
        "facts per peer",
        "facts that nobody asked for and that do not fit",
        "orphans_are_counted_then_not_looked_at_and_in_the_end_closed",
    ),
    bound(
        "orphan_bytes",
        crdt::ORPHAN_BYTES_MAX,
        "bytes per peer",
        "the same",
        "large_orphans_are_counted_by_their_bytes",
    ),
    bound(
        "certificate_chain_bytes",
        CHAIN_BYTES_MAX as u64,
        "bytes",
        "read before anybody is known",
        "chains_are_bounded_and_damaged_bytes_never_panic",
    ),
    bound(
        "certificate_chain_depth",
        CHAIN_DEPTH_MAX as u64,
        "certificates",
        "each costs the check of a signature",
        "chains_are_bounded_and_damaged_bytes_never_panic",
    ),
    bound(
        "open_proposals_per_agent",
        OPEN_PER_AGENT_MAX as u64,
        "proposals",
        "one agent must not bury the approvers",
        "what_is_above_the_limits_is_told_once_and_judged_when_its_turn_comes",
    ),
    bound(
        "open_proposals_per_site",
        OPEN_PER_SITE_MAX as u64,
        "proposals",
        "one site must not bury the others",
        "the_queue_is_the_oldest_of_each_agent_of_each_site_in_turn",
    ),
    bound(
        "open_proposals",
        OPEN_MAX as u64,
        "proposals per coordinator, fair between sites",
        "memory, some 7 kB each, and the time to judge them",
        "the_queue_is_the_oldest_of_each_agent_of_each_site_in_turn",
    ),
    bound(
        "approvals_per_person",
        APPROVALS_PER_HOUR_MAX as u64,
        "approvals per hour",
        "nobody reads more",
        "nobody_reads_more_than_sixty_things_an_hour",
    ),
    bound(
        "ahead_ms",
        AHEAD_MS_MAX,
        "ms",
        "facts from farther ahead are flagged, not refused: clocks are wrong",
        "a_reading_from_the_far_future_is_not_followed",
    ),
    bound(
        "relay_circuits_per_peer",
        mesh::RELAY_CIRCUITS_PER_PEER_MAX as u64,
        "circuits",
        "a relay carries others' bytes, a window each way for each, and one peer must not take all",
        "a_relay_carries_so_many_circuits_of_one_member_and_no_more",
    ),
    bound(
        "send_queue_bytes",
        mesh::SEND_QUEUE_BYTES_MAX as u64,
        "bytes per link",
        "a peer that stops reading loses its link, nothing else",
        "a_peer_that_does_not_read_loses_its_link_and_holds_back_nobody",
    ),
];

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documentation_has_each_bound() {
        let mut table = String::new();
        for bound in TABLE {
            writeln!(
                table,
                "| `{}` | {} | {} | {} | `{}` |",
                bound.name, bound.max, bound.unit, bound.because, bound.test
            )
            .expect("writes");
        }
        let documented = include_str!("../../../docs/reference/bounds.md");
        let rows: Vec<_> = documented.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows, table.lines().collect::<Vec<_>>(), "docs/reference/bounds.md should have:\n{table}");
    }

    #[test]
    fn somebody_exceeds_each_bound_in_a_test_that_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let mut sources = String::new();
        for room in ["mesh/src", "crdt/src", "identity/src", "coordinator/src", "node/core/src"] {
            read(&root.join(room), &mut sources);
        }
        for bound in TABLE {
            assert!(sources.contains(&format!("fn {}(", bound.test)), "{}: no test {}", bound.name, bound.test);
        }
    }

    fn read(folder: &Path, sources: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                read(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(&path).expect("a source file"));
            }
        }
    }

    #[test]
    fn a_hub_keeps_more_connections() {
        let connections = |hub| bounds(hub).get("connections").map(|bound| bound.max);
        assert_eq!((connections(false), connections(true)), (Some(128), Some(1_024)));
    }
}
