//! Codes that say why a connection was refused or closed: on the wire, in counters and in logs the same.

/// Application error code of a QUIC close (RFC 9000 §20.2), and label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum CloseCode {
    /// Nothing is wrong.
    Normal = 0,
    /// The node stops.
    Shutdown = 1,
    /// The peer's certificate chain was refused, or ours by it. Travels as a TLS alert, never as this code.
    Certificate = 0x10,
    /// No client certificate on a lane that asks for one.
    NoCertificate = 0x11,
    /// The admission frame was damaged, of another version, or its proof does not verify.
    Admission = 0x12,
    /// The peer belongs to another mesh.
    WrongMesh = 0x13,
    /// The same SPIFFE ID is connected with another author key: a copied or re-made data directory.
    KeyConflict = 0x14,
    /// More connections than one peer, or all peers, may have.
    TooManyConnections = 0x15,
    /// Too many handshakes in flight.
    Busy = 0x16,
    /// The handshake took too long.
    HandshakeTimeout = 0x17,
    /// No common protocol, or bytes that are no QUIC.
    Protocol = 0x18,
    /// The peer is ourselves.
    Ourselves = 0x19,
    /// Another process with this very identity is connected and alive: the later one is turned away.
    SecondProcess = 0x1a,
    /// The peer's SVID ran out.
    SvidExpired = 0x20,
    /// The peer's trust domain or root is no longer trusted.
    Untrusted = 0x21,
    /// The data lane has done its part: the mesh lane is tried again.
    LaneOver = 0x22,
    /// The process behind the link did not answer, and another one with its identity took its place.
    Replaced = 0x23,
    /// A frame longer than allowed was announced.
    FrameTooLarge = 0x30,
    /// The stream ended inside a frame.
    FrameTruncated = 0x31,
    /// A frame without content.
    FrameEmpty = 0x32,
    /// A started frame was not finished in time, or ours was not taken in time.
    FrameTimeout = 0x33,
    /// The peer reads more slowly than we must write.
    QueueFull = 0x34,
    /// One side started the link's stream anew, so frames may be missing.
    LinkRestarted = 0x35,
    /// The link's stream broke while the connection lived.
    StreamLost = 0x36,
    /// The node's core could not read a frame's content.
    BadContent = 0x40,
    /// The node's core does not know the author key, or it was cut.
    NotEnrolled = 0x41,
    /// This node enrols nobody.
    EnrolClosed = 0x50,
    /// Too many enrolments at once.
    EnrolBusy = 0x51,
    /// Too many enrolments from one address.
    EnrolRate = 0x52,
    /// An enrolment request that is damaged or too long.
    EnrolRequest = 0x53,
    /// The enrolment took too long or the authority gave no answer.
    EnrolTimeout = 0x54,
}

impl CloseCode {
    /// Every code, in order.
    pub const ALL: [Self; 31] = [
        Self::Normal,
        Self::Shutdown,
        Self::Certificate,
        Self::NoCertificate,
        Self::Admission,
        Self::WrongMesh,
        Self::KeyConflict,
        Self::TooManyConnections,
        Self::Busy,
        Self::HandshakeTimeout,
        Self::Protocol,
        Self::Ourselves,
        Self::SecondProcess,
        Self::SvidExpired,
        Self::Untrusted,
        Self::LaneOver,
        Self::Replaced,
        Self::FrameTooLarge,
        Self::FrameTruncated,
        Self::FrameEmpty,
        Self::FrameTimeout,
        Self::QueueFull,
        Self::LinkRestarted,
        Self::StreamLost,
        Self::BadContent,
        Self::NotEnrolled,
        Self::EnrolClosed,
        Self::EnrolBusy,
        Self::EnrolRate,
        Self::EnrolRequest,
        Self::EnrolTimeout,
    ];

    /// The code a peer sent, if it is one of ours.
    #[must_use]
    pub fn from_wire(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|c| u64::from(*c as u32) == code)
    }

    /// Name for metrics: lower case with underscores.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::Certificate => "certificate",
            Self::NoCertificate => "no_certificate",
            Self::Admission => "admission",
            Self::WrongMesh => "wrong_mesh",
            Self::KeyConflict => "key_conflict",
            Self::TooManyConnections => "too_many_connections",
            Self::Busy => "busy",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Protocol => "protocol",
            Self::Ourselves => "ourselves",
            Self::SecondProcess => "second_process",
            Self::SvidExpired => "svid_expired",
            Self::Untrusted => "untrusted",
            Self::LaneOver => "lane_over",
            Self::Replaced => "replaced",
            Self::FrameTooLarge => "frame_too_large",
            Self::FrameTruncated => "frame_truncated",
            Self::FrameEmpty => "frame_empty",
            Self::FrameTimeout => "frame_timeout",
            Self::QueueFull => "queue_full",
            Self::LinkRestarted => "link_restarted",
            Self::StreamLost => "stream_lost",
            Self::BadContent => "bad_content",
            Self::NotEnrolled => "not_enrolled",
            Self::EnrolClosed => "enrol_closed",
            Self::EnrolBusy => "enrol_busy",
            Self::EnrolRate => "enrol_rate",
            Self::EnrolRequest => "enrol_request",
            Self::EnrolTimeout => "enrol_timeout",
        }
    }

    pub(crate) fn var_int(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self as u32)
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_labels_are_distinct_and_read_back() {
        let labels: std::collections::BTreeSet<_> = CloseCode::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), CloseCode::ALL.len());
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(u64::from(code as u32)), Some(code));
        }
        assert_eq!(CloseCode::from_wire(u64::MAX), None);
    }
}
