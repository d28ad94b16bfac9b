//! Saying how far this node holds the authority chain.
//!
//! One word of somebody other than the sequencer brings an entry into effect, and every word costs every node a fact. If each
//! node said so of each entry, a mesh of a thousand that grows to it would write half a million facts and deliver half a
//! billion. So what has no witness yet is waited for a little, each node for another time, and whoever comes first spares the
//! others (Floyd et al., SRM, 1995); the rest of the mesh says so at leisure, once for many entries. What a person waits for
//! from *every* node, that it knows of a cut, it says at once.

use cauldron_identity::authority::{Entry, Held, KIND_HELD};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, Scope};

use crate::core::NodeCore;

/// An entry without a witness is witnessed within this for each member of the mesh, milliseconds: of a thousand, one speaks up
/// after some 10 ms, and its word is everywhere before many others do.
const WITNESS_MS: u64 = 10;
/// After this, and before twice this, a node speaks of an entry that has a witness, milliseconds; what came meanwhile is in the
/// same word.
const LEISURE_MS: u64 = 30_000;

/// When this node says it next, and what it said last.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// The entry of the authority chain that this node said it holds.
    pub(crate) index: u64,
    /// Since when it holds more, boot time in milliseconds.
    since_ms: Option<u64>,
    /// The chain as it was looked at last, and when its end is to be spoken of.
    due: Option<(u64, u64)>,
}

impl Hold {
    /// When there is something to say.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        self.due.map(|(_, at)| at)
    }
}

impl NodeCore {
    /// What this node has said in its log.
    pub(crate) fn recall_held(&mut self) {
        let scope = Scope::mesh();
        let own = self.log.rows_in(&scope).filter(|row| row.chain.author == self.me);
        let held = own.filter(|row| row.kind.is_none_or(|kind| kind == KIND_HELD));
        let held = held.filter_map(|row| self.log.at(row.chain, row.seq)).filter(|f| f.header().kind == KIND_HELD);
        // Only words that are true of the chain as it is: a term may have put others in their places.
        let true_words = held
            .filter_map(|f| f.decode_body::<Held>().ok())
            .filter(|h| self.authority.index_of(&h.head) == Some(h.index));
        self.hold.index = true_words.map(|h| h.index).max().unwrap_or(0);
    }

    /// Says that this node holds the authority chain up to its head, when it is time.
    pub(crate) fn hold(&mut self) {
        let (Some(head), index) = (self.authority.head(), self.authority.index()) else { return };
        let due = self.hold_at(index, head.as_bytes()) <= self.now.boottime_ms;
        if !(due || self.trust_is_news()) || self.may_write().is_err() {
            return;
        }
        let body = to_cbor(&Held { head, index, suspensions: vec![], trust: self.roots.own.clone() });
        // A term is in no log: what names it as a cause would never be whole.
        let deps = if self.log.contains(&head) { vec![head] } else { vec![] };
        if self.append(Scope::mesh(), KIND_HELD, deps, body, None).is_ok() {
            self.hold = Hold { index, since_ms: None, due: None };
        }
    }

    /// When the chain up to `index` is to be spoken of, boot time in milliseconds.
    fn hold_at(&mut self, index: u64, head: &[u8]) -> u64 {
        if self.is_sequencer() || index <= self.hold.index {
            (self.hold.since_ms, self.hold.due) = (None, None);
            return u64::MAX;
        }
        let now_ms = self.now.boottime_ms;
        let since_ms = *self.hold.since_ms.get_or_insert(now_ms);
        let at = if self.is_waited_for(index) {
            now_ms
        } else if index > self.authority.covered() {
            let window = WITNESS_MS * self.authority.members().count() as u64;
            match self.hold.due {
                Some((seen, at)) if seen == index => at,
                _ => now_ms + share(&[self.me.as_bytes(), head].concat(), window),
            }
        } else {
            since_ms + LEISURE_MS + share(self.me.as_bytes(), LEISURE_MS)
        };
        self.hold.due = Some((index, at));
        at
    }

    /// Whether somebody waits for this node's own word: it is the first that can vouch for its own enrolment, and for a cut the
    /// people who signed it watch who holds it.
    fn is_waited_for(&self, index: u64) -> bool {
        let from = usize::try_from(self.hold.index).unwrap_or(usize::MAX);
        // A term cuts who was sequencer before. What was refused cuts nobody.
        let cut = |applied: &cauldron_identity::authority::Applied| {
            applied.refused.is_none() && matches!(applied.entry, Some(Entry::Cut(_) | Entry::Term(_)))
        };
        let enrolled = self.authority.member(&self.me).is_some_and(|m| m.index > self.authority.covered());
        (enrolled && index > self.authority.covered()) || self.authority.entries().skip(from).any(cut)
    }
}

/// A number below `window`, its own for every input and the same at every run.
pub(crate) fn share(input: &[u8], window: u64) -> u64 {
    let digest = Digest::of("cauldron/hold/v1", input);
    let first = digest.as_bytes().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    u64::try_from((u128::from(first) * u128::from(window)) >> 64).unwrap_or(0)
}
