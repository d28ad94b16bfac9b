//! Who is signed in, in memory alone: a restart signs everybody out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cauldron_coordinator::vote::VoteStatement;
use cauldron_identity::Digest;
use cauldron_node_core::Approver;

use crate::chance;

/// Nothing asked for so long, and it is over: a phone that was left on a table (OWASP ASVS 5.0, §7.3.1).
pub const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// A working day, however busy.
pub const LIFE_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Of one person: some devices each.
pub const PER_PERSON_MAX: usize = 8;
/// Of all: a session holds a few statements of some 2 KiB at most.
pub const SESSIONS_MAX: usize = 512;
/// Statements that were handed out and not yet signed: a list is worked through one by one.
pub const ASKED_MAX: usize = 8;
/// As long as browsers wait for a key by default.
pub const ASKED_FOR_MAX: Duration = Duration::from_secs(5 * 60);

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<BTreeMap<Digest, Session>>);

#[derive(Debug)]
struct Session {
    who: Approver,
    csrf: String,
    opened: Instant,
    used: Instant,
    asked: BTreeMap<Digest, (VoteStatement, Instant)>,
}

/// What a cookie and a page carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The cookie's value.
    pub cookie: String,
    /// The token that every request to change something repeats.
    pub csrf: String,
}

/// A session that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub key: Digest,
    /// Whose.
    pub who: Approver,
    /// Its token.
    pub csrf: String,
}

fn token() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(chance::bytes::<32>())
}

/// Sessions are found by a hash, so that no comparison tells how much of a guess was right.
fn key_of(cookie: &str) -> Digest {
    Digest::of("cauldron/page-session", cookie.as_bytes())
}

impl Session {
    fn lives(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE_MAX && now.duration_since(self.opened) < LIFE_MAX
    }
}

impl Sessions {
    /// Opens one. The longest unused give way: of the same person first, then of all.
    pub fn open(&self, who: Approver, now: Instant) -> Opened {
        let opened = Opened { cookie: token(), csrf: token() };
        let session =
            Session { who: who.clone(), csrf: opened.csrf.clone(), opened: now, used: now, asked: BTreeMap::new() };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| session.lives(now));
        while all.values().filter(|s| s.who.person == who.person).count() >= PER_PERSON_MAX {
            drop_oldest(&mut all, |s| s.who.person == who.person);
        }
        while all.len() >= SESSIONS_MAX {
            drop_oldest(&mut all, |_| true);
        }
        all.insert(key_of(&opened.cookie), session);
        opened
    }

    /// The session of a cookie. What a page asks by itself does not keep it alive: only `by_person` does.
    pub fn find(&self, cookie: &str, now: Instant, by_person: bool) -> Option<Found> {
        let key = key_of(cookie);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = all.get_mut(&key)?;
        if !session.lives(now) {
            all.remove(&key);
            return None;
        }
        if by_person {
            session.used = now;
        }
        Some(Found { key, who: session.who.clone(), csrf: session.csrf.clone() })
    }

    /// Ends one.
    pub fn close(&self, key: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Keeps a statement until its signature comes back.
    pub fn ask(&self, key: &Digest, statement: VoteStatement, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(session) = all.get_mut(key) else { return };
        session.asked.retain(|_, (_, at)| now.duration_since(*at) < ASKED_FOR_MAX);
        while session.asked.len() >= ASKED_MAX {
            let oldest = session.asked.iter().min_by_key(|(_, (_, at))| *at).map(|(id, _)| *id);
            oldest.map(|id| session.asked.remove(&id));
        }
        session.asked.insert(statement.id(), (statement, now));
    }

    /// Takes the statement that a challenge is of: once, by the session that asked for it.
    pub fn answered(&self, key: &Digest, challenge: &Digest, now: Instant) -> Option<VoteStatement> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (statement, at) = all.get_mut(key)?.asked.remove(challenge)?;
        (now.duration_since(at) < ASKED_FOR_MAX).then_some(statement)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn drop_oldest(all: &mut BTreeMap<Digest, Session>, which: impl Fn(&Session) -> bool) {
    let oldest = all.iter().filter(|(_, s)| which(s)).min_by_key(|(_, s)| s.used).map(|(key, _)| *key);
    oldest.map(|key| all.remove(&key));
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_coordinator::vote::Choice;
    use cauldron_identity::{AuthorId, FactId, MeshId};

    fn who(person: &str) -> Approver {
        Approver { person: person.into(), credential: Digest::from_bytes([1; 32]) }
    }

    fn statement(n: u8) -> VoteStatement {
        VoteStatement {
            mesh: MeshId::from_bytes([1; 32]),
            person: "ana".into(),
            credential: Digest::from_bytes([1; 32]),
            lineage: FactId::from_bytes([2; 32]),
            proposal: FactId::from_bytes([2; 32]),
            terms: Digest::from_bytes([3; 32]),
            presentation: Digest::from_bytes([4; 32]),
            served_by: AuthorId::from_bytes([5; 32]),
            authority_head: None,
            choice: Choice::Approve,
            reason: String::new(),
            dwell_ms: 0,
            issued_ms: 0,
            expires_ms: 0,
            nonce: Digest::from_bytes([n; 32]),
        }
    }

    #[test]
    fn a_session_ends_when_nobody_uses_it_and_in_any_case_after_a_day() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let cookie = sessions.open(who("ana"), start).cookie;
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        assert!(sessions.find(&cookie, minutes(14), false).is_some());
        assert!(
            sessions.find(&cookie, minutes(15), false).is_none(),
            "what the page asks by itself counts for nothing"
        );
        let cookie = sessions.open(who("ana"), start).cookie;
        for n in 1..72 {
            assert!(sessions.find(&cookie, minutes(n * 10), true).is_some(), "{n}");
        }
        assert!(sessions.find(&cookie, minutes(720), true).is_none());
        assert!(sessions.find("nobody's", start, true).is_none());
    }

    #[test]
    fn there_are_so_many_and_the_longest_unused_give_way() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        let cookies: Vec<String> = (0..=PER_PERSON_MAX).map(|n| sessions.open(who("ana"), at(n)).cookie).collect();
        assert_eq!(sessions.count(), PER_PERSON_MAX);
        assert!(
            sessions.find(&cookies[0], at(20), false).is_none() && sessions.find(&cookies[1], at(20), false).is_some()
        );
        for n in 0..SESSIONS_MAX {
            sessions.open(who(&format!("p{n}")), at(30 + n));
        }
        assert_eq!(sessions.count(), SESSIONS_MAX);
        assert!(sessions.find(&cookies[1], at(5_000), false).is_none());
    }

    #[test]
    fn a_statement_is_answered_once_in_time_and_where_it_was_asked() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let keys = ["ana", "bo"].map(|p| {
            let cookie = sessions.open(who(p), start).cookie;
            sessions.find(&cookie, start, false).expect("open").key
        });
        let id = statement(1).id();
        sessions.ask(&keys[0], statement(1), start);
        assert_eq!(sessions.answered(&keys[1], &id, start), None);
        assert_eq!(sessions.answered(&keys[0], &id, start), Some(statement(1)));
        assert_eq!(sessions.answered(&keys[0], &id, start), None, "a replay");
        sessions.ask(&keys[0], statement(2), start);
        assert_eq!(sessions.answered(&keys[0], &statement(2).id(), start + ASKED_FOR_MAX), None, "too late");
        let at = |n: u8| start + Duration::from_millis(n.into());
        (0..=8).for_each(|n| sessions.ask(&keys[0], statement(n), at(n)));
        assert_eq!(sessions.answered(&keys[0], &statement(0).id(), at(9)), None, "nine are too many");
        assert!(sessions.answered(&keys[0], &statement(1).id(), at(9)).is_some());
    }
}
