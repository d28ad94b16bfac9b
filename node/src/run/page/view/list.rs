//! What waits: for the reader first, similar things beside one another, each with a signature of its own.

use std::collections::BTreeMap;

use cauldron_coordinator::vote::Choice;
use cauldron_identity::Digest;
use cauldron_node_core::Desk;

use super::super::html::{Attr, El, Flag, Link, Tag, el};
use super::parts::{
    arguments, badge, buttons, class_of, code, pair, percent, reversibility, signed_lines, until, value, warnings,
};
use super::progress::words;
use super::{Frame, Place, alert, framed, live, said};

/// Proposals of one class by one agent.
type Alike<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Desk>>;

/// `/approvals`.
pub(in super::super) fn list(frame: &Frame, desks: &[Desk], all: usize) -> String {
    let (mine, others): (Vec<&Desk>, Vec<&Desk>) = desks.iter().partition(|desk| is_mine(desk));
    let none = "Nothing waits for you.";
    let mut main = el(Tag::Main)
        .attr(Attr::Version, version(desks))
        .with(el(Tag::H1).say("What waits for you").with(count(mine.len())))
        .with(
            el(Tag::P)
                .class("note")
                .attr(Attr::Id, "changed")
                .attr(Attr::Role, "status")
                .flag(Flag::Hidden)
                .say("The list has changed. ")
                .with(el(Tag::A).href(Link::Approvals).say("Load it again")),
        )
        .with(alert("error"))
        .with(live("live"));
    main = match mine.is_empty() {
        true => main.with(el(Tag::P).class("empty").say(none)),
        false => main.all(groups(frame, &mine, true)),
    };
    if !others.is_empty() {
        main = main.with(el(Tag::H2).class("others").say("What waits for others").with(count(others.len())));
        main = main.all(groups(frame, &others, false));
    }
    if all > desks.len() {
        let more = (all - desks.len()).to_string();
        main = main.with(
            el(Tag::P)
                .class("note")
                .say("And ")
                .data(more)
                .say(" more that end later; they come up as these are decided."),
        );
    }
    framed(frame, "What waits", Some(Place::Approvals), main)
}

/// Tells whether a list that is open is still the list there is.
pub(in super::super) fn version(desks: &[Desk]) -> String {
    let lines: String =
        desks.iter().map(|d| format!("{}{}{}{:?}\n", d.line.id, d.line.state, d.votes.len(), d.seat.fills)).collect();
    Digest::of("cauldron/page-list", lines.as_bytes()).short()
}

/// Whether the reader's word would change something: a yes that fills a seat, or an objection.
fn is_mine(desk: &Desk) -> bool {
    desk.seat.fills || (desk.choices.contains(&Choice::Object) && desk.seat.said.is_none())
}

fn count(n: usize) -> El {
    el(Tag::Span).class("count").data(n.to_string())
}

fn groups(frame: &Frame, desks: &[&Desk], mine: bool) -> Vec<El> {
    let mut alike: Alike<'_> = BTreeMap::new();
    for desk in desks {
        alike.entry((&desk.proposal.action_class, &desk.proposal.agent)).or_default().push(desk);
    }
    // The group stands where its first deadline does.
    let mut alike: Vec<_> = alike.into_iter().collect();
    alike.sort_by_key(|(_, desks)| desks.iter().map(|d| d.line.expires).min());
    alike.into_iter().map(|((class, agent), desks)| group(frame, (class, agent), &desks, mine)).collect()
}

fn group(frame: &Frame, (class, agent): (&str, &str), desks: &[&Desk], mine: bool) -> El {
    let agent = agent.rsplit_once("/site/").map_or(agent, |(_, below)| below);
    let head = el(Tag::Header)
        .class("group")
        .with(el(Tag::H2).data(class).with(count(desks.len())))
        .with(el(Tag::P).class("quiet").say("proposed by ").data(agent));
    el(Tag::Section).class("alike").with(head).all(desks.iter().map(|desk| card(frame, desk, mine)))
}

fn card(frame: &Frame, desk: &Desk, mine: bool) -> El {
    let p = &desk.proposal;
    let id: Option<cauldron_identity::FactId> = desk.line.id.parse().ok();
    let object = p.resource.rsplit('/').next().unwrap_or(&p.resource);
    let title = el(Tag::A).href(id.map_or(Link::Approvals, Link::Proposal)).data(object);
    let facts = el(Tag::Dl)
        .all(pair("On", code(&p.resource)))
        .all(arguments(&p.args).into_iter().flat_map(|(name, text)| [el(Tag::Dt).data(name), code(text)]))
        .all(pair("Undo", el(Tag::Dd).say(reversibility(p.reversibility)).say(": ").data(&p.undo_plan)))
        .all(pair("How sure", value(percent(p.confidence_ppm))))
        .all((!p.taint.is_empty()).then(|| pair("From outside", value(p.taint.join(", ")))).into_iter().flatten());
    let limit = match desk.veto_until.as_ref() {
        Some((at, _)) => until("Object by", *at),
        None => until("Decide by", desk.line.expires),
    };
    let article = el(Tag::Article)
        .class("card item")
        .attr(Attr::Proposal, &desk.line.id)
        .with(el(Tag::H3).with(title))
        .with(el(Tag::P).data(&p.rationale))
        .with(
            el(Tag::P)
                .class("chips")
                .with(badge(class_of(desk)))
                .maybe((!mine).then(|| el(Tag::Span).class("badge state").say(words(desk))))
                .with(limit),
        )
        .with(facts);
    let article = match desk.seat.said {
        Some(choice) => article.with(el(Tag::P).class("quiet").say("You have ").say(said(choice)).say(" already.")),
        None => article,
    };
    let Some(approval) = desk.approval.as_ref().ok().filter(|_| mine) else {
        let could =
            (!desk.could.is_empty()).then(|| el(Tag::P).class("quiet").say("Who could: ").data(desk.could.join(", ")));
        return article.maybe(could);
    };
    let person = frame.person.as_ref().map(|person| person.id.clone()).unwrap_or_default();
    article
        .attr(Attr::Digest, &approval.presentation_digest)
        .attr(Attr::Person, person)
        .all(warnings(desk))
        .with(signed_lines(approval))
        .with(
            buttons(desk, Some(&[Choice::Approve, Choice::Object])).with(
                el(Tag::A)
                    .class("look")
                    .href(id.map_or(Link::Approvals, Link::Proposal))
                    .say("Look closer, deny or comment"),
            ),
        )
        .with(el(Tag::P).class("live outcome").attr(Attr::Role, "status"))
}
