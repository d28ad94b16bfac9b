//! Frames of the sync protocol, wire v1: version byte, kind byte, one deterministic CBOR value.

use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{AuthorId, Digest, Lane, Scope, SealedFact};
use minicbor::{Decode, Encode};

use super::bulk::Bulk;
use crate::limits::{CONTROL_FRAME_LEN_MAX, FRAME_LEN_MAX};
use crate::log::{ChainId, Evidence, Head};

/// The wire version this build speaks.
pub const VERSION: u8 = 1;

/// Kinds up to here are for sync, known to this build or not. Those above are free for what else two nodes have to say
/// to each other, leases among it: the node core routes by [`concerns_sync`].
pub const SYNC_KIND_MAX: u8 = 63;

const HAVE: u8 = 1;
const WANT: u8 = 2;
const FACTS: u8 = 3;
const EVIDENCE: u8 = 4;
const DIGEST: u8 = 5;
const AGAIN: u8 = 6;
const BULK: u8 = 7;
const LATER: u8 = 8;

/// Whether a frame is for [`super::Sync`]. Frames of another version and no frames at all are: it closes the link.
#[must_use]
pub fn concerns_sync(frame: &[u8]) -> bool {
    !matches!(frame, [VERSION, kind, ..] if *kind > SYNC_KIND_MAX)
}

/// Whether a frame claims to carry single facts.
pub(super) fn is_facts(frame: &[u8]) -> bool {
    matches!(frame, [VERSION, FACTS, ..])
}

/// Which announcement a `Have` belongs to, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Part {
    /// Counts the announcements on this link, from 1.
    #[n(0)]
    pub round: u32,
    /// Counts the frames of one announcement, from 0.
    #[n(1)]
    pub part: u32,
    /// Whether another frame follows.
    #[n(2)]
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct ScopeHeads {
    #[n(0)]
    pub scope: Scope,
    #[n(1)]
    pub heads: Vec<Head>,
    /// Which of these chains hold urgent facts: it orders what is asked for first, and nothing else.
    #[n(2)]
    pub urgent: Option<Vec<Urgent>>,
}

/// Where in a chain the last fact of a rank, or of a more urgent one, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Urgent {
    /// Which of the heads beside it, from 0.
    #[n(0)]
    pub head: u16,
    /// The rank: see [`super::Ranks`].
    #[n(1)]
    pub rank: u8,
    /// The position of the fact.
    #[n(2)]
    pub seq: u64,
}

/// What was asked for of documents is not given before: the sender's budget for the link is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Later {
    /// Milliseconds from now.
    #[n(0)]
    pub wait_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Have {
    /// Set in an announcement of everything, absent in news.
    #[n(0)]
    pub first: Option<Part>,
    #[n(1)]
    pub scopes: Vec<ScopeHeads>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Range {
    /// Comes back with the answer.
    #[n(0)]
    pub request: u32,
    #[n(1)]
    pub scope: Scope,
    #[n(2)]
    pub author: AuthorId,
    #[n(3)]
    pub incarnation: u32,
    /// First position wanted.
    #[n(4)]
    pub from: u64,
    /// Last position wanted.
    #[n(5)]
    pub to: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Want {
    #[n(0)]
    pub ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Facts {
    /// The request this answers; absent when the facts are pushed.
    #[n(0)]
    pub request: Option<u32>,
    #[n(1)]
    pub facts: Vec<SealedFact>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct ScopeDigest {
    #[n(0)]
    pub scope: Scope,
    #[n(1)]
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Digests {
    /// The sender's latest announcement.
    #[n(0)]
    pub round: u32,
    #[n(1)]
    pub scopes: Vec<ScopeDigest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// What the sender holds.
    Have(Have),
    /// Please send.
    Want(Want),
    /// Here they are.
    Facts(Facts),
    /// Somebody forked a chain.
    Evidence(Box<Evidence>),
    /// One hash per scope: are we still equal?
    Digests(Digests),
    /// Please announce everything once more.
    Again,
    /// Here is a whole range.
    Bulk(Bulk),
    /// Ask for documents again later.
    Later(Later),
}

/// Why a frame is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// A kind of a later version: ignored.
    Unknown(u8),
    /// Another wire version.
    Version,
    /// Longer than its kind may be.
    TooLarge,
    /// No frame at all.
    Malformed(CodecError),
}

impl Range {
    pub fn chain(&self) -> ChainId {
        ChainId { scope: self.scope.clone(), author: self.author, incarnation: self.incarnation }
    }
}

impl Frame {
    /// How urgent a frame is that carries no facts: what restrictions wait for goes with them.
    pub fn rank(&self) -> u8 {
        let restricts = |scope: &Scope| scope.lane() != Lane::Data;
        u8::from(!match self {
            Self::Have(have) => have.scopes.iter().any(|told| restricts(&told.scope)),
            Self::Want(want) => want.ranges.iter().any(|range| restricts(&range.scope)),
            Self::Evidence(_) => true,
            _ => false,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Have(have) => (HAVE, to_cbor(have)),
            Self::Want(want) => (WANT, to_cbor(want)),
            Self::Facts(facts) => (FACTS, to_cbor(facts)),
            Self::Evidence(evidence) => (EVIDENCE, to_cbor(evidence.as_ref())),
            Self::Digests(digests) => (DIGEST, to_cbor(digests)),
            Self::Again => (AGAIN, Vec::new()),
            Self::Bulk(bulk) => (BULK, to_cbor(bulk)),
            Self::Later(later) => (LATER, to_cbor(later)),
        };
        let mut frame = Vec::with_capacity(2 + body.len());
        frame.extend_from_slice(&[VERSION, kind]);
        frame.extend_from_slice(&body);
        frame
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let (version, rest) = bytes.split_first().ok_or(Refused::Malformed(CodecError::Truncated(0)))?;
        if *version != VERSION {
            return Err(Refused::Version);
        }
        let (kind, body) = rest.split_first().ok_or(Refused::Malformed(CodecError::Truncated(1)))?;
        let len_max = if matches!(*kind, FACTS | EVIDENCE | BULK) { FRAME_LEN_MAX } else { CONTROL_FRAME_LEN_MAX };
        if bytes.len() > len_max {
            return Err(Refused::TooLarge);
        }
        match *kind {
            HAVE => from_cbor(body).map(Self::Have),
            WANT => from_cbor(body).map(Self::Want),
            FACTS => from_cbor(body).map(Self::Facts),
            EVIDENCE => from_cbor(body).map(|e| Self::Evidence(Box::new(e))),
            DIGEST => from_cbor(body).map(Self::Digests),
            BULK => from_cbor(body).map(Self::Bulk),
            LATER => from_cbor(body).map(Self::Later),
            AGAIN if body.is_empty() => Ok(Self::Again),
            AGAIN => Err(CodecError::Trailing(body.len())),
            other => return Err(Refused::Unknown(other)),
        }
        .map_err(Refused::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HEADS_PER_FRAME_MAX;
    use cauldron_identity::FactId;

    #[test]
    fn golden_bytes_of_wire_v1() {
        let scope = Scope::site("lyon").expect("a name");
        let range = Range { request: 7, scope, author: AuthorId::from_bytes([1; 32]), incarnation: 2, from: 3, to: 4 };
        let frame = Frame::Want(Want { ranges: vec![range] });
        let bytes = frame.encode();
        let want: Vec<u8> = [
            [VERSION, WANT, 0xa1, 0x00, 0x81, 0xa6, 0x00, 0x07, 0x01, 0x69].as_slice(),
            b"site/lyon",
            [0x02, 0x58, 0x20].as_slice(),
            [1; 32].as_slice(),
            [0x03, 0x02, 0x04, 0x03, 0x05, 0x04].as_slice(),
        ]
        .concat();
        assert_eq!(bytes, want);
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        assert_eq!(Frame::Again.encode(), [VERSION, AGAIN]);

        let scope = Scope::site("lyon").expect("a name");
        let named = [[0x69].as_slice(), b"site/lyon"].concat();
        let (author, id) = (AuthorId::from_bytes([1; 32]), FactId::from_bytes([5; 32]));
        let head = Head { author, incarnation: 2, seq: 3, id };
        let first = Some(Part { round: 4, part: 1, more: false });
        let told = ScopeHeads { scope: scope.clone(), heads: vec![head], urgent: None };
        let frame = Frame::Have(Have { first, scopes: vec![told.clone()] });
        let want = [
            [VERSION, HAVE, 0xa2, 0x00, 0xa3, 0x00, 0x04, 0x01, 0x01, 0x02, 0xf4, 0x01, 0x81, 0xa2, 0x00].as_slice(),
            &named,
            [0x01, 0x81, 0x84, 0x58, 0x20].as_slice(),
            [1; 32].as_slice(),
            [0x02, 0x03, 0x58, 0x20].as_slice(),
            [5; 32].as_slice(),
        ];
        assert_eq!(frame.encode(), want.concat());
        assert_eq!(Frame::decode(&want.concat()), Ok(frame));
        let urgent = Some(vec![Urgent { head: 0, rank: 1, seq: 3 }]);
        let frame = Frame::Have(Have { first: None, scopes: vec![ScopeHeads { urgent, ..told }] });
        let want = [
            [VERSION, HAVE, 0xa1, 0x01, 0x81, 0xa3, 0x00].as_slice(),
            &named,
            [0x01, 0x81, 0x84, 0x58, 0x20].as_slice(),
            [1; 32].as_slice(),
            [0x02, 0x03, 0x58, 0x20].as_slice(),
            [5; 32].as_slice(),
            [0x02, 0x81, 0x83, 0x00, 0x01, 0x03].as_slice(),
        ];
        assert_eq!(frame.encode(), want.concat());
        assert_eq!(Frame::decode(&want.concat()), Ok(frame));

        let frame = Frame::Later(Later { wait_ms: 500 });
        assert_eq!(frame.encode(), [VERSION, LATER, 0xa1, 0x00, 0x19, 0x01, 0xf4]);
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    /// What carries whole facts is pinned by its hash; the facts themselves are pinned in the identity crate.
    #[test]
    fn frames_with_facts_are_pinned() {
        let key = crate::testing::key(1);
        let body = |n: u8| crate::log::Draft {
            scope: Scope::mesh(),
            incarnation: 0,
            kind: "note".into(),
            deps: vec![],
            body: vec![n],
            hlc: 7 << 16,
            traceparent: None,
        };
        let sealed = |n| {
            let mut log = crate::FactLog::new(crate::testing::MESH);
            log.append(&key, body(n)).expect("fits").sealed().clone()
        };
        let (one, other) = (sealed(1), sealed(2));
        let digest = ScopeDigest { scope: Scope::mesh(), digest: cauldron_identity::Digest::from_bytes([3; 32]) };
        let frames = [
            Frame::Facts(Facts { request: Some(5), facts: vec![one.clone()] }),
            Frame::Facts(Facts { request: None, facts: vec![other.clone()] }),
            Frame::Evidence(Box::new(Evidence::new(&[one], &[other]))),
            Frame::Digests(Digests { round: 9, scopes: vec![digest] }),
        ];
        let hashes = frames.map(|frame| {
            let bytes = frame.encode();
            let mut later = [bytes.as_slice(), &[0x18, 0x63, 0x01]].concat(); // 99: 1
            later[2] += 1;
            assert_eq!(Frame::decode(&later).as_ref(), Ok(&frame), "a key of a later build is skipped");
            assert_eq!(Frame::decode(&bytes), Ok(frame));
            cauldron_identity::Digest::of("golden", &bytes).to_string()
        });
        assert_eq!(
            hashes,
            [
                "b2c341812ce336abe77b32e2845e62c4f4ee0debb134c666aa5f23697897d70c",
                "82516905d57dee3693e9c87a767f7df49e9dac160d3e3c9ed9181b2c0d61b97e",
                "0f319ea48a62d3fc296a43a09a428e115a25655f8f41e805d3b3043f0c878336",
                "c10470e1eaeeea33e8d96d8eea21d47ea188c8c5aaa74d304fc7890ba361d535",
            ]
        );
    }

    #[test]
    fn a_full_frame_of_heads_stays_below_the_control_bound() {
        let head = Head {
            author: AuthorId::from_bytes([0xff; 32]),
            incarnation: u32::MAX,
            seq: u64::MAX,
            id: FactId::from_bytes([0xff; 32]),
        };
        let scope = Scope::site_restrict(&"a".repeat(63)).expect("a name");
        let first = Some(Part { round: u32::MAX, part: u32::MAX, more: true });
        let heads = vec![head; HEADS_PER_FRAME_MAX];
        let last = u16::try_from(HEADS_PER_FRAME_MAX).expect("fits");
        let urgent = |rank| (0..last).map(move |head| Urgent { head, rank, seq: u64::MAX });
        let urgent = Some(urgent(1).chain(urgent(2)).collect());
        let frame = Frame::Have(Have { first, scopes: vec![ScopeHeads { scope, heads, urgent }] }).encode();
        assert!(frame.len() <= CONTROL_FRAME_LEN_MAX, "{}", frame.len());
    }

    #[test]
    fn other_kinds_are_routed_elsewhere_and_garbage_comes_here() {
        assert!(concerns_sync(&Frame::Again.encode()));
        assert!(concerns_sync(&[]) && concerns_sync(&[9, 200]) && concerns_sync(&[VERSION, SYNC_KIND_MAX]));
        assert!(!concerns_sync(&[VERSION, SYNC_KIND_MAX + 1]));
    }

    #[test]
    fn what_is_no_frame_is_told_apart() {
        assert_eq!(Frame::decode(&[0, HAVE]), Err(Refused::Version));
        assert_eq!(Frame::decode(&[VERSION, 99, 1, 2, 3]), Err(Refused::Unknown(99)));
        assert!(matches!(Frame::decode(&[]), Err(Refused::Malformed(_))));
        assert!(matches!(Frame::decode(&[VERSION]), Err(Refused::Malformed(_))));
        assert!(matches!(Frame::decode(&[VERSION, AGAIN, 0]), Err(Refused::Malformed(_))));
        assert!(matches!(Frame::decode(&[VERSION, HAVE, 0xff]), Err(Refused::Malformed(_))));
        assert_eq!(
            Frame::decode(&[&[VERSION, WANT][..], &[0; CONTROL_FRAME_LEN_MAX]].concat()),
            Err(Refused::TooLarge)
        );
    }
}
