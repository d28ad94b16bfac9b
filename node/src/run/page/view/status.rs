//! The mesh as this node sees it.

use cauldron_node_core::view::{AttentionView, PeerView, Seen, SiteView};

use super::super::html::{Attr, El, Link, Tag, el};
use super::parts::{code, pair, value};
use super::{Frame, Place, clock, framed, section};

/// `/status`.
pub(in super::super) fn status(frame: &Frame, peers: &[PeerView], sites: &[SiteView]) -> String {
    let main = el(Tag::Main)
        .with(el(Tag::H1).say("The mesh, as this node sees it"))
        .with(own(frame))
        .with(attention(frame))
        .with(table("sites", "Sites", &["Site", "Says", "Seen"], sites.iter().map(site).collect()))
        .with(table(
            "peers",
            "Peers",
            &["Node", "Link", "Standing", "Facts behind", "Seen"],
            peers.iter().map(peer).collect(),
        ));
    framed(frame, "Status", Some(Place::Status), main)
}

fn own(frame: &Frame) -> El {
    let own = &frame.own;
    let words = match own.state {
        "active" => "Active",
        "isolated" => "Isolated: cut off from the coordinators",
        "read_only" => "Read only",
        "confirming" => "Confirming its own past before it writes",
        _ => "In a state that this page does not know",
    };
    let lease = own.lease.as_ref().map(|lease| {
        let age = lease.age_ms.map_or_else(|| "no lease yet".to_owned(), |ms| format!("{} old", span(ms)));
        let limits = lease.limit_ms.iter().map(|(class, ms)| format!("{class} {}", span(*ms)));
        let limits: Vec<String> = limits.collect();
        value(format!("{age}; actions stop at: {}", limits.join(", ")))
    });
    let lease = lease.unwrap_or_else(|| el(Tag::Dd).say("needs none: it is a coordinator of the mesh"));
    let list = el(Tag::Dl)
        .all(pair("Node", code(&own.spiffe_id)))
        .all(pair("State", el(Tag::Dd).say(words)))
        .all((!own.reasons.is_empty()).then(|| pair("Because", value(own.reasons.join("; ")))).into_iter().flatten())
        .all(pair("Lease", lease))
        .all(pair("Peers up", value(frame.up.to_string())))
        .all(own.policy.as_ref().map(|policy| pair("Policy", value(policy))).into_iter().flatten())
        .all(pair("Mesh", code(own.mesh.get(..12).unwrap_or(&own.mesh))));
    section("own", "This node").with(list)
}

/// What nobody but a person can settle, and how: on a command line, where their key is.
fn attention(frame: &Frame) -> El {
    let (shown, all) = (&frame.own.attention, frame.own.attention_counts.values().sum::<u64>());
    let card = section("attention", "Needs a person");
    if shown.is_empty() {
        return card.with(el(Tag::P).class("quiet").say("Nothing does, as far as this node knows."));
    }
    let more = all.saturating_sub(shown.len() as u64);
    let more = (more > 0).then(|| {
        el(Tag::P).class("quiet").data(format!("{more} more: `cauldron why ID` tells of each, and metrics count them."))
    });
    card.with(
        el(Tag::P).class("quiet").say("An undo is run at the node that did it. Words in capitals are yours to put in."),
    )
    .with(el(Tag::Ul).class("bare").all(shown.iter().map(matter)))
    .maybe(more)
}

fn matter(matter: &AttentionView) -> El {
    let link = matter.proposal.parse().map_or(Link::Approvals, Link::Proposal);
    let command = |text: &String| el(Tag::Pre).class("wrap").attr(Attr::Tabindex, "0").raw(text);
    el(Tag::Li)
        .with(
            el(Tag::P)
                .with(el(Tag::Strong).data(matter.what.replace('_', " ")))
                .say(": ")
                .data(matter.says)
                .say(". ")
                .with(el(Tag::A).href(link).data(format!("{} on {}", matter.operation, matter.target))),
        )
        .all(matter.commands.iter().map(command))
}

/// One row: words of the node, and when they were seen.
fn site(site: &SiteView) -> Vec<El> {
    let line: Vec<String> = site.line.iter().map(|(name, text)| format!("{name} {text}")).collect();
    vec![el(Tag::Td).data(&site.site), el(Tag::Td).data(line.join(", ")), seen(site.seen.as_ref())]
}

fn peer(peer: &PeerView) -> Vec<El> {
    let name = peer.spiffe_id.strip_prefix("spiffe://").unwrap_or(&peer.spiffe_id);
    let behind = peer.behind.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let state = match peer.state {
        "alive" => el(Tag::Td).attr(Attr::State, "up").say("alive"),
        "suspect" => el(Tag::Td).attr(Attr::State, "down").say("suspect"),
        "departed" => el(Tag::Td).attr(Attr::State, "never").say("departed"),
        "quarantined" => el(Tag::Td).attr(Attr::State, "down").say("quarantined"),
        _ if peer.seen.is_none() => el(Tag::Td).attr(Attr::State, "never").say("not seen yet"),
        _ => el(Tag::Td).attr(Attr::State, "down").say("unreachable"),
    };
    vec![
        el(Tag::Td).raw(name),
        state,
        el(Tag::Td).data(peer.standing),
        el(Tag::Td).data(behind),
        seen(peer.seen.as_ref()),
    ]
}

fn seen(seen: Option<&Seen>) -> El {
    match seen {
        Some(seen) => {
            let at = seen.as_of.to_string();
            el(Tag::Td)
                .with(el(Tag::Time).attr(Attr::Datetime, &at).data(format!("{} ago", span(seen.age_ms))))
                .say(" ")
                .with(el(Tag::Span).class("unseen").data(clock(&at)))
        }
        None => el(Tag::Td).say("never"),
    }
}

fn table(id: &'static str, title: &'static str, heads: &[&'static str], rows: Vec<Vec<El>>) -> El {
    if rows.is_empty() {
        return section(id, title).with(el(Tag::P).class("quiet").say("None is known here."));
    }
    let head = heads.iter().map(|head| el(Tag::Th).attr(Attr::Scope, "col").say(head));
    let rows = rows.into_iter().map(|cells| el(Tag::Tr).all(cells));
    let table = el(Tag::Table)
        .attr(Attr::AriaLabelledby, id)
        .with(el(Tag::Thead).with(el(Tag::Tr).all(head)))
        .with(el(Tag::Tbody).all(rows));
    section(id, title).with(
        el(Tag::Div)
            .class("scroll")
            .attr(Attr::Role, "region")
            .attr(Attr::Tabindex, "0")
            .attr(Attr::AriaLabelledby, id)
            .with(table),
    )
}

/// Two digits of a duration are what a person keeps.
fn span(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}
