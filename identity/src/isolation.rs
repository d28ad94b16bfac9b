//! What the council gives a site for when nobody outside can be asked: an isolation grant, and tokens that break the glass.

use minicbor::{Decode, Encode};

use crate::budget::{Budget, Life};
use crate::charter::ClassAges;
use crate::ids::{Digest, FactId, MeshId};
use crate::keys::{AuthorKey, PublicKey, Signature};

const DAY_MS: u64 = 86_400_000;
/// The longest horizons that a grant may give (governance §4), milliseconds: R3 never.
pub const HORIZONS_MAX: ClassAges = ClassAges { r0_ms: 30 * DAY_MS, r1_ms: 7 * DAY_MS, r2_ms: 3 * DAY_MS, r3_ms: 0 };
/// Acting coordinators, local groups and budgets that one grant names: a site has few of each.
pub const GRANT_NAMES_MAX: usize = 16;
/// Tokens in one entry (governance §4: a few).
pub const TOKENS_MAX: usize = 16;

const TOKEN_DOMAIN: &str = "cauldron/break-glass-token/v1";
const USE_DOMAIN: &str = "cauldron/break-glass/v1";

/// What a site may do past its lease. It stands until the council signs another for the site.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(map)]
pub struct IsolationGrant {
    /// The site.
    #[n(0)]
    pub site: String,
    /// SPIFFE IDs of the site's nodes and coordinators that decide and permit there meanwhile. With none the grant is withdrawn.
    #[n(1)]
    pub acting: Vec<String>,
    /// How old a lease may be for each class, milliseconds, counted as the lease's own age is; 0 for not at all.
    #[n(2)]
    #[serde(serialize_with = "horizons")]
    pub horizon: ClassAges,
    /// Groups whose members are the site's own people.
    #[n(3)]
    pub groups: Vec<String>,
    /// Budgets that the site may draw on meanwhile.
    #[n(4)]
    #[serde(serialize_with = "names")]
    pub escrow: Vec<Budget>,
    /// How many of its own people lift what one of them restricted; 0 for none can.
    #[n(5)]
    pub lift: u32,
}

fn horizons<S: serde::Serializer>(h: &ClassAges, s: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&std::collections::BTreeMap::from(h.by_class()), s)
}

fn names<S: serde::Serializer>(budgets: &[Budget], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(budgets.iter().map(Budget::as_str))
}

impl IsolationGrant {
    /// Whether its parts go together and stay below what any grant may give. Whom it names is the chain's to judge.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn fits(&self) -> Result<(), String> {
        for ((class, asked_ms), (_, most_ms)) in self.horizon.by_class().into_iter().zip(HORIZONS_MAX.by_class()) {
            if most_ms == 0 && asked_ms > 0 {
                return Err(format!("class {class} is never granted past a lease; break-glass tokens are for that"));
            }
            if asked_ms > most_ms {
                let hours = most_ms / 3_600_000;
                return Err(format!("a horizon of {asked_ms} ms for {class}: at most {hours} h ({most_ms} ms)"));
            }
        }
        let lists =
            [("acting coordinators", self.acting.len()), ("groups", self.groups.len()), ("budgets", self.escrow.len())];
        if let Some((what, n)) = lists.into_iter().find(|(_, n)| *n > GRANT_NAMES_MAX) {
            return Err(format!("{n} {what}: at most {GRANT_NAMES_MAX}"));
        }
        if self.horizon.r2_ms > 0 && self.groups.is_empty() {
            return Err("class R2 needs two of the site's own people: name their groups".into());
        }
        if self.lift > 0 && self.groups.is_empty() {
            return Err("lifting needs the site's own people: name their groups".into());
        }
        Ok(())
    }

    /// Whether it gives anything.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.acting.is_empty()
    }
}

/// Sealed tokens of one node: each lets it act once without the approvals that policy asks for.
///
/// They are one life's of one owner, so that the owner alone, by its own chain, knows which are used: no partition makes two of
/// one, and a restored node holds none.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BreakGlass {
    /// The site.
    #[n(0)]
    pub site: String,
    /// The node that owns what may be acted on.
    #[n(1)]
    pub holder: Life,
    /// [`token_digest`] of each. The holder's tokens from here on; an empty list takes back those that are not used.
    #[n(2)]
    pub digests: Vec<Digest>,
    /// Until when they are good, milliseconds since the Unix epoch.
    #[n(3)]
    pub expires_ms: u64,
}

impl BreakGlass {
    /// Whether its parts go together. Who holds them is the chain's to judge.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn fits(&self) -> Result<(), String> {
        if self.digests.len() > TOKENS_MAX {
            return Err(format!("{} tokens: at most {TOKENS_MAX} at a time", self.digests.len()));
        }
        let distinct: std::collections::BTreeSet<_> = self.digests.iter().collect();
        if distinct.len() < self.digests.len() {
            return Err("one token stands there twice: it would be good once anyway".into());
        }
        Ok(())
    }
}

/// What an entry says of a token: a hash of its public half.
#[must_use]
pub fn token_digest(token: &PublicKey) -> Digest {
    Digest::of(TOKEN_DOMAIN, token.as_bytes())
}

/// What a token signs when it is used: one proposal, and why. Nobody who sees it can use the token for another.
#[must_use]
pub fn use_message(mesh: &MeshId, proposal: &FactId, lineage: &FactId, reason: &str) -> Vec<u8> {
    [mesh.as_bytes().as_slice(), proposal.as_bytes(), lineage.as_bytes(), reason.as_bytes()].concat()
}

/// Signs with a token for [`use_message`].
#[must_use]
pub fn sign_use(token: &AuthorKey, message: &[u8]) -> Signature {
    token.sign(USE_DOMAIN, message)
}

/// Whether `token` signed.
#[must_use]
pub fn is_used_for(token: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    !token.is_weak() && token.verify(USE_DOMAIN, message, signature).is_ok()
}
