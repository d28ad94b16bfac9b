//! Real nodes in network namespaces, on a network whose faults the test decides.
//!
//! ```text
//!  namespace of a node        namespace of its site                       this process
//!  eth0 10.77.1.10 ───veth─── br0 10.77.1.1  wan0 (TUN) ──────────────── Wan: delay, jitter, loss, cut, rate, NAT
//!  eth0 10.77.1.11 ───veth───┘                                               │
//!  eth0 10.77.2.10 ───veth─── br0 10.77.2.1  wan0 (TUN) ─────────────────────┘
//! ```
//!
//! [`Net`] builds namespaces, bridges and addresses with `ip`; [`Wan`] owns the TUN devices and carries every packet between two
//! sites, since not every kernel has `netem`; [`Fleet`] founds a mesh whose processes run in it. [`Truth`] keeps what the test did
//! to whom and when, [`Watch`] asks every node for its status meanwhile, and [`lies`] holds each answer against the truth.
//!
//! Needs root, `ip` (iproute2) and `/dev/net/tun`: [`able`] says what is missing. Names carry the id of this process, so tests run
//! beside each other; they are removed when their owner is dropped, also by a panic. What a killed test leaves behind is removed
//! by the next one.
//!
//! Run it with `cargo test -p cauldron-tests --test netns` after building the node; `CAULDRON_NETNS_KEEP=1` keeps the
//! folder with every node's log and `samples.jsonl`, every answer that the checker saw.

mod check;
mod fleet;
mod namespace;
mod nat;
mod net;
mod packet;
mod shape;
mod truth;
mod wan;
mod watch;
mod writers;

pub use check::{Bounds, Expected, Lie, lies};
pub use fleet::{Fleet, Member};
pub use namespace::able;
pub use nat::Mapping;
pub use net::{Address, Net, Site};
pub use shape::{Carried, Path};
pub use truth::{Fault, Truth};
pub use wan::Wan;
pub use watch::{Sample, Watch};
pub use writers::Writers;
