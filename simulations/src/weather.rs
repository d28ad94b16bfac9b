//! The weather of one world, drawn from its seed: how many nodes, how slow the disks, how often what breaks.
//!
//! Every seed draws its *configuration* too, and each fault is absent from many seeds: a fixed configuration missed three
//! of five planted bugs, a drawn one with slow disks found them all (swarm testing, Groce et al., 2012).

use cauldron_crdt::limits::HOT_BYTES_MAX;
use cauldron_identity::planted;

use crate::queue::Ms;
use crate::rng::Rng;

mod alone;
mod favour;
mod thin;

pub use alone::Alone;
pub use thin::Thin;

/// Everything about a world that is not an event.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Nodes at each site; hq comes on top.
    pub sites: Vec<usize>,
    /// Whether sites talk to each other, or to hq alone.
    pub sites_linked: bool,
    /// How long the faults last; after that comes the calm.
    pub turbulence_ms: Ms,
    /// Shortest and longest latency of one frame.
    pub latency_ms: (Ms, Ms),
    /// Frames in a million that break their link.
    pub break_ppm: u64,
    /// The disks.
    pub disk: DiskWeather,
    /// Mean time between two faults of a kind; none means never.
    pub faults: Faults,
    /// The people and what they do.
    pub people: PeopleWeather,
    /// The agents and what they propose.
    pub agents: AgentWeather,
    /// How long a connector takes, at most.
    pub effect_ms_max: Ms,
    /// Executions in a hundred that fail for certain, and that end with nobody knowing.
    pub effect_fails: (u64, u64),
    /// Whether policy asks for a check after each effect; of a hundred, how many then say no.
    pub checks: Option<u64>,
    /// The charter's lease age for R1.
    pub lease_r1_ms: Ms,
    /// How far wall clocks are off, and how fast quartzes drift, at most.
    pub clock_offset_ms_max: u64,
    /// Parts per million.
    pub clock_drift_ppm_max: u64,
    /// Mean time between two steps in the rotation of the root key; none means never.
    pub rotate_ms: Option<Ms>,
    /// Mean time between two edits of a document by somebody somewhere; none means never.
    pub write_ms: Option<Ms>,
    /// Whether a node talks to hq, to the first of its site and to the one before it, instead of to all of its site.
    pub sparse: bool,
    /// Whether a node is told of hq alone, and finds whom else to talk to.
    pub finds: bool,
    /// Whether the founding enrols every node, so that nobody has to join.
    pub enrolled: bool,
    /// Of a hundred cuts, how many end an author's chain in the mesh before its last fact.
    pub cut_early: u64,
    /// Mean time between two things that somebody does with a budget; none means never.
    pub budget_ms: Option<Ms>,
    /// How long the windows of the budget that has some are.
    pub window_ms: Ms,
    /// What policy has each action take of a budget; none: nothing.
    pub takes: Option<Takes>,
    /// How long the council takes to answer a forked authority chain with a term, at least and at most.
    pub term_ms: (Ms, Ms),
    /// From so many missing facts on a node fetches documents in one piece first.
    pub far_facts: u64,
    /// How many changes an epoch of a document takes.
    pub epoch_changes: u64,
    /// Bytes of facts that a log keeps in memory; what is older is read from the disk.
    pub hot_bytes: usize,
    /// Whether there is a second coordinator.
    pub second: bool,
    /// Where silence allows: how long it must last.
    pub silence_ms: Option<Ms>,
    /// How little links between sites carry; none: as much as anybody sends.
    pub thin: Option<Thin>,
    /// Where the council granted sites to go on past their leases, and one is cut off for days.
    pub alone: Option<Alone>,
}

/// A budget of which each action takes one.
#[derive(Debug, Clone, Copy)]
pub struct Takes {
    /// What is minted of it for each window.
    pub limit: u64,
    /// How long its windows are; none: it limits what stands at once.
    pub window_ms: Option<Ms>,
}

/// How long a commit takes.
#[derive(Debug, Clone, Copy)]
pub struct DiskWeather {
    /// Usual commits take up to this.
    pub usual_ms_max: Ms,
    /// Commits in a million that are slow.
    pub slow_ppm: u64,
    /// Slow commits take up to this.
    pub slow_ms_max: Ms,
    /// Whether records that wait together are committed together.
    pub group: bool,
    /// Whether inputs wait while a commit runs, as in the shell, or are handled meanwhile.
    pub blocking: bool,
}

/// Mean times between faults.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The process dies; the machine lives on.
    pub kill_ms: Option<Ms>,
    /// The machine loses power.
    pub power_ms: Option<Ms>,
    /// A data directory is lost and an older copy put in its place.
    pub restore_ms: Option<Ms>,
    /// Sites are cut off from each other.
    pub partition_ms: Option<Ms>,
    /// One direction of one link stalls.
    pub stall_ms: Option<Ms>,
    /// A machine is suspended for a while.
    pub freeze_ms: Option<Ms>,
    /// A wall clock jumps.
    pub jump_ms: Option<Ms>,
    /// Someone without an enrolled key sends what it has overheard, or garbage.
    pub stranger_ms: Option<Ms>,
    /// hq is made to write a permit nobody voted for.
    pub forge_ms: Option<Ms>,
    /// The council cuts a node's author.
    pub cut_ms: Option<Ms>,
    /// hq signs two entries for one place.
    pub lie_ms: Option<Ms>,
    /// Somebody with an owner's key writes what it did not do.
    pub executor_ms: Option<Ms>,
    /// Somebody with a member's key says that it lost another.
    pub rumour_ms: Option<Ms>,
    /// Outputs in a million after which the process dies, when they matter for once-only execution.
    pub gap_ppm: u64,
}

/// What people do.
#[derive(Debug, Clone, Copy)]
pub struct PeopleWeather {
    /// How many there are.
    pub count: usize,
    /// How many distinct people the policy asks for.
    pub approvers: u32,
    /// Mean time between two looks of one person at one node's list.
    pub look_ms: Ms,
    /// Of a hundred votes, how many deny.
    pub deny: u64,
    /// Of a hundred approvals, how many are taken back later.
    pub withdraw: u64,
    /// Of a hundred votes, how many are wrong in some way that must not count.
    pub odd: u64,
    /// Mean time between vetoes and kills by hq; none means never.
    pub veto_ms: Option<Ms>,
    /// Whether somebody's enrolment is revoked on the way.
    pub revoke: bool,
    /// Of a hundred looks, how many end with an edit instead of a vote.
    pub edit: u64,
    /// Mean time between two deputies that are named; none means never.
    pub deputy_ms: Option<Ms>,
    /// Mean time between two effects that somebody wants back; none means never.
    pub undo_ms: Option<Ms>,
}

/// What agents propose.
#[derive(Debug, Clone, Copy)]
pub struct AgentWeather {
    /// How many proposals.
    pub proposals: usize,
    /// Of a hundred, how many repeat an earlier intent.
    pub repeats: u64,
    /// How long a proposal stays open.
    pub open_ms: Ms,
    /// How long a block lasts, seconds.
    pub ttl_s: u64,
    /// Of a hundred proposals, how many are steps of a session for some person.
    pub sessions: u64,
    /// Of a hundred proposals, how many are sagas of two or three steps.
    pub sagas: u64,
    /// Of a hundred proposals, how many cannot be taken back (class R3).
    pub wide: u64,
}

impl Weather {
    /// Draws a world.
    #[must_use]
    pub fn draw(rng: &mut Rng, nodes: Option<usize>) -> Self {
        let turbulence_ms = rng.between(40_000, 240_000);
        let mut weather = Self {
            sites: draw_sites(rng, nodes),
            sites_linked: rng.percent(70),
            turbulence_ms,
            latency_ms: (1, rng.between(5, 100)),
            break_ppm: maybe(rng, 50, 20_000),
            disk: DiskWeather::draw(rng),
            faults: Faults::draw(rng, turbulence_ms),
            people: PeopleWeather::draw(rng),
            agents: AgentWeather::draw(rng, turbulence_ms),
            effect_ms_max: *rng.pick(&[5, 100, 2_000]).unwrap_or(&5),
            effect_fails: if rng.percent(30) { (rng.below(20), rng.below(10)) } else { (0, 0) },
            checks: None,
            lease_r1_ms: *rng.pick(&[20_000, 45_000, 3_600_000]).unwrap_or(&3_600_000),
            clock_offset_ms_max: *rng.pick(&[0, 50, 2_000, 60_000]).unwrap_or(&0),
            clock_drift_ppm_max: *rng.pick(&[0, 20, 200]).unwrap_or(&0),
            rotate_ms: None,
            write_ms: None,
            sparse: false,
            finds: false,
            enrolled: false,
            cut_early: 0,
            budget_ms: None,
            window_ms: 3_600_000,
            far_facts: 1_024,
            epoch_changes: 16_000,
            hot_bytes: HOT_BYTES_MAX,
            second: false,
            silence_ms: None,
            thin: None,
            alone: None,
            takes: None,
            term_ms: (3_000, 60_000),
        };
        weather.finds = rng.percent(50);
        // A term of the council may take out what a rotation rests on: what becomes of that is a person's to see to.
        if weather.faults.lie_ms.is_none() {
            weather.rotate_ms = every(rng, 35, 3_000, 15_000);
        }
        weather.write_ms = every(rng, 60, 1_000, 8_000);
        weather.cut_early = *rng.pick(&[0, 90, 90]).unwrap_or(&0);
        weather.budget_ms = every(rng, 60, 400, 3_000);
        weather.window_ms = *rng.pick(&[15_000, 60_000, 3_600_000]).unwrap_or(&3_600_000);
        weather.far_facts = *rng.pick(&[8, 8, 1_024]).unwrap_or(&8);
        weather.epoch_changes = *rng.pick(&[4, 12, 40, 16_000]).unwrap_or(&12);
        weather.hot_bytes = *rng.pick(&[0, 0, 20_000, HOT_BYTES_MAX]).unwrap_or(&0);
        weather.checks = *rng.pick(&[None, Some(0), Some(40)]).unwrap_or(&None);
        weather.second = rng.percent(40);
        weather.silence_ms = every(rng, 25, 2_000, 30_000);
        weather.people.edit = *rng.pick(&[0, 15, 40]).unwrap_or(&0);
        weather.people.deputy_ms = every(rng, 40, 5_000, 30_000);
        weather.people.undo_ms = every(rng, 30, 10_000, 60_000);
        weather.agents.sessions = *rng.pick(&[0, 50]).unwrap_or(&0);
        weather.takes = rng
            .percent(60)
            .then(|| Takes { limit: rng.between(1, 5), window_ms: *rng.pick(&[None, Some(120_000)]).unwrap_or(&None) });
        weather.faults.executor_ms = every(rng, 30, turbulence_ms / 8, turbulence_ms / 2);
        weather.go_alone(rng);
        weather.agents.sagas = *rng.pick(&[0, 30]).unwrap_or(&0);
        weather.faults.rumour_ms = every(rng, 25, 5_000, 40_000);
        // By what was drawn already: the other worlds stay as they are.
        if weather.second
            && !weather.turbulence_ms.is_multiple_of(3)
            && !planted::NAMES.into_iter().any(planted::active)
        {
            weather.widen();
        }
        weather.thin = Thin::of(weather.turbulence_ms);
        weather.favour_the_planted(weather.turbulence_ms);
        if weather.faults.lie_ms.is_some() {
            weather.alone = None;
        }
        weather
    }

    /// Agents propose what cannot be taken back, which takes two people and both coordinators.
    fn widen(&mut self) {
        (self.agents.wide, self.people.approvers, self.silence_ms) = (60, 2, None);
        // Two people are few: who edits does not approve, and who denies has the last word.
        (self.people.edit, self.people.deny) = (0, self.people.deny.min(10));
        self.people.look_ms = self.people.look_ms.min(5_000);
    }

    /// A calm world of many sites, on links as long as a country.
    #[must_use]
    pub fn wide(sites: Vec<usize>) -> Self {
        let disk = DiskWeather { usual_ms_max: 5, slow_ppm: 0, slow_ms_max: 0, group: true, blocking: true };
        Self { sites_linked: false, latency_ms: (10, 50), disk, sparse: true, enrolled: true, ..Self::calm(sites) }
    }

    /// A calm world for stories: three sites' worth of nothing going wrong.
    #[must_use]
    pub fn calm(sites: Vec<usize>) -> Self {
        Self {
            sites,
            sites_linked: true,
            turbulence_ms: 0,
            latency_ms: (1, 5),
            break_ppm: 0,
            disk: DiskWeather { usual_ms_max: 2, slow_ppm: 0, slow_ms_max: 0, group: true, blocking: true },
            faults: Faults::default(),
            people: PeopleWeather {
                count: 3,
                approvers: 1,
                look_ms: 0,
                deny: 0,
                withdraw: 0,
                odd: 0,
                veto_ms: None,
                revoke: false,
                edit: 0,
                deputy_ms: None,
                undo_ms: None,
            },
            agents: AgentWeather {
                proposals: 0,
                repeats: 0,
                open_ms: 3_600_000,
                ttl_s: 600,
                sessions: 0,
                sagas: 0,
                wide: 0,
            },
            effect_ms_max: 5,
            effect_fails: (0, 0),
            checks: None,
            lease_r1_ms: 3_600_000,
            clock_offset_ms_max: 0,
            clock_drift_ppm_max: 0,
            rotate_ms: None,
            write_ms: None,
            sparse: false,
            finds: false,
            enrolled: false,
            cut_early: 0,
            budget_ms: None,
            window_ms: 3_600_000,
            far_facts: 1_024,
            epoch_changes: 16_000,
            hot_bytes: HOT_BYTES_MAX,
            second: false,
            silence_ms: None,
            thin: None,
            alone: None,
            takes: None,
            term_ms: (3_000, 60_000),
        }
    }
}

/// Zero in half the worlds, else up to `max`.
fn maybe(rng: &mut Rng, percent: u64, max: u64) -> u64 {
    if rng.percent(percent) { rng.between(max / 50, max) } else { 0 }
}

fn every(rng: &mut Rng, percent: u64, low: Ms, high: Ms) -> Option<Ms> {
    rng.percent(percent).then(|| rng.between(low, high))
}

fn draw_sites(rng: &mut Rng, nodes: Option<usize>) -> Vec<usize> {
    let sites = rng.between(1, 3);
    let mut each: Vec<usize> = (0..sites).map(|_| if rng.percent(30) { 2 } else { 1 }).collect();
    match nodes {
        // One node is hq; the others are spread over the sites in turn.
        Some(total) => {
            let (count, others) = (each.len(), total.saturating_sub(1).max(1));
            each = (0..count.min(others)).map(|i| (others + count - 1 - i) / count).collect();
        }
        None if each.iter().sum::<usize>() < 2 => each[0] = 2,
        None => {}
    }
    each
}

impl DiskWeather {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            usual_ms_max: *rng.pick(&[1, 5, 20]).unwrap_or(&1),
            slow_ppm: *rng.pick(&[0, 20_000, 200_000]).unwrap_or(&0),
            slow_ms_max: rng.between(200, 3_200),
            group: rng.percent(60),
            blocking: rng.percent(60),
        }
    }
}

impl Faults {
    fn draw(rng: &mut Rng, turbulence_ms: Ms) -> Self {
        let few = (turbulence_ms / 4, turbulence_ms);
        Self {
            kill_ms: every(rng, 60, 10_000, 60_000),
            power_ms: every(rng, 40, 20_000, 120_000),
            restore_ms: every(rng, 45, few.0, few.1),
            partition_ms: every(rng, 60, 15_000, 90_000),
            stall_ms: every(rng, 35, 15_000, 60_000),
            freeze_ms: every(rng, 40, 20_000, 90_000),
            jump_ms: every(rng, 25, 20_000, 120_000),
            stranger_ms: every(rng, 50, 5_000, 30_000),
            forge_ms: every(rng, 45, few.0, few.1),
            cut_ms: every(rng, 25, few.0, few.1),
            gap_ppm: maybe(rng, 60, 200_000),
            lie_ms: every(rng, 35, few.0, few.1),
            executor_ms: None,
            rumour_ms: None,
        }
    }
}

impl PeopleWeather {
    fn draw(rng: &mut Rng) -> Self {
        let count = usize::try_from(rng.between(2, 4)).unwrap_or(2);
        Self {
            count,
            approvers: if rng.percent(40) { 2 } else { 1 },
            look_ms: rng.between(2_000, 15_000),
            deny: *rng.pick(&[0, 10, 30]).unwrap_or(&0),
            withdraw: *rng.pick(&[0, 0, 25]).unwrap_or(&0),
            odd: *rng.pick(&[0, 30, 60]).unwrap_or(&0),
            veto_ms: every(rng, 40, 20_000, 120_000),
            revoke: rng.percent(20),
            edit: 0,
            deputy_ms: None,
            undo_ms: None,
        }
    }
}

impl AgentWeather {
    fn draw(rng: &mut Rng, turbulence_ms: Ms) -> Self {
        Self {
            proposals: usize::try_from(rng.between(2, 9)).unwrap_or(2),
            repeats: *rng.pick(&[0, 20, 50]).unwrap_or(&0),
            open_ms: if rng.percent(30) { rng.between(20_000, 90_000) } else { turbulence_ms + 600_000 },
            ttl_s: rng.between(5, 120),
            sessions: 0,
            sagas: 0,
            wide: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_have_three_to_eight_nodes_unless_told() {
        for seed in 0..200 {
            let total: usize = 1 + Weather::draw(&mut Rng::new(seed), None).sites.iter().sum::<usize>();
            assert!((3..=8).contains(&total), "{total}");
            let told: usize = 1 + Weather::draw(&mut Rng::new(seed), Some(20)).sites.iter().sum::<usize>();
            assert_eq!(told, 20);
        }
    }
}
