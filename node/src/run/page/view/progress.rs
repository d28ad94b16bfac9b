//! Where a proposal stands on its way to the effect.

use cauldron_coordinator::ledger::DenialKind;
use cauldron_node_core::Desk;
use serde_json::{Value, json};

use super::super::html::{Attr, El, Tag, el};

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    label: &'static str,
    is: &'static str,
}

/// A state in a sentence for people.
pub(super) fn words(desk: &Desk) -> &'static str {
    let line = &desk.line;
    match line.state {
        "PROPOSED" => "Waits for a coordinator to judge it",
        "EVALUATED" | "DEFERRED" => "Put off until more is known",
        "PENDING_APPROVAL" => "Waits for people",
        "VETO_WINDOW" => "Happens unless somebody objects",
        "APPROVED" => "Approved; waits for its permit",
        "PERMITTED" => "Permitted; waits for its owner",
        "STARTED" => "Under way",
        "DONE" if line.ended => "Done, and over by its own time limit",
        "DONE" => "Done",
        "VERIFIED" => "Done, and its checks hold",
        "VERIFY_FAILED" => "Done, and a check does not hold: people must look",
        "COMPENSATING" => "Done, and being taken back",
        "COMPENSATED" => "Done, and taken back",
        "COMPENSATION_FAILED" => "Done, and could not be taken back: people must look",
        "FAILED" => "Tried, and it did not happen",
        "UNKNOWN" => "Nobody knows whether it happened: people must look",
        "DENIED" => match desk.denials.first().map(|denial| denial.kind) {
            Some(DenialKind::Policy) => "Denied by policy",
            Some(DenialKind::Kill | DenialKind::Veto) => "Stopped",
            Some(DenialKind::Saga) => "An earlier step of its saga will not be done",
            Some(DenialKind::Vote) | None => "Denied",
        },
        "EXPIRED" => "Expired: nobody decided in time, which is a no",
        "VOID" => "Its permit ran out or was overtaken",
        "SUPERSEDED" => "An edit took its place",
        _ => "In a state that this page does not know",
    }
}

/// Whether nothing more will come of it.
pub(super) fn is_over(desk: &Desk) -> bool {
    matches!(desk.line.state, "FAILED" | "UNKNOWN" | "DENIED" | "EXPIRED" | "VOID" | "SUPERSEDED") || happened(desk)
}

/// Whether it was done, whatever became of it.
fn happened(desk: &Desk) -> bool {
    let after = ["VERIFIED", "VERIFY_FAILED", "COMPENSATING", "COMPENSATED", "COMPENSATION_FAILED"];
    desk.line.state == "DONE" || after.contains(&desk.line.state)
}

fn steps(desk: &Desk) -> [Step; 4] {
    const DONE: &str = "done";
    const NOW: &str = "now";
    const LATER: &str = "later";
    const NEVER: &str = "never";
    let [people, permit, start, effect] = match desk.line.state {
        "PROPOSED" | "EVALUATED" | "DEFERRED" | "PENDING_APPROVAL" | "VETO_WINDOW" => [NOW, LATER, LATER, LATER],
        "APPROVED" => [DONE, NOW, LATER, LATER],
        "PERMITTED" => [DONE, DONE, NOW, LATER],
        "STARTED" => [DONE, DONE, DONE, NOW],
        _ if happened(desk) => [DONE, DONE, DONE, DONE],
        "FAILED" | "UNKNOWN" => [DONE, DONE, DONE, NEVER],
        "VOID" => [DONE, NEVER, NEVER, NEVER],
        _ => [NEVER, NEVER, NEVER, NEVER],
    };
    [
        Step { label: "Decided", is: people },
        Step { label: "Permitted", is: permit },
        Step { label: "Started", is: start },
        Step { label: "In effect", is: effect },
    ]
}

/// For a page that is open: what it shows of the way, and what would make it another page.
pub(in super::super) fn progress(desk: &Desk) -> Value {
    let steps: Vec<Value> = steps(desk).into_iter().map(|s| json!({ "label": s.label, "is": s.is })).collect();
    let (filled, needed) = desk.seats.as_ref().map_or((0, 0), |seats| (seats.filled, seats.needed));
    json!({
        "state": desk.line.state,
        "words": words(desk),
        "why": desk.line.why,
        "steps": steps,
        "over": is_over(desk),
        "seats": { "filled": filled, "needed": needed },
        "votes": desk.votes.len(),
    })
}

/// The same as it stands when the page is made.
pub(super) fn shown(desk: &Desk) -> El {
    let said = |is: &str| match is {
        "done" => ", done",
        "now" => ", now",
        "never" => ", will not come",
        _ => ", to come",
    };
    let items = steps(desk).map(|step| {
        el(Tag::Li).attr(Attr::State, step.is).say(step.label).with(el(Tag::Span).class("unseen").say(said(step.is)))
    });
    el(Tag::Ol).class("steps").attr(Attr::Id, "steps").attr(Attr::AriaLabel, "The way to the effect").all(items)
}
