//! Restrictions: unordered facts that win wherever they have arrived.

use std::sync::OnceLock;

use cauldron_identity::Placed;
use cauldron_identity::authority::{Authority, ChainEnd};
use cauldron_identity::charter::{KeySignature, council_signers};
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{AuthorId, AuthorKey, Digest, FactId, MeshId, Realm, Role, SignerKey};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::Serialize;

/// Namespace of a person's signature over an order.
pub const ORDER_NAMESPACE: &str = "cauldron/restriction/v1";

/// Who orders what the council signed. Nobody else orders in its name.
pub const COUNCIL: &str = "the council";

/// Groups whose members may restrict the site they are carried in without a coordinator.
pub const DUTY_GROUPS: [&str; 2] = ["duty-officer", "security-duty"];

/// What is restricted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Vetoes everything of one lineage.
    #[n(0)]
    Lineage(#[n(0)] FactId),
    /// Kills an action class.
    #[n(1)]
    ActionClass(#[n(0)] String),
    /// Kills an agent, by SPIFFE ID.
    #[n(2)]
    Agent(#[n(0)] String),
    /// Kills every action at a site.
    #[n(3)]
    Site(#[n(0)] String),
    /// Kills every action in the realm of the scope that carries it.
    #[n(4)]
    All,
    /// Suspends an author beyond these heads.
    #[n(5)]
    #[serde(serialize_with = "suspended_author")]
    Author(#[n(0)] AuthorId, #[n(1)] Vec<ChainEnd>),
    /// Stops a [`super::Feature`], by its name.
    #[n(6)]
    Feature(#[n(0)] String),
    /// Kills every agent of one build.
    #[n(7)]
    Build(#[n(0)] Digest),
}

impl Target {
    /// Whether nothing lifts it: a veto of a lineage is a deny.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Lineage(_))
    }

    /// Whether this build stops it where it would act. A feature that only later builds know is listed, and not enforced.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        !matches!(self, Self::Feature(name) if name.parse::<super::Feature>().is_err())
    }
}

fn suspended_author<S: serde::Serializer>(author: &AuthorId, _: &[ChainEnd], s: S) -> Result<S::Ok, S::Error> {
    author.serialize(s)
}

/// An order to restrict.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Order {
    /// The mesh.
    #[n(0)]
    #[serde(skip)]
    pub mesh: MeshId,
    /// What is restricted.
    #[n(1)]
    pub target: Target,
    /// Who orders it: a person's id, or the coordinator's name.
    #[n(2)]
    pub by: String,
    /// Why.
    #[n(3)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(4)]
    pub issued_ms: u64,
}

/// Body of a `restriction` fact. A coordinator's own signature on the fact is enough; a node needs a duty officer's, or the
/// council's.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Restriction {
    /// The encoded [`Order`], as signed.
    #[n(0)]
    order: ByteVec,
    /// The credential that signed, when a person did, and its signature over the order.
    #[n(1)]
    signature: Option<KeySignature>,
    /// Signatures of council members over the order.
    #[n(2)]
    #[cbor(default)]
    council: Vec<KeySignature>,
    /// What the signature came to, looked at once: it names its key itself, and each proposal asks.
    #[cbor(skip)]
    looked: Looked,
}

/// No part of what it belongs to.
#[derive(Debug, Clone, Default)]
struct Looked(OnceLock<bool>);

impl PartialEq for Looked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Looked {}

/// Why a restriction does not count here.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum RestrictionError {
    /// The order cannot be read.
    #[error("the order cannot be read")]
    Encoding(#[from] CodecError),
    /// Another mesh's.
    #[error("the order is for another mesh")]
    Mesh,
    /// Neither a coordinator of the realm nor a duty officer nor enough of the council signed.
    #[error("neither a coordinator of this realm nor a duty officer nor a quorum of the council signed the order")]
    Signer,
}

impl Restriction {
    /// An order on a coordinator's own authority.
    #[must_use]
    pub fn by_coordinator(order: &Order) -> Self {
        Self { order: ByteVec::from(to_cbor(order)), signature: None, council: vec![], looked: Looked::default() }
    }

    /// An order signed by a person's credential, to be carried by any node of the site.
    #[must_use]
    pub fn by_person(order: &Order, key: &AuthorKey) -> Self {
        let signature = key.sign_ssh(ORDER_NAMESPACE, &to_cbor(order));
        Self::signed(order, KeySignature { key: key.public().into(), signature })
    }

    /// The same, signed elsewhere: over the encoded order for [`ORDER_NAMESPACE`].
    #[must_use]
    pub fn signed(order: &Order, signature: KeySignature) -> Self {
        Self {
            order: ByteVec::from(to_cbor(order)),
            signature: Some(signature),
            council: vec![],
            looked: Looked::default(),
        }
    }

    /// An order under signatures of council members, made elsewhere over its encoded form for [`ORDER_NAMESPACE`].
    #[must_use]
    pub fn by_council(order: &Order, council: Vec<KeySignature>) -> Self {
        Self { order: ByteVec::from(to_cbor(order)), signature: None, council, looked: Looked::default() }
    }

    /// How many distinct keys of `council` signed it.
    #[must_use]
    pub fn council_signers(&self, council: &[SignerKey]) -> usize {
        council_signers(council, &self.council, ORDER_NAMESPACE, &self.order)
    }

    /// Whether a council of this mesh ordered it: the present one or one before it.
    #[must_use]
    pub fn is_of_council(&self, authority: &Authority) -> bool {
        !self.council.is_empty()
            && authority.councils_ever().any(|(council, threshold)| self.council_signers(council) >= threshold)
    }

    /// The order, unjudged.
    ///
    /// # Errors
    /// [`RestrictionError::Encoding`].
    pub fn order(&self) -> Result<Order, RestrictionError> {
        Ok(from_cbor(&self.order)?)
    }

    /// The order, when it counts in the scope that carries it. The standing of its author does not matter:
    /// restrictions stay until lifted.
    ///
    /// # Errors
    /// [`RestrictionError`].
    pub fn judge(&self, at: &impl Placed, authority: &Authority) -> Result<Order, RestrictionError> {
        let order = self.order()?;
        if order.mesh != authority.mesh() {
            return Err(RestrictionError::Mesh);
        }
        if self.is_of_council(authority) {
            return Ok(order);
        }
        let role = authority.member(at.author()).map(|m| &m.role);
        let coordinates = match (role, at.scope().realm()) {
            (Some(Role::Coordinator { .. }), _) => true,
            (Some(Role::SiteCoordinator { site, .. }), Realm::Site(realm)) => site == realm,
            _ => false,
        };
        let ordered = (coordinates && order.by != COUNCIL) || self.signed_by_duty(&order, authority);
        if ordered { Ok(order) } else { Err(RestrictionError::Signer) }
    }

    /// Whether it rests on the signature of a person alone, no coordinator of the mesh having put its name to it.
    #[must_use]
    pub fn is_by_person(&self, at: &impl Placed, order: &Order, authority: &Authority) -> bool {
        let coordinator = authority.member(at.author()).is_some_and(|m| m.role.is_mesh_coordinator());
        !coordinator && self.signed_by_duty(order, authority)
    }

    fn signed_by_duty(&self, order: &Order, authority: &Authority) -> bool {
        let Some(KeySignature { key, signature }) = &self.signature else { return false };
        let person = authority.entries().filter_map(|a| match (&a.entry, &a.refused) {
            // A person revoked since then: what they stopped stays stopped.
            (Some(cauldron_identity::authority::Entry::Person(p)), None) if p.id == order.by => Some(p),
            _ => None,
        });
        let enrolled = person.into_iter().any(|p| {
            p.credentials.iter().any(|c| c.signer().as_ref() == Some(key))
                && p.groups.iter().any(|g| DUTY_GROUPS.contains(&g.as_str()))
        });
        let good = || key.verify(ORDER_NAMESPACE, &self.order, signature).is_ok();
        enrolled && *self.looked.0.get_or_init(good)
    }
}
