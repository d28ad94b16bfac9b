//! The two entries that change the charter itself: an amendment, and a new term of the sequencer.

use minicbor::{Decode, Encode};

use super::entry::{ChainEnd, EntryBody};
use crate::charter::{Charter, ClassAges, Seat};
use crate::codec::to_cbor;
use crate::ids::{Digest, FactId, MeshId, domain_hash};
use crate::signer::SignerKey;

const TERM_DOMAIN: &str = "cauldron/term/v1";

/// Changes what the charter says. Trust domain, founding time and sequencer stay: the first two are the mesh's name, the
/// last changes by a [`Term`] alone. What is not named stays as it is; the mesh id stays the founding charter's hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Amend {
    /// All root keys from here on.
    #[n(0)]
    pub root_keys: Option<Vec<Digest>>,
    /// The whole council from here on. Each new key signs the entry too.
    #[n(1)]
    pub council: Option<Vec<SignerKey>>,
    /// How many of the council must sign.
    #[n(2)]
    pub threshold: Option<u32>,
    /// All recovery keys.
    #[n(3)]
    pub recovery: Option<Vec<SignerKey>>,
    /// All seats, the sequencer's among them. A seat goes only after its author was cut.
    #[n(4)]
    pub coordinators: Option<Vec<Seat>>,
    /// All policy authors.
    #[n(5)]
    pub policy_authors: Option<Vec<SignerKey>>,
    /// WebAuthn relying party id.
    #[n(6)]
    pub rp_id: Option<String>,
    /// Origins from which a passkey vote counts.
    #[n(7)]
    pub vote_origins: Option<Vec<String>>,
    /// How old a lease may be, by class.
    #[n(8)]
    pub class_ages: Option<ClassAges>,
    /// How long governance facts are kept at least, days.
    #[n(9)]
    pub retention_floor_days: Option<u32>,
}

impl Amend {
    /// What turns `from` into `to`; none where they agree.
    ///
    /// # Errors
    /// A sentence, when they differ in something that no amendment changes.
    pub fn between(from: &Charter, to: &Charter) -> Result<Self, String> {
        if (to.v, &to.trust_domain, to.created_ms) != (from.v, &from.trust_domain, from.created_ms) {
            return Err("version, trust domain and founding time are the mesh's own; found another mesh instead".into());
        }
        if to.sequencer != from.sequencer {
            return Err("the sequencer changes by a Term of the council, not by an amendment".into());
        }
        fn changed<T: Clone + PartialEq>(from: &T, to: &T) -> Option<T> {
            (from != to).then(|| to.clone())
        }
        Ok(Self {
            root_keys: changed(&from.root_keys, &to.root_keys),
            council: changed(&from.council, &to.council),
            threshold: changed(&from.threshold, &to.threshold),
            recovery: changed(&from.recovery, &to.recovery),
            coordinators: changed(&from.coordinators, &to.coordinators),
            policy_authors: changed(&from.policy_authors, &to.policy_authors),
            rp_id: changed(&from.rp_id, &to.rp_id),
            vote_origins: changed(&from.vote_origins, &to.vote_origins),
            class_ages: changed(&from.class_ages, &to.class_ages),
            retention_floor_days: changed(&from.retention_floor_days, &to.retention_floor_days),
        })
    }

    /// The charter after this amendment.
    ///
    /// # Errors
    /// Which rule about a charter's content it would break.
    pub fn apply_to(&self, charter: &Charter) -> Result<Charter, String> {
        let mut new = charter.clone();
        fn set<T: Clone>(slot: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                slot.clone_from(value);
            }
        }
        set(&mut new.root_keys, self.root_keys.as_ref());
        set(&mut new.council, self.council.as_ref());
        set(&mut new.threshold, self.threshold.as_ref());
        set(&mut new.recovery, self.recovery.as_ref());
        set(&mut new.coordinators, self.coordinators.as_ref());
        set(&mut new.policy_authors, self.policy_authors.as_ref());
        set(&mut new.rp_id, self.rp_id.as_ref());
        set(&mut new.vote_origins, self.vote_origins.as_ref());
        set(&mut new.class_ages, self.class_ages.as_ref());
        set(&mut new.retention_floor_days, self.retention_floor_days.as_ref());
        new.check()?;
        Ok(new)
    }

    /// Whether it changes nothing but who the council is: what recovery keys may do when the council is lost.
    #[must_use]
    pub fn is_council_only(&self) -> bool {
        let rest = Self { council: None, threshold: None, ..self.clone() };
        self.council.is_some() && rest == Self::default()
    }

    /// Whether it changes who the root of authority is: council, threshold or recovery keys.
    #[must_use]
    pub fn is_of_the_root(&self) -> bool {
        self.council.is_some() || self.threshold.is_some() || self.recovery.is_some()
    }

    /// Names of what it changes, as the charter's file calls them.
    #[must_use]
    pub fn fields(&self) -> Vec<&'static str> {
        let fields = [
            (self.root_keys.is_some(), "root_keys"),
            (self.council.is_some(), "council"),
            (self.threshold.is_some(), "threshold"),
            (self.recovery.is_some(), "recovery"),
            (self.coordinators.is_some(), "coordinators"),
            (self.policy_authors.is_some(), "policy_authors"),
            (self.rp_id.is_some(), "rp_id"),
            (self.vote_origins.is_some(), "vote_origins"),
            (self.class_ages.is_some(), "class_ages"),
            (self.retention_floor_days.is_some(), "retention_floor_days"),
        ];
        fields.into_iter().filter_map(|(changed, name)| changed.then_some(name)).collect()
    }
}

/// Names who writes the authority chain from here on: after a lost, restored or lying sequencer. It needs no sequencer to
/// carry it: the council's signatures and the entry it builds on make it complete. Beside another entry on that one it wins.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Term {
    /// Above the term before it; founding is term 0. Of two on one entry the higher wins.
    #[n(0)]
    pub n: u32,
    /// Who writes from here on. The author before it loses its seat and is cut, unless it is the same: then this is its new
    /// incarnation.
    #[n(1)]
    pub sequencer: Seat,
    /// Where the chains of the outgoing life end; one not named ends at its start.
    #[n(2)]
    pub ends: Vec<ChainEnd>,
    /// All root keys from here on, when the CA is lost; nothing when they stay.
    #[n(3)]
    pub root_keys: Vec<Digest>,
}

impl Term {
    /// The charter after this term began.
    ///
    /// # Errors
    /// Which rule about a charter's content it would break.
    pub fn apply_to(&self, charter: &Charter) -> Result<Charter, String> {
        let mut new = charter.clone();
        new.coordinators.retain(|seat| *seat != charter.sequencer && seat.author != self.sequencer.author);
        new.coordinators.push(self.sequencer.clone());
        new.sequencer = self.sequencer.clone();
        if !self.root_keys.is_empty() {
            new.root_keys.clone_from(&self.root_keys);
        }
        new.check()?;
        Ok(new)
    }

    /// The name of a term in the chain: a hash over what people sign, whoever signed it. Its index is where it stands.
    #[must_use]
    pub fn id(mesh: &MeshId, body: &EntryBody) -> FactId {
        let place = to_cbor(&(mesh, body.prev));
        FactId::from_bytes(domain_hash(TERM_DOMAIN, &[place.as_slice(), body.entry_bytes()].concat()))
    }
}
