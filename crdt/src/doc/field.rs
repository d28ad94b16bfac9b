//! What documents hold, as people and programs see it.

use std::collections::BTreeMap;

use automerge::ScalarValue;

/// A plain value in a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Text, at most 4 KiB.
    Text(String),
    /// A number.
    Int(i64),
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    /// Yes or no.
    Flag(bool),
}

/// Rows of fields: row → field → value.
pub type Rows = BTreeMap<String, BTreeMap<String, Field>>;

/// A document as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Of the kinds that are tables.
    Table(Rows),
    /// Of notes.
    Note {
        /// Its title; empty until somebody gives one.
        title: String,
        /// Its text.
        text: String,
    },
}

/// What somebody wants changed in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Sets fields of a row of a table; `None` removes one.
    Row {
        /// The row.
        row: String,
        /// The fields.
        fields: BTreeMap<String, Option<Field>>,
    },
    /// Gives notes a title.
    Title(String),
    /// Replaces a part of the text of notes.
    Text {
        /// Position of the first character that goes, from 0, in Unicode scalar values.
        at: usize,
        /// How many characters go.
        remove: usize,
        /// What comes in their place.
        insert: String,
    },
}

impl View {
    /// The rows of a table; none for notes.
    #[must_use]
    pub fn rows(&self) -> Option<&Rows> {
        match self {
            Self::Table(rows) => Some(rows),
            Self::Note { .. } => None,
        }
    }
}

impl Field {
    pub(super) fn scalar(&self) -> ScalarValue {
        match self {
            Self::Text(text) => ScalarValue::Str(text.as_str().into()),
            Self::Int(number) => ScalarValue::Int(*number),
            Self::Timestamp(ms) => ScalarValue::Timestamp(*ms),
            Self::Flag(flag) => ScalarValue::Boolean(*flag),
        }
    }

    pub(super) fn of(scalar: &ScalarValue) -> Option<Self> {
        match scalar {
            ScalarValue::Str(text) => Some(Self::Text(text.to_string())),
            ScalarValue::Int(number) => Some(Self::Int(*number)),
            ScalarValue::Timestamp(ms) => Some(Self::Timestamp(*ms)),
            ScalarValue::Boolean(flag) => Some(Self::Flag(*flag)),
            _ => None,
        }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
