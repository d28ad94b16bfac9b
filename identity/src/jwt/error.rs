//! Why a token, a key or a request for a token is refused.

use spiffe::{SpiffeId, TrustDomain};

use crate::x509::utc;

/// Why a JWT-SVID is refused. Nothing in it repeats the token: a token is a secret.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum JwtError {
    /// Longer than we are ready to read.
    #[error("the token has {bytes} bytes, at most {max} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not three parts of base64url (RFC 7515 §7.1).
    #[error("the token is no JWS in compact form: {0}")]
    NotCompact(&'static str),
    /// A header that is no JSON, or has members that JWT-SVID §2 does not allow.
    #[error("the token's header is refused: {0}")]
    Header(String),
    /// `none`, a symmetric algorithm, or one that is not of JWT-SVID §2.1.
    #[error("the token's algorithm `{0}` is not one of RS, ES, PS with 256, 384 or 512")]
    Algorithm(String),
    /// JWT-SVID §2.3.
    #[error("the token's type `{0}` is neither JWT nor JOSE")]
    Type(String),
    /// Claims that are no JSON object, or one of `sub`, `aud`, `exp` missing or of a wrong form.
    #[error("the token's claims are refused: {0}")]
    Claims(String),
    /// The subject is no SPIFFE ID of a workload.
    #[error("the token's subject is no SPIFFE ID of a workload: {0}")]
    Subject(String),
    /// No bundle for the subject's trust domain.
    #[error("`{id}` belongs to trust domain `{}`, for which we hold no bundle", .id.trust_domain())]
    UnknownTrustDomain {
        /// The subject.
        id: SpiffeId,
    },
    /// The bundle has no key that could have signed this.
    #[error("the bundle of `{trust_domain}` has no {algorithm} key{}", named(.kid.as_deref()))]
    NoKey {
        /// Whose bundle was searched.
        trust_domain: TrustDomain,
        /// The token's algorithm.
        algorithm: String,
        /// The key that the token names.
        kid: Option<String>,
    },
    /// The signature does not verify under the keys of the subject's trust domain.
    #[error("the token of `{id}` is not signed by a key of `{}`", .id.trust_domain())]
    Signature {
        /// The subject.
        id: SpiffeId,
    },
    /// After its time.
    #[error("the token of `{id}` expired at {}, the clock says {}", utc(*.expires_s), utc(*.at_s))]
    Expired {
        /// The subject.
        id: SpiffeId,
        /// Its end, Unix seconds.
        expires_s: u64,
        /// The time it was checked for, Unix seconds.
        at_s: u64,
    },
    /// Before its time (RFC 7519 §4.1.5).
    #[error("the token of `{id}` is valid from {}, the clock says {}", utc(*.not_before_s), utc(*.at_s))]
    NotYetValid {
        /// The subject.
        id: SpiffeId,
        /// Its start, Unix seconds.
        not_before_s: u64,
        /// The time it was checked for, Unix seconds.
        at_s: u64,
    },
    /// Made for somebody else.
    #[error("the token of `{id}` is for {}, not for us", quoted(.audience))]
    Audience {
        /// The subject.
        id: SpiffeId,
        /// Whom the token names.
        audience: Vec<String>,
    },
}

/// Why a JWK is of no use.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum JwkError {
    /// A key type, curve or size that we do not verify with; the entry is passed over.
    #[error("{0} is not verified with here")]
    Unsupported(String),
    /// A member that is missing or cannot be read; the bundle is refused.
    #[error("{0}")]
    Malformed(String),
}

/// Why no token is issued.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum JwtIssueError {
    /// An identity that this authority may not speak for.
    #[error("`{id}` is not a workload of trust domain `{trust_domain}`")]
    NotOurs {
        /// The SPIFFE ID asked for.
        id: SpiffeId,
        /// The authority's own trust domain.
        trust_domain: TrustDomain,
    },
    /// A token for nobody, or for too many.
    #[error("a token needs 1 to {max} audiences of 1 to {bytes_max} bytes each")]
    Audience {
        /// Most audiences of one token.
        max: usize,
        /// Most bytes of one.
        bytes_max: usize,
    },
    /// The key could not be read or could not sign.
    #[error("the JWT signing key cannot be used: {0}")]
    Key(String),
}

fn named(kid: Option<&str>) -> String {
    kid.map(|kid| format!(" `{}`", kid.escape_debug())).unwrap_or_default()
}

fn quoted(audience: &[String]) -> String {
    audience.iter().map(|a| format!("`{}`", a.escape_debug())).collect::<Vec<_>>().join(", ")
}
