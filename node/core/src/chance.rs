//! The node's chance, all of it from one seed.

use crate::input::Seed;

/// A stream of bytes from the seed: SHA-256 in counter mode. For nonces, which need only be unlikely to repeat.
#[derive(Debug)]
pub(crate) struct Chance {
    seed: Seed,
    drawn: u64,
}

impl Chance {
    pub(crate) fn of(seed: Seed) -> Self {
        Self { seed, drawn: 0 }
    }

    pub(crate) fn bytes32(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let input = [self.seed.0.as_slice(), &self.drawn.to_be_bytes()].concat();
        cauldron_identity::ids::domain_hash("cauldron/chance/v1", &input)
    }
}
