//! The pages. Each is a function of what is known; nothing here asks for anything.

mod doors;
mod list;
mod one;
mod parts;
mod progress;
mod status;
#[cfg(test)]
mod tests;

use cauldron_coordinator::vote::Choice;
use cauldron_identity::authority::Person;
use cauldron_node_core::view::SelfView;

pub(super) use doors::{enrol, problem, sign_in};
pub(super) use list::{list, version};
pub(super) use one::one;
pub(super) use progress::progress;
pub(super) use status::status;

use super::html::{Attr, El, Flag, Html, Link, Tag, el};

/// What stands around every page of somebody who is signed in.
#[derive(Debug)]
pub(super) struct Frame {
    /// This node.
    pub(super) own: SelfView,
    /// Peers that are up.
    pub(super) up: usize,
    /// Who reads.
    pub(super) person: Option<Person>,
    /// The session's token.
    pub(super) csrf: String,
    /// Now, milliseconds since the Unix epoch.
    pub(super) now_ms: u64,
}

/// What a person did, in one word.
pub(super) fn said(choice: Choice) -> &'static str {
    match choice {
        Choice::Approve => "approved",
        Choice::Abstain => "abstained",
        Choice::Withdraw => "took the approval back",
        Choice::Deny => "denied",
        Choice::Object => "objected",
        Choice::Comment => "commented",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Approvals,
    Status,
}

/// A whole page for somebody who is signed in.
fn framed(frame: &Frame, title: &'static str, here: Option<Place>, main: El) -> String {
    let link = |place: Place, link: Link, text: &'static str| {
        let a = el(Tag::A).href(link).say(text);
        if here == Some(place) { a.attr(Attr::AriaCurrent, "page") } else { a }
    };
    let nav = el(Tag::Nav)
        .attr(Attr::AriaLabel, "Pages")
        .with(link(Place::Approvals, Link::Approvals, "Approvals"))
        .with(link(Place::Status, Link::Status, "Status"));
    let who = frame.person.as_ref().map(|person| {
        el(Tag::Div)
            .class("who")
            .with(el(Tag::Span).class("quiet").data(&person.name))
            .with(el(Tag::Button).attr(Attr::Kind, "button").attr(Attr::Id, "sign-out").class("plain").say("Sign out"))
    });
    let top = el(Tag::Header).class("top").with(brand()).with(nav).maybe(who);
    let body = el(Tag::Div)
        .attr(Attr::Csrf, &frame.csrf)
        .attr(Attr::Now, frame.now_ms.to_string())
        .with(skip())
        .with(top)
        .maybe(cut_off(frame))
        .with(no_script())
        .with(main.attr(Attr::Id, "main").attr(Attr::Tabindex, "-1"))
        .with(foot(frame));
    Html::document(title, body)
}

fn brand() -> El {
    el(Tag::A).class("brand").href(Link::Approvals).say("Cauldron")
}

fn skip() -> El {
    el(Tag::A).class("skip").href(Link::Main).say("Skip to the content")
}

fn no_script() -> El {
    let text = "Passkeys need JavaScript in this browser. Without it, `cauldron approvals` decides on a terminal.";
    el(Tag::Noscript).with(el(Tag::P).class("note warn").say(text))
}

/// What somebody must know of a node that is on its own.
fn cut_off(frame: &Frame) -> Option<El> {
    let text = match frame.own.state {
        "isolated" => {
            "This node is cut off from the mesh's coordinators. What you sign here is recorded and holds on this side at once, as far \
             as the site's isolation grant goes; the rest hears of it when the links are back."
        }
        "read_only" | "confirming" => "This node cannot record anything now. Open the page on another node.",
        _ if frame.up == 0 => {
            "No other node is connected. What you sign here is recorded, and goes out when one is back."
        }
        _ => return None,
    };
    let reasons = frame.own.reasons.join("; ");
    let reasons = Some(reasons).filter(|r| !r.is_empty()).map(|r| el(Tag::Span).class("quiet").data(r));
    Some(el(Tag::P).class("note warn wide").attr(Attr::Role, "status").say(text).say(" ").maybe(reasons))
}

fn foot(frame: &Frame) -> El {
    let at = frame.own.seen.as_of.to_string();
    el(Tag::Footer)
        .class("foot")
        .say("Served by ")
        .data(&frame.own.spiffe_id)
        .say(" as of ")
        .with(el(Tag::Time).attr(Attr::Datetime, &at).data(clock(&at)))
}

/// `2026-11-24T10:30:00.000Z` as people read it.
fn clock(rfc3339: &str) -> String {
    let text = rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ");
    format!("{text} UTC")
}

/// A section with a heading that names it.
fn section(id: &'static str, title: &'static str) -> El {
    el(Tag::Section).class("card").attr(Attr::AriaLabelledby, id).with(el(Tag::H2).attr(Attr::Id, id).say(title))
}

/// A place where the script says what happens; read out when it changes.
fn live(id: &'static str) -> El {
    el(Tag::P).attr(Attr::Id, id).class("live").attr(Attr::Role, "status").attr(Attr::AriaLive, "polite")
}

/// Where an error is said.
fn alert(id: &'static str) -> El {
    el(Tag::P).attr(Attr::Id, id).class("note bad").attr(Attr::Role, "alert").flag(Flag::Hidden)
}
