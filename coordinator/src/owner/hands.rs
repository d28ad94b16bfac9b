//! What an owner's connectors say that they can keep to. What a permit carries for whoever carries it out is done, or the permit is
//! refused: nothing of it is dropped in silence.

use std::collections::BTreeMap;

use cauldron_identity::authority::{Fenced, prefix_of};

use super::Bench;
use super::verdict::{Code, Judged, refuse};
use crate::action::{Action, Catalogue, Resource};
use crate::bodies::{Obligations, Permit, undo_digest};
use crate::planted;
use crate::policy::Engine;

/// What one connector declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// How it keeps a stale owner from acting.
    pub fencing: Fenced,
    /// Sandboxes that it can enforce: a whole text such as `net:none`, or `path:*` for every text that begins with `path:`.
    pub sandbox: Vec<String>,
}

impl Declared {
    /// Whether it can enforce `sandbox`.
    #[must_use]
    pub fn enforces(&self, sandbox: &str) -> bool {
        self.sandbox.iter().any(|own| match own.strip_suffix('*').filter(|kind| kind.ends_with(':')) {
            Some(kind) => sandbox.strip_prefix(kind).is_some_and(|value| !value.is_empty()),
            None => own == sandbox,
        })
    }
}

/// The connectors of an owner, by their names.
pub type Hands = BTreeMap<String, Declared>;

/// An owner without connectors.
pub static NO_HANDS: Hands = Hands::new();

/// How much a fencing promises: a target that checks a token itself refuses a stale owner wherever that one is.
fn strength(fencing: Fenced) -> u8 {
    match fencing {
        Fenced::None => 0,
        Fenced::Local => 1,
        Fenced::Native => 2,
    }
}

fn called(fencing: Fenced) -> &'static str {
    match fencing {
        Fenced::None => "none",
        Fenced::Local => "local",
        Fenced::Native => "native",
    }
}

impl Bench<'_> {
    /// What the permit carries for whoever executes is what both judges ask for, and the connector can do it.
    pub(super) fn check_carried(&self, permit: &Permit, obligations: &Obligations, action: &Action) -> Judged<()> {
        let catalogue = self.engine.map_or(Catalogue::built_in(), Engine::catalogue);
        let undo = action.undo(catalogue).ok().flatten();
        let undo = undo.map(|action| undo_digest(&action.action_class(), action.bytes()));
        let lacks = |ours: &[String], carried: &[String]| ours.iter().find(|one| !carried.contains(one)).cloned();
        let short = obligations
            .reserve
            .iter()
            .find(|need| !permit.budgets.iter().any(|b| b.budget == need.budget && b.amount >= need.amount));
        if undo != permit.undo {
            return refuse(Code::Mismatch, "the action that would take it back is another than its schema's");
        }
        if let Some(short) = short.filter(|_| !planted::active("takes-less")) {
            return refuse(Code::Budget, &format!("it reserves less than {} of {}", short.amount, short.budget));
        }
        let missing = lacks(&obligations.sandbox, &permit.sandbox)
            .or_else(|| lacks(&obligations.post_checks, &permit.post_checks));
        if let Some(missing) = missing {
            return refuse(Code::Mismatch, &format!("it lacks {missing}, which policy here asks for"));
        }
        self.check_hand(permit)
    }

    /// Its connector keeps to the sandbox, and is fenced as whoever moved the resource here says.
    fn check_hand(&self, permit: &Permit) -> Judged<()> {
        let connector = permit.resource.parse::<Resource>().map(|r| r.connector).unwrap_or_default();
        let hand = self.me.hands.get(&connector);
        let beyond = permit.sandbox.iter().find(|one| !hand.is_some_and(|hand| hand.enforces(one)));
        if let Some(beyond) = beyond.filter(|_| !planted::active("sandbox-ignored")) {
            let own = match hand.map(|hand| hand.sandbox.as_slice()) {
                None => "is not among this node's".to_owned(),
                Some([]) => "enforces none".to_owned(),
                Some(own) => format!("enforces {}", own.join(", ")),
            };
            return refuse(Code::Sandbox, &format!("it is to run under {beyond}, and connector {connector} {own}"));
        }
        let said = prefix_of(&permit.resource).and_then(|prefix| self.authority.fencing_of(prefix));
        let (Some(said), Some(hand)) = (said, hand) else { return Ok(()) };
        if strength(hand.fencing) < strength(said) && !planted::active("fencing-unchecked") {
            let (said, declared) = (called(said), called(hand.fencing));
            let why = format!(
                "the council moved the resource here on fencing {said}, and connector {connector} declares {declared}"
            );
            return refuse(Code::Fencing, &why);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_value_and_for_nothing_else() {
        let hand =
            Declared { fencing: Fenced::Local, sandbox: ["net:none", "path:*", "odd*"].map(str::to_owned).to_vec() };
        for good in ["net:none", "path:conf.d", "path:a:b", "odd*"] {
            assert!(hand.enforces(good), "{good}");
        }
        for bad in ["net:host", "net:none ", "path:", "path", "paths:x", "oddity", "", "*"] {
            assert!(!hand.enforces(bad), "{bad}");
        }
    }
}
