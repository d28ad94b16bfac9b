//! `cargo xtask planted`: the bugs that no simulated world meets, each of which a named test must catch: in the wires, by
//! real handshakes; in ranges, documents in one piece and facts on disk, by a peer or a disk that lies on purpose; in whom to link with; in what people and coordinators
//! may do to a proposal, by their tests; in escrow, by its model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// What a package's tests need to know a planted bug.
const FEATURES: &str = "cauldron-simulations/planted,cauldron-crdt/planted,cauldron-mesh/planted";

/// Builds the tests once, as part of the workspace, so that nothing but our own code is compiled anew; then runs each without its
/// bug, where it must hold, and with it, where it must not.
pub fn run() -> Result<ExitCode, String> {
    let programs = build()?;
    for package in CAUGHT_BY.iter().map(|(_, package, _)| *package).collect::<BTreeSet<_>>() {
        let tests: BTreeSet<&str> =
            CAUGHT_BY.iter().filter(|(_, of, _)| *of == package).map(|(.., test)| *test).collect();
        holds(program(&programs, package)?, &tests)?;
    }
    let (next, alive) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| -> Result<(), String> {
        let work = || {
            while let Some((bug, package, test)) = CAUGHT_BY.get(next.fetch_add(1, Ordering::Relaxed)) {
                let caught = catches(program(&programs, package)?, test, bug)?;
                println!("{bug:<30} {} by {test}", if caught { "caught" } else { "NOT CAUGHT" });
                if !caught {
                    alive.lock().map_err(|_| "a worker panicked")?.push(*bug);
                }
            }
            Ok::<(), String>(())
        };
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    let alive = alive.into_inner().map_err(|_| "a worker panicked")?;
    println!("{} of {} caught", CAUGHT_BY.len() - alive.len(), CAUGHT_BY.len());
    let escrow = model_finds(program(&programs, "escrow_model")?)?;
    Ok(if alive.is_empty() && escrow { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A test program, and the folder of its package, where it runs.
struct Program {
    name: String,
    file: PathBuf,
    package: PathBuf,
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package).env_remove("CAULDRON_PLANTED");
        command.stdin(Stdio::null());
        command
    }
}

fn build() -> Result<Vec<Program>, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--features", FEATURES, "--lib", "--test", "escrow_model"]);
    command.args(["--no-run", "--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build".into());
    }
    let of = |line: &str| {
        let told: serde_json::Value = serde_json::from_str(line).ok()?;
        let manifest = Path::new(told["manifest_path"].as_str()?);
        Some(Program {
            // A library has its package's name, with underscores.
            name: told["target"]["name"].as_str()?.to_owned(),
            file: told["executable"].as_str()?.into(),
            package: manifest.parent()?.into(),
        })
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(of).collect())
}

fn program<'a>(programs: &'a [Program], name: &str) -> Result<&'a Program, String> {
    let name = name.replace('-', "_");
    programs.iter().find(|program| program.name == name).ok_or_else(|| format!("cargo built no tests of {name}"))
}

/// All tests that catch a bug hold without one.
fn holds(program: &Program, tests: &BTreeSet<&str>) -> Result<(), String> {
    let output = program.command().args(tests).output();
    let output = output.map_err(|error| format!("cannot start {}: {error}", program.file.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A renamed test would run nothing, and nothing always holds.
    if output.status.success() && text.contains(&format!("{} passed", tests.len())) {
        return Ok(());
    }
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(format!("of {} not each of these holds without any bug: {tests:?}", program.name))
}

/// Whether a test fails with a bug.
fn catches(program: &Program, test: &str, bug: &str) -> Result<bool, String> {
    let mut command = program.command();
    // The test waits for what must happen and here does not.
    let status = command.arg(test).env("CAULDRON_PLANTED", bug).stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(!status.map_err(|error| format!("cannot start {}: {error}", program.file.display()))?.success())
}

/// Whether the model of escrow finds its bugs; the test says which.
fn model_finds(program: &Program) -> Result<bool, String> {
    let output = program.command().args(["--nocapture", "planted"]).output();
    let output = output.map_err(|error| format!("cannot start {}: {error}", program.file.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    Ok(output.status.success() && text.contains("2 passed"))
}
