//! Keys of people: in files, in OpenSSH's agent, in a token.

pub mod agents;
mod votes;
