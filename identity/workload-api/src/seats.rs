//! Who holds how many connections, and how many threads look at whose programs.
//!
//! Seats belong to the users and groups that the entries name, since ids that no entry names cost nothing: a user with a range
//! of subordinate ids (`/etc/subuid`) has 65,536 of them. All strangers share a few seats, and have them briefly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::caller::Caller;
use crate::entry::Entry;

/// Connections at once. A workload needs one or two; a node has some tens of workloads.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Of these, what one user may hold, so that none can shut the others out.
pub(crate) const CONNECTIONS_PER_USER_MAX: usize = 64;
/// Of these, what all callers together may hold that match no entry: they are only told so.
pub(crate) const CONNECTIONS_OF_STRANGERS_MAX: usize = 16;
/// Threads that look at the programs of one user. A file system that hangs, of the user's own making too, keeps this many and
/// no more from the rest of the node, whose runtime has 512.
const LOOKS_PER_USER_MAX: usize = 4;
/// As [`LOOKS_PER_USER_MAX`], of those that read a whole executable.
const READS_PER_USER_MAX: usize = 1;
const _: () = assert!(CONNECTIONS_PER_USER_MAX * 2 + CONNECTIONS_OF_STRANGERS_MAX <= CONNECTIONS_MAX);

/// Whose a seat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// An entry that fits names the user.
    User(u32),
    /// The entries that fit name the group alone, in which one person may have many user ids.
    Group(u32),
    /// The entries that fit name a program alone. The node's configuration knows none such.
    Anybody,
    /// No entry fits.
    Strangers,
}

impl Party {
    pub(crate) fn of(uid: u32, gid: u32, entries: &[Entry]) -> Self {
        let fitting = || entries.iter().map(|e| &e.selectors).filter(|s| s.fits_credentials(uid, gid));
        if fitting().any(|s| s.uid.is_some()) {
            Self::User(uid)
        } else if fitting().any(|s| s.gid.is_some()) {
            Self::Group(gid)
        } else if fitting().next().is_some() {
            Self::Anybody
        } else {
            Self::Strangers
        }
    }

    fn seats_max(self) -> usize {
        match self {
            Self::User(_) | Self::Group(_) | Self::Anybody => CONNECTIONS_PER_USER_MAX,
            Self::Strangers => CONNECTIONS_OF_STRANGERS_MAX,
        }
    }
}

/// What a party holds.
#[derive(Debug)]
struct Share {
    seats: usize,
    gates: Gates,
}

/// Bounds on the threads that look at the programs of one party.
#[derive(Debug, Clone)]
pub(crate) struct Gates {
    pub(crate) looks: Arc<Semaphore>,
    pub(crate) reads: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        let gate = |permits| Arc::new(Semaphore::new(permits));
        Self { looks: gate(LOOKS_PER_USER_MAX), reads: gate(READS_PER_USER_MAX) }
    }
}

/// How many connections each party holds.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<BTreeMap<Party, Share>>);

impl Held {
    pub(crate) fn connections(&self) -> usize {
        self.lock().values().map(|share| share.seats).sum()
    }

    /// Nothing where the party, or everybody together, has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, party: Party) -> Option<Seat> {
        let mut held = self.lock();
        let strangers = held.get(&Party::Strangers).map_or(0, |share| share.seats);
        let named = held.values().map(|share| share.seats).sum::<usize>() - strangers;
        let full = party != Party::Strangers && named >= CONNECTIONS_MAX - CONNECTIONS_OF_STRANGERS_MAX;
        let share = held.entry(party).or_insert_with(|| Share { seats: 0, gates: Gates::default() });
        if full || share.seats >= party.seats_max() {
            let empty = share.seats == 0;
            empty.then(|| held.remove(&party));
            return None;
        }
        share.seats += 1;
        Some(Seat { held: self.clone(), party, gates: share.gates.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Party, Share>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's; given back when the last who looks at its caller is done.
#[derive(Debug)]
pub(crate) struct Seat {
    held: Arc<Held>,
    party: Party,
    pub(crate) gates: Gates,
}

impl Seat {
    pub(crate) fn is_strangers(&self) -> bool {
        self.party == Party::Strangers
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if let Some(share) = held.get_mut(&self.party) {
            share.seats -= 1;
            if share.seats == 0 {
                held.remove(&self.party);
            }
        }
    }
}

/// A caller in its seat.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) caller: Caller,
    pub(crate) seat: Seat,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Selectors;

    #[test]
    fn seats_go_by_what_entries_name_and_not_by_what_callers_can_choose() {
        let entry = |uid, gid, path: Option<&str>| Entry {
            spiffe_id: cauldron_identity::SpiffeId::new("spiffe://acme.test/a").expect("a SPIFFE ID"),
            hint: String::new(),
            selectors: Selectors { uid, gid, path: path.map(Into::into), sha256: None },
        };
        let entries = [entry(Some(7), None, None), entry(None, Some(8), None), entry(Some(9), Some(9), None)];
        for (uid, gid, party) in [
            (7, 7, Party::User(7)),
            (7, 8, Party::User(7)),
            (100_001, 8, Party::Group(8)),
            (100_002, 8, Party::Group(8)),
            (9, 9, Party::User(9)),
            (9, 7, Party::Strangers),
            (100_001, 100_001, Party::Strangers),
        ] {
            assert_eq!(Party::of(uid, gid, &entries), party, "{uid}:{gid}");
        }
        assert_eq!(Party::of(1, 2, &[entry(None, None, Some("/bin/a"))]), Party::Anybody);
        assert_eq!(Party::of(1, 2, &[entry(None, None, None)]), Party::Strangers);
    }

    #[test]
    fn strangers_share_a_few_seats_and_leave_everybody_else_s() {
        let held = Arc::new(Held::default());
        let strangers: Vec<Seat> = (0..10_000).filter_map(|_| held.take(Party::Strangers)).collect();
        assert_eq!((strangers.len(), held.connections()), (CONNECTIONS_OF_STRANGERS_MAX, CONNECTIONS_OF_STRANGERS_MAX));
        let mut named = Vec::new();
        for party in [Party::User(1), Party::Group(1), Party::User(2)] {
            let seats: Vec<Seat> = (0..100).filter_map(|_| held.take(party)).collect();
            assert_eq!(seats.len(), CONNECTIONS_PER_USER_MAX);
            named.extend(seats);
        }
        named.extend((0..100).filter_map(|_| held.take(Party::User(3))));
        assert!(held.take(Party::User(4)).is_none());
        assert_eq!(held.connections(), CONNECTIONS_MAX);
        drop((strangers, named));
        assert!(held.lock().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn one_party_s_looks_do_not_wait_for_another_s() {
        let held = Arc::new(Held::default());
        let seat = |party| held.take(party).expect("a seat");
        let (a, again, b) = (seat(Party::User(1)), seat(Party::User(1)), seat(Party::User(2)));
        let _reading = a.gates.reads.clone().try_acquire_owned().expect("free");
        assert!(again.gates.reads.clone().try_acquire_owned().is_err(), "one at a time");
        assert!(b.gates.reads.clone().try_acquire_owned().is_ok());
    }
}
