//! What the council lifts, grants and moves: restrictions that end, autonomy of agents, and who owns a resource.

mod judge;
mod state;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::budget::Life;
use crate::codec::to_cbor;
use crate::fact::SealedFact;
use crate::ids::{Digest, FactId, MeshId};
use crate::keys::AuthorKey;
use crate::scope::is_name;
use crate::signer::{SignerKey, SshSignature};

pub use state::{Autonomous, Lifted};
pub(super) use state::{Powers, PowersBeside};

/// Fact kind of an [`Offer`], in the site's scope.
pub const KIND_HANDOVER: &str = "handover";
/// Fact kind of an [`Accept`], in the site's scope.
pub const KIND_TAKEOVER: &str = "takeover";
/// Namespace of a person's word that a box is off.
pub const BOX_OFF_NAMESPACE: &str = "cauldron/box-off/v1";
/// Restrictions that one entry lifts: more need another entry.
pub const LIFTS_MAX: usize = 64;
/// Length of a reason, bytes.
pub const REASON_LEN_MAX: usize = 2_048;
/// People who attest that a box is off; two are needed.
const ATTESTS_MAX: usize = 8;
/// Votes that code asks for without a grant, of class R2 and of R3 (governance §3).
pub const VOTES_R2: u32 = 1;
/// See [`VOTES_R2`].
pub const VOTES_R3: u32 = 2;

/// Ends restrictions, each by its fact. What is not named stays, and what it stopped stays stopped.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Lift {
    /// The `restriction` facts, 1 to [`LIFTS_MAX`].
    #[n(0)]
    pub restrictions: Vec<FactId>,
    /// Why.
    #[n(1)]
    pub reason: String,
}

/// Exactly which agent, doing what, where. Another build, model, prompt or set of tools is another agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct AutonomyOf {
    /// What it was built from.
    #[n(0)]
    pub build: Digest,
    /// The model it reasons with; none where its proposals name none.
    #[n(1)]
    pub model: Option<Digest>,
    /// The prompt.
    #[n(2)]
    pub prompt: Option<Digest>,
    /// The tool schemas.
    #[n(3)]
    pub tools: Option<Digest>,
    /// `<operation>/<connector>`.
    #[n(4)]
    pub action_class: String,
    /// The site.
    #[n(5)]
    pub site: String,
}

/// How far an agent may go by itself (governance §6). Without a grant: L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode, Serialize)]
#[cbor(index_only)]
pub enum Level {
    /// Observes: nothing that it proposes is permitted.
    #[n(0)]
    L0,
    /// Proposes; people and policy decide.
    #[default]
    #[n(1)]
    L1,
    /// Acts after a time in which people may object.
    #[n(2)]
    L2,
    /// Acts and tells; some of it is looked at afterwards.
    #[n(3)]
    L3,
    /// Acts inside a budget.
    #[n(4)]
    L4,
}

/// What is granted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct AutonomyGrant {
    /// The level.
    #[n(0)]
    pub level: Level,
    /// Distinct human votes that code still asks for of class R2; at most [`VOTES_R2`].
    #[n(1)]
    pub votes_r2: u32,
    /// The same of class R3; at most [`VOTES_R3`].
    #[n(2)]
    pub votes_r3: u32,
    /// Until when, milliseconds since the Unix epoch.
    #[n(3)]
    pub expires_ms: u64,
    /// Digest of the evidence that its signers went by: what the statistical gates of governance §6 will have measured.
    #[n(4)]
    pub evidence: Option<Digest>,
}

/// Grants autonomy, or takes it back. The newest entry about an agent holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Autonomy {
    /// Whose.
    #[n(0)]
    pub of: AutonomyOf,
    /// What; none takes back whatever was granted before.
    #[n(1)]
    pub grant: Option<AutonomyGrant>,
    /// Why.
    #[n(2)]
    pub reason: String,
}

/// How the resources' connector keeps a stale owner from acting, as the entry's signers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Fenced {
    /// Only the owner's own machine reaches them.
    #[n(0)]
    Local,
    /// They check a fencing token themselves.
    #[n(1)]
    Native,
    /// They take commands from anyone with credentials: two people must say that the old machine is off.
    #[n(2)]
    None,
}

/// Moves all resources of one connector to another node of the site.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reassign {
    /// `<site>/<node>/<connector>`, as the resources are called: their names stay.
    #[n(0)]
    pub prefix: String,
    /// Who owns them before.
    #[n(1)]
    pub from: Life,
    /// Who owns them from here on.
    #[n(2)]
    pub to: Life,
    /// By the owner's own word and the next one's; none where the council moves them.
    #[n(3)]
    pub handover: Option<Handover>,
    /// What keeps the old owner from acting, where the council moves them.
    #[n(4)]
    pub fencing: Option<Fenced>,
    /// People who say that the old owner's machine is off.
    #[n(5)]
    #[cbor(default)]
    pub attests: Vec<Attest>,
}

/// An owner's offer and its acceptance, as their authors signed them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Handover {
    /// A fact of kind [`KIND_HANDOVER`].
    #[n(0)]
    pub offer: SealedFact,
    /// A fact of kind [`KIND_TAKEOVER`].
    #[n(1)]
    pub accept: SealedFact,
}

/// Body of a `handover` fact: from here on its author starts nothing on these resources, whether they are taken or not.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Offer {
    /// `<site>/<node>/<connector>`.
    #[n(0)]
    pub prefix: String,
    /// To whom; to the author itself, it takes an offer back.
    #[n(1)]
    pub to: Life,
}

/// Body of a `takeover` fact: its author takes what was offered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Accept {
    /// The `handover` fact.
    #[n(0)]
    pub offer: FactId,
}

/// A person's word that the old owner's machine is off.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attest {
    /// Who.
    #[n(0)]
    pub person: String,
    /// With which key.
    #[n(1)]
    pub key: SignerKey,
    /// Over [`Reassign::box_off`] for [`BOX_OFF_NAMESPACE`].
    #[n(2)]
    pub signature: SshSignature,
}

impl Lift {
    /// Whether it names something, each once.
    ///
    /// # Errors
    /// What is wrong.
    pub fn fits(&self) -> Result<(), String> {
        let n = self.restrictions.len();
        if n == 0 || n > LIFTS_MAX {
            return Err(format!("a lift names 1 to {LIFTS_MAX} restrictions, not {n}"));
        }
        if self.restrictions.iter().enumerate().any(|(i, id)| self.restrictions[..i].contains(id)) {
            return Err("it names a restriction twice".into());
        }
        reason_fits(&self.reason)
    }
}

impl Autonomy {
    /// Whether level, votes and names go together.
    ///
    /// # Errors
    /// What does not.
    pub fn fits(&self) -> Result<(), String> {
        reason_fits(&self.reason)?;
        if !is_name(&self.of.site) {
            return Err(format!("{:?} is no name of a site", self.of.site.chars().take(80).collect::<String>()));
        }
        if !(1..=256).contains(&self.of.action_class.len()) || !self.of.action_class.contains('/') {
            return Err("an action class is <operation>/<connector>".into());
        }
        let Some(grant) = &self.grant else { return Ok(()) };
        if grant.votes_r2 > VOTES_R2 || grant.votes_r3 > VOTES_R3 {
            return Err(format!(
                "code asks for {VOTES_R2} votes of R2 and {VOTES_R3} of R3 without a grant: none asks for more"
            ));
        }
        if grant.level <= Level::L1 && (grant.votes_r2, grant.votes_r3) != (VOTES_R2, VOTES_R3) {
            return Err(format!("at {:?} people decide: grant L2 or more for fewer votes", grant.level));
        }
        Ok(())
    }
}

impl Reassign {
    /// The parts of a prefix: site, node and connector.
    #[must_use]
    pub fn parts(prefix: &str) -> Option<(&str, &str, &str)> {
        let mut parts = prefix.split('/');
        let found = (parts.next()?, parts.next()?, parts.next()?);
        let named = [found.0, found.1, found.2].into_iter().all(is_name);
        (named && parts.next().is_none()).then_some(found)
    }

    /// What a person signs who says that the old owner's machine is off.
    #[must_use]
    pub fn box_off(&self, mesh: &MeshId) -> Vec<u8> {
        to_cbor(&(*mesh, self.prefix.clone(), self.from))
    }

    /// Adds a person's word, with a key at hand.
    pub fn attest(&mut self, mesh: &MeshId, person: &str, key: &AuthorKey) {
        let signature = key.sign_ssh(BOX_OFF_NAMESPACE, &self.box_off(mesh));
        self.attests.push(Attest { person: person.to_owned(), key: key.public().into(), signature });
    }
}

fn reason_fits(reason: &str) -> Result<(), String> {
    if reason.trim().is_empty() || reason.len() > REASON_LEN_MAX {
        return Err(format!("say why, in 1 to {REASON_LEN_MAX} bytes"));
    }
    Ok(())
}

/// The first three parts of a resource `<site>/<node>/<connector>/<object>`: by them its owner is known.
#[must_use]
pub fn prefix_of(resource: &str) -> Option<&str> {
    let (at, _) = resource.match_indices('/').nth(2)?;
    resource.get(..at)
}
