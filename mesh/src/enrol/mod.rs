//! The enrol lane, ALPN `cauldron-enrol/1`: one request, one reply, then the connection ends.
//!
//! TLS gives secrecy and an *exporter* that both ends share and nobody between them can have; it does not say who the
//! server is. The reply must prove that, by a signature over the exporter under a key that the joining side has pinned.
//! A request must therefore carry nothing that a false server could use: prove a join token (a MAC over the exporter),
//! never send it.

mod client;
mod rate;
mod server;

pub use client::{EnrolError, enrol_client};
pub(crate) use server::EnrolLane;
pub use server::EnrolRequest;

/// Label of the exporter (RFC 8446 §7.5).
pub(crate) const EXPORTER_LABEL: &[u8] = b"cauldron-enrol";
