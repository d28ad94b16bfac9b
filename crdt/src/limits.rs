//! Every bound of this crate, each with its reason. Guarantees §4 names the common ones.

use cauldron_identity::fact::{BODY_LEN_MAX, HEADER_LEN_MAX};

/// W3C Trace Context: a `traceparent` of version 00 has 55 characters.
pub const TRACEPARENT_LEN_MAX: usize = 64;

/// Guarantees §4: control frames (`Have`, `Want`, `Digest`, `Again`), bytes.
pub const CONTROL_FRAME_LEN_MAX: usize = 64 * 1024;
/// Guarantees §4: facts in one frame, bytes; a single larger fact travels alone.
pub const FACTS_LEN_MAX: usize = 256 * 1024;
/// The largest frame at all: one fact of full size and the frame around it.
pub const FRAME_LEN_MAX: usize = BODY_LEN_MAX + HEADER_LEN_MAX + 1024;
/// What the mesh carries in one frame; ours must fit.
const MESH_FRAME_LEN_MAX: usize = 320 * 1024;
const _: () = assert!(FRAME_LEN_MAX <= MESH_FRAME_LEN_MAX && FACTS_LEN_MAX + 1024 <= FRAME_LEN_MAX);

/// Guarantees §4: what a `Bulk` frame may grow to when it is unpacked, bytes.
pub const BULK_RAW_LEN_MAX: usize = 4 * 1024 * 1024;
/// Guarantees §4: how many times its own length a `Bulk` frame may grow when it is unpacked.
pub const BULK_GROWTH_MAX: usize = 8;
/// Shorter ranges go as single facts: three signatures saved are worth a frame of their own kind, fewer are not.
pub const BULK_FACTS_MIN: usize = 4;
/// What is tried first when a range is packed, bytes: chains of small facts shrink to about half; twice that for those
/// that shrink more.
pub const BULK_TRY_LEN: usize = 1024 * 1024;
const _: () = assert!(FACTS_LEN_MAX < BULK_TRY_LEN && BULK_TRY_LEN <= BULK_RAW_LEN_MAX);

/// Within so many positions of a chain at least one signature is checked before anything is taken. One check costs as
/// much as hashing and linking some 30 facts: more would buy little, and evidence of a fork must carry the span.
pub const VOUCH_SPAN: u64 = 32;
/// Length of a fact up to which a later one may vouch for it, bytes: a larger one costs more to hash than to verify.
pub const VOUCHED_LEN_MAX: usize = 4 * 1024;
// Whatever is vouched for fits into one frame up to the fact that vouches for it; so do the headers of two branches.
const _: () = assert!(VOUCH_SPAN as usize * VOUCHED_LEN_MAX <= FACTS_LEN_MAX);
const _: () = assert!(2 * VOUCH_SPAN as usize * (HEADER_LEN_MAX + 72) + 64 <= FRAME_LEN_MAX);
/// Signatures of vouched facts that are looked at in one go: below 10 ms on a slow machine.
pub const SETTLE_FACTS: usize = 128;
/// Between two such goes, milliseconds: about a seventh of a core, and a million facts in seven minutes.
pub const SETTLE_EVERY_MS: u64 = 50;

/// Facts of the log in memory, bytes: what peers and folds ask for again is new, and the store reads the rest in some 10 µs.
pub const HOT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A full frame of facts is read again at once while it is passed on.
const _: () = assert!(HOT_BYTES_MAX >= 2 * BULK_RAW_LEN_MAX);
/// Kinds that a log knows by number; this build has some thirty. Of further ones only the fact itself tells its kind.
pub const KINDS_MAX: u16 = 1_024;
/// Facts in one chunk of the index that a clean stop leaves: a value of some 250 KiB.
pub const INDEX_ROWS: usize = 6_000;

/// Facts in one pack: who reads one of them unpacks all.
pub const PACK_FACTS_MAX: usize = 128;
/// What a pack may hold and grow to when it is unpacked, bytes; and [`BULK_GROWTH_MAX`] times its own length.
pub const PACK_RAW_LEN_MAX: usize = 256 * 1024;
const _: () = assert!(PACK_RAW_LEN_MAX <= BULK_RAW_LEN_MAX);
/// What a pack of small facts is filled up to, bytes: redb gives a large value a power of two of its pages of 4 KiB, and this
/// with its key, its envelope and redb's own bookkeeping fits four.
pub const PACK_LEN_AIM: usize = 16 * 1024 - 256;
/// Packs that a log keeps unpacked, those that were asked last: as many chains are read in turn without unpacking anew. Of small
/// facts they take half a MiB.
pub const PACKS_KEPT: usize = 8;
const _: () = assert!(PACKS_KEPT * PACK_RAW_LEN_MAX * 4 <= HOT_BYTES_MAX);

/// Heads per `Have` frame: a head takes at most 84 bytes, and 28 more where it says how urgent its chain is, so that a frame of
/// one scope stays below the control bound.
pub const HEADS_PER_FRAME_MAX: usize = 512;
const _: () = assert!(HEADS_PER_FRAME_MAX * (84 + 28) + 1024 <= CONTROL_FRAME_LEN_MAX);
/// The last facts of a chain among which urgent ones are looked for: some 10 µs.
pub const URGENT_AMONG: u64 = 4_096;
/// Facts that are pushed at once because the last of them is urgent, bytes: what is longer is asked for.
pub const URGENT_RUN_LEN: usize = 64 * 1024;
/// The longest time for which a peer is not asked for documents because it said so, milliseconds: it says so again.
pub const LATER_MS_MAX: u64 = 60_000;
/// Chains remembered per link, about 10 MiB at most: 1,000 nodes with a few scopes and incarnations each.
pub const HEADS_PER_LINK_MAX: usize = 65_536;
/// Frames of one announcement: all chains of a link.
pub const PARTS_MAX: u32 = 1024;

/// Guarantees §4: requests outstanding per peer, both asked and waiting to be answered.
pub const REQUESTS_MAX: usize = 4;
/// Facts asked for in one request: about one `Bulk` frame of small facts, so that a long way does not set the pace.
pub const RANGE_FACTS_MAX: u64 = 2_048;
/// Requests given up whose answers are still looked at: what one bad line delays.
pub const LATE_MAX: usize = 2 * REQUESTS_MAX;
/// Answers in a row without what the peer said it has, after which the session is closed.
pub const UNMET_MAX: u32 = 6;
/// Guarantees §4: facts of one peer that nobody asked for and that do not fit, before its pushes are not looked at.
pub const ORPHANS_MAX: u64 = 1_024;
/// Guarantees §4: their bytes.
pub const ORPHAN_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// In this time a peer earns that much again, milliseconds: half of what passes between two digests.
pub const ORPHANS_MS: u64 = DIGEST_EVERY_MS / 2;
/// Frames not looked at in a row, with nothing new between them, after which the session is closed.
pub const FLOOD_FRAMES_MAX: u64 = 4_096;
/// Guarantees §4: bytes of facts served to one peer per second.
pub const SERVE_BYTES_PER_S: u64 = 16 * 1024 * 1024;
/// What may be served at once after a pause: a quarter of a second's worth.
pub const SERVE_BURST_BYTES: u64 = SERVE_BYTES_PER_S / 4;
const _: () = assert!(SERVE_BURST_BYTES >= (REQUESTS_MAX * FRAME_LEN_MAX) as u64);

/// After this, a request is taken from the peer that did not answer it, milliseconds. A frame may take longer on a bad
/// line; its facts are still welcome.
pub const REQUEST_MS_MAX: u64 = 5_000;
/// A session that asks and gets nothing is closed after this, milliseconds: six requests.
pub const STALL_MS_MAX: u64 = 30_000;
const _: () = assert!(STALL_MS_MAX > REQUEST_MS_MAX);
/// When a peer holds so many facts of a scope that are missing here, documents are fetched in one piece before them:
/// fewer are here within a second.
pub const FAR_FACTS: u64 = 1_024;
/// For so long facts of a scope wait for documents in one piece, milliseconds; then they are asked for all the same.
pub const HOLD_MS_MAX: u64 = 5_000;
/// And for so long while what was fetched is being unpacked here, milliseconds: longer than that may take.
pub const HOLD_OWN_MS_MAX: u64 = 15_000;
/// Chains remembered of all peers whose links are down, about 10 MiB: enough for 1,000 peers in a mesh of some 60 chains.
pub const PARTED_CHAINS_MAX: usize = 65_536;
/// A peer that lacks something and has said nothing new for so long is shown as stalled, milliseconds: where both ends agreed, the next
/// digest may take a minute.
pub const STANDSTILL_MS: u64 = 120_000;
const _: () = assert!(STANDSTILL_MS > DIGEST_IDLE_MS + STALL_MS_MAX);
/// A scope's facts are not held back again before, milliseconds: a peer that promises much must not keep them away.
pub const HOLD_AGAIN_MS: u64 = 60_000;
/// The core's timers fall on multiples of this, milliseconds: it is woken 40 times a second at most, however many links it
/// has.
pub const WAKE_MS: u64 = 25;
/// From a change to the digest that shows it, and between two digests on a link while its ends differ, milliseconds: what
/// push lost is repaired within "connected nodes know within 10 s".
pub const DIGEST_EVERY_MS: u64 = 8_000;
/// The longest time between two digests on a link whose ends agreed last, and at which nothing has changed since.
pub const DIGEST_IDLE_MS: u64 = 8 * DIGEST_EVERY_MS;
/// Frames of digests are counted over this time, milliseconds: comparing costs a walk over the chains.
pub const DIGEST_MS_MIN: u64 = 1_000;
/// Frames of digests that a peer may have compared in that time: enough for a coordinator of 2,000 sites.
pub const DIGEST_FRAMES_MAX: u32 = 10;
/// For so long a peer is not told the same heads once more because its digest still differs, milliseconds: an honest one
/// asks for what it lacks, and repeats itself with its next digest only.
pub const TELL_AGAIN_MS: u64 = DIGEST_EVERY_MS / 2;
/// Digests per frame: one takes at most 116 bytes with its scope's name.
pub const DIGESTS_PER_FRAME_MAX: usize = 512;
const _: () = assert!(DIGESTS_PER_FRAME_MAX * 116 + 1024 <= CONTROL_FRAME_LEN_MAX);
/// News for peers that are not pushed to is collected this long, milliseconds: one frame covers a burst.
pub const COALESCE_MS: u64 = 50;
/// Co-readers that a new fact is pushed to: with three each, the rest of 1,000 nodes is 7 hops away.
pub const PUSH_FANOUT: usize = 3;

/// Guarantees §4: a document change, bytes.
pub const CHANGE_LEN_MAX: usize = BODY_LEN_MAX - 256;
/// Guarantees §4: operations in one change.
pub const CHANGE_OPS_MAX: u64 = 10_000;
/// Changes that one change may follow directly: one per concurrent writer, and then some.
pub const CHANGE_DEPS_MAX: usize = 256;
/// Guarantees §4: writers in the history of a document epoch.
pub const DOC_ACTORS_MAX: usize = 256;
/// Guarantees §4: changes in the history of a document epoch.
pub const DOC_CHANGES_MAX: u64 = 20_000;
/// Guarantees §4: bytes of changes in the history of a document epoch.
pub const DOC_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Operations in the history of a document epoch: 10 per change on average; bounds what run-length encoding hides.
pub const DOC_OPS_MAX: u64 = 200_000;
/// Changes in an epoch, its beginning not counted, after which readers end it: while they agree, a fifth of it is still free.
pub const EPOCH_CHANGES: u64 = DOC_CHANGES_MAX * 4 / 5;
/// An epoch that is four fifths full in another measure ends after so many changes, or when a tenth of that measure was added to
/// what it began from: that alone must not make readers end one after the other.
pub const EPOCH_CHANGES_MIN: u64 = 1_000;
/// Readers who must have folded an epoch to the same hash (architecture §3).
pub const SEAL_READERS: usize = 2;
/// Epochs in a row that begin nowhere any more and are looked into for what is to be said again; each costs a fold.
pub const EPOCHS_GONE_MAX: usize = 8;
/// Epochs that are kept open behind the one in use: what is on its way when an epoch ends still finds the one before.
pub const EPOCHS_OPEN_BEHIND: u32 = 1;
/// Facts of an epoch, those that were refused included, beyond which it stays open: what is kept of a closed one names each.
pub const CLOSED_FACTS_MAX: u64 = 1 << 20;
/// A closed epoch that was opened again so often stays open until the next start: each time all its facts are read.
pub const EPOCH_REOPENS_MAX: u32 = 4;
/// Seals of one author in one life for one epoch; each may cost every reader a fold.
pub const SEALS_MAX: usize = 4;
/// Guarantees §4: changes that wait for others, per author.
pub const WAITING_MAX: usize = 1024;
/// Guarantees §4: bytes of changes that wait for others, per author.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Refusals that are an author's own fault; beyond, it is not heard in this document any more.
pub const DOC_FAULTS_MAX: usize = 1024;
/// What poison counts as: each costs building the document anew, so four of them are enough.
pub const POISON_FAULTS: usize = DOC_FAULTS_MAX / 4;
/// How often one author in one life may begin anew in a document: each time others may have to follow.
pub const DOC_ROUNDS_MAX: u32 = 16;
/// Documents of one scope that one author in one life may write to; each costs every reader memory.
pub const DOCS_PER_WRITER_MAX: usize = 64;
/// Actors whose last changes vouch for a base: every writer of a full epoch, each in two rounds. Checking them takes some 20 ms.
pub const BASE_TIPS_MAX: usize = 2 * DOC_ACTORS_MAX;
/// The longest base, bytes: a full epoch that does not shrink, and what vouches for it.
pub const BASE_LEN_MAX: usize = DOC_BYTES_MAX as usize + BASE_TIPS_MAX * (HEADER_LEN_MAX + 128);
/// Changes that are decided at once, some 20 ms at the 35 µs each that `xtask bench state` shows; more are decided beside
/// the loop.
pub const DOC_INLINE_MAX: usize = 512;
/// Operations in one of the changes that a long edit is split into.
pub const EDIT_OPS_MAX: usize = 5_000;
const _: () = assert!(EDIT_OPS_MAX as u64 <= CHANGE_OPS_MAX);
/// Bytes that an operation takes in a change at most, its key and value not counted: ten columns of numbers.
pub const OP_LEN: usize = 40;
/// Bytes of operations in one of those changes, counted generously: what is around them fits beside.
pub const EDIT_LEN_MAX: usize = 224 * 1024;
const _: () = assert!(EDIT_LEN_MAX + 256 * 48 + 1024 < CHANGE_LEN_MAX);

/// Grants of one life, budget and window that were neither credited nor refused. A receiver that is away for days must not
/// draw an ever longer tail of small grants; the rest is granted when it answers.
pub const GRANTS_OPEN_MAX: usize = 64;
/// Credits and refusals that a node writes in one go: one frame of sync, and one commit of about 30 KiB.
pub const DUES_MAX: usize = 64;
