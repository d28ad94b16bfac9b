//! Pages for somebody who is not signed in.

use super::super::html::{Attr, El, Flag, Html, Link, Tag, el};
use super::{alert, live, no_script, skip};

fn outside(title: &'static str, main: El) -> String {
    let brand = el(Tag::Span).class("brand").say("Cauldron");
    let body = el(Tag::Div)
        .with(skip())
        .with(el(Tag::Header).class("top").with(brand))
        .with(no_script())
        .with(main.class("narrow").attr(Attr::Id, "main").attr(Attr::Tabindex, "-1"));
    Html::document(title, body)
}

fn person(hint: &'static str) -> [El; 3] {
    [
        el(Tag::Label).attr(Attr::For, "person").say("Your id"),
        el(Tag::Input)
            .attr(Attr::Id, "person")
            .attr(Attr::Name, "person")
            .attr(Attr::Kind, "text")
            .attr(Attr::Autocomplete, "username webauthn")
            .attr(Attr::Spellcheck, "false")
            .attr(Attr::Maxlength, "63")
            .attr(Attr::AriaDescribedby, "person-hint"),
        el(Tag::P).attr(Attr::Id, "person-hint").class("quiet").say(hint),
    ]
}

/// `/`. `again` where the browser left a cookie out because somebody came from another site: the page then asks for itself once more.
pub(in super::super) fn sign_in(node: &str, next: Option<Link>, again: bool) -> String {
    let next = next.unwrap_or(Link::Approvals);
    let form = el(Tag::Form)
        .attr(Attr::Ceremony, "sign-in")
        .attr(Attr::Next, next.path())
        .flag(Flag::Novalidate)
        .with(
            el(Tag::Button)
                .attr(Attr::Kind, "submit")
                .class("main")
                .flag(Flag::Autofocus)
                .say("Sign in with a passkey"),
        )
        .with(
            el(Tag::Details)
                .with(el(Tag::Summary).say("My browser does not find it"))
                .all(person("For a security key that keeps no list of its passkeys.")),
        );
    let form = if again { form.flag(Flag::Again) } else { form };
    let why = match next {
        Link::Proposal(_) => "Something waits for a decision. Sign in to see it.",
        _ => "Sign in to see what waits for a decision.",
    };
    let main = el(Tag::Main)
        .with(el(Tag::H1).say("Sign in"))
        .with(el(Tag::P).class("lead").say(why))
        .with(alert("error"))
        .with(form)
        .with(live("live"))
        .with(
            el(Tag::P)
                .class("quiet")
                .say("Nothing of yours here yet? ")
                .with(el(Tag::A).href(Link::Enrol).say("Make a passkey"))
                .say(" and hand it to the council. This is node ")
                .data(node)
                .say("."),
        );
    outside("Sign in", main)
}

/// `/enrol`.
pub(in super::super) fn enrol(node: &str) -> String {
    let form = el(Tag::Form)
        .attr(Attr::Ceremony, "enrol")
        .flag(Flag::Novalidate)
        .all(person("As the council calls you: a-z, 0-9 and '-'. It stands beside the passkey on your device."))
        .with(el(Tag::Button).attr(Attr::Kind, "submit").class("main").say("Make a passkey"));
    let copy = el(Tag::Button).attr(Attr::Kind, "button").attr(Attr::Id, "copy").say("Copy the line");
    let made = el(Tag::Section)
        .attr(Attr::Id, "made")
        .class("card")
        .flag(Flag::Hidden)
        .attr(Attr::AriaLabelledby, "made-title")
        .with(el(Tag::H2).attr(Attr::Id, "made-title").attr(Attr::Tabindex, "-1").say("Made. Hand this line to the council"))
        .with(el(Tag::P).say("It holds no secret. Whoever gets it must be sure that it comes from you: tell them in person, or by a call."))
        .with(el(Tag::Pre).attr(Attr::Id, "line").class("wrap").attr(Attr::AriaLabel, "The line"))
        .with(copy)
        .with(el(Tag::P).say("The council saves it as passkey.txt and enrols you with:"))
        .with(el(Tag::Pre).attr(Attr::Id, "command").class("wrap").attr(Attr::AriaLabel, "The command"))
        .with(
            el(Tag::P)
                .say("Somebody who is enrolled already keeps their other keys with --add instead of --group. Then ")
                .with(el(Tag::A).href(Link::Home).say("sign in"))
                .say("."),
        );
    let main = el(Tag::Main)
        .with(el(Tag::H1).say("Make a passkey"))
        .with(el(Tag::P).class("lead").say(
            "It stays on this device or key, and works on the approval pages of this mesh alone. Until the council has enrolled it, it \
             opens nothing.",
        ))
        .with(alert("error"))
        .with(form)
        .with(live("live"))
        .with(made)
        .with(el(Tag::P).class("quiet").say("This is node ").data(node).say("."));
    outside("Make a passkey", main)
}

/// What is wrong, and what to do.
pub(in super::super) fn problem(title: &'static str, detail: &str, hint: Option<&str>) -> super::super::Shown {
    let main = el(Tag::Main)
        .with(el(Tag::H1).say(title))
        .with(el(Tag::P).class("note bad").data(detail))
        .maybe(hint.map(|hint| el(Tag::P).data(hint)))
        .with(el(Tag::P).with(el(Tag::A).href(Link::Approvals).say("What waits for me")));
    super::super::Shown(outside(title, main))
}
