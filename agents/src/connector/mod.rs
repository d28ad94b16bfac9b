//! Hands: what can be done to the outside world, and only with a permit that the owner itself has verified.

pub mod blocklist;
mod diff;
mod error;
mod file;
pub mod folder;
mod outcome;
mod sandbox;

use cauldron_coordinator::action::Action;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};

pub use error::ConnectorError;
pub use outcome::{DryRun, Effect, Ended, EndedWhy, Fencing, Held, Outcome, Probe, Reading};
pub use sandbox::Limits;

/// Called at named fault points: `effect.before` and `effect.after`, right around the one system call that makes an effect real,
/// and `effect.ended`, right after one that ends effects.
pub type FaultHook = Box<dyn Fn(&str) + Send + Sync>;

/// Version of an object that is not there, where objects have versions.
pub const ABSENT: &str = "absent";

/// One actuator of this node.
///
/// [`Connector::execute`] and [`Connector::undo`] are the only ways to an effect. The first asks for a [`VerifiedPermit`]:
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
/// taking back asks for a proof of its own,
///
/// ```compile_fail,E0308
/// # use cauldron_agents::connector::{Connector, ConnectorError, Outcome};
/// # use cauldron_coordinator::action::Action;
/// fn take_back(actuator: &mut dyn Connector, undo: &Action) -> Result<Outcome, ConnectorError> {
///     actuator.undo(undo, 1_795_338_000_000)
/// }
/// ```
///
/// and the connector has no back door:
///
/// ```compile_fail,E0624
/// # use cauldron_agents::connector::blocklist::Blocklist;
/// let back_door = Blocklist::apply;
/// ```
///
/// ```compile_fail,E0624
/// # use cauldron_agents::connector::folder::Folder;
/// let back_door = Folder::carry_out;
/// ```
///
/// A call may hang as long as the target does; whoever calls watches the time.
pub trait Connector {
    /// Third part of a resource `<site>/<node>/<connector>/<object>`.
    fn name(&self) -> &str;

    /// What it can do: operations that have an action schema for this connector.
    fn operations(&self) -> &[&'static str];

    /// How a stale owner is kept from acting.
    fn fencing(&self) -> Fencing;

    /// Sandboxes that it can enforce: whole texts such as `net:none`, or `path:*` for every text that begins with `path:`. Its owner
    /// refuses a permit that carries another one. [`Connector::execute`] and [`Connector::read_under`] enforce every one that they are
    /// given, or do nothing.
    fn sandboxes(&self) -> &[&'static str];

    /// The version of `object` now; none where this connector's objects have none.
    ///
    /// # Errors
    /// It cannot be said.
    fn version(&self, object: &str) -> Result<Option<String>, ConnectorError>;

    /// What `action` would change, were it carried out at `now_ms` (Unix milliseconds). Changes nothing.
    ///
    /// # Errors
    /// It could not be carried out as things are.
    fn dry_run(&self, action: &Action, now_ms: u64) -> Result<DryRun, ConnectorError>;

    /// Carries out an action whose schema says that it only reads.
    ///
    /// # Errors
    /// There is nothing to read, or it is no such action.
    fn read(&self, action: &Action) -> Result<Reading, ConnectorError>;

    /// The same under a permit: within the sandbox that it carries.
    ///
    /// # Errors
    /// As of [`Connector::read`], or what there is to read lies beyond the sandbox.
    fn read_under(&self, permit: &VerifiedPermit) -> Result<Reading, ConnectorError> {
        let limits = Limits::parse(permit.sandbox(), self.sandboxes())?;
        limits.admit(permit.action())?;
        let reading = self.read(permit.action())?;
        limits.admit_bytes(reading.bytes.len())?;
        Ok(reading)
    }

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

    /// Whether the check `name` holds of the effect that was made with this key.
    ///
    /// # Errors
    /// It cannot be said, or there is no such check.
    fn check(&self, idempotency_key: &str, name: &str) -> Result<Held, ConnectorError>;

    /// Takes the effect of an earlier execution back, at `now_ms` (Unix milliseconds). A repetition changes nothing; what others
    /// did to the object since is left alone.
    ///
    /// # Errors
    /// As of [`Connector::execute`], but that a repetition tells what happened.
    fn undo(&mut self, undo: &VerifiedUndo, now_ms: u64) -> Result<Outcome, ConnectorError>;

    /// Ends every effect of ours that is due at `now_ms` (Unix milliseconds) and says which. An effect that was ended right
    /// before a crash is not told again: [`Connector::probe`] answers [`Probe::Ended`].
    ///
    /// # Errors
    /// What is due stays due: sweep again.
    fn sweep(&mut self, now_ms: u64) -> Result<Vec<Ended>, ConnectorError>;
}

/// Whether a text can stand in a file or as its name, as a permit's id or an idempotency key.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
