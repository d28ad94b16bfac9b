//! Wires: libp2p on quinn and rustls with SPIFFE mutual TLS.
//!
//! [`Mesh::start`] opens one UDP port and returns a [`MeshHandle`] and a stream of [`MeshEvent`]s. What goes over a link
//! is bytes to this crate: it knows who the peer is, never what a frame means.
//!
//! A *link* is a peer with at least one connection up, however many sides dialled. It carries whole frames in order, each
//! way, without gaps; whatever would make a gap ends the link. A peer on a link has shown a valid SVID and has proven its
//! author key over the TLS session; whether that key is enrolled is for the node's core to judge.
//!
//! Three lanes share the port by ALPN: `cauldron-mesh/2` and `/1` (mutual SVIDs), `cauldron-enrol/1` (see [`enrol_client`]) and
//! `cauldron-data/1` (enrolled author keys alone, [`MeshEvent::DataLinkUp`]), which is dialled where a certificate stands in the
//! way of the first.
//!
//! Not here on purpose: the meaning of frames, membership, policy, persistence, and whom to dial or to reach through which
//! relay.
#![forbid(unsafe_code)]

mod admission;
mod code;
mod config;
mod counters;
mod dialler;
mod driver;
mod enrol;
mod frames;
mod handle;
mod hello;
pub mod limits;
mod link;
mod members;
mod net;
mod peer_id;
mod registry;
mod reservations;
mod source;
mod swarm;
mod tls;
mod transport;
#[cfg(feature = "yardstick")]
pub mod yardstick;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use code::CloseCode;
pub use config::{Direction, Enrolled, LinkPath, Mesh, MeshConfig, MeshError, MeshEvent, Versions};
pub use counters::Counters;
pub use enrol::{EnrolError, EnrolRequest, enrol_client};
pub use handle::{LinkStatus, MeshHandle, MeshStatus, ReservationStatus, TargetStatus};
pub use hello::{Features, ProcessNonce};
pub use link::SendError;
pub use net::{InterfaceEvent, Interfaces, Net, RealNet};
pub use source::{SourceError, SvidSource, WallClock, system_clock};
pub use tls::PostQuantum;
