//! Automerge, behind the fence.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, Change, ReadDoc, TextEncoding};

/// From this many changes on, reading back goes over the whole document once: looking up a single change costs more the
/// older it is.
const READ_BACK_ALL: usize = 32;

/// A document that holds what the fence accepted.
#[derive(Debug)]
pub(super) struct Engine {
    pub doc: Automerge,
}

impl Engine {
    pub fn new() -> Self {
        Self { doc: Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint) }
    }

    /// An engine that holds `changes`; none when it cannot.
    pub fn of(changes: &[Change]) -> Option<Self> {
        let mut engine = Self::new();
        engine.apply(changes).then_some(engine)
    }

    /// Gives changes to Automerge and reads them back. When it is false, the document is not to be trusted any more:
    /// applying is not atomic when it fails.
    pub fn apply(&mut self, changes: &[Change]) -> bool {
        let doc = &mut self.doc;
        let sound = catch_unwind(AssertUnwindSafe(|| {
            let before = doc.get_heads();
            if doc.apply_changes(changes.iter().cloned()).is_err() {
                return false;
            }
            if changes.len() < READ_BACK_ALL {
                return changes.iter().all(|change| {
                    doc.get_change_by_hash(&change.hash()).is_some_and(|back| back.raw_bytes() == change.raw_bytes())
                });
            }
            let mut back: Vec<Vec<u8>> = doc.get_changes(&before).iter().map(|c| c.raw_bytes().to_vec()).collect();
            let mut given: Vec<&[u8]> = changes.iter().map(Change::raw_bytes).collect();
            back.sort_unstable();
            given.sort_unstable();
            back.iter().map(Vec::as_slice).eq(given)
        }));
        matches!(sound, Ok(true))
    }
}
