//! Every bound of this crate, each with its reason.

/// Guarantees §4: a control frame, bytes.
pub const FRAME_LEN_MAX: usize = 64 * 1024;
/// What statements of one frame may take, bytes: the rest of the frame is room for what stands around them.
pub const STATEMENTS_LEN_MAX: usize = 48 * 1024;
/// Addresses that a node tells of itself: both families of a few interfaces.
pub const ADDRESSES_MAX: usize = 8;
/// An address, bytes: a DNS name has at most 253, and a port.
pub const ADDRESS_LEN_MAX: usize = 260;
/// The name of a region, bytes: one DNS label.
pub const REGION_LEN_MAX: usize = 63;
/// A sealed statement, bytes.
pub const STATEMENT_LEN_MAX: usize = 3 * 1024;
const _: () = assert!(ADDRESSES_MAX * (ADDRESS_LEN_MAX + 3) + REGION_LEN_MAX + 256 < STATEMENT_LEN_MAX);
/// Members named in one answer to a digest: 12 bytes each.
pub const HAVE_MAX: usize = 4_096;
const _: () = assert!(HAVE_MAX * 14 + 256 < FRAME_LEN_MAX);
/// Those who lost a peer that are told on: one may be wrong about its own line, two seldom are.
pub const OBSERVERS_MAX: usize = 2;
/// Links remembered as having told a statement, so that it does not go back there.
pub const HEARD_FROM_MAX: usize = 4;
/// Parts of the digest: of 200 statements a difference costs the naming of six.
pub const BUCKETS: usize = 32;

/// From a statement that is new here to telling it on, at most, milliseconds: those who would tell the same hear it first.
pub const SPREAD_MS_MAX: u64 = 200;
/// With more members than this the core's timers fall on multiples of [`WAKE_MS`]: a node is woken for it 40 times a second at
/// most, however many it hears of.
pub const MEMBERS_AT_ONCE_MAX: usize = 32;
/// See [`MEMBERS_AT_ONCE_MAX`], milliseconds.
pub const WAKE_MS: u64 = 25;
/// Between two statements about one member that are told on, milliseconds: whoever flaps does not cost everybody.
pub const SPREAD_AGAIN_MS: u64 = 2_000;
/// Statements about members of one region that a node tells on per second; a region that comes up at once has a burst of
/// [`REGION_BURST`] more, and what is beyond waits.
pub const REGION_PER_S: u64 = 20;
/// See [`REGION_PER_S`].
pub const REGION_BURST: u64 = 512;
/// Statements of one link that are looked at per second: checking a signature costs some 50 µs.
pub const LINK_PER_S: u64 = 200;
/// What a link may bring at once: everything about 1,000 members, and who lost them.
pub const LINK_BURST: u64 = 4_096;
/// After this a node says anew where it is although nothing has changed, milliseconds.
pub const REFRESH_MS: u64 = 30 * 60 * 1_000;
/// Between two statements of a node about itself, milliseconds.
pub const ANNOUNCE_MIN_MS: u64 = 1_000;
/// After a change between two digests on a link, and the longest while both ends agree, milliseconds.
pub const DIGEST_MS: u64 = 15_000;
/// See [`DIGEST_MS`].
pub const DIGEST_IDLE_MS: u64 = 16 * DIGEST_MS;

/// How long a link may be gone before others are told, milliseconds: a restart or a lost packet is over by then.
pub const SIGHT_AFTER_MS: u64 = 2_000;
/// When the last link goes, what was lost so recently was lost by being cut off, milliseconds: transports notice a dead path
/// within 45 s, each link in its own time.
pub const CUT_OFF_MS: u64 = 60_000;
/// How long this node goes by a loss of its own once it was told, or is not to be, milliseconds from then or from when it has a link
/// again: by then the board says what others know.
pub const LOST_MS: u64 = 20_000;
/// How long a peer that is to be linked with this node and is not is missed before that is told, milliseconds: a start of many at
/// once is over by then.
pub const MISSED_MS: u64 = 20_000;
/// It doubles each time so often, to 43 min: between two that have no way to each other one says so all the time, and the other that it
/// is there.
pub const MISSED_DOUBLINGS: u32 = 7;
/// And how often it was dialled in vain: some 4 s at least.
pub const MISSED_DIALS: u32 = 4;
/// How long after it was made an announcement is believed by those who have no link to its author, milliseconds: it is made anew
/// in half that time.
pub const BELIEVED_MS: u64 = 2 * REFRESH_MS;
/// A wall clock that was set by more than this makes a node say anew where it is, milliseconds: what it said is dated by it.
pub const CLOCK_STEP_MS: u64 = 60_000;
/// How long a peer whose link was lost counts as suspect, milliseconds; then as unreachable.
pub const SUSPECT_MS: u64 = 5_000;
const _: () = assert!(SIGHT_AFTER_MS < SUSPECT_MS);

/// Members up to which a site is a full mesh: 31 links each. A larger one is a ring with chords.
pub const SITE_FULL_MAX: usize = 32;
/// Hubs up to which they are a full mesh.
pub const HUBS_FULL_MAX: usize = 16;
/// Gateways of a site, while they reach anybody: one may fail.
pub const GATEWAYS: usize = 2;
/// Hubs that a gateway is linked to: one may fail.
pub const UPLINKS: usize = 2;
/// How many candidates are tried beyond those that cannot be reached.
pub const SPARES: usize = 2;
/// How long a gateway may reach nobody outside before another helps out, milliseconds.
pub const HELP_AFTER_MS: u64 = 20_000;
/// How long a link that nobody wants any more is kept, milliseconds: what was wanted a moment ago may be wanted again.
pub const SURPLUS_MS: u64 = 60_000;
/// From saying that such a link ends to ending it, milliseconds: the word arrives first, over a WAN, too.
pub const PARTING_MS: u64 = 2_000;
/// How long that word holds at the other end, milliseconds: a link that stands for longer did not end because of it.
pub const PARTING_MS_MAX: u64 = 10_000;
const _: () = assert!(PARTING_MS < PARTING_MS_MAX);

/// The first wait after a failed dial, milliseconds; it doubles up to the next two.
pub const REDIAL_MS_MIN: u64 = 500;
/// The longest wait between two dials within a site and to hubs, milliseconds: a healed partition is noticed within a minute.
pub const REDIAL_MS_MAX: u64 = 30_000;
/// The same for other sites, milliseconds: hubs carry what they would.
pub const REDIAL_RING_MS_MAX: u64 = 120_000;
/// A link that ends sooner than this after it came up counts as a failed dial, milliseconds.
pub const UP_MS_MIN: u64 = 10_000;
/// An attempt of which nothing is heard is over after this, milliseconds: a handshake has 5 s at each address, and through a relay
/// twice that.
pub const DIAL_MS_MAX: u64 = 90_000;
/// Attempts at once.
pub const DIALS_MAX: usize = 16;
/// Attempts at once within one region: a region that is gone leaves room to dial the others.
pub const DIALS_PER_REGION: usize = 6;
const _: () = assert!(DIALS_PER_REGION * 2 < DIALS_MAX);
/// How long the one of two nodes that does not dial first waits for the other, milliseconds.
pub const YIELD_MS: u64 = 5_000;
/// The topology is computed at most so often, milliseconds: a thousand members cost a millisecond.
pub const TOPOLOGY_EVERY_MS: u64 = 500;
/// For so long a member that could not be reached, or was lost, is no candidate, milliseconds: then it may be back, and nobody
/// could tell.
pub const DOUBT_MS: u64 = 120_000;
/// Losses that one observer may tell of at once: a site, and whom a gateway is linked with beyond it.
pub const SIGHTINGS_BURST: u64 = 64;
/// The same for a coordinator: it may be linked with so many, and lose half the mesh in a moment.
pub const SIGHTINGS_BURST_HUB: u64 = 2_048;
/// And then one more after this, milliseconds.
pub const SIGHTINGS_MS: u64 = 2_000;
/// What one author may say of itself at once that is new here; then once per [`ANNOUNCE_MIN_MS`], as often as it may itself.
pub const ANNOUNCES_BURST: u64 = 16;
/// How often the wait doubles before a node says more than a copy of it did, from [`ANNOUNCE_MIN_MS`] to 17 min, until nothing was
/// heard of the copy for [`REFRESH_MS`].
pub const COPY_DOUBLINGS: u32 = 10;
/// Names of regions whose news are counted each for itself: members invent them.
pub const REGIONS_MAX: usize = 64;
/// Between two answers of a node to those who say that they lost it, milliseconds: each goes through the whole mesh.
pub const REFUTE_MS: u64 = 5_000;
