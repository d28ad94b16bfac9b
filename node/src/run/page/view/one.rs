//! One proposal: what, why, what could go wrong, how it is undone, who said what.

use cauldron_coordinator::bodies::Evidence;
use cauldron_coordinator::signed::with_reason;
use cauldron_coordinator::vote::Choice;
use cauldron_node_core::view::Time;
use cauldron_node_core::{Desk, Said};

use super::super::html::{Attr, El, Link, Tag, el};
use super::parts::{
    arguments, badge, buttons, class_of, class_words, code, pair, percent, reason, reversibility, signed_lines, until,
    value, warnings,
};
use super::progress::{is_over, shown, words};
use super::{Frame, alert, clock, framed, live, said, section};

/// Lines of a dry run on the page; the rest is in what the command line shows.
const DIFF_LINES_MAX: usize = 400;

/// Lines of evidence that nobody has to ask for.
const EVIDENCE_SHOWN: usize = 2;

/// `/approvals/<id>`.
pub(in super::super) fn one(frame: &Frame, desk: &Desk) -> String {
    let p = &desk.proposal;
    let jump = (!desk.choices.is_empty()).then(|| el(Tag::A).href(Link::Decide).say("Go to the decision"));
    let main = el(Tag::Main)
        .with(el(Tag::P).class("back").with(el(Tag::A).href(Link::Approvals).say("All that waits")))
        .with(el(Tag::H1).data(&p.operation).say(" on ").data(&p.resource))
        .with(el(Tag::P).class("lead").data(&p.rationale))
        .with(
            el(Tag::P)
                .class("chips")
                .maybe(jump)
                .with(badge(class_of(desk)))
                .with(
                    el(Tag::Span)
                        .class("badge state")
                        .attr(Attr::Id, "state")
                        .attr(Attr::State, desk.line.state)
                        .say(words(desk)),
                )
                .maybe(deadline(desk)),
        )
        .with(progress_card(desk))
        .all(if desk.choices.is_empty() { Vec::new() } else { warnings(desk) })
        .with(changes(desk))
        .with(why(desk))
        .with(wrong(desk))
        .with(undo(desk))
        .with(people(desk))
        .with(decide(frame, desk));
    framed(frame, "A decision", None, main)
}

fn deadline(desk: &Desk) -> Option<El> {
    match desk.line.state {
        "PENDING_APPROVAL" | "PROPOSED" | "EVALUATED" => Some(until("Decide by", desk.line.expires)),
        "VETO_WINDOW" => desk.veto_until.as_ref().map(|(at, _)| until("Object by", *at)),
        _ => None,
    }
}

fn progress_card(desk: &Desk) -> El {
    let why = desk.line.why.iter().map(|sentence| el(Tag::Li).data(sentence));
    let card = el(Tag::Div).class("progress");
    let card = if is_over(desk) { card } else { card.attr(Attr::Proposal, &desk.line.id) };
    card.with(shown(desk))
        .with(el(Tag::Ul).attr(Attr::Id, "why").class("quiet bare").attr(Attr::AriaLive, "polite").all(why))
}

fn changes(desk: &Desk) -> El {
    let p = &desk.proposal;
    let list = el(Tag::Dl)
        .all(pair("Action", code(&p.operation)))
        .all(pair("On", code(&p.resource)))
        .all(arguments(&p.args).into_iter().flat_map(|(name, text)| [el(Tag::Dt).data(name), code(text)]))
        .all(p.expected_version.as_ref().map(|version| pair("Only at version", code(version))).into_iter().flatten());
    let diff = p
        .dry_run
        .as_ref()
        .map(|text| el(Tag::Div).with(el(Tag::H3).say("Dry run by the resource's owner")).with(diff(text)));
    section("changes", "What will change").with(list).maybe(diff)
}

/// A unified diff (POSIX `diff -u`); each line is also told by its sign.
fn diff(text: &str) -> El {
    let line = |line: &str| {
        let class = match line.as_bytes().first() {
            Some(b'+') => "add",
            Some(b'-') => "del",
            Some(b'@') => "at",
            _ => "same",
        };
        el(Tag::Span).class(class).data(line)
    };
    let left_out = text.lines().count().saturating_sub(DIFF_LINES_MAX);
    let more = (left_out > 0).then(|| {
        el(Tag::Span).class("at").data(left_out.to_string()).say(" more lines: `cauldron approvals show` has them all")
    });
    el(Tag::Pre)
        .class("diff scroll")
        .attr(Attr::Tabindex, "0")
        .attr(Attr::AriaLabel, "Dry run")
        .all(text.lines().take(DIFF_LINES_MAX).map(line))
        .maybe(more)
}

fn why(desk: &Desk) -> El {
    let p = &desk.proposal;
    let principal = p.session.as_ref().map(|s| s.principal.clone()).or_else(|| p.on_behalf_of.clone());
    let written = p.hand.as_ref().and_then(|hand| hand.statement().ok());
    let written = written.map(|s| pair("Written by", value(with_reason(&s.person, &s.reason))));
    let list = el(Tag::Dl)
        .all(pair("Proposed by", code(&p.agent)))
        .all(written.into_iter().flatten())
        .all(principal.map(|who| pair("On behalf of", value(who))).into_iter().flatten())
        .all(pair("At", value(clock(&Time(p.created_ms).to_string()))));
    let seen = (!p.evidence.is_empty()).then(|| {
        let (first, rest) = p.evidence.split_at(p.evidence.len().min(EVIDENCE_SHOWN));
        let list = |lines: &[Evidence]| el(Tag::Ul).class("evidence").all(lines.iter().map(evidence));
        let more = (!rest.is_empty()).then(|| {
            el(Tag::Details)
                .with(el(Tag::Summary).data(rest.len().to_string()).say(" more lines of evidence"))
                .with(list(rest))
        });
        el(Tag::Div).with(el(Tag::H3).say("Evidence, as it was found")).with(list(first)).maybe(more)
    });
    let others = (!p.alternatives.is_empty()).then(|| {
        el(Tag::Div)
            .with(el(Tag::H3).say("What else was thought of"))
            .with(el(Tag::Ul).all(p.alternatives.iter().map(|a| el(Tag::Li).data(a))))
    });
    section("why-title", "Why").with(list).maybe(seen).maybe(others)
}

fn evidence(e: &Evidence) -> El {
    let place = el(Tag::Div).class("quiet").data(&e.source).say(" line ").data(e.line_no.to_string());
    el(Tag::Li).raw(&e.text).with(place.say(", digest ").raw(e.digest.short()))
}

fn wrong(desk: &Desk) -> El {
    let p = &desk.proposal;
    let mut sure = percent(p.confidence_ppm);
    sure.push_str(&format!(", by its own score ({})", p.confidence_method));
    if let Some(c) = &p.calibration {
        sure.push_str(&format!("; {} of {} decisions with such a score were right", percent(c.right_ppm), c.n));
    } else {
        sure.push_str("; nobody has measured how good that score is");
    }
    let policy = desk.risk.map_or("not judged yet", class_words);
    let blast: Vec<String> = p.blast.iter().map(|b| format!("{}: {}", b.what, b.n)).collect();
    let takes: Vec<String> = p.budgets.iter().map(|b| format!("{} of {}", b.amount, b.budget)).collect();
    let taint = match p.taint.is_empty() {
        true => el(Tag::Dd).say("nothing from outside"),
        false => value(p.taint.join(", ")).say(" — somebody outside may have written it to make this happen"),
    };
    let rules = desk.approval.as_ref().ok().map(|a| a.presentation.iter().filter(|(label, _)| label == "rule"));
    let rules: Vec<El> = rules.into_iter().flatten().map(|(_, text)| el(Tag::Li).data(text)).collect();
    let list = el(Tag::Dl)
        .all(pair("Declared", el(Tag::Dd).say(class_words(p.risk))))
        .all(pair("By policy", el(Tag::Dd).say(policy)))
        .all((!blast.is_empty()).then(|| pair("Reaches", value(blast.join(", ")))).into_iter().flatten())
        .all((!takes.is_empty()).then(|| pair("Takes", value(takes.join(", ")))).into_iter().flatten())
        .all(pair("Rests on", taint))
        .all(pair("How sure", value(sure)));
    let rules = (!rules.is_empty())
        .then(|| el(Tag::Div).with(el(Tag::H3).say("Rules that asked for you")).with(el(Tag::Ul).all(rules)));
    section("wrong", "What could go wrong").with(list).maybe(rules)
}

fn undo(desk: &Desk) -> El {
    let p = &desk.proposal;
    section("undo", "Undo")
        .with(el(Tag::P).with(el(Tag::Strong).say(reversibility(p.reversibility))).say(". ").data(&p.undo_plan))
}

fn people(desk: &Desk) -> El {
    let needs = desk.approval.as_ref().ok().map(|a| a.needs.clone()).unwrap_or_default();
    let seats = desk.seats.as_ref().map(|seats| {
        let mut line = el(Tag::P)
            .attr(Attr::Id, "seats")
            .with(el(Tag::Strong).data(seats.filled.to_string()).say(" of ").data(seats.needed.to_string()))
            .say(" approvals");
        if !needs.is_empty() {
            line = line.say(": ").data(needs.join(" and "));
        }
        if seats.is_complete() {
            return line.say(". Nothing is missing.");
        }
        line = line.say(". Missing from ").data(seats.missing.join(", ")).say(". ");
        match desk.could.is_empty() {
            true => line.say("Nobody who is enrolled now could fill that."),
            false => line.say("Who could: ").data(desk.could.join(", ")).say("."),
        }
    });
    let silence = desk.veto_until.as_ref().map(|(at, groups)| {
        el(Tag::P)
            .say("It happens by itself unless somebody of ")
            .data(groups)
            .say(" objects until ")
            .data(clock(&at.to_string()))
            .say(".")
    });
    let votes: Vec<El> = desk.votes.iter().map(vote).collect();
    let votes = match votes.is_empty() {
        true => el(Tag::P).class("quiet").say("Nobody has said anything yet."),
        false => el(Tag::Ul).class("votes bare").all(votes),
    };
    let stops = desk.denials.iter().map(|denial| {
        let no = el(Tag::Li).data(&denial.by).say(" said no");
        if denial.why.is_empty() { no } else { no.say(": ").data(&denial.why) }
    });
    let stops = (!desk.denials.is_empty()).then(|| el(Tag::Ul).class("bare bad").all(stops));
    section("people", "Who has voted").maybe(seats).maybe(silence).maybe(stops).with(votes)
}

fn vote(vote: &Said) -> El {
    let reason = Some(&vote.reason).filter(|r| !r.is_empty());
    let void = vote.void.as_ref().map(|why| el(Tag::Span).class("quiet").say(" Does not count: ").data(why).say("."));
    el(Tag::Li)
        .with(el(Tag::Strong).data(&vote.who))
        .say(" ")
        .say(said(vote.choice))
        .say(" at ")
        .data(clock(&vote.at.to_string()))
        .maybe(reason.map(|reason| el(Tag::Span).say(": ").data(reason)))
        .maybe(void)
}

/// Where somebody decides, or why nobody can.
fn decide(frame: &Frame, desk: &Desk) -> El {
    let again = match desk.line.state {
        "EXPIRED" => "Nobody decided in time, which is a no. If it is still needed, it is proposed again.",
        "DENIED" => "A no is final. If it is still needed, it is proposed again.",
        "DONE" => "It has been carried out. There is nothing to decide any more.",
        _ => "There is nothing to decide here now.",
    };
    let approval = match &desk.approval {
        Ok(approval) if !desk.choices.is_empty() => approval,
        Ok(_) => return section("decide", "Your decision").with(el(Tag::P).say(again)),
        Err(_) if is_over(desk) => return section("decide", "Your decision").with(el(Tag::P).say(again)),
        Err(why) => return section("decide", "Your decision").with(el(Tag::P).data(why)),
    };
    let before = desk.seat.said.filter(|choice| *choice != Choice::Comment).map(|choice| {
        el(Tag::P)
            .class("note")
            .say("You have ")
            .say(said(choice))
            .say(" already; what you say last counts, and a no is final.")
    });
    let person = frame.person.as_ref().map(|person| person.id.clone()).unwrap_or_default();
    section("decide", "Your decision")
        .attr(Attr::Proposal, &desk.line.id)
        .attr(Attr::Digest, &approval.presentation_digest)
        .attr(Attr::Person, person)
        .attr(Attr::State, desk.line.state)
        .maybe(before)
        .with(signed_lines(approval))
        .all(reason(&desk.line.id))
        .with(buttons(desk, None))
        .with(alert("error"))
        .with(live("live"))
        .with(by_command(frame, desk))
}

/// What is done on a command line: an edit is another proposal and a deputy another statement, and a page signs votes alone.
fn by_command(frame: &Frame, desk: &Desk) -> El {
    let command = |text: String| el(Tag::Pre).class("wrap").attr(Attr::Tabindex, "0").raw(text);
    let names: Vec<String> = arguments(&desk.proposal.args).into_iter().map(|(name, _)| name).collect();
    let groups = frame.person.iter().flat_map(|person| person.groups.iter().cloned()).collect::<Vec<_>>().join(", ");
    let id = &desk.line.id;
    el(Tag::Details)
        .with(el(Tag::Summary).say("Change it, or let somebody sit for you"))
        .with(el(Tag::P).say(
            "Neither yes nor no, but otherwise: edit it on the command line. Your edit takes its place as a proposal of your own, and \
             others approve that.",
        ))
        .with(command(format!("cauldron approvals edit {id} --set NAME=VALUE --reason WHY")))
        .with(el(Tag::P).class("quiet").say("NAME is one of: ").raw(names.join(", ")).say("."))
        .with(el(Tag::P).say("Not you, but somebody whom you trust with it, until a time:"))
        .with(command("cauldron approvals delegate --to PERSON --group GROUP --for 1d".to_owned()))
        .with(el(Tag::P).class("quiet").say("GROUP is one of yours: ").raw(groups).say("."))
}
