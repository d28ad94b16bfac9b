//! The node's shell: configuration, data directory, clock, telemetry, command line and the client of the node's own API.
//!
//! Read [`cli`] for what a person may type, [`config`] for what a node needs to know, [`paths`] for what lies where,
//! [`founding`] for how a mesh begins. The protocol is not here: it lives in `cauldron-node-core`, which the loop in `run`
//! feeds with inputs and whose outputs it carries out.
#![forbid(unsafe_code)]

pub mod chance;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod demo;
pub mod draft;
pub mod error;
pub mod files;
pub mod founding;
pub mod keyfile;
pub mod output;
pub mod paths;
pub mod receipt;
pub mod root_key;
pub mod run;
pub mod scratch;
pub mod sealing;
pub mod signer;
pub mod ssh_agent;
pub mod successor;
pub mod telemetry;
pub mod token;
pub mod trace;
