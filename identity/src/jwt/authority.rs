//! The JWT keys of a trust domain: one signs, its successor is published before it signs, its predecessor stays published until
//! nothing that it signed can still be valid.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use spiffe::{SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use super::error::JwtIssueError;
use super::jwk::JwtPublicKey;
use crate::ids::Digest;
use crate::x509::SvidKey;

/// Lifetime of a token unless the request says otherwise: a bearer token is good for whoever finds it.
pub const LIFETIME_S_DEFAULT: u64 = 300;
/// The longest lifetime of a token, whatever the request says.
pub const LIFETIME_S_MAX: u64 = 3_600;
/// How long a key is published before the next one is.
pub const SIGNS_FOR_S: u64 = 7 * 86_400;
/// How long before its first signature a key is published: every reader has long looked again by then.
pub const PUBLISH_AHEAD_S: u64 = 86_400;
/// How long a key stays published after its successor took over.
const RETIRES_AFTER_S: u64 = LIFETIME_S_MAX + 3_600;
/// Audiences of one token, and bytes of one: far above what anybody should ask for (JWT-SVID §3.2 recommends one).
const AUDIENCES_MAX: usize = 16;
const AUDIENCE_BYTES_MAX: usize = 255;

/// An ECDSA P-256 key pair that signs tokens (ES256). Never printed.
pub struct JwtKey {
    stored: SvidKey,
    pair: EcdsaKeyPair,
    public: JwtPublicKey,
}

impl JwtKey {
    /// A fresh key from the system's randomness.
    ///
    /// # Errors
    /// [`JwtIssueError::Key`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, JwtIssueError> {
        Self::new(SvidKey::generate().map_err(|e| JwtIssueError::Key(e.to_string()))?)
    }

    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    /// [`JwtIssueError::Key`] for anything but a P-256 key.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, JwtIssueError> {
        Self::new(SvidKey::from_pkcs8_pem(pem).map_err(|e| JwtIssueError::Key(e.to_string()))?)
    }

    fn new(stored: SvidKey) -> Result<Self, JwtIssueError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &stored.to_pkcs8_der())
            .map_err(|e| JwtIssueError::Key(e.to_string()))?;
        let public = JwtPublicKey::p256(pair.public_key().as_ref());
        Ok(Self { stored, pair, public })
    }

    /// What verifies its signatures.
    #[must_use]
    pub fn public(&self) -> &JwtPublicKey {
        &self.public
    }
}

impl std::fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JwtKey({}, secret)", self.public.kid())
    }
}

#[derive(Debug)]
struct Slot {
    published_s: u64,
    key: JwtKey,
}

/// The JWT keys of one trust domain, oldest first; never empty.
#[derive(Debug)]
pub struct JwtAuthority {
    trust_domain: TrustDomain,
    slots: Vec<Slot>,
}

impl JwtAuthority {
    /// Starts with one key, which signs at once: nobody holds a bundle without it yet.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, key: JwtKey, now_s: u64) -> Self {
        Self { trust_domain, slots: vec![Slot { published_s: now_s, key }] }
    }

    /// Whom this authority speaks for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Whether it is time to publish a successor: the newest key is old, or a clock that was far ahead published it.
    #[must_use]
    pub fn needs_key(&self, now_s: u64) -> bool {
        let due = |last: &Slot| now_s >= last.published_s.saturating_add(SIGNS_FOR_S);
        let ahead = |last: &Slot| last.published_s > now_s.saturating_add(PUBLISH_AHEAD_S);
        self.slots.last().is_none_or(|last| due(last) || ahead(last))
    }

    /// Publishes `key`, which signs from [`PUBLISH_AHEAD_S`] later on. Keys from the future are dropped: their turn would not
    /// come, and they would keep every other from its own.
    pub fn publish(&mut self, key: JwtKey, now_s: u64) {
        self.slots.retain(|slot| slot.published_s <= now_s);
        self.slots.push(Slot { published_s: now_s, key });
    }

    /// Drops keys whose last token cannot be valid any more; true when some were.
    pub fn retire(&mut self, now_s: u64) -> bool {
        let before = self.slots.len();
        let gone = |next: &Slot| now_s >= takes_over_s(next).saturating_add(RETIRES_AFTER_S);
        while self.slots.get(1).is_some_and(gone) {
            self.slots.remove(0);
        }
        self.slots.len() != before
    }

    /// Every key that validators should know, the future one included.
    pub fn public_keys(&self) -> impl Iterator<Item = &JwtPublicKey> {
        self.slots.iter().map(|slot| slot.key.public())
    }

    /// Signs a token for the workload `id`, for `audience`, from `now_s` on for `lifetime_s` and at most [`LIFETIME_S_MAX`].
    ///
    /// # Errors
    /// [`JwtIssueError`].
    pub fn issue(
        &self,
        id: &SpiffeId,
        audience: &[String],
        now_s: u64,
        lifetime_s: u64,
    ) -> Result<Zeroizing<String>, JwtIssueError> {
        if id.trust_domain() != &self.trust_domain || id.path().is_empty() {
            return Err(JwtIssueError::NotOurs { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        let usable = |a: &String| (1..=AUDIENCE_BYTES_MAX).contains(&a.len());
        if !(1..=AUDIENCES_MAX).contains(&audience.len()) || !audience.iter().all(usable) {
            return Err(JwtIssueError::Audience { max: AUDIENCES_MAX, bytes_max: AUDIENCE_BYTES_MAX });
        }
        let Some(key) = self.signing(now_s) else { return Err(JwtIssueError::Key("there is none".to_owned())) };
        let mut header = Map::new();
        header.insert("alg".into(), "ES256".into());
        header.insert("kid".into(), key.public.kid().into());
        header.insert("typ".into(), "JWT".into());
        let mut claims = Map::new();
        claims.insert("sub".into(), id.to_string().into());
        claims.insert("aud".into(), audience.into());
        claims.insert("exp".into(), now_s.saturating_add(lifetime_s.min(LIFETIME_S_MAX)).into());
        claims.insert("iat".into(), now_s.into());
        let part = |map: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(map).to_string());
        let mut token = Zeroizing::new(format!("{}.{}", part(header), part(claims)));
        let signature = key
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| JwtIssueError::Key("it cannot sign".to_owned()))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(token)
    }

    /// The thumbprint of the key that signs now.
    #[must_use]
    pub fn signed_by(&self, now_s: u64) -> Option<Digest> {
        self.signing(now_s).and_then(|key| key.public().thumbprint())
    }

    /// The newest key that was published long enough ago; the oldest where none was.
    fn signing(&self, now_s: u64) -> Option<&JwtKey> {
        let ready = self.slots.iter().rev().find(|slot| now_s >= takes_over_s(slot));
        ready.or(self.slots.first()).map(|slot| &slot.key)
    }

    /// All keys with the times of their publication, for a file that only its owner reads.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for slot in &self.slots {
            text.push_str(&format!("{PUBLISHED}{}\n", slot.published_s));
            text.push_str(&slot.key.stored.to_pkcs8_pem());
        }
        text
    }

    /// Reads what [`JwtAuthority::to_text`] wrote.
    ///
    /// # Errors
    /// [`JwtIssueError::Key`] when it holds no key, or anything but what was written.
    pub fn from_text(trust_domain: TrustDomain, text: &str) -> Result<Self, JwtIssueError> {
        let bad = |why: &str| JwtIssueError::Key(why.to_owned());
        let mut slots = Vec::new();
        for block in text.split(PUBLISHED).skip(1) {
            let (published, pem) = block.split_once('\n').ok_or_else(|| bad("a key has no end"))?;
            let published_s = published.trim().parse().map_err(|_| bad("a time of publication is no number"))?;
            slots.push(Slot { published_s, key: JwtKey::from_pkcs8_pem(pem)? });
        }
        if slots.is_empty() {
            return Err(bad("the file holds none"));
        }
        slots.sort_by_key(|slot| slot.published_s);
        Ok(Self { trust_domain, slots })
    }
}

/// Stands before each PEM block: RFC 7468 §2 allows text there.
const PUBLISHED: &str = "Published: ";

fn takes_over_s(slot: &Slot) -> u64 {
    slot.published_s.saturating_add(PUBLISH_AHEAD_S)
}
