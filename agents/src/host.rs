//! What an agent is: observations in, proposal drafts out. Whatever runs later (WebAssembly components, MCP servers) comes
//! through this door too.
//!
//! An agent has no clock, no sockets and no files. The shell feeds it with [`Agent::handle`] and drains [`Agent::poll`]
//! after every observation; the only way out is a draft.

use cauldron_identity::Digest;
use serde::{Deserialize, Serialize};

use crate::proposal::ProposalDraft;
use crate::source::{LineRef, Position};

/// One agent of one node.
pub trait Agent {
    /// Name and build, as every proposal carries them.
    fn info(&self) -> &AgentInfo;

    /// Takes one observation. Input from outside never panics; what is not understood is counted and dropped.
    fn handle(&mut self, observation: Observation<'_>);

    /// The next draft, or `None` when there is nothing to propose. Call until `None`.
    #[must_use]
    fn poll(&mut self) -> Option<ProposalDraft>;

    /// Whether a draft that had to wait would still be made, with all that was observed since.
    fn still_stands(&self, draft: &ProposalDraft) -> bool;

    /// The oldest place in the source that this agent must see again after a restart, because its state is not stored.
    /// `None`: nothing seen yet, so the source's own position is the right one.
    fn resume_at(&self) -> Option<Position>;
}

/// What an agent may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation<'a> {
    /// One line of a followed file, without its terminator.
    Line(LineRef<'a>),
    /// The source started anew (rotated or truncated): earlier positions mean nothing any more.
    SourceRestarted,
    /// This agent made this proposal before the restart (read back from the node's facts, told before any line). Tell all of
    /// the last day, and then [`Observation::Settled`] for those that are over.
    Opened {
        /// As in [`ProposalDraft::intent_key`].
        intent_key: &'a str,
    },
    /// The proposal for this object came to its end, whatever the end was.
    Settled {
        /// As in [`ProposalDraft::object`].
        object: &'a str,
    },
}

/// Name and build of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Last part of the agent's SPIFFE ID, e.g. `sshd-bruteforce`.
    pub name: String,
    /// SHA-256 over the crate version and the rule's configuration: what a restriction on "this build" names.
    pub build_digest: Digest,
}

impl AgentInfo {
    /// Describes a built-in agent. `rule` is everything that shapes its behaviour, in one canonical text.
    pub fn built_in(name: &str, rule: &str) -> Self {
        let text = format!("{name}\0{}\0{rule}", env!("CARGO_PKG_VERSION"));
        AgentInfo { name: name.to_owned(), build_digest: Digest::of("cauldron/agent-build/v1", text.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_digest_names_agent_and_rule() {
        let digest = |name, rule| AgentInfo::built_in(name, rule).build_digest;
        assert_eq!(digest("a", "threshold=5"), digest("a", "threshold=5"));
        assert_ne!(digest("a", "threshold=5"), digest("a", "threshold=6"));
        assert_ne!(digest("a", "threshold=5"), digest("b", "threshold=5"));
    }
}
