//! What documents are called, and what each kind of them is for.

use std::fmt;
use std::str::FromStr;

use cauldron_identity::scope::is_name;

/// What a document is for, hence what its changes may do: each kind has a profile of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A line per site: site → `<node>.<measure>` → value.
    Board,
    /// Packages of agents: package → property → value.
    Catalogue,
    /// Settings: section → key → value.
    Config,
    /// A title and a text that several people write.
    Notes,
}

/// A document of a scope: `board/sites`, `catalogue/agents`, `config/main`, `notes/handover`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId {
    kind: Kind,
    name: String,
}

/// A text that names no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no document: use board/<name>, catalogue/<name>, config/<name> or notes/<name>, the name of a-z, 0-9 and '-'"
)]
pub struct DocIdError(String);

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Board, Self::Catalogue, Self::Config, Self::Notes];

    /// Its name, the first part of a [`DocId`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Catalogue => "catalogue",
            Self::Config => "config",
            Self::Notes => "notes",
        }
    }

    /// Whether documents of this kind are rows of fields; the others are a text.
    #[must_use]
    pub const fn is_table(self) -> bool {
        !matches!(self, Self::Notes)
    }
}

impl DocId {
    /// A document of `kind`.
    ///
    /// # Errors
    /// [`DocIdError`] when `name` is no name: 1 to 63 of a-z, 0-9 and '-', not at either end.
    pub fn new(kind: Kind, name: &str) -> Result<Self, DocIdError> {
        if is_name(name) {
            Ok(Self { kind, name: name.to_owned() })
        } else {
            Err(DocIdError(format!("{}/{}", kind.name(), name.chars().take(80).collect::<String>())))
        }
    }

    /// The board of the sites' public lines.
    #[must_use]
    pub fn sites() -> Self {
        Self { kind: Kind::Board, name: "sites".to_owned() }
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.name)
    }
}

impl FromStr for DocId {
    type Err = DocIdError;

    fn from_str(text: &str) -> Result<Self, DocIdError> {
        let wrong = || DocIdError(text.chars().take(80).collect());
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        let kind = Kind::ALL.into_iter().find(|k| k.name() == kind).ok_or_else(wrong)?;
        Self::new(kind, name).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused() {
        for text in ["board/sites", "catalogue/agents", "config/main", "notes/handover-2026"] {
            assert_eq!(text.parse::<DocId>().expect("a document").to_string(), text);
        }
        for text in [
            "",
            "board",
            "board/",
            "board/Sites",
            "boards/x",
            "notes/a/b",
            "notes/-a",
            &format!("notes/{}", "x".repeat(64)),
        ] {
            let error = text.parse::<DocId>().expect_err("no document");
            assert!(error.to_string().contains("names no document"), "{error}");
        }
    }
}
