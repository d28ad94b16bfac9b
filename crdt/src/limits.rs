//! Every bound of this crate, each with its reason. Guarantees §4 names the common ones.

use cauldron_identity::fact::{BODY_LEN_MAX, HEADER_LEN_MAX};
use cauldron_identity::scope::NAME_LEN_MAX;

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

/// Heads per `Have` frame: a head takes at most 84 bytes, so that a frame of one scope stays below the control bound.
pub const HEADS_PER_FRAME_MAX: usize = 512;
const _: () = assert!(HEADS_PER_FRAME_MAX * 84 + 1024 <= CONTROL_FRAME_LEN_MAX);
/// Chains remembered per link, about 10 MiB at most: 1,000 nodes with a few scopes and incarnations each.
pub const HEADS_PER_LINK_MAX: usize = 65_536;
/// Frames of one announcement: all chains of a link.
pub const PARTS_MAX: u32 = 1024;

/// Guarantees §4: requests outstanding per peer, both asked and waiting to be answered.
pub const REQUESTS_MAX: usize = 4;
/// Facts asked for in one request: about one frame of ordinary facts.
pub const RANGE_FACTS_MAX: u64 = 512;
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
/// Between two digests on a link, milliseconds: what push lost is repaired within "connected nodes know within 10 s".
pub const DIGEST_EVERY_MS: u64 = 8_000;
/// Frames of digests are counted over this time, milliseconds: comparing costs a walk over the chains.
pub const DIGEST_MS_MIN: u64 = 1_000;
/// Frames of digests that a peer may have compared in that time: enough for a coordinator of 2,000 sites.
pub const DIGEST_FRAMES_MAX: u32 = 10;
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
/// Guarantees §4: changes that wait for others, per author.
pub const WAITING_MAX: usize = 1024;
/// Guarantees §4: bytes of changes that wait for others, per author.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Length of a budget's name, bytes: a DNS label, as every other name of the house.
pub const BUDGET_NAME_LEN_MAX: usize = 63;
const _: () = assert!(BUDGET_NAME_LEN_MAX <= NAME_LEN_MAX);
/// Grants of one life, budget and window that were neither credited nor refused. A receiver that is away for days must not
/// draw an ever longer tail of small grants; the rest is granted when it answers.
pub const GRANTS_OPEN_MAX: usize = 64;
/// Credits and refusals that a node writes in one go: one frame of sync, and one commit of about 30 KiB.
pub const DUES_MAX: usize = 64;
