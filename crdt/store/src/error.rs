//! What can go wrong on a disk, and what to do about it.

use std::io;

/// Why the store refused or failed. The message says what happened and where; [`StoreError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the store.
    #[error("the store {path} is in use by another process")]
    Locked {
        /// The store's file.
        path: String,
    },
    /// Bytes on disk are not what was written.
    #[error("the store is damaged at {place}: {detail}")]
    Corrupt {
        /// The file, or the key of the record.
        place: String,
        /// What did not hold.
        detail: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} the store {path}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The store's file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An earlier commit failed, so what is on disk is unknown: after a failed fsync the kernel may have dropped the
    /// data and reports success the next time.
    #[error("the store {path} takes no more writes, because a commit failed: {cause}")]
    Suspect {
        /// The store's file.
        path: String,
        /// The first failure.
        cause: String,
    },
}

impl StoreError {
    /// What an operator should do, in one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "stop the other node that uses this data directory, or give this one its own",
            Self::Corrupt { .. } => {
                "move the data directory aside, keep it as evidence, and start with an empty one: \
                 facts are fetched again from peers, and the node needs a new incarnation"
            }
            Self::Io { .. } => "check that the path exists, is writable by this user and that the disk is not full",
            Self::Suspect { .. } => {
                "check the disk (dmesg, smartctl), then restart: the store is verified when it opens"
            }
        }
    }

    /// Whether no later commit can succeed before a restart.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Locked { .. })
    }
}
