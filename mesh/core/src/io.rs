//! What goes into the core and what comes out.

use std::collections::BTreeMap;

use cauldron_identity::{AuthorId, SpiffeId};

use crate::member::Member;

/// A link, as the transport numbers it.
pub type LinkId = u64;

/// What a node is told of its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Its region; empty for the only one. At most [`crate::limits::REGION_LEN_MAX`] bytes.
    pub region: String,
    /// Whether it offers itself to the gateways of all sites. A mesh coordinator does anyway.
    pub hub: bool,
}

/// What happens to the core.
#[derive(Debug)]
pub enum Input<'i> {
    /// A peer that may be talked to is connected.
    LinkUp {
        /// The link.
        link: LinkId,
        /// Who it is.
        peer: AuthorId,
    },
    /// It is not any more.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// One frame of this core's.
    Frame {
        /// From where.
        link: LinkId,
        /// Its bytes.
        bytes: &'i [u8],
    },
    /// A dial that was asked for came to nothing.
    DialFailed {
        /// Whom it was to reach.
        peer: AuthorId,
    },
    /// Where this node can be reached, best first: `host:port`, or `via <SPIFFE ID>` of a relay.
    Addresses(Vec<String>),
    /// Who is a member now.
    Members(BTreeMap<AuthorId, Member>),
    /// This node stops on purpose.
    Leave,
    /// The time asked for has come.
    Tick,
}

/// What the core wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send one frame of this core's.
    Send {
        /// Where.
        link: LinkId,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Try once to connect; answered by [`Input::LinkUp`] or [`Input::DialFailed`].
    Dial {
        /// Whom.
        peer: AuthorId,
        /// Its name: whoever else answers is to be refused.
        spiffe_id: SpiffeId,
        /// Where, best first.
        addresses: Vec<String>,
    },
    /// End a link.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        why: Why,
    },
}

/// Why a link ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Nobody needs it any more.
    Surplus,
    /// The peer sent what cannot be read or believed.
    Bad(String),
}

/// Counted as it happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Statements that were new here.
    pub new: u64,
    /// Those that were known already.
    pub known: u64,
    /// Those that were not looked at: too many at once, or of somebody whom the peer may not speak of.
    pub dropped: u64,
    /// Attempts to connect.
    pub dials: u64,
}
