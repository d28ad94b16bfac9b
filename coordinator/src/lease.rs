//! Leases: how fresh a node's knowledge of authority and restrictions is.
//!
//! A lease is a mesh coordinator's signature over the node's nonce and the heads that coordinator holds. Anyone may
//! relay it. Its age runs on boot time from *sending* the nonce, so neither a slow reply nor a wrong wall clock makes it
//! look younger. A process restart keeps it, a reboot expires it.

use cauldron_identity::authority::Authority;
use cauldron_identity::charter::ClassAges;
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{AuthorId, AuthorKey, Clock, Digest, FactId, MeshId, Signature, planted};
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::bodies::RiskClass;

const LEASE_DOMAIN: &str = "cauldron/lease/v1";

/// What a node sends, by whatever way.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeaseAsk {
    /// Who asks.
    #[n(0)]
    pub node: AuthorId,
    /// Fresh chance.
    #[n(1)]
    pub nonce: Digest,
}

/// What a mesh coordinator answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeaseGrant {
    /// The ask.
    #[n(0)]
    pub ask: LeaseAsk,
    /// The authority chain as the coordinator holds it.
    #[n(1)]
    pub authority_head: Option<FactId>,
    /// Digest of the restriction heads it holds for that node.
    #[n(2)]
    pub restrictions: Digest,
    /// The coordinator.
    #[n(3)]
    pub granted_by: AuthorId,
    /// Its signature.
    #[n(4)]
    pub signature: Signature,
}

/// Why a grant does not renew the lease.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum LeaseError {
    /// Not the answer to the ask under way.
    #[error("it answers another ask")]
    Nonce,
    /// Not a mesh coordinator in good standing.
    #[error("its signer is no mesh coordinator in good standing")]
    Signer,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// The coordinator knows authority entries or restrictions that this node lacks: sync first.
    #[error("the coordinator knows entries or restrictions that have not arrived here")]
    Behind,
}

/// How old a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseAge {
    /// There is none for this boot.
    Never,
    /// Milliseconds since its nonce was sent.
    Ms(u64),
}

/// What a node remembers of its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseState {
    boot_id: String,
    asked: Option<(Digest, u64)>,
    held: Option<Held>,
}

/// A lease that was granted. Stored with the boot id.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Held {
    #[n(0)]
    boot_id: String,
    #[n(1)]
    sent_boottime_ms: u64,
    #[n(2)]
    granted_by: AuthorId,
    #[n(3)]
    authority_head: Option<FactId>,
}

impl LeaseGrant {
    /// Signs an answer.
    #[must_use]
    pub fn new(
        mesh: &MeshId,
        key: &AuthorKey,
        ask: &LeaseAsk,
        authority_head: Option<FactId>,
        restrictions: Digest,
    ) -> Self {
        let message = Self::message(mesh, ask, authority_head, &restrictions);
        let signature = key.sign(LEASE_DOMAIN, &message);
        Self { ask: ask.clone(), authority_head, restrictions, granted_by: key.author_id(), signature }
    }

    fn message(mesh: &MeshId, ask: &LeaseAsk, head: Option<FactId>, restrictions: &Digest) -> Vec<u8> {
        to_cbor(&(*mesh, ask.clone(), head, *restrictions))
    }

    /// Checks the signer and the signature.
    ///
    /// # Errors
    /// [`LeaseError::Signer`] or [`LeaseError::Signature`].
    pub fn verify(&self, authority: &Authority) -> Result<(), LeaseError> {
        let member = authority.member(&self.granted_by).ok_or(LeaseError::Signer)?;
        let stopped =
            authority.is_cut(&self.granted_by, member.incarnation) || authority.is_suspended(&self.granted_by);
        // A proven liar's word on freshness is worth nothing.
        let lied = !planted::active("fork-not-frozen")
            && authority.frozen().is_some()
            && authority.sequencer().author == member.key;
        if !member.role.is_mesh_coordinator() || stopped || lied || !authority.in_effect(member.index) {
            return Err(LeaseError::Signer);
        }
        let message = Self::message(&authority.mesh(), &self.ask, self.authority_head, &self.restrictions);
        member.key.verify(LEASE_DOMAIN, &message, &self.signature).map_err(|_| LeaseError::Signature)
    }
}

impl LeaseAge {
    /// Milliseconds, where there is a lease.
    #[must_use]
    pub fn ms(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Ms(ms) => Some(ms),
        }
    }

    /// Whether it is young enough for a class.
    #[must_use]
    pub fn covers(self, class: RiskClass, ages: &ClassAges) -> bool {
        self.ms().is_some_and(|ms| ms <= age_ms_max(class, ages))
    }
}

/// How old a lease may be for `class`, milliseconds.
#[must_use]
pub fn age_ms_max(class: RiskClass, ages: &ClassAges) -> u64 {
    match class {
        RiskClass::R0 => ages.r0_ms,
        RiskClass::R1 => ages.r1_ms,
        RiskClass::R2 => ages.r2_ms,
        RiskClass::R3 => ages.r3_ms,
    }
}

impl LeaseState {
    /// No lease yet in this boot.
    #[must_use]
    pub fn new(boot_id: &str) -> Self {
        Self { boot_id: boot_id.to_owned(), asked: None, held: None }
    }

    /// Restores what [`LeaseState::stored`] gave. Another boot's lease is none.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn restore(bytes: &[u8], boot_id: &str) -> Result<Self, CodecError> {
        let held: Option<Held> = from_cbor(bytes)?;
        Ok(Self { held: held.filter(|h| h.boot_id == boot_id), ..Self::new(boot_id) })
    }

    /// The form to store; an ask under way is not part of it.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        to_cbor(&self.held)
    }

    /// Begins an ask. A later one replaces it.
    pub fn ask(&mut self, node: AuthorId, nonce: Digest, clock: &Clock) -> LeaseAsk {
        self.asked = Some((nonce, clock.boottime_ms));
        LeaseAsk { node, nonce }
    }

    /// Takes an answer in. `holds_restrictions` tells whether this node holds at least what the grant's restriction
    /// digest names; a lease that proves freshness of what is not here proves nothing.
    ///
    /// # Errors
    /// [`LeaseError`]; the lease then stays as it was.
    pub fn accept(
        &mut self,
        node: &AuthorId,
        grant: &LeaseGrant,
        authority: &Authority,
        holds_restrictions: bool,
    ) -> Result<(), LeaseError> {
        let (nonce, sent_boottime_ms) = self.asked.ok_or(LeaseError::Nonce)?;
        if grant.ask.nonce != nonce || grant.ask.node != *node {
            return Err(LeaseError::Nonce);
        }
        grant.verify(authority)?;
        let holds_head = grant.authority_head.is_none_or(|head| authority.index_of(&head).is_some());
        if !holds_head || !holds_restrictions {
            return Err(LeaseError::Behind);
        }
        let (granted_by, authority_head) = (grant.granted_by, grant.authority_head);
        self.held = Some(Held { boot_id: self.boot_id.clone(), sent_boottime_ms, granted_by, authority_head });
        self.asked = None;
        Ok(())
    }

    /// How old the lease is. A boot clock that went back means another boot: no lease.
    #[must_use]
    pub fn age(&self, clock: &Clock) -> LeaseAge {
        let since = self.held.as_ref().and_then(|h| clock.boottime_ms.checked_sub(h.sent_boottime_ms));
        since.map_or(LeaseAge::Never, LeaseAge::Ms)
    }

    /// Who granted it.
    #[must_use]
    pub fn granted_by(&self) -> Option<AuthorId> {
        self.held.as_ref().map(|h| h.granted_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{World, key};
    use cauldron_identity::Confidence;

    const NONCE: Digest = Digest::from_bytes([5; 32]);

    fn at(boottime_ms: u64) -> Clock {
        Clock { wall_ms: 0, boottime_ms, confidence: Confidence::Unknown }
    }

    fn asked(world: &World) -> (LeaseState, LeaseAsk, AuthorId) {
        let mut state = LeaseState::new("boot-1");
        let node = world.lyon.author_id();
        let ask = state.ask(node, NONCE, &at(1_000));
        (state, ask, node)
    }

    fn grant(world: &World, signer: &AuthorKey, ask: &LeaseAsk) -> LeaseGrant {
        LeaseGrant::new(&world.authority.mesh(), signer, ask, world.authority.head(), NONCE)
    }

    #[test]
    fn age_runs_from_sending_survives_a_restart_and_ends_with_the_boot() {
        let world = World::new();
        let (mut state, ask, node) = asked(&world);
        assert_eq!(state.age(&at(1_500)), LeaseAge::Never);
        assert_eq!(state.accept(&node, &grant(&world, &world.hq, &ask), &world.authority, true), Ok(()));
        assert_eq!(state.age(&at(31_000)), LeaseAge::Ms(30_000));
        let stored = state.stored();
        let same = LeaseState::restore(&stored, "boot-1").expect("own bytes");
        assert_eq!(same.age(&at(31_000)), LeaseAge::Ms(30_000));
        let rebooted = LeaseState::restore(&stored, "boot-2").expect("own bytes");
        assert_eq!(rebooted.age(&at(31_000)), LeaseAge::Never);
        assert_eq!(same.age(&at(999)), LeaseAge::Never, "a clock before the ask is another boot");
        assert!(LeaseState::restore(b"\xff", "boot-1").is_err());
    }

    #[test]
    fn refusals_leave_the_lease_as_it_was() {
        let world = World::new();
        let (mut state, ask, node) = asked(&world);
        let good = grant(&world, &world.hq, &ask);
        let mut tries = |grant: &LeaseGrant, node: &AuthorId, holds| {
            let refused = state.accept(node, grant, &world.authority, holds);
            assert_eq!(state.age(&at(2_000)), LeaseAge::Never);
            refused
        };
        let other = LeaseAsk { nonce: Digest::from_bytes([6; 32]), ..ask.clone() };
        assert_eq!(tries(&grant(&world, &world.hq, &other), &node, true), Err(LeaseError::Nonce));
        assert_eq!(tries(&good, &world.porto.author_id(), true), Err(LeaseError::Nonce));
        assert_eq!(tries(&grant(&world, &world.porto, &ask), &node, true), Err(LeaseError::Signer));
        assert_eq!(tries(&grant(&world, &key(99), &ask), &node, true), Err(LeaseError::Signer));
        let forged = LeaseGrant { granted_by: world.hq.author_id(), ..grant(&world, &world.porto, &ask) };
        assert_eq!(tries(&forged, &node, true), Err(LeaseError::Signature));
        let ahead = LeaseGrant::new(&world.authority.mesh(), &world.hq, &ask, Some(FactId::from_bytes([1; 32])), NONCE);
        assert_eq!(tries(&ahead, &node, true), Err(LeaseError::Behind));
        assert_eq!(tries(&good, &node, false), Err(LeaseError::Behind));
        assert_eq!(state.accept(&node, &good, &world.authority, true), Ok(()));
        let replayed = state.accept(&node, &good, &world.authority, true);
        assert_eq!(replayed, Err(LeaseError::Nonce), "a grant renews once");
    }

    #[test]
    fn each_class_has_its_age() {
        let ages = ClassAges::default();
        for (class, max) in
            [(RiskClass::R0, 86_400_000), (RiskClass::R1, 3_600_000), (RiskClass::R2, 600_000), (RiskClass::R3, 30_000)]
        {
            assert!(LeaseAge::Ms(max).covers(class, &ages) && !LeaseAge::Ms(max + 1).covers(class, &ages));
            assert!(!LeaseAge::Never.covers(class, &ages));
        }
    }
}
