//! Connectors whose hands are elsewhere: whoever runs a session carries out what it calls, once the start is durable, and says
//! what came of it. Work is given out once; what nobody comes for did not happen, and what nobody speaks of is unknown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cauldron_coordinator::owner::VerifiedPermit;
use cauldron_identity::{Digest, FactId};
use cauldron_node_core::{EffectResult, Input};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::HandView;
use super::job::Asked;
use crate::config::External;

/// Sessions whose keys are kept, and work that nobody has spoken of yet; of both the oldest goes first.
const KEPT_MAX: usize = 4_096;
/// The core gives up on a read after a minute; it must hear of it before.
const READ_MAX: Duration = Duration::from_secs(50);

/// What whoever runs a session is to do now. Given once: a second asking finds nothing.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Errand {
    /// What to do.
    pub operation: String,
    /// With what; people may have edited it.
    pub args: Value,
    /// For the target, where it recognises repetitions; none for a read.
    pub idempotency_key: Option<String>,
    /// What it is to run under: whoever carries it out enforces all of it, or does nothing.
    pub sandbox: Vec<String>,
    /// How long there is to say what came of it.
    pub report_within_ms: u64,
}

/// Which work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// What a permit allows.
    Permit(FactId),
    /// A read that this node's own policy let go ahead: a step of the core.
    Read(u64),
}

/// All of them.
#[derive(Default)]
pub struct Elsewhere {
    of: Vec<External>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: BTreeMap<Digest, Digest>,
    order: VecDeque<Digest>,
    open: BTreeMap<Work, Open>,
}

struct Open {
    connector: String,
    errand: Errand,
    until: Instant,
    /// The session that it was given to.
    given: Option<Digest>,
    /// Reported as unknown; what is said now still counts.
    late: bool,
}

impl Elsewhere {
    pub(super) fn new(of: Vec<External>) -> Self {
        Self { of, inner: Mutex::default() }
    }

    /// The one that does an operation.
    #[must_use]
    pub fn connector(&self, operation: &str) -> Option<&External> {
        self.of.iter().find(|of| of.operations.iter().any(|o| o == operation))
    }

    /// The key of a session that was opened now. Whoever opened it has it, and nobody else.
    #[must_use]
    pub fn opened(&self, session: Digest) -> String {
        let key = Digest::from_bytes(crate::chance::bytes());
        let mut inner = self.lock();
        inner.keys.insert(session, hashed(&key));
        inner.order.push_back(session);
        if inner.order.len() > KEPT_MAX
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.keys.remove(&oldest);
        }
        key.to_string()
    }

    /// Whether somebody opened this session, since the node was started.
    #[must_use]
    pub fn is_key(&self, session: &Digest, key: &str) -> bool {
        let key = key.parse::<Digest>().ok().map(|key| hashed(&key));
        key.is_some() && self.lock().keys.get(session).copied() == key
    }

    /// Whether a session has yet to say what came of something.
    #[must_use]
    pub fn is_out(&self, session: &Digest) -> bool {
        self.lock().open.values().any(|open| open.given.as_ref() == Some(session) && !open.late)
    }

    /// Started and durable: from now on somebody may come for it.
    pub(super) fn started(&self, permit: &VerifiedPermit) {
        let action = permit.action();
        let Some(of) = self.connector(action.operation()) else { return };
        let key = Some(permit.idempotency_key());
        let errand = errand(action.operation(), action.args().clone(), key, of.report_within);
        let errand = Errand { sandbox: permit.sandbox().to_vec(), ..errand };
        self.put(Work::Permit(permit.permit()), of, errand, None);
    }

    /// A read that policy let go ahead is given to its session at once.
    #[must_use]
    pub fn read(&self, step: u64, session: Digest, operation: &str, args: Value) -> Option<Errand> {
        let of = self.connector(operation)?;
        let errand = errand(operation, args, None, of.report_within.min(READ_MAX));
        self.put(Work::Read(step), of, errand.clone(), Some(session));
        Some(errand)
    }

    fn put(&self, work: Work, of: &External, errand: Errand, given: Option<Digest>) {
        let mut inner = self.lock();
        if inner.open.len() >= KEPT_MAX {
            let oldest = inner.open.iter().filter(|(_, open)| open.late).min_by_key(|(_, open)| open.until);
            if let Some(work) = oldest.map(|(work, _)| *work) {
                inner.open.remove(&work);
            }
        }
        let until = Instant::now() + Duration::from_millis(errand.report_within_ms);
        inner.open.insert(work, Open { connector: of.name.clone(), errand, until, given, late: false });
    }

    /// Gives out what was started under a permit, once.
    #[must_use]
    pub fn give(&self, permit: &FactId, session: Digest) -> Option<Errand> {
        let mut inner = self.lock();
        let open = inner.open.get_mut(&Work::Permit(*permit)).filter(|open| open.given.is_none())?;
        open.given = Some(session);
        Some(open.errand.clone())
    }

    /// Takes a word on what was given to `session`; then nobody has anything to say of it any more. Answers with the labels that
    /// count whatever is said.
    ///
    /// # Errors
    /// A sentence.
    pub fn told(&self, work: &Work, session: &Digest) -> Result<Vec<String>, String> {
        let mut inner = self.lock();
        let given = inner.open.get(work).map(|open| open.given);
        match given {
            Some(Some(to)) if to == *session => {}
            Some(None) => return Err("it has not been given out yet: wait for the call".to_owned()),
            Some(Some(_)) => return Err("it was given to another session".to_owned()),
            None => {
                return Err(
                    "nothing waits to be told of it: it was told before, or this node was started again".to_owned()
                );
            }
        }
        let connector = inner.open.remove(work).map(|open| open.connector);
        let of = self.of.iter().find(|of| Some(&of.name) == connector.as_ref());
        Ok(of.map(|of| of.labels.clone()).unwrap_or_default())
    }

    /// What is to be said of what nobody speaks of, once.
    pub(super) fn overdue(&self, now: Instant) -> Vec<Input> {
        let mut inner = self.lock();
        let due = |open: &Open| !open.late && open.until <= now;
        let late: Vec<Work> = inner.open.iter().filter(|(_, open)| due(open)).map(|(work, _)| *work).collect();
        let mut inputs = Vec::new();
        for work in late {
            // Reads are the waiting task's to end.
            let Work::Permit(permit) = work else { continue };
            let Some(open) = inner.open.get_mut(&work) else { continue };
            let (within_s, labels) = (open.errand.report_within_ms / 1_000, self.labels(&open.connector));
            let result = match open.given {
                Some(_) => {
                    open.late = true;
                    let reason = format!("whoever runs its session has not said within {within_s} s what came of it");
                    EffectResult::Unknown { reason, labels }
                }
                None => {
                    inner.open.remove(&work);
                    EffectResult::failed(format!("whoever runs its session has not come for it within {within_s} s"))
                }
            };
            inputs.push(Input::Executed { permit, result });
        }
        inputs
    }

    fn labels(&self, connector: &str) -> Vec<String> {
        self.of.iter().find(|of| of.name == connector).map(|of| of.labels.clone()).unwrap_or_default()
    }

    /// For status.
    pub(super) fn views(&self) -> Vec<HandView> {
        let inner = self.lock();
        let view = |of: &External| {
            let out = inner.open.values().filter(|open| open.connector == of.name && open.given.is_some()).count();
            HandView {
                name: of.name.clone(),
                operations: of.operations.clone(),
                fencing: of.fencing,
                sandboxes: of.sandboxes.clone(),
                state: "ok",
                doing: (out > 0).then(|| format!("{out} given out, and not told of yet")),
                since: None,
                hung: 0,
            }
        };
        self.of.iter().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What nobody here can answer: the hands are elsewhere.
pub(super) fn unanswered(asked: Asked) -> Option<Input> {
    asked.unanswered(false, "whoever ran its session carried it out, and this node cannot look")
}

fn errand(operation: &str, args: Value, idempotency_key: Option<String>, within: Duration) -> Errand {
    let report_within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    Errand { operation: operation.to_owned(), args, idempotency_key, sandbox: Vec::new(), report_within_ms }
}

fn hashed(key: &Digest) -> Digest {
    Digest::of("cauldron/session-key/v1", key.as_bytes())
}

#[cfg(test)]
mod tests {
    use cauldron_agents::connector::Fencing;
    use serde_json::json;

    use super::*;

    fn elsewhere() -> Elsewhere {
        Elsewhere::new(vec![External {
            name: "mail".into(),
            operations: vec!["office.mail.send".into(), "office.mail.read".into()],
            labels: vec!["untrusted:mail".into()],
            report_within: Duration::from_secs(60),
            fencing: Fencing::None,
            sandboxes: vec![],
        }])
    }

    fn permitted(at: &Elsewhere, n: u8) -> FactId {
        let permit = FactId::from_bytes([n; 32]);
        let errand = errand("office.mail.send", json!({}), Some(format!("key-{n}")), Duration::from_secs(60));
        at.put(Work::Permit(permit), &at.of[0], errand, None);
        permit
    }

    fn session(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    #[test]
    fn work_is_given_once_and_told_of_once_by_the_session_that_got_it() {
        let at = elsewhere();
        let permit = permitted(&at, 1);
        let work = Work::Permit(permit);
        let early = at.told(&work, &session(1)).expect_err("nobody has it");
        assert!(early.contains("not been given out"), "{early}");
        assert_eq!(at.give(&permit, session(1)).and_then(|e| e.idempotency_key).as_deref(), Some("key-1"));
        assert_eq!(at.give(&permit, session(1)), None);
        assert!(at.is_out(&session(1)) && !at.is_out(&session(2)));
        assert!(at.told(&work, &session(2)).expect_err("another").contains("another session"));
        assert_eq!(at.told(&work, &session(1)), Ok(vec!["untrusted:mail".to_owned()]));
        assert!(at.told(&work, &session(1)).expect_err("twice").contains("told before"));
        assert!(!at.is_out(&session(1)));
    }

    #[test]
    fn what_nobody_speaks_of_is_unknown_once_and_a_late_word_counts() {
        let at = elsewhere();
        let (given, left) = (permitted(&at, 1), permitted(&at, 2));
        assert!(at.give(&given, session(1)).is_some());
        let now = Instant::now();
        assert!(at.overdue(now).is_empty());
        let later = now + Duration::from_secs(61);
        let said = at.overdue(later);
        let [Input::Executed { permit: a, result: one }, Input::Executed { permit: b, result: two }] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!((*a, *b), (given, left));
        assert!(matches!(one, EffectResult::Unknown { labels, .. } if labels == &["untrusted:mail"]), "{one:?}");
        assert!(matches!(two, EffectResult::Failed { .. }), "{two:?}");
        assert!(at.overdue(later).is_empty());
        // Nobody gets what counts as not done.
        assert_eq!(at.give(&left, session(1)), None);
        assert!(!at.is_out(&session(1)), "a session does not wait for ever");
        assert!(at.told(&Work::Permit(given), &session(1)).is_ok());
    }

    #[test]
    fn a_key_opens_its_session_alone() {
        let at = elsewhere();
        let key = at.opened(session(1));
        let other = at.opened(session(2));
        assert!(at.is_key(&session(1), &key) && at.is_key(&session(2), &other));
        assert!(!at.is_key(&session(1), &other) && !at.is_key(&session(3), &key) && !at.is_key(&session(1), ""));
        for n in 0..KEPT_MAX {
            let _ = at.opened(Digest::of("n", &n.to_be_bytes()));
        }
        assert!(!at.is_key(&session(1), &key), "the oldest is forgotten");
    }
}
