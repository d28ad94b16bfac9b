//! Pieces that lists and single pages share.

use cauldron_coordinator::bodies::{Reversibility, RiskClass};
use cauldron_coordinator::vote::Choice;
use cauldron_node_core::Desk;
use cauldron_node_core::view::{ApprovalView, Time};

use super::super::decide::REASON_CHARS_MAX;
use super::super::html::{Attr, El, Tag, el};
use super::clock;

/// A term and what it says.
pub(super) fn pair(label: &'static str, value: El) -> [El; 2] {
    [el(Tag::Dt).say(label), value]
}

/// Somebody's words as a value.
pub(super) fn value(text: impl AsRef<str>) -> El {
    el(Tag::Dd).data(text)
}

/// Somebody's bytes as a value.
pub(super) fn code(text: impl AsRef<str>) -> El {
    el(Tag::Dd).raw(text)
}

/// The class that counts here: the higher of what was declared and what policy says.
pub(super) fn class_of(desk: &Desk) -> RiskClass {
    desk.risk.map_or(desk.proposal.risk, |risk| risk.max(desk.proposal.risk))
}

/// What a class means.
pub(super) fn class_words(class: RiskClass) -> &'static str {
    match class {
        RiskClass::R0 => "R0 · a read of low sensitivity",
        RiskClass::R1 => "R1 · reversible and small",
        RiskClass::R2 => "R2 · can be made good",
        RiskClass::R3 => "R3 · irreversible or wide",
    }
}

pub(super) fn reversibility(of: Reversibility) -> &'static str {
    match of {
        Reversibility::Reversible => "Can be taken back without loss",
        Reversibility::Compensable => "Can be made good by a second action",
        Reversibility::Irreversible => "Cannot be taken back",
    }
}

/// A coloured word; its colour says nothing that it does not.
pub(super) fn badge(class: RiskClass) -> El {
    let kind = match class {
        RiskClass::R0 => "badge r0",
        RiskClass::R1 => "badge r1",
        RiskClass::R2 => "badge r2",
        RiskClass::R3 => "badge r3",
    };
    el(Tag::Span).class(kind).say(class_words(class))
}

/// A deadline, which the script counts down.
pub(super) fn until(label: &'static str, at: Time) -> El {
    let text = at.to_string();
    el(Tag::Span)
        .class("until")
        .say(label)
        .say(" ")
        .with(el(Tag::Time).attr(Attr::Datetime, &text).data(clock(&text)))
        .with(el(Tag::Span).class("left").attr(Attr::Until, at.0.to_string()))
}

/// Parts per million as people read them.
pub(super) fn percent(ppm: u32) -> String {
    format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
}

/// Arguments, one to a line where they are an object.
pub(super) fn arguments(args: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(args).into_owned();
    match serde_json::from_slice::<serde_json::Value>(args) {
        Ok(serde_json::Value::Object(map)) => {
            let plain = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            map.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        _ => vec![("arguments".into(), text)],
    }
}

/// What must be known before somebody reaches for their key.
pub(super) fn warnings(desk: &Desk) -> Vec<El> {
    let note = |el: El| el.class("note warn");
    let mut all = Vec::new();
    let asked = desk.choices.contains(&Choice::Approve);
    if let Some(why) = desk.seat.barred.as_ref().filter(|_| asked) {
        let note =
            note(el(Tag::P)).with(el(Tag::Strong).say("Your yes from this page would not count")).say(": ").data(why);
        all.push(note.say(". A no counts all the same."));
    } else if asked && !desk.seat.fills && desk.seats.as_ref().is_some_and(|seats| !seats.is_complete()) {
        let could = match desk.could.is_empty() {
            true => el(Tag::Span).say("nobody who is enrolled now"),
            false => el(Tag::Span).data(desk.could.join(", ")),
        };
        let said = if desk.seat.said == Some(Choice::Approve) {
            "You have approved. What is missing is for others"
        } else {
            "This is not for you to approve"
        };
        all.push(note(el(Tag::P)).with(el(Tag::Strong).say(said)).say(". Who could: ").with(could).say("."));
    }
    let served = match (desk.party.proposes, desk.party.owns) {
        (true, true) => "The node that serves this page proposed this and would carry it out",
        (true, false) => "The node that serves this page proposed this",
        (false, true) => "The node that serves this page owns the resource and would carry this out",
        (false, false) => return all,
    };
    all.push(note(el(Tag::P)).say(served).say(
        ". Your vote says so, and policy may want one from another node's page: open this on a coordinator if you can.",
    ));
    all
}

/// The lines that are signed, whole and in order, with what the script needs to find their digest.
pub(super) fn signed_lines(approval: &ApprovalView) -> El {
    let lines = approval.presentation.iter().flat_map(|(label, text)| [el(Tag::Dt).data(label), el(Tag::Dd).raw(text)]);
    let exact = serde_json::to_string(&approval.presentation).unwrap_or_default();
    el(Tag::Details)
        .class("signed")
        .with(el(Tag::Summary).say("What you sign, to the letter"))
        .with(el(Tag::Dl).class("lines").attr(Attr::Lines, exact).all(lines))
        .with(el(Tag::P).class("quiet").say("Digest of these lines: ").raw(&approval.presentation_digest))
}

fn button(choice: Choice) -> El {
    let (name, text, class) = match choice {
        Choice::Approve => ("approve", "Approve", "yes"),
        Choice::Deny => ("deny", "Deny", "no"),
        Choice::Abstain => ("abstain", "Abstain", "plain"),
        Choice::Object => ("object", "Object", "no"),
        Choice::Withdraw => ("withdraw", "Take my approval back", "plain"),
        Choice::Comment => ("comment", "Comment only", "plain"),
    };
    el(Tag::Button).attr(Attr::Kind, "button").class(class).attr(Attr::Choice, name).say(text)
}

/// The buttons that somebody may press, each of them one signature.
pub(super) fn buttons(desk: &Desk, only: Option<&[Choice]>) -> El {
    let wanted = desk.choices.iter().filter(|choice| only.is_none_or(|only| only.contains(choice)));
    el(Tag::Div).class("buttons").all(wanted.map(|choice| button(*choice)))
}

/// Where a reason is written; `id` is the proposal's.
pub(super) fn reason(id: &str) -> [El; 2] {
    let name = format!("reason-{id}");
    [
        el(Tag::Label).attr(Attr::For, &name).say("Reason (optional, goes into the record)"),
        el(Tag::Textarea)
            .attr(Attr::Id, &name)
            .attr(Attr::Name, "reason")
            .attr(Attr::Rows, "2")
            .attr(Attr::Maxlength, REASON_CHARS_MAX.to_string()),
    ]
}
