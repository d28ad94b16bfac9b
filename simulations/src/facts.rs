//! Facts as the simulator sees them on disks: read from the stored bytes, by nobody's code but the codec's.

use std::collections::BTreeMap;
use std::sync::Arc;

use cauldron_identity::codec::from_cbor;
use cauldron_identity::{FactId, Header, SealedFact};

/// One fact with its header read.
#[derive(Debug)]
pub struct Known {
    /// Its id.
    pub id: FactId,
    /// Its header.
    pub header: Header,
    /// Its bytes.
    pub sealed: SealedFact,
}

/// Facts by id.
pub type Facts = BTreeMap<FactId, Arc<Known>>;

/// Prefix of the keys under which facts are kept.
pub const FACT_PREFIX: &[u8] = b"f/";
/// Prefix of the keys under which evidence of forks is kept.
pub const EVIDENCE_PREFIX: &[u8] = b"e/";

impl Known {
    /// Reads a stored record; none when it is no fact.
    #[must_use]
    pub fn of_record(key: &[u8], value: &[u8]) -> Option<Self> {
        if !key.starts_with(FACT_PREFIX) {
            return None;
        }
        Self::of_sealed(from_cbor(value).ok()?)
    }

    /// Reads a fact.
    #[must_use]
    pub fn of_sealed(sealed: SealedFact) -> Option<Self> {
        let header = from_cbor(&sealed.header).ok()?;
        Some(Self { id: sealed.id(), header, sealed })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.header.kind
    }

    /// The body, decoded.
    #[must_use]
    pub fn body<'b, T: minicbor::Decode<'b, ()>>(&'b self) -> Option<T> {
        from_cbor(self.sealed.body()?).ok()
    }
}

/// Facts of one kind, decoded.
pub fn of_kind<'f, T: minicbor::Decode<'f, ()>>(
    facts: &'f Facts,
    kind: &'f str,
) -> impl Iterator<Item = (&'f Arc<Known>, T)> {
    facts.values().filter(move |f| f.kind() == kind).filter_map(|f| f.body::<T>().map(|body| (f, body)))
}
