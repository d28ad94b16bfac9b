//! Why a certificate is refused or cannot be made, in sentences with the values a person needs.

use spiffe::{SpiffeId, TrustDomain};

/// Why an X.509-SVID is refused.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum SvidError {
    /// The peer sent no certificate at all.
    #[error("the certificate chain is empty")]
    Empty,
    /// The chain is longer than we are ready to read.
    #[error("the certificate chain has {bytes} bytes, at most {max} are read")]
    TooLarge {
        /// Bytes of all certificates.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The chain has more certificates than we are ready to read.
    #[error("the certificate chain has {depth} certificates, at most {max} are read")]
    TooDeep {
        /// Certificates sent.
        depth: usize,
        /// The limit.
        max: usize,
    },
    /// A certificate is not DER X.509.
    #[error("certificate {index} of the chain cannot be read: {detail}")]
    Malformed {
        /// Position in the chain, the leaf is 0.
        index: usize,
        /// The parser's words.
        detail: String,
    },
    /// Not exactly one URI SAN, or it is no SPIFFE ID.
    #[error("the certificate carries no usable SPIFFE ID: {detail}")]
    NoSpiffeId {
        /// What was found instead.
        detail: String,
    },
    /// A leaf must name a workload, not a trust domain.
    #[error("`{id}` has no path: it names a trust domain, not a workload")]
    NoPath {
        /// The SPIFFE ID found.
        id: SpiffeId,
    },
    /// A certificate authority's certificate used as a leaf.
    #[error("the certificate of `{id}` is a certificate authority's, not a workload's")]
    LeafIsCa {
        /// The SPIFFE ID found.
        id: SpiffeId,
    },
    /// X509-SVID §4.3: digitalSignature, and neither keyCertSign nor cRLSign.
    #[error("the certificate of `{id}` has a wrong key usage: {detail}")]
    KeyUsage {
        /// The SPIFFE ID found.
        id: SpiffeId,
        /// Which bit is missing or too much.
        detail: &'static str,
    },
    /// X509-SVID §4.4: where the extension is present, both serverAuth and clientAuth.
    #[error("the extended key usage of `{id}` lacks serverAuth or clientAuth")]
    ExtendedKeyUsage {
        /// The SPIFFE ID found.
        id: SpiffeId,
    },
    /// No bundle for that trust domain.
    #[error("`{id}` belongs to trust domain `{}`, we trust {}", .id.trust_domain(), list(.trusted))]
    UnknownTrustDomain {
        /// The SPIFFE ID found.
        id: SpiffeId,
        /// The trust domains that we have roots for.
        trusted: Vec<TrustDomain>,
    },
    /// Before its time.
    #[error("the certificate of `{id}` is valid from {}, the clock says {}", utc(*.not_before_s), utc(*.at_s))]
    NotYetValid {
        /// The SPIFFE ID found.
        id: SpiffeId,
        /// Start of validity, Unix seconds.
        not_before_s: u64,
        /// The time it was checked for, Unix seconds.
        at_s: u64,
    },
    /// After its time.
    #[error("the certificate of `{id}` expired at {}, the clock says {}", utc(*.not_after_s), utc(*.at_s))]
    Expired {
        /// The SPIFFE ID found.
        id: SpiffeId,
        /// End of validity, Unix seconds.
        not_after_s: u64,
        /// The time it was checked for, Unix seconds.
        at_s: u64,
    },
    /// A certificate between leaf and root that may not issue.
    #[error("certificate {index} in the chain of `{id}` may not issue certificates: {detail}")]
    Intermediate {
        /// The SPIFFE ID of the leaf.
        id: SpiffeId,
        /// Position in the chain.
        index: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// An intermediate for one path signed a leaf outside it.
    #[error("`{id}` was signed by an authority that may sign below `{authority}` only")]
    OutsideAuthority {
        /// The SPIFFE ID of the leaf.
        id: SpiffeId,
        /// The intermediate's own SPIFFE ID.
        authority: SpiffeId,
    },
    /// No path of signatures to a root of its own trust domain.
    #[error("the certificate of `{id}` does not lead to a root of `{}` that we hold: {detail}", .id.trust_domain())]
    NotIssuedByTrustDomain {
        /// The SPIFFE ID found.
        id: SpiffeId,
        /// The path builder's words.
        detail: String,
    },
}

/// Why the authority cannot load, make or sign something.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum CaError {
    /// A private key that is not PKCS#8 P-256.
    #[error("the private key is not a PKCS#8 ECDSA P-256 key: {0}")]
    Key(String),
    /// PEM text without what was expected.
    #[error("the PEM text holds no {0}")]
    Pem(&'static str),
    /// Bytes that are not DER certificates.
    #[error("the bytes are no DER certificates: {0}")]
    Der(String),
    /// A certificate that cannot be a root.
    #[error("the root certificate cannot be used: {0}")]
    Root(String),
    /// Root certificate and key are not a pair.
    #[error("the root certificate belongs to another key")]
    KeyMismatch,
    /// A request that is not PKCS#10 or whose own signature is wrong.
    #[error("the certificate signing request is refused: {0}")]
    Csr(String),
    /// A request for a key that we do not certify.
    #[error("the certificate signing request holds {found}, only ECDSA P-256 keys are certified")]
    KeyType {
        /// The algorithm's object identifier.
        found: String,
    },
    /// An identity that this authority may not speak for.
    #[error("`{id}` is not a workload of trust domain `{trust_domain}`")]
    NotOurs {
        /// The SPIFFE ID asked for.
        id: SpiffeId,
        /// The authority's own trust domain.
        trust_domain: TrustDomain,
    },
    /// The authority's own certificate is not valid at that time.
    #[error("the authority's certificate is valid from {} to {}, the clock says {}", utc(*.not_before_s), utc(*.not_after_s), utc(*.at_s))]
    OutOfTime {
        /// Start of the root's validity, Unix seconds.
        not_before_s: u64,
        /// End of the root's validity, Unix seconds.
        not_after_s: u64,
        /// The time asked for, Unix seconds.
        at_s: u64,
    },
    /// A name that is no site's.
    #[error("`{name}` is no site: 1 to 63 of a-z, 0-9 and '-', not at either end")]
    Site {
        /// The name asked for.
        name: String,
    },
    /// A certificate authority that would end before the SVIDs it is to sign.
    #[error("the authority's certificate ends in {left_s} s, before an SVID of {needed_s} s: renew it first")]
    TooShort {
        /// Seconds left.
        left_s: u64,
        /// Seconds needed.
        needed_s: u64,
    },
    /// A certificate that is no site intermediate of the trust domain.
    #[error("the site intermediate cannot be used: {0}")]
    Intermediate(String),
    /// A workload outside the site that an intermediate speaks for.
    #[error("`{id}` lies outside `{authority}`")]
    OutsideSite {
        /// The SPIFFE ID asked for.
        id: SpiffeId,
        /// The intermediate's own SPIFFE ID.
        authority: SpiffeId,
    },
    /// An empty validity, or one beyond the year 9999.
    #[error("a certificate cannot be valid from {not_before_s} to {not_after_s} (Unix seconds)")]
    Validity {
        /// Start, Unix seconds.
        not_before_s: u64,
        /// End, Unix seconds.
        not_after_s: u64,
    },
    /// A root key that is kept elsewhere did not sign.
    #[error("the root key does not sign: {0}")]
    External(String),
    /// The certificate encoder failed.
    #[error("the certificate could not be made: {0}")]
    Encode(String),
}

fn list(domains: &[TrustDomain]) -> String {
    if domains.is_empty() {
        return "none".to_owned();
    }
    domains.iter().map(|d| format!("`{d}`")).collect::<Vec<_>>().join(", ")
}

/// `2026-11-22T10:00:00Z` for Unix seconds (days to civil: Howard Hinnant, `chrono-Compatible Low-Level Date Algorithms`).
pub(crate) fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400 + 719_468, unix_s % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
