//! The world: machines, wires, people, agents and weather in one queue of events.
//!
//! Every node is the production core, [`cauldron_node_core::NodeCore`]; everything around it is drawn from the seed.
//! Outputs of a core are carried out one by one, in order. A commit takes time, everything behind it waits, and a process
//! may die between any two outputs.

pub mod adversary;
pub mod alone;
pub mod blocklist;
mod budgets;
pub(crate) mod connector;
mod deeds;
mod documents;
pub mod executor;
mod faults;
pub mod machine;
mod papers;
pub mod people;
pub mod process;
pub mod roots;
mod rumour;
pub(crate) mod sagas;
mod start;
mod wires;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cauldron_crdt::doc::Work;
use cauldron_identity::{AuthorKey, Digest, FactId, SealedFact, SpiffeId};
use cauldron_node_core::{Input, LinkId, Ticket};

use crate::clock::MachineClock;
use crate::founding::{Founding, HQ_ID, TRUST_DOMAIN, WEST_ID};
use crate::history::History;
use crate::invariants::{self, Violation};
use crate::network::{Network, Place};
use crate::queue::{Ms, Queue};
use crate::reached::Reached;
use crate::rng::Rng;
use crate::scale::Tally;
use crate::trace::Trace;
use crate::weather::Weather;
use machine::{Arriving, Machine};

pub use deeds::Asked;
pub use faults::Fault;

/// hq is the first machine of every world.
pub const HQ: Place = 0;
/// How long everything may take to settle after the last fault: reconnects, a sync round, a lease, a probe, and the
/// slowest commit, several times over.
pub const CALM_MS: Ms = 150_000;
const SITES: [&str; 3] = ["lyon", "porto", "quito"];

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A process starts on a machine.
    Start { place: Place },
    /// A new node asks hq to be admitted.
    Join { place: Place },
    /// An input reaches a process.
    Give { place: Place, process: u64, arriving: Arriving },
    /// A timer of a process is due.
    Tick { place: Place, process: u64 },
    /// A commit is done.
    Synced { place: Place, process: u64 },
    /// A thin link has taken a frame.
    Drained { place: Place, process: u64, link: LinkId, bytes: usize },
    /// The front of one direction of a session may be due.
    Wire { link: LinkId, lane: usize },
    /// Two machines try to reach each other.
    Dial { a: Place, b: Place },
    /// A node tries to reach a member.
    Reach { place: Place, process: u64, to: Option<Place>, spiffe_id: SpiffeId },
    /// It did not.
    Missed { place: Place, process: u64, spiffe_id: SpiffeId },
    /// Silence has lasted so long that the session's ends give up.
    GiveUp { link: LinkId },
    /// A machine notices that a session is gone.
    Lost { place: Place, process: u64, link: LinkId },
    /// A connector begins to change its file.
    Effect { place: Place, process: u64, permit: FactId },
    /// Blocks whose time is over leave the file.
    Sweep { place: Place },
    /// A suspended machine wakes.
    Thaw { place: Place },
    /// Silenced directions are heard again.
    Heal { silenced: Vec<(Place, Place)>, written: Vec<u64> },
    /// The next fault of a kind.
    Weather(Fault),
    /// Somebody looks after a clock that is not believed.
    ResetClock { place: Place },
    /// An agent proposes.
    Propose,
    /// A person looks at a node's list.
    Look { person: usize },
    /// A person takes an approval back.
    Withdraw { person: usize, proposal: FactId },
    /// Somebody writes to a document somewhere.
    Write,
    /// Somebody does something with a budget.
    Rights,
    /// The council cuts an author.
    Cut { place: Place },
    /// A document is built.
    Built { place: Place, process: u64, work: Box<Work> },
    /// A coordinator vetoes or kills something.
    Veto,
    /// Somebody names a deputy.
    Deputy,
    /// Somebody wants an effect back.
    WantBack,
    /// The council revokes somebody.
    Revoke,
    /// The council names a new term, until some node keeps it.
    Term,
    /// A shell looks at what its core knows of roots.
    Roots { place: Place },
    /// The next step of a site's isolation.
    Alone(alone::Step),
}

/// The world of one seed.
#[derive(Debug)]
pub struct World {
    /// The seed.
    pub seed: u64,
    /// Its weather.
    pub weather: Weather,
    /// How it was founded.
    pub founding: Founding,
    /// Its machines; hq first.
    pub machines: Vec<Machine>,
    /// What was seen.
    pub history: History,
    /// Hard places it got to.
    pub reached: Reached,
    /// Everything that happened, as one hash.
    pub trace: Trace,
    /// The first broken invariant; the world stops there.
    pub violation: Option<Violation>,
    pub(crate) queue: Queue<Happening>,
    pub(crate) network: Network,
    pub(crate) rng: Rng,
    pub(crate) dialling: BTreeSet<(Place, Place)>,
    pub(crate) asked: BTreeMap<Ticket, (Place, Asked)>,
    pub(crate) next_ticket: Ticket,
    pub(crate) calm: bool,
    pub(crate) overheard: VecDeque<Vec<u8>>,
    pub(crate) strange_links: BTreeSet<LinkId>,
    pub(crate) ballots: BTreeSet<(usize, FactId)>,
    pub(crate) intents: Vec<deeds::Intent>,
    /// Reservations that were answered for and not settled yet: where, which, how much.
    pub(crate) reserved: Vec<(Place, FactId, u64)>,
    pub(crate) watch: invariants::Watch,
    /// The root key that hq's shell signs with.
    pub(crate) signs: Digest,
    /// Deliveries and bytes, where somebody wants to know.
    pub(crate) tally: Option<Tally>,
    /// What the council gave sites for when nobody else can be asked, and which of them is alone.
    pub(crate) alone: alone::Isolation,
}

impl World {
    /// Draws the world of a seed. `nodes` overrides how many there are.
    #[must_use]
    pub fn new(seed: u64, nodes: Option<usize>, print: bool) -> Self {
        let mut rng = Rng::new(seed);
        let weather = Weather::draw(&mut rng.fork(), nodes);
        let mut world = Self::found(seed, rng, weather, print);
        world.schedule_weather();
        world
    }

    /// A world in which nothing goes wrong by itself, for stories: hq and these sites, joined and settled.
    #[must_use]
    pub fn story(seed: u64, sites: &[usize]) -> Self {
        Self::story_in(seed, Weather::calm(sites.to_vec()))
    }

    /// A story in a weather of its own.
    #[must_use]
    pub fn story_in(seed: u64, weather: Weather) -> Self {
        let mut world = Self::found(seed, Rng::new(seed), weather, false);
        world.calm = true;
        world.run_for(20_000);
        world
    }

    pub(crate) fn found(seed: u64, mut rng: Rng, weather: Weather, print: bool) -> Self {
        let mut founding = Founding::new(&mut rng.fork(), &weather);
        let mut machines = build(&mut rng.fork(), &weather, &founding);
        if weather.enrolled {
            let nodes: Vec<_> =
                machines.iter().filter(|m| m.site.is_some()).map(|m| (m.key(), m.spiffe_id.clone())).collect();
            founding.enrol(&nodes);
            let facts: Arc<[SealedFact]> = founding.facts.clone().into();
            machines.iter_mut().for_each(|m| m.bootstrap = Some(facts.clone()));
        }
        let signs = founding.root_key;
        let mut network = Network::default();
        link_up(&mut network, &machines, &weather);
        let mut world = Self {
            seed,
            weather,
            founding,
            machines,
            history: History::default(),
            reached: Reached::default(),
            trace: Trace::new(print),
            violation: None,
            queue: Queue::default(),
            network,
            rng,
            dialling: BTreeSet::new(),
            asked: BTreeMap::new(),
            next_ticket: 1,
            calm: false,
            overheard: VecDeque::new(),
            strange_links: BTreeSet::new(),
            ballots: BTreeSet::new(),
            intents: Vec::new(),
            reserved: Vec::new(),
            watch: invariants::Watch::default(),
            signs,
            tally: None,
            alone: alone::Isolation::default(),
        };
        if world.weather.rotate_ms.is_some() {
            world.coordinators().collect::<Vec<_>>().into_iter().for_each(|place| world.given_roots(place));
        }
        world.queue.after(0, Happening::Start { place: HQ });
        for place in 1..world.machines.len() {
            let delay = world.rng.between(10, 3_000);
            let enrolled = world.machines[place].has_joined();
            world.queue.after(delay, if enrolled { Happening::Start { place } } else { Happening::Join { place } });
        }
        for place in 0..world.machines.len() {
            world.queue.after(5_000, Happening::Sweep { place });
        }
        world
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Ms {
        self.queue.now()
    }

    /// Whether a coordinator runs on a machine.
    #[must_use]
    pub fn coordinates(&self, place: Place) -> bool {
        self.machines[place].site.is_none()
    }

    /// The coordinators; hq first.
    pub(crate) fn coordinators(&self) -> impl Iterator<Item = Place> {
        (0..self.machines.len()).filter(|place| self.coordinates(*place))
    }

    /// Every machine of a site.
    pub(crate) fn at_sites(&self) -> impl Iterator<Item = Place> {
        (0..self.machines.len()).filter(|place| !self.coordinates(*place))
    }

    /// One of the coordinators.
    pub(crate) fn some_coordinator(&mut self) -> Place {
        let all: Vec<Place> = self.coordinators().collect();
        if all.len() > 1 { self.rng.pick(&all).copied().unwrap_or(HQ) } else { HQ }
    }

    /// The machine called `name`.
    ///
    /// # Panics
    /// When there is none: a mistake in a story.
    #[must_use]
    pub fn place(&self, name: &str) -> Place {
        self.machines.iter().position(|m| m.name == name).unwrap_or_else(|| panic!("no machine is called {name}"))
    }

    /// Lets time pass, unless an invariant breaks.
    pub fn run_for(&mut self, ms: Ms) {
        let mut limit = self.now().saturating_add(ms);
        while self.violation.is_none() {
            // Days that were leapt over do not count.
            limit = limit.saturating_add(std::mem::take(&mut self.alone.leapt_ms));
            let Some(happening) = self.queue.pop_until(limit) else { break };
            self.happen(happening);
            if let Err(violation) = invariants::at_each_step(self) {
                self.violation = Some(violation);
            }
        }
        self.queue.pass_to(limit);
    }

    /// Runs a whole life: turbulence, then calm, then the invariants of the end.
    pub fn live(&mut self) {
        self.run_for(self.weather.turbulence_ms);
        self.calm_down();
        self.run_for(CALM_MS);
        self.finish();
    }

    /// Judges what must hold once everything has settled.
    pub fn finish(&mut self) {
        if self.violation.is_none() {
            self.violation = invariants::at_the_end(self).err();
        }
        if let Some(violation) = &self.violation {
            let text = violation.to_string();
            self.trace.note(self.queue.now(), "world", "VIOLATION", text.as_bytes(), || text.clone());
        }
    }

    /// An invariant is broken; the first one stands.
    pub(crate) fn break_off(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    pub(crate) fn note(&mut self, place: Place, verb: &'static str, bytes: &[u8], text: impl FnOnce() -> String) {
        let at = self.queue.now();
        self.trace.note(at, &self.machines[place].name, verb, bytes, text);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start { place } => self.start(place),
            Happening::Join { place } => self.join(place),
            Happening::Give { place, process, arriving } => {
                if self.machines[place].process == process {
                    self.give(place, arriving);
                }
            }
            Happening::Tick { place, process } => self.tick(place, process),
            Happening::Synced { place, process } => self.synced(place, process),
            Happening::Drained { place, process, link, bytes } => {
                if self.machines[place].process == process {
                    self.give(place, Input::Drained { link, bytes }.into());
                }
            }
            Happening::Wire { link, lane } => self.wire(link, lane),
            Happening::Dial { a, b } => self.dial(a, b),
            Happening::Reach { place, process, to, spiffe_id } => {
                if self.machines[place].process == process && self.machines[place].is_up() {
                    self.reached(place, to, spiffe_id);
                }
            }
            Happening::Missed { place, process, spiffe_id } => {
                if self.machines[place].process == process {
                    self.give(place, Input::DialFailed { spiffe_id }.into());
                }
            }
            Happening::GiveUp { link } => self.give_up(link),
            Happening::Lost { place, process, link } => self.lost(place, process, link),
            Happening::Effect { place, process, permit } => self.effect(place, process, permit),
            Happening::Sweep { place } => self.sweep(place),
            Happening::Thaw { place } => self.thaw(place),
            Happening::Heal { silenced, written } => self.heal_silence(&silenced, &written),
            Happening::Weather(fault) => self.strike(fault),
            Happening::ResetClock { place } => self.reset_clock(place),
            Happening::Propose => self.propose_something(),
            Happening::Look { person } => self.look(person),
            Happening::Withdraw { person, proposal } => self.withdraw(person, proposal),
            Happening::Write => self.write_something(),
            Happening::Rights => self.move_rights(),
            Happening::Cut { place } if !self.calm => self.cut_author(place),
            Happening::Cut { .. } => {}
            Happening::Built { place, process, work } => {
                if self.machines[place].process == process {
                    self.give(place, Input::Worked(work).into());
                }
            }
            Happening::Veto => self.veto_something(),
            Happening::Deputy => self.name_a_deputy(),
            Happening::WantBack => self.want_it_back(),
            Happening::Revoke => self.revoke_somebody(),
            Happening::Term => self.name_a_term(),
            Happening::Roots { place } => self.look_at_roots(place),
            Happening::Alone(step) => self.step_alone(step),
        }
    }
}

fn build(rng: &mut Rng, weather: &Weather, founding: &Founding) -> Vec<Machine> {
    let clock = |rng: &mut Rng| {
        let signed = |rng: &mut Rng, max: u64| {
            let size = i64::try_from(rng.below(max + 1)).unwrap_or(0);
            if rng.percent(50) { size } else { -size }
        };
        let offset = signed(rng, weather.clock_offset_ms_max);
        MachineClock::new(offset, signed(rng, weather.clock_drift_ppm_max))
    };
    let hq_id = SpiffeId::new(HQ_ID).expect("a valid SPIFFE ID");
    let mut hq = Machine::new("hq", None, hq_id, founding.hq_seed, clock(rng));
    debug_assert_eq!(hq.author, AuthorKey::from_seed(&founding.hq_seed).author_id());
    hq.bootstrap = Some(founding.facts.clone().into());
    let mut machines = vec![hq];
    for (site, count) in weather.sites.iter().enumerate() {
        let site = SITES.get(site).map_or_else(|| format!("site{site}"), |name| (*name).to_owned());
        for n in 1..=*count {
            let name = if n == 1 { site.clone() } else { format!("{site}-{n}") };
            let id =
                SpiffeId::new(format!("spiffe://{TRUST_DOMAIN}/site/{site}/node/{name}")).expect("a valid SPIFFE ID");
            machines.push(Machine::new(&name, Some(&site), id, rng.bytes(), clock(rng)));
        }
    }
    // Last, so that a world without it is the same.
    if let Some(seed) = founding.west_seed {
        let id = SpiffeId::new(WEST_ID).expect("a valid SPIFFE ID");
        let mut west = Machine::new("west", None, id, seed, clock(rng));
        west.bootstrap = Some(founding.facts.clone().into());
        machines.push(west);
    }
    machines
}

/// Every node is told to reach hq and its own site, or some of it, and other sites where the weather says so; or hq alone, and finds
/// the others.
fn link_up(network: &mut Network, machines: &[Machine], weather: &Weather) {
    let mut first = HQ;
    if weather.finds {
        (1..machines.len()).for_each(|a| network.connect(a, HQ));
        return;
    }
    for a in 0..machines.len() {
        if weather.sparse && machines[a].site.is_some() {
            if machines[a].site != machines[first].site {
                first = a;
            }
            let site = [first, a - 1].into_iter().filter(|b| *b != a && machines[*b].site == machines[a].site);
            site.chain([HQ]).for_each(|b| network.connect(a, b));
            continue;
        }
        for b in a + 1..machines.len() {
            let near = machines[a].site.is_none()
                || machines[b].site.is_none()
                || machines[a].site == machines[b].site
                || weather.sites_linked;
            if near && !weather.sparse {
                network.connect(a, b);
            }
        }
    }
}
