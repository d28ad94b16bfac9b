//! What can be asked of a connector, and what is said when it does not answer.

use cauldron_agents::connector::{Connector, ConnectorError, Ended, Held, Outcome, Probe as Trace, Reading};
use cauldron_coordinator::action::Action;
use cauldron_coordinator::bodies::Checked;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_identity::FactId;
use cauldron_node_core::{EffectResult, Happened, Input, Probe};
use tokio::sync::oneshot;

use crate::run::chain;
use crate::run::engine::Question;
use crate::run::propose::Seen;
use crate::trace::Traceparent;

pub(super) enum Job {
    Execute(Box<VerifiedPermit>, Option<Traceparent>),
    Probe(Question),
    Version { permit: FactId, object: String },
    Check { question: Question, names: Vec<String> },
    Undo(Box<VerifiedUndo>),
    Look { action: Box<Action>, answer: oneshot::Sender<Result<Seen, String>> },
    Read { action: Box<Action>, answer: oneshot::Sender<Result<Reading, String>> },
}

/// Whose answer is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Execute(FactId),
    Probe(FactId),
    Version(FactId),
    Check(FactId, Vec<String>),
    Undo(FactId),
    Look(String),
    Sweep,
}

impl Job {
    pub(super) fn asked(&self) -> Asked {
        match self {
            Self::Execute(permit, _) => Asked::Execute(permit.permit()),
            Self::Probe(question) => Asked::Probe(question.permit),
            Self::Version { permit, .. } => Asked::Version(*permit),
            Self::Check { question, names } => Asked::Check(question.permit, names.clone()),
            Self::Undo(undo) => Asked::Undo(undo.permit()),
            Self::Look { action, .. } | Self::Read { action, .. } => Asked::Look(action.object().to_owned()),
        }
    }
}

impl Asked {
    /// For people.
    pub(super) fn says(&self) -> String {
        match self {
            Self::Execute(permit) => format!("executing permit {}", permit.short()),
            Self::Probe(permit) => format!("looking for the effect of permit {}", permit.short()),
            Self::Version(permit) => format!("looking at the version for permit {}", permit.short()),
            Self::Check(permit, _) => format!("checking the effect of permit {}", permit.short()),
            Self::Undo(permit) => format!("taking back the effect of permit {}", permit.short()),
            Self::Look(object) => format!("looking at {object}"),
            Self::Sweep => "looking for effects whose time is over".to_owned(),
        }
    }

    /// The answer when the connector has none: `handed` says whether it may be at work on it.
    pub(super) fn unanswered(self, handed: bool, why: &str) -> Option<Input> {
        let reason = if handed { why.to_owned() } else { format!("{why}; nothing was handed to it") };
        let effect = |reason| if handed { EffectResult::unknown(reason) } else { EffectResult::failed(reason) };
        match self {
            Self::Execute(permit) => Some(Input::Executed { permit, result: effect(reason) }),
            Self::Undo(permit) => Some(Input::Undone { permit, result: effect(reason) }),
            Self::Probe(permit) => Some(Input::Probed { permit, probe: Probe::Unclear }),
            Self::Version(permit) => Some(Input::Version { permit, version: Err(reason) }),
            Self::Check(permit, names) => {
                let check = |name| Checked { name, held: None, says: reason.clone() };
                Some(Input::Checked { permit, checks: names.into_iter().map(check).collect() })
            }
            // Whoever looks waits no longer than it likes.
            Self::Look(_) | Self::Sweep => None,
        }
    }
}

/// Has a connector do one thing.
pub(super) fn run(hand: &mut dyn Connector, job: Job, wall_ms: u64, keep: impl FnOnce(FactId, Reading)) -> Vec<Input> {
    match job {
        Job::Execute(permit, trace) => {
            let span = tracing::info_span!("execute", permit = %permit.permit().short());
            trace.inspect(|parent| parent.adopt(&span));
            span.in_scope(|| execute(hand, &permit, wall_ms, keep))
        }
        Job::Probe(question) => vec![probe(hand, &question)],
        Job::Version { permit, object } => {
            let version = hand.version(&object).map_err(|e| chain(&e));
            vec![Input::Version { permit, version }]
        }
        Job::Check { question, names } => vec![check(hand, &question, names)],
        Job::Undo(undo) => {
            let permit = undo.permit();
            let result = match hand.undo(&undo, wall_ms) {
                Ok(outcome) => done(outcome),
                // A second try tells, and does nothing twice.
                Err(ConnectorError::Io { .. }) => again(hand.undo(&undo, wall_ms)),
                Err(error) => EffectResult::failed(chain(&error)),
            };
            tell(permit, &result);
            vec![Input::Undone { permit, result }]
        }
        Job::Look { action, answer } => {
            // Whoever asked may be gone.
            let _ = answer.send(look(hand, &action, wall_ms).map_err(|e| chain(&e)));
            Vec::new()
        }
        Job::Read { action, answer } => {
            let _ = answer.send(hand.read(&action).map_err(|e| chain(&e)));
            Vec::new()
        }
    }
}

fn again(result: Result<Outcome, ConnectorError>) -> EffectResult {
    match result {
        Ok(outcome) => done(outcome),
        Err(error) => EffectResult::unknown(chain(&error)),
    }
}

fn look(hand: &dyn Connector, action: &Action, wall_ms: u64) -> Result<Seen, ConnectorError> {
    let versioned = action.schema().about().versioned;
    let version = if versioned { hand.version(action.object())? } else { None };
    let dry_run = hand.dry_run(action, wall_ms)?;
    Ok(Seen { version, dry_run: Some(dry_run.text), blast: dry_run.blast })
}

fn execute(
    hand: &mut dyn Connector,
    permit: &VerifiedPermit,
    wall_ms: u64,
    keep: impl FnOnce(FactId, Reading),
) -> Vec<Input> {
    let id = permit.permit();
    if permit.action().is_read() {
        let result = match hand.read_under(permit) {
            Ok(reading) => {
                let (note, labels) = (reading.bytes.clone(), reading.labels.clone());
                keep(id, reading);
                let effect_ref = format!("read {} bytes of {}", note.len(), permit.resource());
                Happened { effect_ref, note, labels, ..Happened::default() }.into()
            }
            Err(error) => EffectResult::failed(chain(&error)),
        };
        tell(id, &result);
        return vec![Input::Executed { permit: id, result }];
    }
    let mut replaced = None;
    let result = match hand.execute(permit, wall_ms) {
        Ok(outcome) => {
            replaced = outcome.replaced.clone();
            done(outcome)
        }
        // Whether anything happened is what the connector can see by itself.
        Err(error) => match hand.probe(&permit.idempotency_key()) {
            Ok(Trace::Absent) => EffectResult::failed(chain(&error)),
            Ok(Trace::Applied | Trace::Ended) => {
                Happened { note: chain(&error).into_bytes(), ..Happened::default() }.into()
            }
            Err(second) => {
                let reason = format!("{}; and the probe failed: {}", chain(&error), chain(&second));
                EffectResult::unknown(reason)
            }
        },
    };
    tell(id, &result);
    [Input::Executed { permit: id, result }].into_iter().chain(replaced.and_then(|e| ended(&e))).collect()
}

fn tell(permit: FactId, result: &EffectResult) {
    if let EffectResult::Failed { reason, .. } | EffectResult::Unknown { reason, .. } = result {
        tracing::warn!(permit = %permit.short(), reason, "the effect did not happen as permitted");
    }
}

/// `None` for a line that somebody wrote with an id of their own.
pub(super) fn ended(effect: &Ended) -> Option<Input> {
    effect.permit_id.parse().ok().map(|permit| Input::Ended { permit })
}

fn done(outcome: Outcome) -> EffectResult {
    for told in &outcome.told {
        tracing::info!(effect = outcome.effect_ref, told, "the connector adds");
    }
    let said: Vec<&str> =
        std::iter::once(outcome.effect.says()).chain(outcome.told.iter().map(String::as_str)).collect();
    Happened {
        effect_ref: outcome.effect_ref,
        note: said.join("; ").into_bytes(),
        until_ms: outcome.until_ms,
        before_version: Some(outcome.before),
        after_version: Some(outcome.after),
        labels: Vec::new(),
    }
    .into()
}

fn probe(hand: &dyn Connector, question: &Question) -> Input {
    let permit = question.permit;
    let probe = match hand.probe(&question.idempotency_key) {
        Ok(Trace::Applied) => Probe::Applied,
        Ok(Trace::Ended) => Probe::Ended,
        Ok(Trace::Absent) => Probe::Absent,
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(error, permit = %permit.short(), "the effect of a permit cannot be probed");
            Probe::Unclear
        }
    };
    Input::Probed { permit, probe }
}

fn check(hand: &dyn Connector, question: &Question, names: Vec<String>) -> Input {
    let check = |name: String| {
        let (held, says) = match hand.check(&question.idempotency_key, &name) {
            Ok(Held::Yes(says)) => (Some(true), says),
            Ok(Held::No(says)) => (Some(false), says),
            Err(error) => (None, chain(&error)),
        };
        Checked { name, held, says }
    };
    Input::Checked { permit: question.permit, checks: names.into_iter().map(check).collect() }
}
