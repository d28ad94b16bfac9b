//! Judging bytes from a file: what they are, and whether a document would take them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, Change, ReadDoc};
use cauldron_identity::SealedFact;
use cauldron_identity::codec::from_cbor;

use super::{DocChange, Unfit, fence, prescan};

/// The first bytes of everything that Automerge writes.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// What bytes turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One plain change, as a fact carries it; sound as far as it can be judged without the document it belongs to.
    Change {
        /// Who wrote it, in hex.
        actor: String,
        /// Its number among that actor's changes.
        seq: u64,
        /// How many operations it has.
        ops: u64,
        /// How many changes it follows directly.
        deps: u64,
        /// The document it names, when it came in a fact or a fact's body.
        doc: Option<String>,
    },
    /// A change that no document would take.
    Refused(Unfit),
    /// Another chunk of Automerge's: a saved document, a deflated change or a bundle. Only [`load`] tells more, and that is
    /// for a process of its own.
    Chunk,
    /// None of these.
    Unknown,
}

/// Says what bytes are. Never hands Automerge what has not been scanned.
#[must_use]
pub fn check(bytes: &[u8]) -> Found {
    if bytes.starts_with(&MAGIC) {
        return match (bytes.get(8), change(bytes, None)) {
            (_, Ok(found)) => found,
            (Some(1), Err(why)) => Found::Refused(why),
            _ => Found::Chunk,
        };
    }
    let sealed = from_cbor::<SealedFact>(bytes).ok();
    let body = match sealed.as_ref() {
        Some(sealed) => sealed.body().map(<[u8]>::to_vec),
        None => Some(bytes.to_vec()),
    };
    match body.as_deref().and_then(DocChange::read) {
        Some(body) => change(&body.change, Some(body.doc)).unwrap_or_else(Found::Refused),
        None => Found::Unknown,
    }
}

fn change(bytes: &[u8], doc: Option<String>) -> Result<Found, Unfit> {
    prescan::prescan(bytes)?;
    let parsed = catch_unwind(AssertUnwindSafe(|| Change::try_from(bytes).ok()));
    let change = parsed.ok().flatten().ok_or(Unfit::Malformed)?;
    let actor = change.actor_id().clone();
    let change = fence::screen(&actor, bytes)?;
    catch_unwind(AssertUnwindSafe(|| change.decode().operations.len())).map_err(|_| Unfit::Malformed)?;
    Ok(Found::Change {
        actor: actor.to_hex_string(),
        seq: change.seq(),
        ops: change.len() as u64,
        deps: change.deps().len() as u64,
        doc,
    })
}

/// Why a chunk was not unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnpacked {
    /// It is none, or not a sound one.
    #[error("{0}")]
    Bad(String),
    /// Nobody knows: it could not be tried to the end here.
    #[error("it could not be tried: {0}")]
    Untried(String),
}

/// What turns a document chunk into its changes: [`unpack`], or a process of its own that does.
pub type Unpack<'u> = dyn Fn(&[u8]) -> Result<Vec<Vec<u8>>, NotUnpacked> + 'u;

/// The changes in a document chunk, in an order in which they apply. Like [`load`], only for a process that nobody else needs.
///
/// # Errors
/// [`NotUnpacked::Bad`], with a sentence: Automerge's own, or that it panicked.
pub fn unpack(chunk: &[u8]) -> Result<Vec<Vec<u8>>, NotUnpacked> {
    if !chunk.starts_with(&MAGIC) || chunk.get(8) != Some(&0) {
        return Err(NotUnpacked::Bad("it is no document chunk".to_owned()));
    }
    let unpacked = catch_unwind(AssertUnwindSafe(|| {
        let doc = Automerge::load(chunk).map_err(|e| NotUnpacked::Bad(e.to_string()))?;
        Ok(doc.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect())
    }));
    unpacked.unwrap_or_else(|_| Err(NotUnpacked::Bad("Automerge panicked".to_owned())))
}

/// What a chunk that only Automerge can read holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Changes in it.
    pub changes: u64,
    /// Keys at its root.
    pub keys: u64,
}

/// Has Automerge load bytes: a few may become gigabytes. Only for a process with bounded memory and time that nobody else
/// needs.
///
/// # Errors
/// A sentence: Automerge's own, or that it panicked.
pub fn load(bytes: &[u8]) -> Result<Loaded, String> {
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        let doc = Automerge::load(bytes).map_err(|e| e.to_string())?;
        let (changes, keys) = (doc.get_changes(&[]).len() as u64, doc.keys(automerge::ROOT).count() as u64);
        Ok(Loaded { changes, keys })
    }));
    loaded.unwrap_or_else(|_| Err("Automerge panicked".to_owned()))
}
