//! Keys of people: in files, in OpenSSH's agent, in a token; and keys at rest.

pub mod agents;
mod rest;
mod votes;
