//! What a node says of itself in its admission frame: which process it is, and what it can do.

use std::fmt;
use std::ops::BitOr;

use crate::limits::PROCESS_NONCE_BYTES;

/// Names one run of a node: drawn once per process and told to every peer, signed by the author key. Two processes with
/// one identity (a copied data directory) have two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProcessNonce([u8; PROCESS_NONCE_BYTES]);

impl ProcessNonce {
    /// Draws one from the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness: no key could be made either.
    #[must_use]
    pub fn draw() -> Self {
        let mut bytes = [0; PROCESS_NONCE_BYTES];
        let drawn = aws_lc_rs::rand::fill(&mut bytes);
        assert!(drawn.is_ok(), "the operating system gives no randomness");
        Self(bytes)
    }

    /// Takes these bytes: for a simulation, whose chance comes from its seed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; PROCESS_NONCE_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; PROCESS_NONCE_BYTES] {
        &self.0
    }
}

impl fmt::Debug for ProcessNonce {
    /// The first four bytes tell two processes apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessNonce(")?;
        for byte in self.0.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "…)")
    }
}

/// What a node can do beyond what its protocol version says. Bits 0 to 15 belong to the wires, 16 to 63 to the node's
/// core. Bits that nobody here knows are kept and mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Nothing beyond the version; what a peer of `cauldron-mesh/1` has.
    pub const NONE: Self = Self(0);
    /// Carries circuits of others.
    pub const RELAY: Self = Self(1);
    /// Can be reached through a relay, and moves to a direct connection where one comes about.
    pub const CIRCUITS: Self = Self(1 << 1);

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Words for the bits that are known here; `bit-N` for others.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let name = |bit: u32| match Self(1 << bit) {
            Self::RELAY => "relay".to_owned(),
            Self::CIRCUITS => "circuits".to_owned(),
            _ => format!("bit-{bit}"),
        };
        (0..u64::BITS).filter(|bit| self.has(Self(1 << bit))).map(name).collect()
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Features;

    #[test]
    fn every_bit_has_a_name() {
        assert_eq!(Features::NONE.names(), Vec::<String>::new());
        let all = Features::RELAY | Features::CIRCUITS | Features(1 << 63);
        assert_eq!(all.names(), ["relay", "circuits", "bit-63"]);
    }
}
