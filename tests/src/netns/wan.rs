//! The network between sites: one thread that owns every site's TUN device.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use super::nat::{Mapping, Nat};
use super::packet;
use super::shape::{Carried, Lane, Path};

/// How long the thread sleeps at most, so that it notices its end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const PACKET_LEN_MAX: usize = 65_535;

/// A site's way out.
pub(super) struct Port {
    pub(super) site: String,
    pub(super) device: SyncDevice,
    /// What lies behind it, with the lengths of the prefixes.
    pub(super) networks: Vec<(IpAddr, u8)>,
    pub(super) outside: Ipv4Addr,
}

/// A packet on its way, in the order of arrival; the number keeps the order of those that arrive together.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    number: u64,
    to: usize,
    packet: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<(String, String), Lane>,
    nats: BTreeMap<String, Nat>,
    outsides: BTreeMap<String, Ipv4Addr>,
    on_the_way: BinaryHeap<Reverse<Due>>,
    number: u64,
}

/// Carries packets between sites, each direction of each pair on a [`Path`] of its own.
#[derive(Debug)]
pub struct Wan {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    began: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Wan {
    pub(super) fn start(ports: Vec<Port>, seed: u64) -> Self {
        let mut state = State::default();
        let mut seeds = fastrand::Rng::with_seed(seed);
        for port in &ports {
            state.outsides.insert(port.site.clone(), port.outside);
            for other in ports.iter().filter(|other| other.site != port.site) {
                state.lanes.insert((port.site.clone(), other.site.clone()), Lane::new(seeds.u64(..)));
            }
        }
        let (state, stop, began) = (Arc::new(Mutex::new(state)), Arc::new(AtomicBool::new(false)), Instant::now());
        let (carried, stopped) = (state.clone(), stop.clone());
        let thread = std::thread::spawn(move || carry(&ports, &carried, &stopped, began));
        Self { state, stop, began, thread: Some(thread) }
    }

    /// Sets what the way from one site to another is like; the way back stays as it is.
    ///
    /// # Panics
    /// When there is no such pair.
    pub fn set(&self, from: &str, to: &str, path: Path) {
        self.with_lane(from, to, |lane| lane.path = path);
    }

    /// What the way from one site to another is like.
    ///
    /// # Panics
    /// When there is no such pair.
    #[must_use]
    pub fn path(&self, from: &str, to: &str) -> Path {
        self.with_lane(from, to, |lane| lane.path)
    }

    /// What went from one site to another so far.
    ///
    /// # Panics
    /// When there is no such pair.
    #[must_use]
    pub fn carried(&self, from: &str, to: &str) -> Carried {
        self.with_lane(from, to, |lane| lane.carried)
    }

    /// Puts a site's IPv4 behind a NAT whose mappings end after `idle` without a packet from inside.
    ///
    /// # Panics
    /// When there is no such site.
    pub fn translate(&self, site: &str, mapping: Mapping, idle: Duration) {
        let mut state = self.lock();
        let outside = *state.outsides.get(site).unwrap_or_else(|| panic!("there is no site {site}"));
        state.nats.insert(site.to_owned(), Nat::new(mapping, outside, idle));
    }

    /// A site's NAT forgets its mappings: open connections appear from other ports from here on.
    ///
    /// # Panics
    /// When the site has none.
    pub fn rebind(&self, site: &str) {
        self.lock().nats.get_mut(site).unwrap_or_else(|| panic!("{site} has no NAT")).rebind();
    }

    /// The sites there are.
    #[must_use]
    pub fn sites(&self) -> Vec<String> {
        self.lock().outsides.keys().cloned().collect()
    }

    /// A site's address outside, where it has a NAT.
    #[must_use]
    pub fn outside(&self, site: &str) -> Option<Ipv4Addr> {
        self.lock().outsides.get(site).copied()
    }

    fn with_lane<T>(&self, from: &str, to: &str, what: impl FnOnce(&mut Lane) -> T) -> T {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(&(from.to_owned(), to.to_owned()));
        what(lane.unwrap_or_else(|| panic!("there is no way from {from} to {to}")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            !self.thread.as_ref().is_some_and(JoinHandle::is_finished),
            "the WAN has stopped after {:?}",
            self.began.elapsed()
        );
        state
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed; a second one here would end the test without a word.
            let _ = thread.join();
        }
    }
}

fn carry(ports: &[Port], state: &Mutex<State>, stop: &AtomicBool, began: Instant) {
    let mut packet = vec![0; PACKET_LEN_MAX];
    while !stop.load(Ordering::Relaxed) {
        let next = state.lock().unwrap_or_else(PoisonError::into_inner).next();
        let wait = next.map_or(LOOK_EVERY, |at| at.saturating_sub(began.elapsed()).min(LOOK_EVERY));
        let mut watched: Vec<PollFd<'_>> = ports.iter().map(|p| PollFd::new(&p.device, PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        // Interrupted by a signal: look again.
        let _ = poll(&mut watched, Some(&wait));
        let readable: Vec<bool> = watched.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        for (from, port) in ports.iter().enumerate().filter(|(from, _)| readable[*from]) {
            if let Ok(length) = port.device.recv(&mut packet) {
                state.take(ports, from, began.elapsed(), &mut packet[..length]);
            }
        }
        while let Some((to, mut packet)) = state.arrived(began.elapsed()) {
            if state.let_in(&ports[to].site, began.elapsed(), &mut packet) {
                // A device that is down takes nothing; that is what a network does.
                let _ = ports[to].device.send(&packet);
            }
        }
    }
}

impl State {
    fn next(&self) -> Option<Duration> {
        self.on_the_way.peek().map(|Reverse(due)| due.at)
    }

    fn take(&mut self, ports: &[Port], from: usize, now: Duration, packet: &mut [u8]) {
        let Some(to) = packet::destination(packet).and_then(|ip| ports.iter().position(|port| port.holds(ip))) else {
            return;
        };
        if from == to {
            return;
        }
        let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
        if let Some(nat) = self.nats.get_mut(&ports[from].site).filter(|_| v4)
            && !nat.outward(now, packet)
        {
            return;
        }
        let key = (ports[from].site.clone(), ports[to].site.clone());
        let Some(arrives) = self.lanes.get_mut(&key).and_then(|lane| lane.pass(now, packet.len())) else { return };
        self.number += 1;
        self.on_the_way.push(Reverse(Due { at: arrives, number: self.number, to, packet: packet.to_vec() }));
    }

    fn arrived(&mut self, now: Duration) -> Option<(usize, Vec<u8>)> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        self.on_the_way.pop().map(|Reverse(due)| (due.to, due.packet))
    }

    fn let_in(&mut self, site: &str, now: Duration, packet: &mut [u8]) -> bool {
        let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
        self.nats.get_mut(site).filter(|_| v4).is_none_or(|nat| nat.inward(now, packet))
    }
}

impl Port {
    fn holds(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|(network, length)| match (network, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                prefix(u32::from(*network).into(), 32, *length) == prefix(u32::from(ip).into(), 32, *length)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                prefix((*network).into(), 128, *length) == prefix(ip.into(), 128, *length)
            }
            _ => false,
        })
    }
}

fn prefix(address: u128, bits: u32, length: u8) -> u128 {
    address >> (bits - u32::from(length))
}
