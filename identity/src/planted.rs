//! Deliberate bugs that the simulator must find. Without the feature `planted` there is nothing here to switch on.
//!
//! They live in the lowest room, because every room above plants some.
//!
//! | name | what it breaks |
//! |---|---|
//! | `owner-trusts-coordinator` | the owner skips its own evaluation and the votes |
//! | `vote-not-bound-to-terms` | an approval counts under terms its signer never saw |
//! | `same-person-twice` | every credential is a voter |
//! | `deny-not-final` | once a permit exists, a denial no longer stops it |
//! | `intent-key-ignored` | a lineage or intent may be started again |
//! | `lease-ignored` | a node acts however old its lease is |
//! | `restored-node-repeats` | a node restored from a backup neither asks nor waits before it acts |
//! | `private-scope-leaks` | peers are offered scopes that their reader rule does not name |
//! | `effect-before-started` | an effect is carried out before its start is durable |
//! | `ack-before-durable` | an answer is given before what it says is on disk |
//! | `end-not-probed` | after a restart nobody asks whether what was done still stands |
//! | `cut-ignored` | a cut is stored and means nothing |
//! | `high-water-not-persisted` | after a boot the wall clock is believed, whatever it shows |
//! | `time-reset-unheard` | an operator's word on the time is taken against a coordinator's |
//! | `coordinator-may-enrol-people` | a person enrolled without the council counts |
//! | `token-single-shot` | a token whose reply was lost cannot be redeemed again by the same key |
//! | `term-by-anybody` | a new sequencer needs nobody's signature |
//! | `activate-unheard` | a root key signs although not every member has said to trust it |
//! | `cut-change-stays` | what a cut author wrote beyond its cut stays in documents |
//! | `reissue-forgotten` | what an honest author wrote on top of cut changes is not said again |
//! | `closed-outlives-cut` | an epoch whose facts are left to the log is not opened when a cut reaches into it |
//! | `late-forgotten` | what an author wrote to an epoch of a document that had ended is not said again |
//! | `restore-unlinked` | a store is opened although its facts do not link |
//! | `fork-not-frozen` | leases of a sequencer that is proven to lie still count |
//! | `grant-from-nothing` | a node grants more of a budget than it holds |
//! | `reserve-not-durable` | a reservation is answered for and told, and never written to disk |
//! | `start-unreserved` | a permit is started although the rights that it takes are not there |
//! | `unknown-settled-unspent` | what a permit took is given back although nobody knows whether its effect happened |
//! | `cold-before-durable` | a fact leaves memory before the store has it |
//! | `index-outlives-its-store` | what a clean stop left is believed although the store went on |
//! | `horizon-ignored` | an isolation grant goes on for ever |
//! | `withdrawn-grant-stands` | an isolation grant goes on after the council took it back |
//! | `one-local-person` | past the lease one of the site's own people is enough for class R2 |
//! | `isolation-without-escrow` | past the lease class R2 draws on nothing, or on what the grant does not name |
//! | `start-by-hearsay` | what another owner says it started counts for a proposal that is not its to carry out |
//! | `rights-unconfirmed` | after a restart rights are used before any peer has confirmed what was done with them |
//! | `step-out-of-turn` | a step of a saga waits for no other |
//!
//! Bugs of who is there and whom to link with:
//!
//! | name | what it breaks |
//! |---|---|
//! | `refutation-ignored` | who was lost once stays lost, whatever it says |
//! | `presence-not-compared` | what a link missed of presence is never made up for |
//! | `agreement-unheard` | a peer that has told its digest is still shown as behind |
//! | `sighting-unanchored` | whoever is said to be lost since an announcement that it never made stays lost, whatever it says |
//! | `own-cut-told` | who was cut off from everybody says that it lost them all |
//! | `stranded-gateway-stays` | nobody helps gateways that reach nobody outside |
//! | `region-takes-all` | a region that is gone may take all the room there is for dialling |
//! | `sightings-unbounded` | an observer may say of everybody, without end, that it lost them |
//!
//! The first four are the simulator's to find, the others a named test's.
//!
//! Bugs of the wires, which no simulated world has; `cargo xtask planted` runs the test of real handshakes that must catch
//! each:
//!
//! | name | what it breaks |
//! |---|---|
//! | `resumption-on` | TLS sessions may be resumed, which skips the verifier |
//! | `guard-off` | a live connection is never looked at again |
//! | `path-check-off` | a site intermediate signs for any path |
//! | `clone-let-in` | a second process of one identity stands beside the first |
//! | `circuit-to-anybody` | whoever a relay leads to is taken for the peer that was asked for |
//!
//! Bugs of what a model checks exhaustively; `cargo xtask planted` runs the model that must find each, and the simulator must
//! find them too:
//!
//! | name | what it breaks |
//! |---|---|
//! | `credit-counted-twice` | a grant that was credited may be credited again |
//! | `refund-by-timeout` | a grantor takes back what the receiver has not credited yet |
//!
//! Bugs of ranges, of documents in one piece and of facts on disk, which need a peer or a disk that lies on purpose; `cargo
//! xtask planted` runs the named test of the state crate for each:
//!
//! | name | what it breaks |
//! |---|---|
//! | `range-interior-unchecked-prev` | a range is taken although its facts do not link |
//! | `bomb-unbounded` | a packed frame may grow to whatever it announces |
//! | `unfair-order` | the first author in order is always served first |
//! | `vouched-told-alone` | a fact leaves alone before its own signature was looked at |
//! | `base-tips-unchecked` | a document in one piece is taken although its authors signed something else |
//! | `cold-unproven` | what the store gives back is believed without its id |
//! | `pack-named-by-first` | a pack of facts takes the place of another that begins with the same fact |
//! | `base-outlives-cut` | what a document in one piece brought stays when an author of it is cut |
//! | `genesis-unchecked` | an epoch in one piece is taken although its readers sealed something else |
//! | `seal-of-one` | one reader alone ends an epoch |
//!
//! Bugs of what people and coordinators may do to a proposal, which the named test of the coordinator crate must catch:
//!
//! | name | what it breaks |
//! |---|---|
//! | `audit-drawn-by-owner` | whoever acts draws which of its own actions people look at |
//! | `audit-permit-believed` | a start rests on any permit and decision that it names, whoever wrote them |
//! | `failure-accepted-unseen` | whoever looked at an action accepts each later failure of it |
//! | `deputy-votes-twice` | a person and their deputy fill two seats with one right |
//! | `writer-approves` | who wrote or edited a proposal may approve it |
//! | `silence-unvouched` | an owner goes by silence without a coordinator's word |
//! | `reported-trusted` | what a coordinator reports is all that an owner judges |
//! | `edit-unbound` | a signature under one edit holds for another |
//! | `takes-less` | a permit may set less of a budget aside than its owner's policy asks |
//! | `modification-unbound` | a coordinator that may modify may write anything |
//! | `lift-without-quorum` | restrictions are lifted without the council |
//! | `autonomy-any-build` | what one build was granted, every build holds |
//! | `handover-by-anyone` | anybody may hand over what somebody else owns |
//! | `kill-closed-unconfirmed` | a stop is called closed before everybody says to enforce it |
//! | `isolation-without-grant` | an owner goes on past its lease although no grant covers it |
//! | `break-glass-skips-deny` | a token skips a deny, veto or kill, too |
//! | `break-glass-twice` | a token may be used again |
//! | `resume-unjudged` | what was started before a crash goes on although somebody said no since |
//! | `cut-beside-forgotten` | a cut that a term took out of the chain means nothing |
//! | `sandbox-ignored` | an owner starts what its connector cannot sandbox as the permit says |
//! | `fencing-unchecked` | a new owner acts although its connector fences less than the council's entry says |
//! | `step-unchecked` | an owner begins a step of a saga out of turn, where a coordinator permits it |
//! | `step-by-anybody` | anybody may hang a step on what somebody else proposed |
//! | `reconciled-by-anybody` | anybody enrolled may say what became of something of which nobody knows |
//! | `one-coordinator-for-r3` | the permit of one coordinator is enough for class R3 |
//! | `purpose-restated` | a session may say anew what it is for, after it read something |

/// The bugs of what people and coordinators may do to a proposal.
pub const GOVERN_NAMES: [&str; 26] = [
    "audit-drawn-by-owner",
    "audit-permit-believed",
    "failure-accepted-unseen",
    "deputy-votes-twice",
    "writer-approves",
    "silence-unvouched",
    "reported-trusted",
    "edit-unbound",
    "takes-less",
    "modification-unbound",
    "lift-without-quorum",
    "autonomy-any-build",
    "handover-by-anyone",
    "kill-closed-unconfirmed",
    "isolation-without-grant",
    "break-glass-skips-deny",
    "break-glass-twice",
    "resume-unjudged",
    "cut-beside-forgotten",
    "purpose-restated",
    "sandbox-ignored",
    "fencing-unchecked",
    "step-unchecked",
    "step-by-anybody",
    "reconciled-by-anybody",
    "one-coordinator-for-r3",
];

/// The bugs of whom to link with, and of what is said of who is there.
pub const NEAR_NAMES: [&str; 4] = ["stranded-gateway-stays", "region-takes-all", "sightings-unbounded", "own-cut-told"];

/// The bugs of ranges, of documents in one piece and of facts on disk.
pub const RANGE_NAMES: [&str; 10] = [
    "range-interior-unchecked-prev",
    "bomb-unbounded",
    "unfair-order",
    "vouched-told-alone",
    "base-tips-unchecked",
    "base-outlives-cut",
    "genesis-unchecked",
    "seal-of-one",
    "cold-unproven",
    "pack-named-by-first",
];

/// The bugs of the wires.
pub const WIRE_NAMES: [&str; 5] =
    ["resumption-on", "guard-off", "path-check-off", "clone-let-in", "circuit-to-anybody"];

/// The bugs of the models; `activate` accepts them too.
pub const MODEL_NAMES: [&str; 2] = ["credit-counted-twice", "refund-by-timeout"];

/// The bugs that the simulator must find; `activate` accepts them, in a build with the feature.
pub const NAMES: [&str; 51] = [
    "lanes-ignored",
    "budget-ignored",
    "refutation-ignored",
    "presence-not-compared",
    "agreement-unheard",
    "sighting-unanchored",
    "owner-trusts-coordinator",
    "vote-not-bound-to-terms",
    "same-person-twice",
    "deny-not-final",
    "intent-key-ignored",
    "lease-ignored",
    "restored-node-repeats",
    "private-scope-leaks",
    "effect-before-started",
    "ack-before-durable",
    "end-not-probed",
    "cut-ignored",
    "high-water-not-persisted",
    "time-reset-unheard",
    "coordinator-may-enrol-people",
    "token-single-shot",
    "term-by-anybody",
    "activate-unheard",
    "fork-not-frozen",
    "cut-change-stays",
    "reissue-forgotten",
    "late-forgotten",
    "closed-outlives-cut",
    "grant-from-nothing",
    "reserve-not-durable",
    "rights-unconfirmed",
    "start-unreserved",
    "unknown-settled-unspent",
    "restore-unlinked",
    "cold-before-durable",
    "index-outlives-its-store",
    "writer-approves",
    "deputy-votes-twice",
    "silence-unvouched",
    "silence-not-waited",
    "edit-beside-its-parent",
    "isolation-without-grant",
    "horizon-ignored",
    "withdrawn-grant-stands",
    "one-local-person",
    "isolation-without-escrow",
    "break-glass-twice",
    "start-by-hearsay",
    "step-out-of-turn",
    "one-coordinator-for-r3",
];

/// One of [`WIRE_NAMES`], [`RANGE_NAMES`], [`NEAR_NAMES`] or [`GOVERN_NAMES`], for every thread: tests run wherever the runtime puts them.
#[cfg(feature = "planted")]
static EVERYWHERE: std::sync::OnceLock<&str> = std::sync::OnceLock::new();

#[cfg(feature = "planted")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether the bug `name` is switched on for this thread.
#[cfg(feature = "planted")]
#[must_use]
pub fn active(name: &str) -> bool {
    ACTIVE.get() == Some(name) || EVERYWHERE.get() == Some(&name)
}

/// Whether the bug `name` is switched on: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline]
pub const fn active(_name: &str) -> bool {
    false
}

/// Switches one bug on for this thread, or all off. Returns false when no bug has that name.
#[cfg(feature = "planted")]
pub fn activate(name: Option<&str>) -> bool {
    let known = name.map(|wanted| NAMES.into_iter().chain(MODEL_NAMES).find(|n| *n == wanted));
    ACTIVE.set(known.flatten());
    known != Some(None)
}

/// Switches one of [`WIRE_NAMES`], [`RANGE_NAMES`], [`NEAR_NAMES`] or [`GOVERN_NAMES`] on for the rest of the process. Returns false when none has that name, or another is on.
#[cfg(feature = "planted")]
pub fn activate_everywhere(name: &str) -> bool {
    let known = WIRE_NAMES.into_iter().chain(RANGE_NAMES).chain(NEAR_NAMES).chain(GOVERN_NAMES).find(|n| *n == name);
    known.is_some_and(|name| *EVERYWHERE.get_or_init(|| name) == name)
}

#[cfg(all(test, feature = "planted"))]
mod tests {
    use super::*;

    #[test]
    fn one_bug_at_a_time_and_only_known_ones() {
        assert!(activate(Some("lease-ignored")) && active("lease-ignored") && !active("deny-not-final"));
        assert!(!activate(Some("no-such-bug")) && !active("lease-ignored"));
        assert!(activate(None));
    }
}
