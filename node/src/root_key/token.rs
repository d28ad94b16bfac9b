//! A key in a token that speaks PKCS #11 (OASIS, v2.40 and later).
//!
//! One thread loads the module and is the only one that calls it: whoever asks waits for an answer with a limit, so that a
//! module that hangs holds up nobody else. A token that was away is opened again by the next request.

mod session;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::ids::sha256;
use cauldron_identity::x509::{ExternalKey, POINT_LEN};
use tokio::runtime::{Handle, RuntimeFlavor};

use self::session::Keeper;
use super::uri::TokenUri;
use crate::error::{CliError, Kind};

/// The slowest tokens sign in about a second; opening one reads all of its objects.
const OPEN_MAX: Duration = Duration::from_secs(20);
const SIGN_MAX: Duration = Duration::from_secs(10);
const END_MAX: Duration = Duration::from_secs(2);
/// Requests that may wait for the token; they come from this node's own renewals and one enrol lane.
const WAITING_MAX: usize = 16;

/// What is to be signed, and where the answer goes.
struct Job {
    digest: [u8; 32],
    reply: SyncSender<Result<Vec<u8>, CliError>>,
}

/// The way to the thread that has the token.
struct TokenKey {
    uri: TokenUri,
    point: [u8; POINT_LEN],
    /// Nothing only while this is dropped.
    jobs: Option<SyncSender<Job>>,
    ended: Mutex<Receiver<()>>,
}

/// Opens the key; with `generate` it is made first.
pub(super) fn open(uri: &TokenUri, generate: bool) -> Result<Arc<dyn ExternalKey>, CliError> {
    let (opened, answer) = sync_channel(1);
    let (jobs, inbox) = sync_channel(WAITING_MAX);
    let (ends, ended) = sync_channel(1);
    let keeper = Keeper::new(uri.clone());
    std::thread::Builder::new()
        .name("root-key".into())
        .spawn(move || {
            work(keeper, generate, &opened, &inbox);
            let _ = ends.send(());
        })
        .map_err(|e| CliError::config("cannot start a thread").because(&e))?;
    let point = waiting(|| answer.recv_timeout(OPEN_MAX)).unwrap_or_else(|e| Err(silent(uri, e, OPEN_MAX)))?;
    Ok(Arc::new(TokenKey { uri: uri.clone(), point, jobs: Some(jobs), ended: Mutex::new(ended) }))
}

/// The thread: opens once, then signs until nobody can ask any more.
fn work(
    mut keeper: Keeper,
    generate: bool,
    opened: &SyncSender<Result<[u8; POINT_LEN], CliError>>,
    inbox: &Receiver<Job>,
) {
    let point = keeper.begin(generate);
    let failed = point.is_err();
    // Nobody waits for either answer any longer than the limits.
    let _ = opened.send(point);
    if failed {
        return;
    }
    while let Ok(job) = inbox.recv() {
        let _ = job.reply.send(keeper.sign(&job.digest));
    }
}

impl ExternalKey for TokenKey {
    fn point(&self) -> &[u8; POINT_LEN] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let (reply, answer) = sync_channel(1);
        let sent = self.jobs.as_ref().map(|jobs| jobs.try_send(Job { digest: sha256(message), reply }));
        match sent {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => {
                return Err(format!("{WAITING_MAX} requests wait for the {} already", self.uri));
            }
            Some(Err(TrySendError::Disconnected(_))) | None => {
                return Err(format!("nobody keeps the {} any more", self.uri));
            }
        }
        waiting(|| answer.recv_timeout(SIGN_MAX))
            .unwrap_or_else(|e| Err(silent(&self.uri, e, SIGN_MAX)))
            .map_err(|e| e.one_line())
    }
}

impl Drop for TokenKey {
    /// Waits until the module is no longer at work: one that runs while the process ends brings it down.
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // One that hangs is left behind.
        let _ = ended.recv_timeout(END_MAX);
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({})", self.uri)
    }
}

fn silent(uri: &TokenUri, why: RecvTimeoutError, limit: Duration) -> CliError {
    let what = match why {
        RecvTimeoutError::Timeout => format!("the {uri} has not answered within {} s", limit.as_secs()),
        RecvTimeoutError::Disconnected => format!("the thread that keeps the {uri} has ended"),
    };
    CliError::new(Kind::Unreachable, what).hint(format!("look after the module {}", uri.module.display()))
}

/// Waits on this thread, and tells a runtime of many threads to go on without it.
fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}
