//! Messages and stubs, generated from `proto/workloadapi.proto` by `cargo xtask proto` and committed.
#![allow(missing_docs, rust_2018_idioms, clippy::all, clippy::pedantic, reason = "generated")]

include!("generated/workloadapi.rs");

/// Never prints the key.
impl std::fmt::Debug for X509svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509svid").field("spiffe_id", &self.spiffe_id).field("hint", &self.hint).finish_non_exhaustive()
    }
}
