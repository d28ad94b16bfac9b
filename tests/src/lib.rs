//! A mesh of real processes for end-to-end tests and benchmarks.
//!
//! [`Mesh::found`] founds hq and joins lyon and porto in a temporary directory, as the documentation tells a person to. Every
//! check reads a node's API, its files or its log, as an operator would; nothing is asked of the node's own memory. When a test
//! fails, the logs of its nodes are printed; when a [`Mesh`] is dropped, its processes are killed.
#![forbid(unsafe_code)]

pub mod badcert;
mod binary;
mod http;
mod mesh;
#[cfg(target_os = "linux")]
pub mod netns;
mod node;
mod run;
mod skip;
mod wait;

pub use binary::binary;
pub use http::{Answer, request};
pub use mesh::{Mesh, Plan, append};
pub use node::{Node, free_port};
pub use run::{Ran, cauldron, cauldron_with};
pub use skip::{shared, skipped};
pub use wait::{eventually, wait_until};
