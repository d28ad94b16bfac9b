//! What goes over each link first, and how much of it: frames pass the lanes of [`cauldron_mesh_core::lanes`] on their way out.
//!
//! The queue lies here and not behind the transport, so that a restriction written now overtakes what has not left yet, and so
//! that sync reads from the store only what a link has room for.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies;
use cauldron_crdt::{ChainId, Ranks, Room, SyncInput};
use cauldron_identity::{AuthorId, Confidence, Lane as ScopeLane, Role, Scope, SpiffeId};
use cauldron_mesh_core::lanes::{About, Budget, Held, Lane, Lanes, Meter, ROOM_MIN};
use minicbor::{Decode, Encode};

use crate::core::NodeCore;
use crate::frame::Frame;
use crate::input::{LinkId, Output, Refusal};
use crate::local;
use crate::view::{FlowView, LaneView, MeterView};

/// Facts of this node's own that nobody at the other end of a link was given, beyond which documents and proposals are not
/// taken: what stands before a vote in its chain goes before it on the wire.
pub const BACKLOG_FACTS_MAX: u64 = 2_048;
/// A peer whose budget is used up asks for documents again when so much can go, bytes.
const LATER_LEN: usize = 64 * 1024;

/// What the links of a node may carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Of each link that leaves the site; none means without bound.
    pub beyond_the_site: Option<Budget>,
    /// Of links to single members, whatever else is said.
    pub members: BTreeMap<SpiffeId, Option<Budget>>,
    /// Of links to members of a site.
    pub sites: BTreeMap<String, Option<Budget>>,
}

/// How much of a budget is left, on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Saved {
    /// Bytes that may go at once; below zero when it was overdrawn.
    #[n(0)]
    pub(crate) left: i64,
    /// When, milliseconds since the Unix epoch.
    #[n(1)]
    pub(crate) wall_ms: u64,
}

#[derive(Debug)]
struct Metered {
    meter: Meter,
    /// What is on disk: a little less than what is left, so that no restart gives anything back.
    floor: Option<i64>,
}

/// The links' queues and meters.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    budgets: Budgets,
    window_max: usize,
    pub(crate) saved: BTreeMap<AuthorId, Saved>,
    links: BTreeMap<LinkId, (AuthorId, Lanes)>,
    /// By peer: a link that comes back goes on where it was.
    meters: BTreeMap<AuthorId, Metered>,
    /// Links with something new to hand over, or more room.
    stirred: BTreeSet<LinkId>,
    told: BTreeMap<LinkId, Option<u64>>,
    wakes: BTreeMap<LinkId, u64>,
}

/// The lane of a fact. A kind that this build does not know waits with the documents: it must not overdraw a budget.
pub(crate) fn lane_of(scope: &Scope, kind: &str) -> Lane {
    if scope.lane() != ScopeLane::Data {
        return Lane::Restrictions;
    }
    match kind {
        bodies::KIND_PROPOSAL | bodies::KIND_READ => Lane::Proposals,
        bodies::KIND_VOTE
        | bodies::KIND_DECISION
        | bodies::KIND_PERMIT
        | bodies::KIND_STARTED
        | bodies::KIND_DONE
        | bodies::KIND_FAILED
        | bodies::KIND_UNKNOWN
        | bodies::KIND_ENDED
        | bodies::KIND_VERIFIED
        | bodies::KIND_VERIFY_FAILED
        | bodies::KIND_COMPENSATING
        | bodies::KIND_COMPENSATED
        | bodies::KIND_COMPENSATION_FAILED
        | bodies::KIND_ABORTED
        | bodies::KIND_RECONCILED
        | bodies::KIND_WINDOW
        | bodies::KIND_DEPUTY
        | bodies::KIND_BREAK_GLASS
        | bodies::KIND_REVIEW
        | bodies::KIND_SITE_LIFT
        | bodies::KIND_BUNDLE
        | cauldron_identity::authority::KIND_HELD
        | cauldron_identity::authority::KIND_TAKEOVER
        | cauldron_identity::authority::KIND_HANDOVER
        | cauldron_identity::authority::KIND_ROOTS
        | cauldron_identity::authority::KIND_ISSUED => Lane::Votes,
        kind if kind.starts_with("budget.") => Lane::Votes,
        _ => Lane::Documents,
    }
}

/// The same for the sync core.
pub(crate) fn ranks() -> Ranks {
    Ranks {
        of: |scope, kind| lane_of(scope, kind).rank(),
        middle: Lane::Proposals.rank(),
        bulk: Lane::Documents.rank(),
    }
}

/// The lane of a frame that sync did not make.
fn about(frame: &Frame) -> About {
    match frame {
        Frame::Term(_) | Frame::IncarnateAsk(_) => About::of(Lane::Restrictions),
        Frame::BaseList(list) => About { scope: Some(list.scope.clone()), ..About::of(Lane::Documents) },
        Frame::BasePart(part) => About { scope: Some(part.scope.clone()), ..About::of(Lane::Documents) },
        Frame::Presence(_) => About::of(Lane::Telemetry),
        Frame::Sync(_)
        | Frame::LeaseAsk(_)
        | Frame::LeaseGrant(_)
        | Frame::TimeAsk(_)
        | Frame::TimeTell(_)
        | Frame::BaseAsk(_)
        | Frame::Unknown(_) => About::of(Lane::Votes),
    }
}

impl Flow {
    pub(crate) fn new(budgets: Budgets, window_max: usize) -> Self {
        Self { budgets, window_max, ..Self::default() }
    }

    /// When a budget allows more, boot time in milliseconds.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        self.wakes.values().copied().min()
    }

    /// What a link to this member may carry; none means without bound.
    fn budget(&self, own_site: Option<&str>, name: &SpiffeId, site: Option<&str>) -> Option<Budget> {
        if let Some(own) = self.budgets.members.get(name) {
            return *own;
        }
        if let Some(own) = site.and_then(|site| self.budgets.sites.get(site)) {
            return *own;
        }
        self.budgets.beyond_the_site.filter(|_| own_site.is_none() || own_site != site)
    }

    fn down(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.stirred.remove(&link);
        self.told.remove(&link);
        self.wakes.remove(&link);
    }
}

impl NodeCore {
    /// A link that has a queue from now on.
    pub(crate) fn flow_up(&mut self, link: LinkId, author: AuthorId, name: &SpiffeId) {
        // By its name, which is proven: its enrolment may come later.
        let role = Role::of(name).ok();
        let budget = self.flow.budget(self.role.site(), name, role.as_ref().and_then(Role::site));
        self.flow.links.insert(link, (author, Lanes::new(self.flow.window_max)));
        match budget {
            None => _ = self.flow.meters.remove(&author),
            Some(budget) if self.flow.meters.get(&author).is_some_and(|known| known.meter.budget() == budget) => {}
            Some(budget) => {
                let saved = self.flow.saved.get(&author);
                let mut meter = Meter::new(budget, self.now.boottime_ms, saved.map(|saved| saved.left));
                // A clock that nobody vouches for gives nothing back.
                let known = saved.filter(|_| self.now.confidence != Confidence::Unknown);
                meter.rest(known.map_or(0, |saved| self.now.wall_ms.saturating_sub(saved.wall_ms)));
                self.flow.meters.insert(author, Metered { meter, floor: None });
            }
        }
    }

    pub(crate) fn flow_down(&mut self, link: LinkId) {
        // Whoever is no member leaves nothing behind in memory.
        let stranger =
            self.flow.links.get(&link).map(|(author, _)| *author).filter(|a| self.authority.member(a).is_none());
        if let Some(author) = stranger {
            self.flow.meters.remove(&author);
            self.flow.saved.remove(&author);
        }
        self.flow.down(link);
    }

    /// Ends a link; the peer reads `detail`. What waits for it is not handed over any more: whoever was cut gets nothing.
    pub(crate) fn close(&mut self, link: LinkId, detail: String) {
        self.flow.down(link);
        self.outputs.push_back(Output::Close { link, detail });
    }

    /// What waits of scopes that a link does not share any more must not leave.
    pub(crate) fn flow_scopes(&mut self, link: LinkId, shared: &[Scope]) {
        if let Some((_, lanes)) = self.flow.links.get_mut(&link) {
            // A frame of sync that is of no one scope may name any: what it said is said again.
            let may = |scope: Option<&Scope>| scope.is_some_and(|scope| shared.contains(scope));
            lanes.retain(|scope, bytes| may(scope) || (scope.is_none() && !Frame::is_sync(bytes)));
        }
    }

    pub(crate) fn send(&mut self, link: LinkId, frame: &Frame) {
        self.queue(link, about(frame), frame.encode());
    }

    /// Queues a frame of the sync core.
    pub(crate) fn send_sync(&mut self, link: LinkId, bytes: Vec<u8>, rank: u8, chain: Option<ChainId>) {
        let lane = Lane::of_rank(rank);
        let about = match chain {
            Some(ChainId { scope, author, incarnation }) => {
                About { lane, scope: Some(scope), writer: Some((author, incarnation)) }
            }
            None => About::of(lane),
        };
        self.queue(link, about, Frame::Sync(bytes).encode());
    }

    fn queue(&mut self, link: LinkId, about: About, bytes: Vec<u8>) {
        let (lane, now_ms) = (about.lane, self.now.boottime_ms);
        let Some((_, lanes)) = self.flow.links.get_mut(&link) else { return };
        self.flow.stirred.insert(link);
        if lanes.push(now_ms, about, bytes).is_err() {
            *self.refused.entry("queue_full".into()).or_default() += 1;
            // What a document lacks is asked for again; whoever lacks a vote must begin anew.
            if lane < Lane::Documents {
                let detail = "its queue is full: the peer reads too slowly".to_owned();
                self.close(link, detail);
            }
        }
    }

    /// What came over a metered link counts as well.
    pub(crate) fn received(&mut self, link: LinkId, len: usize) {
        let Some((author, _)) = self.flow.links.get(&link) else { return };
        let author = *author;
        if let Some(metered) = self.flow.meters.get_mut(&author) {
            metered.meter.charge(self.now.boottime_ms, len);
            self.save_meter(author);
            self.flow.stirred.insert(link);
        }
    }

    /// The transport got rid of so many bytes of a link.
    pub(crate) fn drained(&mut self, link: LinkId, bytes: usize) {
        let Some((_, lanes)) = self.flow.links.get_mut(&link) else { return };
        lanes.drained(self.now.boottime_ms, bytes);
        self.flow.stirred.insert(link);
        self.flow();
        self.set_timer();
    }

    /// Hands over what the transport takes, and lets sync fill the room that comes of it.
    pub(crate) fn flow(&mut self) {
        let now_ms = self.now.boottime_ms;
        let due = self.flow.wakes.iter().filter(|(_, at)| **at <= now_ms).map(|(link, _)| *link);
        let due: Vec<LinkId> = due.collect();
        self.flow.stirred.extend(due);
        while let Some(link) = self.flow.stirred.pop_first() {
            self.hand_over(link);
            self.tell_room(link);
        }
    }

    fn hand_over(&mut self, link: LinkId) {
        let now_ms = self.now.boottime_ms;
        loop {
            let Some((author, lanes)) = self.flow.links.get_mut(&link) else { return };
            let (author, mut metered) = (*author, self.flow.meters.get_mut(author));
            let Some((lane, bytes)) = lanes.next(now_ms, metered.as_mut().map(|m| &mut m.meter)) else { break };
            if metered.is_some() {
                self.save_meter(author);
            }
            self.outputs.push_back(Output::Send { link, lane, bytes });
        }
    }

    /// Before more goes than the disk knows of, it is told; a sixty-fourth of what may go at once at a time.
    fn save_meter(&mut self, author: AuthorId) {
        let Some(Metered { meter, floor }) = self.flow.meters.get_mut(&author) else { return };
        let left = meter.level(self.now.boottime_ms);
        let step = i64::try_from(meter.burst() / 64).unwrap_or(i64::MAX);
        if floor.is_none_or(|floor| left < floor || left > floor.saturating_add(4 * step)) {
            // Nothing is earned from a time that nobody vouches for.
            let wall_ms = if self.now.confidence == Confidence::Unknown { u64::MAX } else { self.now.wall_ms };
            let saved = Saved { left: left.saturating_sub(step), wall_ms };
            *floor = Some(saved.left);
            self.flow.saved.insert(author, saved);
            self.persist(local::meter(&author, &saved));
        }
    }

    /// Tells sync what a link has room for now.
    fn tell_room(&mut self, link: LinkId) {
        let now_ms = self.now.boottime_ms;
        let Some((author, lanes)) = self.flow.links.get_mut(&link) else { return };
        let mut meter = self.flow.meters.get_mut(author).map(|metered| &mut metered.meter);
        let (urgent, middle) = (lanes.room(now_ms, Lane::Votes, None), lanes.room(now_ms, Lane::Proposals, None));
        let bulk = lanes.room(now_ms, Lane::Documents, meter.as_deref_mut());
        let (mut later_ms, mut wake_ms) = (None, None);
        if let Some(meter) = meter {
            // What waits in the lane already goes first.
            let held = lanes.held().find(|held| held.lane == Lane::Documents).map_or(0, |held| held.bytes);
            if meter.left(now_ms, Lane::Documents).saturating_sub(held) < ROOM_MIN {
                later_ms = Some(meter.wait_ms(now_ms, Lane::Documents, held + LATER_LEN)).filter(|wait| *wait > 0);
            }
            let asks = later_ms.map(|wait| now_ms.saturating_add(wait));
            wake_ms = lanes.wake_ms(now_ms, meter).into_iter().chain(asks).min();
        }
        match wake_ms {
            Some(at) => _ = self.flow.wakes.insert(link, at.max(now_ms + 1)),
            None => _ = self.flow.wakes.remove(&link),
        }
        let room = Room { urgent, middle, bulk, later_ms };
        let changed = self.flow.told.insert(link, later_ms).flatten().is_some() != later_ms.is_some();
        if changed || (self.sync.waits_for_room(link) && (bulk > 0 || later_ms.is_some())) {
            self.sync(SyncInput::Room { link, room });
        } else {
            self.sync.set_room(link, room);
        }
    }

    /// Whether what this node wrote in a scope gets away: with nobody at the other end of a link it is recorded all the same,
    /// but whoever writes faster than every co-reader's link carries has to wait.
    pub(crate) fn gets_away(&self, scope: &Scope) -> Result<(), Refusal> {
        let chain = ChainId { scope: scope.clone(), author: self.me, incarnation: self.incarnation };
        let Some(given) = self.sync.given(&chain) else { return Ok(()) };
        let behind = self.log.held(&chain).saturating_sub(given);
        if behind <= BACKLOG_FACTS_MAX {
            return Ok(());
        }
        let sentence = format!(
            "{behind} facts of this node in {scope} wait for a link to carry them, more than {BACKLOG_FACTS_MAX}; \
             try again when `cauldron peers` shows fewer"
        );
        Err(Refusal::new("busy", sentence))
    }
}

/// For status.
impl NodeCore {
    pub(crate) fn flow_shown(&self, now_ms: u64) -> impl Iterator<Item = (LinkId, FlowView)> + '_ {
        self.flow.links.iter().map(move |(link, (author, lanes))| {
            let lane = |held: Held| LaneView {
                lane: held.lane.name(),
                frames: held.frames as u64,
                bytes: held.bytes as u64,
                oldest_ms: held.since_ms.map(|since| now_ms.saturating_sub(since)),
                sent_bytes: held.sent_bytes,
            };
            let budget = self.flow.meters.get(author).map(|metered| {
                let mut meter = metered.meter.clone();
                let wait_ms = meter.wait_ms(now_ms, Lane::Documents, ROOM_MIN);
                MeterView {
                    bytes: meter.budget().bytes,
                    period_ms: meter.budget().per_ms,
                    burst_bytes: meter.burst(),
                    left_bytes: meter.level(now_ms),
                    documents_in_ms: Some(wait_ms).filter(|wait| *wait > 0),
                    full_in_ms: meter.full_in_ms(now_ms),
                }
            });
            let lanes_shown = lanes.held().map(lane).collect();
            (*link, FlowView { lanes: lanes_shown, dropped_frames: lanes.dropped(), budget })
        })
    }
}
