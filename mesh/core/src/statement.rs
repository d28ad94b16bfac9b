//! What is said of presence: signed, replaced by what is said later, never written down.

use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{AuthorId, AuthorKey, MeshId, PublicKey, Signature};
use minicbor::{Decode, Encode};

use crate::limits::{ADDRESS_LEN_MAX, ADDRESSES_MAX, REGION_LEN_MAX, STATEMENT_LEN_MAX};

const DOMAIN: &str = "cauldron/presence/v1";

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Announce {
    /// Who.
    #[n(0)]
    pub author: AuthorId,
    /// Rises with each announcement. A node that hears of a higher one of its own, from before its restart, goes on above it.
    #[n(1)]
    pub n: u64,
    /// Its wall clock, milliseconds since the Unix epoch.
    #[n(2)]
    pub as_of_ms: u64,
    /// Whether it stops on purpose.
    #[n(3)]
    pub leaving: bool,
    /// `host:port`, best first.
    #[n(4)]
    pub addresses: Vec<String>,
    /// The region it is in; empty for the only one.
    #[n(5)]
    pub region: String,
    /// Whether it offers itself to the gateways of all sites.
    #[n(6)]
    pub hub: bool,
    /// Whether it keeps links beyond its site.
    #[n(7)]
    pub gateway: bool,
    /// Whether it has one.
    #[n(8)]
    pub outside: bool,
}

/// What a node says of a peer: that it lost it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sighting {
    /// Who says so.
    #[n(0)]
    pub observer: AuthorId,
    /// Of whom.
    #[n(1)]
    pub subject: AuthorId,
    /// Which of the subject's announcements this is about; it says nothing of any other, and a later one takes it back.
    #[n(2)]
    pub n: u64,
    /// When the link was lost by the observer's wall clock, milliseconds since the Unix epoch.
    #[n(3)]
    pub as_of_ms: u64,
}

/// One of both.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Statement {
    /// Of oneself.
    #[n(0)]
    Announce(#[n(0)] Announce),
    /// Of a peer.
    #[n(1)]
    Sighting(#[n(0)] Sighting),
}

impl Statement {
    /// Who says it.
    #[must_use]
    pub fn author(&self) -> &AuthorId {
        match self {
            Self::Announce(a) => &a.author,
            Self::Sighting(s) => &s.observer,
        }
    }

    /// Of whom.
    #[must_use]
    pub fn subject(&self) -> &AuthorId {
        match self {
            Self::Announce(a) => &a.author,
            Self::Sighting(s) => &s.subject,
        }
    }

    /// Signs it for one mesh.
    #[must_use]
    pub fn seal(&self, key: &AuthorKey, mesh: &MeshId) -> Sealed {
        let statement = to_cbor(self);
        let signature = key.sign(DOMAIN, &message(mesh, &statement));
        Sealed { statement, signature }
    }
}

/// A statement as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    #[cbor(n(0), with = "minicbor::bytes")]
    statement: Vec<u8>,
    #[n(1)]
    signature: Signature,
}

/// Why a statement is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStatement {
    /// Not what the format says.
    #[error("a statement of presence cannot be read: {0}")]
    Malformed(#[from] CodecError),
    /// Longer, or with more in it, than an honest node says.
    #[error("a statement of presence is too long")]
    TooLong,
    /// Not signed by who it says.
    #[error("a statement of presence is not signed by its author")]
    Signature,
}

impl Sealed {
    /// Reads it without believing it.
    ///
    /// # Errors
    /// [`BadStatement::Malformed`] or [`BadStatement::TooLong`].
    pub fn read(&self) -> Result<Statement, BadStatement> {
        if self.len() > STATEMENT_LEN_MAX {
            return Err(BadStatement::TooLong);
        }
        let statement: Statement = from_cbor(&self.statement)?;
        if let Statement::Announce(a) = &statement
            && (a.addresses.len() > ADDRESSES_MAX
                || a.addresses.iter().any(|address| address.len() > ADDRESS_LEN_MAX)
                || a.region.len() > REGION_LEN_MAX)
        {
            return Err(BadStatement::TooLong);
        }
        Ok(statement)
    }

    /// Whether `key` signed it for this mesh.
    ///
    /// # Errors
    /// [`BadStatement::Signature`].
    pub fn check(&self, key: &PublicKey, mesh: &MeshId) -> Result<(), BadStatement> {
        let message = message(mesh, &self.statement);
        key.verify(DOMAIN, &message, &self.signature).map_err(|_| BadStatement::Signature)
    }

    /// Bytes on the wire, generously.
    #[must_use]
    pub fn len(&self) -> usize {
        self.statement.len() + 72
    }

    /// Never: a statement has bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statement.is_empty()
    }

    /// The beginning of the statement's hash, for digests.
    pub(crate) fn mark(&self) -> u64 {
        let hash = cauldron_identity::ids::sha256(&self.statement);
        u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
    }
}

fn message(mesh: &MeshId, statement: &[u8]) -> Vec<u8> {
    [mesh.as_bytes(), statement].concat()
}
