//! Leave to take an effect back: it came with the permit, and needs no other.

use cauldron_identity::{Digest, FactId};

use super::Bench;
use crate::action::{Action, Catalogue};
use crate::bodies::undo_digest;
use crate::ledger::Report;
use crate::policy::Engine;

/// Proof that an effect of this node was permitted together with the action that takes it back.
///
/// Only [`super::VerifiedPermit::undo`] and [`super::take_back`] make one. It cannot be built outside:
///
/// ```compile_fail,E0451
/// # use cauldron_coordinator::{action::Action, owner::VerifiedUndo};
/// # use cauldron_identity::FactId;
/// fn forge(id: FactId, action: Action) -> VerifiedUndo {
///     VerifiedUndo { permit: id, action, resource: String::new(), undoes: String::new() }
/// }
/// ```
///
/// nor by its maker, which is private:
///
/// ```compile_fail,E0624
/// # use cauldron_coordinator::owner::VerifiedUndo;
/// let forge = VerifiedUndo::permitted;
/// ```
///
/// nor copied, to be used twice:
///
/// ```compile_fail,E0599
/// # use cauldron_coordinator::owner::VerifiedUndo;
/// fn twice(undo: VerifiedUndo) -> (VerifiedUndo, VerifiedUndo) {
///     (undo.clone(), undo)
/// }
/// ```
///
/// and no permit that only a coordinator signed makes one:
///
/// ```compile_fail,E0599
/// # use cauldron_coordinator::{action::Catalogue, bodies::Permit, owner::VerifiedUndo};
/// fn forge(permit: &Permit) -> Option<VerifiedUndo> {
///     permit.undo(Catalogue::built_in())
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct VerifiedUndo {
    permit: FactId,
    action: Action,
    resource: String,
    undoes: String,
}

impl VerifiedUndo {
    /// None where the permit names another action, or none.
    pub(super) fn permitted(
        permit: FactId,
        named: Option<Digest>,
        action: Action,
        resource: &str,
        undoes: String,
    ) -> Option<Self> {
        let digest = undo_digest(&action.action_class(), action.bytes());
        (named == Some(digest)).then(|| Self { permit, action, resource: resource.to_owned(), undoes })
    }

    /// The permit whose effect is taken back.
    #[must_use]
    pub fn permit(&self) -> FactId {
        self.permit
    }

    /// What to do.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// To what.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The idempotency key of what is taken back. The undo has none of its own: it is done when that effect is over.
    #[must_use]
    pub fn undoes(&self) -> &str {
        &self.undoes
    }
}

/// Leave to take back what this life of the node started and did. It needs no lease, no policy and nobody else: the permit was
/// judged when the start was written, and the undo was part of it.
///
/// # Errors
/// A sentence: why it cannot be taken back.
pub fn take_back(started: &FactId, bench: &Bench<'_>) -> Result<VerifiedUndo, String> {
    let start = bench.ledger.start(started).ok_or("it was not started as far as this node knows")?;
    if start.header.author != bench.me.author {
        return Err("another node did it: ask there".into());
    }
    if start.header.incarnation != bench.me.incarnation {
        return Err("a past life of this node did it; propose what takes it back as an action of its own".into());
    }
    let owner = bench.ledger.owner_of(&start.body.resource, bench.authority);
    if owner.is_none_or(|o| o.author != bench.me.author) {
        return Err("the resource has another owner since: propose there what takes it back".into());
    }
    // What a person says to have happened is theirs to have taken back, too.
    let mut done = bench.ledger.word_on(start, bench.authority).is_some_and(|word| word.happened);
    for report in bench.ledger.reports_on(started) {
        match report.body {
            // Once it was begun to be taken back, on a person's word perhaps, that goes on.
            Report::Done(_) | Report::Compensating(_) | Report::CompensationFailed(_) => done = true,
            Report::Ended(_) => return Err("its effect is over: there is nothing to take back".into()),
            Report::Compensated(_) => return Err("it was taken back already".into()),
            _ => {}
        }
    }
    if !done {
        return Err("it is not known to be done; only what was done can be taken back".into());
    }
    let permit = bench.ledger.permit(&start.body.permit).ok_or("its permit is not here")?;
    let proposal = bench.ledger.proposal(&start.body.proposal).ok_or("its proposal is not here")?;
    let catalogue = bench.engine.map_or(Catalogue::built_in(), Engine::catalogue);
    let (class, args) = (&proposal.body.action_class, &proposal.body.args);
    let action = Action::parse(catalogue, class, args).map_err(|e| crate::coordinate::flatten(&e))?;
    let undo = action.undo(catalogue).map_err(|e| crate::coordinate::flatten(&e))?;
    let undo = undo.ok_or_else(|| format!("nothing takes {} back: its schema names no undo", action.operation()))?;
    let key = start.body.idempotency_key.clone();
    VerifiedUndo::permitted(permit.id, permit.body.undo, undo, &start.body.resource, key)
        .ok_or_else(|| "its permit names another way back than the schema here: propose that as an action".into())
}
