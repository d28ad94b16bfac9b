//! Pages of a proposal that a stranger wrote from end to end.

use cauldron_coordinator::bodies::{Amount, Blast, Evidence, Proposal, Reversibility, RiskClass};
use cauldron_coordinator::ledger::{Denial, DenialKind};
use cauldron_coordinator::quorum::Fill;
use cauldron_coordinator::vote::Choice;
use cauldron_identity::{Digest, FactId};
use cauldron_node_core::view::{
    ApprovalView, AttentionView, IsolationView, PeerView, ProposalView, Seen, SiteView, Time,
};
use cauldron_node_core::{Desk, Party, Said, Seat};

use super::*;

const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'</code></bdi></dd>\u{202e}\u{200b}&#60;";

fn text() -> String {
    HOSTILE.to_owned()
}

fn seen() -> Seen {
    Seen { as_of: Time(1_000), observer: text(), age_ms: 90_000, source: "direct" }
}

fn proposal() -> Proposal {
    let digest = Digest::from_bytes([7; 32]);
    Proposal {
        lineage: None,
        agent: text(),
        agent_build: digest,
        site: text(),
        module: text(),
        action_class: text(),
        operation: text(),
        resource: text(),
        expected_version: Some(text()),
        args: serde_json::json!({ HOSTILE: HOSTILE, "n": 7 }).to_string().into_bytes(),
        args_digest: digest,
        reversibility: Reversibility::Irreversible,
        undo_plan: text(),
        risk: RiskClass::R1,
        confidence_ppm: 565_500,
        confidence_method: text(),
        rationale: text(),
        evidence: (0..4)
            .map(|n| Evidence { source: text(), line_no: n, digest, text: text(), labels: vec![text()] })
            .collect(),
        taint: vec![text()],
        conflict_key: text(),
        intent_key: text(),
        created_ms: 1,
        expires_ms: 2,
        parent: None,
        session: None,
        on_behalf_of: Some(text()),
        agent_model: None,
        agent_prompt: None,
        agent_tools: None,
        calibration: None,
        blast: vec![Blast { what: text(), n: 3 }],
        dry_run: Some(format!("@@ -1 +1 @@\n-{HOSTILE}\n+{HOSTILE}\n same")),
        alternatives: vec![text()],
        budgets: vec![Amount { budget: text(), amount: 5 }],
        hand: None,
        saga: None,
    }
}

fn desk(state: &'static str) -> Desk {
    let id = FactId::from_bytes([3; 32]).to_string();
    let line = ProposalView {
        id: id.clone(),
        short: id[..12].to_owned(),
        lineage: id.clone(),
        state,
        contested: false,
        ended: false,
        break_glass: None,
        saga: None,
        operation: text(),
        target: text(),
        summary: text(),
        class: text(),
        confidence_ppm: 1,
        agent: text(),
        site: text(),
        opened: Time(0),
        expires: Time(5),
        why: vec![text()],
        seen: seen(),
    };
    let approval = ApprovalView {
        proposal: line.clone(),
        waiting_for: vec![text()],
        needs: vec![text()],
        objectors: vec![text()],
        assurance: "software",
        presentation: vec![(text(), text()), ("rule".into(), text())],
        presentation_digest: Digest::from_bytes([9; 32]).to_string(),
        evidence: vec![text()],
        terms: text(),
        served_by: text(),
        authority_head: None,
        mesh: text(),
        deadline: Time(5),
    };
    Desk {
        line,
        proposal: proposal(),
        approval: Ok(approval),
        risk: Some(RiskClass::R3),
        votes: vec![Said { who: text(), choice: Choice::Approve, reason: text(), at: Time(4), void: Some(text()) }],
        denials: vec![Denial { kind: DenialKind::Vote, by: text(), why: text(), at_ms: 1 }],
        seats: Some(Fill { needed: 2, filled: 1, missing: [text()].into() }),
        could: vec![text()],
        veto_until: Some((Time(9), text())),
        party: Party { proposes: true, owns: true },
        seat: Seat { barred: Some(text()), fills: false, objects: true, said: Some(Choice::Abstain) },
        choices: vec![Choice::Approve, Choice::Deny, Choice::Object, Choice::Comment],
    }
}

fn frame() -> Frame {
    let own = SelfView {
        spiffe_id: text(),
        site: None,
        role: "node",
        author: text(),
        incarnation: 0,
        mesh: text(),
        state: "isolated",
        reasons: vec![text()],
        lease: None,
        isolation: None,
        break_glass: 0,
        attention: vec![AttentionView {
            proposal: FactId::from_bytes([3; 32]).to_string(),
            short: "0303".into(),
            what: "verify_failed",
            operation: text(),
            target: text(),
            says: "it is done, and a check of it did not come out well",
            how: text(),
            commands: vec!["cauldron undo 0303 --reason WHY".into(), text()],
        }],
        attention_counts: [("verify_failed", 3)].into(),
        policy: Some(text()),
        facts: 0,
        future_facts: 0,
        refused: Default::default(),
        seen: seen(),
    };
    let person = Person { id: "ana".into(), name: text(), groups: vec![text()], credentials: vec![] };
    Frame { own, up: 0, person: Some(person), csrf: text(), now_ms: 0 }
}

#[track_caller]
fn harmless(html: &str) {
    // No attribute holds a raw angle bracket, so what is outside of tags is what is seen.
    let seen: String = html.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect();
    assert!(!html.contains("<img") && !seen.contains(['\u{202e}', '\u{200b}']), "{html}");
    assert!(!html.contains("&#60;"), "an entity of theirs: {html}");
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"), "it is shown");
    let opened = |tag: &str| html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
    for tag in ["dl", "dd", "bdi", "code", "section", "article", "ul", "li", "p", "span", "pre", "div"] {
        assert_eq!(opened(tag), html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn what_a_stranger_wrote_is_text_on_every_page() {
    for state in ["PENDING_APPROVAL", "VETO_WINDOW", "APPROVED", "DENIED", "DONE", "UNKNOWN"] {
        harmless(&one(&frame(), &desk(state)));
    }
    harmless(&list(&frame(), &[desk("PENDING_APPROVAL"), desk("VETO_WINDOW")], 9));
    let mine = Desk { seat: Seat { fills: true, ..Seat::default() }, ..desk("PENDING_APPROVAL") };
    harmless(&list(&frame(), &[mine], 1));
    let peer = PeerView {
        spiffe_id: text(),
        author: text(),
        site: Some(text()),
        state: "alive",
        standing: "counts",
        connected_ms: None,
        behind: None,
        oldest_unsynced_ms: None,
        stalled: None,
        skew: None,
        seen: Some(seen()),
    };
    let isolation = IsolationView {
        state: "unheard",
        since: Some(Time(1)),
        classes: vec![],
        acting: vec![text()],
        groups: vec![text()],
        escrow: vec![],
        lift: 0,
    };
    let site = SiteView { site: text(), line: [(text(), text())].into(), stops: None, seen: Some(seen()), isolation };
    harmless(&status(&frame(), &[peer], &[site]));
    harmless(&sign_in(HOSTILE, None, true));
    harmless(&enrol(HOSTILE));
    harmless(&problem("Wrong", HOSTILE, Some(HOSTILE)).0);
}

#[test]
fn warnings_stand_before_the_buttons() {
    let html = one(&frame(), &desk("PENDING_APPROVAL"));
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text}: {html}"));
    assert!(at("Your yes from this page would not count") < at("data-choice"));
    assert!(at("proposed this and would carry it out") < at("data-choice"));
    assert!(html.contains("cut off from the mesh"), "{html}");
    let open =
        Desk { seat: Seat { fills: true, ..Seat::default() }, party: Party::default(), ..desk("PENDING_APPROVAL") };
    let html = one(&frame(), &open);
    assert!(!html.contains("would not count") && !html.contains("carry it out"), "{html}");
    let theirs = Desk { seat: Seat::default(), ..open };
    assert!(one(&frame(), &theirs).contains("This is not for you to approve"));
}

#[test]
fn what_a_page_does_not_sign_stands_there_as_a_command_to_the_letter() {
    let html = one(&frame(), &desk("PENDING_APPROVAL"));
    let id = FactId::from_bytes([3; 32]);
    for text in [
        format!("cauldron approvals edit {id} --set NAME=VALUE --reason WHY"),
        "cauldron approvals delegate --to PERSON --group GROUP --for 1d".to_owned(),
    ] {
        assert!(html.contains(&text), "{text}: {html}");
    }
    assert!(!one(&frame(), &Desk { choices: vec![], ..desk("DONE") }).contains("approvals edit"), "nothing to change");
}

#[test]
fn a_list_that_changed_is_another_version() {
    let one = [desk("PENDING_APPROVAL")];
    assert_eq!(version(&one), version(&one.clone()));
    assert_ne!(version(&one), version(&[desk("VETO_WINDOW")]));
    assert_ne!(version(&one), version(&[]));
}

#[test]
fn a_no_without_a_reason_has_no_colon_behind_it() {
    let no = |why: &str| {
        let denial = Denial { kind: DenialKind::Vote, by: "ana".into(), why: why.into(), at_ms: 1 };
        one(&frame(), &Desk { denials: vec![denial], ..desk("DENIED") })
    };
    assert!(no("").contains(" said no</li>"), "{}", no(""));
    assert!(no("not ours").contains(" said no: "), "{}", no("not ours"));
}

#[test]
fn what_needs_a_person_stands_with_the_commands_that_settle_it() {
    let html = status(&frame(), &[], &[]);
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text}: {html}"));
    assert!(
        at("Needs a person") < at("verify failed") && at("verify failed") < at("a check of it did not come out well")
    );
    assert!(at("a check of it did not come out well") < at("cauldron undo 0303 --reason WHY"));
    let link = format!("href=\"/approvals/{}\"", FactId::from_bytes([3; 32]));
    assert!(at("2 more") > at(&link), "{html}");
    let mut calm = frame();
    calm.own.attention.clear();
    assert!(status(&calm, &[], &[]).contains("Nothing does, as far as this node knows."));
}
