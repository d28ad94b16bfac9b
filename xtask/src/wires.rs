//! `cargo xtask planted`: the bugs that no simulated world meets, each of which a named test must catch: in the wires, by
//! real handshakes; in ranges, documents in one piece and facts on disk, by a peer or a disk that lies on purpose; in whom to link with; in what people and coordinators
//! may do to a proposal, by their tests; in escrow, by its model.

use std::process::{ExitCode, Stdio};

use crate::forward::cargo;

/// Bug, and package and name of the test that must fail with it.
const CAUGHT_BY: [(&str, &str, &str); 45] = [
    ("stranded-gateway-stays", "cauldron-mesh-core", "gateways_that_reach_nobody_outside_are_helped"),
    ("region-takes-all", "cauldron-mesh-core", "a_region_that_is_gone_leaves_room_for_the_others"),
    ("sightings-unbounded", "cauldron-mesh-core", "an_observer_that_loses_everybody_all_the_time_is_not_told_on"),
    ("own-cut-told", "cauldron-mesh-core", "who_was_cut_off_alone_says_nothing_of_the_others"),
    ("resumption-on", "cauldron-mesh", "a_session_is_never_resumed_so_a_distrusted_peer_is_verified_again"),
    ("guard-off", "cauldron-mesh", "withdrawn_trust_ends_live_connections_and_keeps_them_out"),
    ("path-check-off", "cauldron-mesh", "no_bad_certificate_is_let_in_by_either_side"),
    ("clone-let-in", "cauldron-mesh", "a_copy_beside_its_original_is_refused_at_both_ends_and_the_link_stays"),
    ("circuit-to-anybody", "cauldron-mesh", "a_relay_that_leads_elsewhere_or_shows_a_bad_certificate_gets_nothing"),
    ("range-interior-unchecked-prev", "cauldron-crdt", "a_range_with_a_hole_closes_the_link_and_leaves_nothing"),
    ("bomb-unbounded", "cauldron-crdt", "a_bomb_is_not_unpacked_and_a_wrong_length_is_told"),
    ("unfair-order", "cauldron-crdt", "a_flooding_author_starves_nobody"),
    (
        "vouched-told-alone",
        "cauldron-crdt",
        "garbled_signatures_are_blamed_on_nobody_passed_on_by_nobody_and_mended_by_another_peer",
    ),
    ("base-tips-unchecked", "cauldron-crdt", "what_nobody_signed_is_not_taken"),
    (
        "base-outlives-cut",
        "cauldron-crdt",
        "authors_that_do_not_count_here_are_nobodys_lie_and_a_later_cut_goes_back_to_the_facts",
    ),
    ("genesis-unchecked", "cauldron-crdt", "an_epoch_in_one_piece_begins_from_what_its_readers_sealed"),
    ("seal-of-one", "cauldron-crdt", "one_reader_ends_nothing"),
    ("cold-unproven", "cauldron-crdt", "a_damaged_archive_record_is_missing_and_reported"),
    ("pack-named-by-first", "cauldron-crdt", "a_mended_fact_wins_and_no_pack_takes_the_place_of_another"),
    ("audit-drawn-by-owner", "cauldron-coordinator", "an_owner_does_not_choose_what_of_its_own_is_audited"),
    ("audit-permit-believed", "cauldron-coordinator", "an_owner_that_names_another_permit_is_looked_at"),
    (
        "failure-accepted-unseen",
        "cauldron-coordinator",
        "what_a_check_refutes_calls_until_it_is_taken_back_or_somebody_says_that_it_stands",
    ),
    ("deputy-votes-twice", "cauldron-coordinator", "one_right_is_one_vote_however_it_is_used"),
    ("writer-approves", "cauldron-coordinator", "an_edit_is_a_child_that_others_approve"),
    ("silence-unvouched", "cauldron-coordinator", "silence_allows_once_a_coordinator_says_it_was_kept"),
    ("reported-trusted", "cauldron-coordinator", "a_coordinator_cannot_talk_an_owner_into_anything"),
    ("takes-less", "cauldron-coordinator", "a_permit_that_takes_less_than_its_owners_policy_asks_is_refused"),
    ("edit-unbound", "cauldron-coordinator", "an_edit_counts_only_as_it_was_signed_by_whom_was_asked"),
    ("modification-unbound", "cauldron-coordinator", "policy_modifies_and_the_child_is_judged_again"),
    ("lift-without-quorum", "cauldron-identity", "a_council_quorum_lifts_what_it_names_once_it_is_held"),
    ("autonomy-any-build", "cauldron-coordinator", "another_build_model_or_site_or_a_persons_hand_has_no_autonomy"),
    ("handover-by-anyone", "cauldron-identity", "an_owner_hands_over_by_its_own_word_and_nobody_elses"),
    ("kill-closed-unconfirmed", "cauldron-node-core", "nothing_is_closed_while_somebody_has_not_said_so"),
    ("isolation-without-grant", "cauldron-coordinator", "past_the_lease_only_what_the_grant_says"),
    ("break-glass-skips-deny", "cauldron-coordinator", "broken_glass_skips_no_deny_veto_or_kill"),
    ("break-glass-twice", "cauldron-coordinator", "a_token_is_used_once_whoever_brings_it_first"),
    ("step-unchecked", "cauldron-coordinator", "an_owner_begins_no_step_out_of_turn_whatever_a_coordinator_permits"),
    ("step-by-anybody", "cauldron-coordinator", "nobody_hangs_a_step_on_what_somebody_else_proposed"),
    (
        "one-coordinator-for-r3",
        "cauldron-coordinator",
        "r3_is_not_started_on_the_word_of_one_coordinator_under_two_names",
    ),
    ("reconciled-by-anybody", "cauldron-coordinator", "only_whom_the_permit_needed_says_what_became_of_it"),
    // Two models, which go through everything.
    (
        "resume-unjudged",
        "cauldron-coordinator",
        "an_owner_does_once_what_was_permitted_whatever_arrives_in_whatever_order",
    ),
    (
        "cut-beside-forgotten",
        "cauldron-coordinator",
        "a_cut_holds_and_forgets_nothing_whatever_arrives_in_whatever_order",
    ),
    (
        "sandbox-ignored",
        "cauldron-coordinator",
        "a_sandbox_that_the_connector_cannot_enforce_is_refused_and_says_what_it_can",
    ),
    ("fencing-unchecked", "cauldron-coordinator", "a_new_owner_whose_connector_fences_less_than_was_said_refuses"),
    ("purpose-restated", "cauldron-coordinator", "a_purpose_is_stated_before_anything_was_read_and_nowhere_else"),
];

/// Runs each test without its bug, where it must hold, and with it, where it must not.
pub fn run() -> Result<ExitCode, String> {
    let mut alive = Vec::new();
    for (bug, package, test) in CAUGHT_BY {
        if !holds(package, test, None)? {
            return Err(format!("{test} fails without any bug; see `cargo test -p {package} {test}`"));
        }
        let caught = !holds(package, test, Some(bug))?;
        println!("{bug:<30} {} by {test}", if caught { "caught" } else { "NOT CAUGHT" });
        if !caught {
            alive.push(bug);
        }
    }
    println!("{} of {} caught", CAUGHT_BY.len() - alive.len(), CAUGHT_BY.len());
    if !model_finds()? {
        alive.push("escrow");
    }
    Ok(if alive.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the model of escrow finds its bugs; the test says which.
fn model_finds() -> Result<bool, String> {
    let mut command = cargo();
    command.args(["test", "--package", "cauldron-crdt", "--features", "planted", "--test", "escrow_model", "--"]);
    command.args(["--nocapture", "planted"]);
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    Ok(output.status.success() && text.contains("2 passed"))
}

fn holds(package: &str, test: &str, bug: Option<&str>) -> Result<bool, String> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", package, "--features", "planted", "--lib", "--", test]);
    command.env_remove("CAULDRON_PLANTED");
    if let Some(bug) = bug {
        // The test waits for what must happen and here does not.
        command.env("CAULDRON_PLANTED", bug).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A renamed test would run nothing, and nothing always holds.
    if bug.is_none() && !text.contains("1 passed") {
        println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        return Ok(false);
    }
    Ok(output.status.success())
}
