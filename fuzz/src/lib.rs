//! Hostile bytes for every decoder.
//!
//! Each file in `fuzz_targets/` is one libFuzzer binary; `cargo xtask fuzz` builds and runs them. What an input may be, and what must
//! hold while it is worked on, stands at the top of its file. Nothing here is part of what ships.
//!
//! * [`hostile`]: what holds for every input: no panic gets out, a second of processor time at most, and a bound on memory.
//! * [`cbor`]: one value, one encoding.
//! * [`mesh`]: a founded mesh, the same in every run; [`insider`]: facts that its members sign over whatever the input says, so
//!   that mutation reaches what lies behind the signatures.
//! * [`pki`]: the same for certificates and tokens.
//! * [`passkey`]: the same for passkeys.
//! * [`chunks`]: several messages in one input.
//! * [`seeds`]: where fuzzing starts, made of real values by the library's own constructors.

pub mod cbor;
pub mod chunks;
pub mod hostile;
pub mod insider;
pub mod mesh;
pub mod passkey;
pub mod pki;
pub mod seeds;

pub use hostile::{hostile, ready};
