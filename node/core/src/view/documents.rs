//! Documents as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Seen, Time};

/// A document in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DocSummary {
    /// Who reads and writes it.
    pub scope: String,
    /// Its name there: `<kind>/<name>`.
    pub doc: String,
    /// `current`; `building` while what is shown is older than what is here; `back-filling` while it came in one piece and
    /// facts of it are still to come.
    pub state: &'static str,
    /// The epoch in use; the first is 0.
    pub epoch: u32,
    /// Changes in it, those of all its epochs.
    pub changes: u64,
    /// Changes that wait for others.
    pub waiting: u64,
    /// Changes that were refused, taken out, or outside when their epoch ended.
    pub left_out: u64,
    /// Changes in it whose signed facts are still to come.
    pub to_come: u64,
    /// Epochs before the one in use whose signed facts are still to come.
    pub epochs_to_come: u32,
    /// Equal at two nodes exactly when the documents are; none while it is being built.
    pub digest: Option<String>,
}

/// A document with its content.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DocView {
    /// What is known of it.
    #[serde(flatten)]
    pub summary: DocSummary,
    /// `{"rows": …}` of a table; `{"title": …, "text": …}` of notes.
    pub content: serde_json::Value,
    /// Who says so.
    #[serde(flatten)]
    pub seen: Seen,
}

/// One change of a document.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DocStepView {
    /// The signed fact that carried it.
    pub fact: String,
    /// When, by its author's clock.
    pub at: Time,
    /// Its author.
    pub author: String,
    /// The author's SPIFFE ID.
    pub by: Option<String>,
    /// Life of the author, and position in its chain.
    pub incarnation: u32,
    /// Position in the author's chain.
    pub seq: u64,
    /// Why it is not in the document; none when it is.
    pub left_out: Option<String>,
    /// What it did.
    pub did: Vec<DidView>,
}

/// One thing that a change did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct DidView {
    /// The row of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// The field of a row; `title` or `text` of notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it was set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<serde_json::Value>,
    /// Whether it was removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Characters inserted into the text, in the order of the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inserted: Option<String>,
    /// How many characters of the text were deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Who set a value of a document.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BlameView {
    /// The row of a table; `title` or `text` of notes.
    pub row: String,
    /// The field; empty for notes.
    pub field: String,
    /// The value; of a text, one piece by one author.
    pub value: serde_json::Value,
    /// False for a value that lost against one set at the same time.
    pub shown: bool,
    /// The signed fact that set it; none while it is still to come.
    pub fact: Option<String>,
    /// When, by its author's clock; none while the fact is still to come.
    pub at: Option<Time>,
    /// Its author; none while the facts of the epoch in which it was set are still to come.
    pub author: Option<String>,
    /// The author's SPIFFE ID.
    pub by: Option<String>,
}
