//! Registration entries: which local callers may have which identity.

use std::path::PathBuf;

use cauldron_identity::SpiffeId;

use crate::caller::Attested;

/// One identity, and what the kernel must say about a caller that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// Told beside the SVID, so that a workload with several knows them apart; unique among the entries.
    pub hint: String,
    /// Who may have it.
    pub selectors: Selectors,
}

/// What must be so; what is absent does not matter. All of it must hold, and with nothing in it nothing holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Effective user id when the caller connected.
    pub uid: Option<u32>,
    /// Effective group id when the caller connected; supplementary groups do not count.
    pub gid: Option<u32>,
    /// The executable's path, in the node's own mount namespace.
    pub path: Option<PathBuf>,
    /// SHA-256 of the executable.
    pub sha256: Option<[u8; 32]>,
}

impl Selectors {
    /// Whether nothing at all is asked: such an entry would be everybody's, and matches nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether user and group fit, which is known without looking at the process.
    #[must_use]
    pub fn fits_credentials(&self, uid: u32, gid: u32) -> bool {
        !self.is_empty() && self.uid.is_none_or(|u| u == uid) && self.gid.is_none_or(|g| g == gid)
    }

    /// Whether the caller's executable must be looked at.
    #[must_use]
    pub fn needs_process(&self) -> bool {
        self.path.is_some() || self.sha256.is_some()
    }

    /// Whether all of it holds.
    #[must_use]
    pub fn fits(&self, caller: &Attested) -> bool {
        let path = self.path.as_ref().is_none_or(|p| caller.path.as_ref() == Some(p));
        let digest = self.sha256.is_none_or(|d| caller.sha256 == Some(d));
        self.fits_credentials(caller.uid, caller.gid) && path && digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_given_must_hold_and_none_is_nobody() {
        let caller = Attested { uid: 7, gid: 8, path: Some("/bin/a".into()), sha256: Some([1; 32]) };
        let all = Selectors { uid: Some(7), gid: Some(8), path: Some("/bin/a".into()), sha256: Some([1; 32]) };
        assert!(all.fits(&caller));
        for wrong in [
            Selectors { uid: Some(0), ..all.clone() },
            Selectors { gid: Some(0), ..all.clone() },
            Selectors { path: Some("/bin/b".into()), ..all.clone() },
            Selectors { sha256: Some([2; 32]), ..all.clone() },
            Selectors::default(),
        ] {
            assert!(!wrong.fits(&caller), "{wrong:?}");
        }
        // What could not be found out does not count as a match.
        let unknown = Attested { path: None, sha256: None, ..caller };
        assert!(!all.fits(&unknown));
        assert!(Selectors { uid: Some(7), ..Selectors::default() }.fits(&unknown));
    }
}
