//! Looks at callers' programs, on threads that may wait, within bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::caller::{Attested, Caller, CallerError};
use crate::digest::Digests;
use crate::seats::Guest;

/// Executables read at once, for everybody: as much of the machine as identities may take from what it is there for.
const READS_MAX: usize = 2;
/// One look. Half of it suffices for the largest executable from a slow disk.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// A look and its waiting for others.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The node's looks and what they have found.
#[derive(Debug)]
pub(crate) struct Looks {
    digests: Arc<Digests>,
    reads: Arc<Semaphore>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { digests: Arc::default(), reads: Arc::new(Semaphore::new(READS_MAX)) }
    }
}

impl Looks {
    /// What is known about the caller, with its executable's digest on demand.
    ///
    /// # Errors
    /// [`CallerError`]; nothing of it where the runtime stops.
    pub(crate) async fn attest(&self, guest: &Arc<Guest>, digest: bool) -> Option<Result<Attested, CallerError>> {
        timeout(WAIT_MAX, self.within_bounds(guest, digest)).await.unwrap_or(Some(Err(CallerError::Slow)))
    }

    async fn within_bounds(&self, guest: &Arc<Guest>, digest: bool) -> Option<Result<Attested, CallerError>> {
        let gates = &guest.seat.gates;
        let mut reads = None;
        if digest && guest.caller.must_be_read(&self.digests) {
            let own = gates.reads.clone().acquire_owned().await.ok()?;
            // Somebody else may have read the same program meanwhile.
            if guest.caller.must_be_read(&self.digests) {
                reads = Some((own, self.reads.clone().acquire_owned().await.ok()?));
            }
        }
        let look = gates.looks.clone().acquire_owned().await.ok()?;
        let (own, shared) = reads.unzip();
        let (guest, digests) = (guest.clone(), digest.then(|| self.digests.clone()));
        let looking = tokio::task::spawn_blocking(move || {
            // A thread that hangs in a file system keeps what is its party's, the seat among it.
            let _held = (look, own);
            guest.caller.attest(digests.as_deref(), Instant::now() + LOOK_MAX)
        });
        // What is everybody's comes back in time, and not before: a caller that has hung up is still being read.
        let bounded = tokio::spawn(async move {
            let found = timeout(LOOK_MAX, looking).await;
            drop(shared);
            found
        });
        match bounded.await.ok()? {
            Ok(found) => found.ok(),
            Err(_) => Some(Err(CallerError::Slow)),
        }
    }
}

/// The first look, after which the connection is read; given up with the future, though not by the thread.
pub(crate) async fn first(guest: Arc<Guest>, look: fn(&Caller)) {
    let Ok(permit) = guest.seat.gates.looks.clone().acquire_owned().await else { return };
    let looking = tokio::task::spawn_blocking(move || {
        let _held = permit;
        look(&guest.caller);
    });
    // A panic of ours leaves the caller unseen.
    let _ = looking.await;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::seats::{Held, Party};

    /// This very process in a seat of `party`, looked at once.
    fn guest(held: &Arc<Held>, party: Party) -> Arc<Guest> {
        let (ours, _theirs) = tokio::net::UnixStream::pair().expect("a pair");
        let guest = Guest { caller: Caller::of(&ours).expect("credentials"), seat: held.take(party).expect("a seat") };
        guest.caller.look();
        Arc::new(guest)
    }

    async fn answers(looks: &Looks, guest: &Arc<Guest>, digest: bool) -> bool {
        match timeout(Duration::from_secs(3), looks.attest(guest, digest)).await {
            Ok(found) => {
                let found = found.expect("the runtime runs").expect("attested");
                assert_eq!((found.path.is_some(), found.sha256.is_some()), (true, digest));
                true
            }
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn executables_are_read_two_at_a_time_and_one_for_each_user() {
        let (looks, held) = (Looks::default(), Arc::new(Held::default()));
        let (a, b) = (guest(&held, Party::User(1)), guest(&held, Party::User(2)));
        let own = a.seat.gates.reads.clone().try_acquire_owned().expect("free");
        assert!(!answers(&looks, &a, true).await, "one of its own is being read");
        assert!(answers(&looks, &a, false).await, "which keeps nobody from its path");

        let busy: Vec<_> = std::iter::from_fn(|| looks.reads.clone().try_acquire_owned().ok()).collect();
        assert_eq!(busy.len(), READS_MAX);
        assert!(!answers(&looks, &b, true).await, "two of others are being read");
        assert!(answers(&looks, &b, false).await);
        drop(busy);
        assert!(answers(&looks, &b, true).await);
        assert!(answers(&looks, &a, true).await, "what was read once is known to all, and needs no turn");
        drop(own);
        assert_eq!(looks.reads.available_permits(), READS_MAX);
    }

    #[tokio::test]
    async fn a_user_whose_looks_hang_keeps_nobody_else_waiting() {
        let (looks, held) = (Looks::default(), Arc::new(Held::default()));
        let (a, b) = (guest(&held, Party::User(1)), guest(&held, Party::User(2)));
        let hung: Vec<_> = std::iter::from_fn(|| a.seat.gates.looks.clone().try_acquire_owned().ok()).collect();
        assert_eq!(hung.len(), 4);
        assert!(!answers(&looks, &a, false).await);
        assert!(answers(&looks, &b, false).await);
    }
}
