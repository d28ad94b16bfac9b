//! Hands: what can be done to the outside world, and only with a permit that the owner itself has verified.

pub mod blocklist;

use std::io;
use std::path::PathBuf;

use cauldron_coordinator::owner::VerifiedPermit;
use cauldron_identity::Digest;
use serde::Serialize;

/// One actuator of this node.
///
/// [`Connector::execute`] is the only way to an effect, and it asks for a [`VerifiedPermit`]:
///
/// ```
/// # use cauldron_agents::connector::{Connector, ConnectorError, Outcome};
/// # use cauldron_coordinator::owner::VerifiedPermit;
/// fn act(actuator: &mut dyn Connector, permit: &VerifiedPermit) -> Result<Outcome, ConnectorError> {
///     actuator.execute(permit, 1_795_338_000_000)
/// }
/// ```
///
/// There is no call without one,
///
/// ```compile_fail,E0061
/// # use cauldron_agents::connector::{Connector, ConnectorError, Outcome};
/// fn act(actuator: &mut dyn Connector) -> Result<Outcome, ConnectorError> {
///     actuator.execute(1_795_338_000_000)
/// }
/// ```
///
/// a permit as a coordinator wrote it is not enough,
///
/// ```compile_fail,E0308
/// # use cauldron_agents::connector::{Connector, ConnectorError, Outcome};
/// # use cauldron_coordinator::bodies::Permit;
/// fn act(actuator: &mut dyn Connector, permit: &Permit) -> Result<Outcome, ConnectorError> {
///     actuator.execute(permit, 1_795_338_000_000)
/// }
/// ```
///
/// and the connector has no back door:
///
/// ```compile_fail,E0624
/// # use cauldron_agents::connector::blocklist::Blocklist;
/// let back_door = Blocklist::apply;
/// ```
pub trait Connector {
    /// Third part of a resource `<site>/<node>/<connector>/<object>`.
    fn name(&self) -> &str;

    /// What it can do: operations that have an action schema for this connector.
    fn operations(&self) -> &[&'static str];

    /// How a stale owner is kept from acting.
    fn fencing(&self) -> Fencing;

    /// Carries out `permit` at `now_ms` (Unix milliseconds). A repetition (same idempotency key) changes nothing.
    ///
    /// # Errors
    /// After [`ConnectorError::Io`] the effect may or may not have happened: [`Connector::probe`] tells. After any other
    /// error nothing was done.
    fn execute(&mut self, permit: &VerifiedPermit, now_ms: u64) -> Result<Outcome, ConnectorError>;

    /// Whether the execution with this key happened, and whether its effect still stands.
    ///
    /// # Errors
    /// It cannot be said.
    fn probe(&self, idempotency_key: &str) -> Result<Probe, ConnectorError>;

    /// Ends every effect of ours that is due at `now_ms` (Unix milliseconds) and says which. An effect that was ended right
    /// before a crash is not told again: [`Connector::probe`] answers [`Probe::Ended`].
    ///
    /// # Errors
    /// What is due stays due: sweep again.
    fn sweep(&mut self, now_ms: u64) -> Result<Vec<Ended>, ConnectorError>;
}

/// How the actuator keeps a stale owner from acting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fencing {
    /// Only this machine reaches it, and a lock admits one process.
    Local,
    /// It checks a fencing token itself.
    Native,
    /// It takes commands from anyone with credentials.
    None,
}

/// What an execution did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether anything changed.
    pub effect: Effect,
    /// Where a person finds the effect.
    pub effect_ref: String,
    /// When the effect ends by itself, Unix milliseconds.
    pub until_ms: Option<u64>,
    /// The resource's version before: SHA-256 of the file.
    pub before: Digest,
    /// The resource's version after.
    pub after: Digest,
    /// An earlier effect that this one took the place of.
    pub replaced: Option<Ended>,
}

/// Whether anything changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It was done now.
    Applied,
    /// The same permit had been carried out before; nothing changed.
    AlreadyApplied,
    /// The same permit had been carried out before and its time is over; nothing changed.
    AlreadyEnded,
    /// Somebody else lists the address already; their line was left alone.
    AlreadyListed,
}

/// Whether a permit was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// It was, and its effect stands.
    Applied,
    /// It was, and its effect is over.
    Ended,
    /// There is no trace of it.
    Absent,
}

/// An effect that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The permit it was carried out under.
    pub permit_id: String,
    /// What it acted on.
    pub object: String,
    /// Where it was, as in [`Outcome::effect_ref`].
    pub effect_ref: String,
    /// When it was due to end, Unix milliseconds.
    pub until_ms: u64,
    /// Why it is over.
    pub why: EndedWhy,
}

/// Why an effect is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedWhy {
    /// Its time was over.
    Expired,
    /// A later permit for the same object took its place.
    Replaced,
}

/// Why a connector did nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The directory of the file does not exist.
    #[error("there is no directory {} for {}; create it, or name another file", directory.display(), path.display())]
    NoDirectory {
        /// The missing directory.
        directory: PathBuf,
        /// The file as configured.
        path: PathBuf,
    },
    /// The file is a symlink, which could lead anywhere.
    #[error("{} is a symlink; name the file itself", path.display())]
    Symlink {
        /// The file as configured.
        path: PathBuf,
    },
    /// A directory, FIFO, device or socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file as configured.
        path: PathBuf,
    },
    /// Another node's file.
    #[error("{} belongs to {found}, this node is {us}; name another file, or stop that node and remove {}", path.display(), marker.display())]
    OwnedByAnother {
        /// The file as configured.
        path: PathBuf,
        /// The file that names the owner.
        marker: PathBuf,
        /// The owner it names.
        found: String,
        /// This node's SPIFFE ID.
        us: String,
    },
    /// Another process of this node uses the file.
    #[error("another process holds {} (lock on {}); stop it first", path.display(), marker.display())]
    Locked {
        /// The file as configured.
        path: PathBuf,
        /// The locked file.
        marker: PathBuf,
    },
    /// Larger than this connector reads.
    #[error("{} is larger than {bytes_max} bytes; shorten it", path.display())]
    TooLarge {
        /// The file as configured.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// Others kept changing the file while we tried. Nothing was done; trying again later is safe.
    #[error("{} kept changing while we tried to replace it; nothing was done", path.display())]
    Contended {
        /// The file that changed.
        path: PathBuf,
    },
    /// The permit does not ask for something this connector does.
    #[error("refused: {why}")]
    Refused {
        /// What does not fit.
        why: String,
    },
    /// The system said no. Whether the effect happened must be probed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
