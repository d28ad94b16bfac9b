//! Keys of people: in files, in OpenSSH's agent, in a token; and keys at rest.

pub mod agents;
mod council;
mod rest;
mod votes;
