//! The SPIFFE Workload API over a Unix socket: a server that gives local workloads their identities, and a client that lets
//! a node live on somebody else's.
//!
//! Source: [SPIFFE Workload API](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md) and
//! [SPIFFE Workload Endpoint](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_Endpoint.md).
//!
//! * [`caller`]: who is at the other end of the socket, as the kernel says.
//! * [`entry`]: which callers may have which identity.
//! * [`served`]: what is handed out now; the node publishes it, the server only reads.
//! * [`server`]: the X.509 and JWT profiles, bounded.
//! * [`client`]: X.509 context of another Workload API.
//!
//! Absent on purpose: how SVIDs are made and kept (the node), and the WIT profile, which is optional.
#![forbid(unsafe_code)]

mod authority;
pub mod caller;
pub mod client;
mod digest;
pub mod entry;
mod listener;
mod looks;
pub mod proto;
mod seats;
pub mod served;
pub mod server;

#[cfg(test)]
mod tests;

pub use client::{FetchError, Fetched};
pub use entry::{Entry, Selectors};
pub use served::{JwtAuthority, JwtRefused, Served, Svid};
pub use server::{Server, Status};

/// Every call carries this metadata key with the value `true`, which a browser or a proxy that was tricked into calling would
/// not send (SPIFFE Workload Endpoint §3, against server-side request forgery).
pub const SECURITY_HEADER: &str = "workload.spiffe.io";
