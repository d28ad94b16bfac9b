//! Presence, topology and dialling of one node. No sockets, no clock, no tasks.
//!
//! Call [`MeshCore::handle`] with one input, then [`MeshCore::poll`] until it is empty. Time is an argument.
//!
//! - **Presence**: each node says of itself where it can be reached ([`Announce`]), and of a peer that it lost it
//!   ([`Sighting`]). Both are signed by who says it, replace what was said before, are told on to whoever may read them, and
//!   are never written down: after a restart they are learned anew. Nothing decides by them who may do what.
//! - **Topology**: whom to be connected with is computed from the authority chain and from presence, at each node for
//!   itself: its site in full, hubs through the site's gateways, and other sites of the region in a ring.
//! - **Dialling**: one attempt at a time per peer, waiting longer up to a bound, for ever; a region has so many at once and no
//!   more.
//!
//! - **Lanes** ([`lanes`]): what goes over a link first, and how much of it.
//!
//! Not here: the transport, who is a member, what facts go over a link.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod board;
mod core;
mod dial;
mod digest;
mod io;
pub mod lanes;
pub mod limits;
mod losses;
mod member;
mod presence;
mod spread;
mod statement;
mod surplus;
mod topology;
mod wire;

#[cfg(test)]
mod tests;

pub use crate::core::MeshCore;
pub use io::{Config, Input, LinkId, Output, Stats, Why};
pub use member::Member;
pub use presence::{Presence, State};
pub use statement::{Announce, BadStatement, Sealed, Sighting, Statement};
