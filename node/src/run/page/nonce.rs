//! Nonces of ceremonies in which nobody is signed in yet: fresh, used once, and for one purpose.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cauldron_identity::Digest;

use crate::chance;

/// As long as browsers wait for a key by default.
pub const NONCE_MAX: Duration = Duration::from_secs(5 * 60);
/// Who asks for one is held to a rate; this bounds the memory whatever they do.
pub const NONCES_MAX: usize = 4_096;

/// What a nonce is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signing in.
    SignIn,
    /// Making a passkey.
    Enrol,
}

/// Nonces that were handed out.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<BTreeMap<Digest, (Purpose, Instant)>>);

impl Nonces {
    /// A new one. The oldest give way.
    pub fn give(&self, purpose: Purpose, now: Instant) -> Digest {
        let nonce = Digest::from_bytes(chance::bytes());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, at)| now.duration_since(*at) < NONCE_MAX);
        while all.len() >= NONCES_MAX {
            let oldest = all.iter().min_by_key(|(_, (_, at))| *at).map(|(nonce, _)| *nonce);
            oldest.map(|nonce| all.remove(&nonce));
        }
        all.insert(nonce, (purpose, now));
        nonce
    }

    /// Whether it was given for this and is used for the first time.
    pub fn take(&self, nonce: &Digest, purpose: Purpose, now: Instant) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(nonce);
        found.is_some_and(|(given_for, at)| given_for == purpose && now.duration_since(at) < NONCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_used_once_in_time_and_for_its_purpose() {
        let (nonces, now) = (Nonces::default(), Instant::now());
        let nonce = nonces.give(Purpose::SignIn, now);
        assert!(nonces.take(&nonce, Purpose::SignIn, now));
        assert!(!nonces.take(&nonce, Purpose::SignIn, now), "a replay");
        let nonce = nonces.give(Purpose::Enrol, now);
        assert!(!nonces.take(&nonce, Purpose::SignIn, now), "another purpose");
        let nonce = nonces.give(Purpose::SignIn, now);
        assert!(!nonces.take(&nonce, Purpose::SignIn, now + NONCE_MAX), "too late");
        assert!(!nonces.take(&Digest::from_bytes([7; 32]), Purpose::SignIn, now), "never given");
    }
}
