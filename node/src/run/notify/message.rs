//! What a message says: enough for a person to know within ten seconds what is asked, of whom, until when, and where to decide.
//! No evidence and no arguments: those are on the page, behind the node's own door.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_agents::proposal::for_display;
use cauldron_coordinator::bodies::Outcome;
use cauldron_coordinator::ledger::Call;
use cauldron_coordinator::signed::with_reason;
use cauldron_identity::{Clock, Digest};
use cauldron_node_core::view::{GlassView, ProposalView, Time};
use cauldron_node_core::{Asked, NodeCore, Turn, how};
use hyper::body::Bytes;
use serde_json::json;

use super::notice::{Notice, Shown};
use crate::config::{HookUrl, Page};

/// Names and ids in a message; the sentence is what a person reads. Together far below the 20 kB that the specification
/// advises.
const NAME_BYTES_MAX: usize = 256;
const RATIONALE_BYTES_MAX: usize = 600;
/// Groups in a message.
const GROUPS_MAX: usize = 16;
/// How long a webhook is tried with a use of a token before it is told anew; and with what nobody is asked.
pub(super) const REVIEW_MS: u64 = 7 * 86_400_000;
const WAITS: &str = "PENDING_APPROVAL";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A person is asked.
    Pending,
    /// More people are asked.
    Escalated,
    /// Silence allows it, until a time at which that is over.
    Window,
    /// Nobody is asked any more.
    Decided,
    /// Somebody broke the glass: nobody was asked, and somebody must look at it.
    Broken,
    /// Policy tells these groups, and does not ask them.
    Told(Outcome),
    /// A person must look at an action.
    Attention(Call),
}

impl Kind {
    /// The message's `type`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "approval.pending",
            Self::Escalated => "approval.escalated",
            Self::Window => "veto-window.opened",
            Self::Decided => "approval.decided",
            Self::Broken => "break-glass.used",
            Self::Told(_) => "proposal.told",
            Self::Attention(_) => "attention.needed",
        }
    }

    /// Whether it is said once, and no end of it follows.
    pub(super) const fn is_notice(self) -> bool {
        matches!(self, Self::Told(_) | Self::Attention(_))
    }

    /// What policy said, or why a person must look, as the message's `outcome`.
    const fn outcome(self) -> Option<&'static str> {
        match self {
            Self::Told(Outcome::Allow) => Some("allowed"),
            Self::Told(Outcome::StepUp) => Some("asked"),
            Self::Told(Outcome::Modify) => Some("modified"),
            Self::Told(Outcome::Defer) => Some("deferred"),
            Self::Told(Outcome::Deny) => Some("denied"),
            Self::Attention(call) => Some(call.name()),
            _ => None,
        }
    }

    /// What somebody who is asked can do, and what comes of doing nothing; nothing where nobody is asked.
    fn how(self, about: &About) -> Option<String> {
        let (short, by) = (&about.short, Time(about.deadline_ms));
        Some(match self {
            Self::Pending | Self::Escalated => format!(
                "Decide by {by}, behind the link or with `cauldron approvals approve {short}` or `deny`: no answer is a no."
            ),
            Self::Window => format!(
                "It happens by itself after {by} unless somebody objects: behind the link, or with `cauldron approvals object {short}`. \
                 No answer is a yes."
            ),
            Self::Broken => "Look at it, and say so with `cauldron break-glass review`.".to_owned(),
            Self::Attention(call) => how(call, short),
            Self::Told(_) | Self::Decided => return None,
        })
    }
}

/// A proposal in short, in the words of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) proposal: String,
    pub(super) short: String,
    pub(super) operation: String,
    pub(super) target: String,
    pub(super) class: String,
    pub(super) rationale: String,
    pub(super) agent: String,
    pub(super) site: String,
    pub(super) opened_ms: u64,
    pub(super) deadline_ms: u64,
}

impl From<&ProposalView> for About {
    fn from(line: &ProposalView) -> Self {
        Self {
            proposal: line.id.clone(),
            short: line.short.clone(),
            operation: line.operation.clone(),
            target: line.target.clone(),
            class: line.class.clone(),
            rationale: line.summary.clone(),
            agent: line.agent.clone(),
            site: line.site.clone(),
            opened_ms: line.opened.0,
            deadline_ms: line.expires.0,
        }
    }
}

/// People are asked about a proposal, under terms that their votes will name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) about: About,
    /// Changes with policy, outcome and obligations, and is the same whichever coordinator asks.
    pub(super) terms: String,
    pub(super) groups: BTreeSet<String>,
    /// [`Kind::Pending`], [`Kind::Window`], [`Kind::Broken`] for a look at a use of a token, whose id the terms are then, or a notice.
    pub(super) kind: Kind,
}

impl Asking {
    /// Under what it is remembered: a proposal may be asked about and looked at.
    pub(super) fn key(&self) -> String {
        match self.kind {
            Kind::Broken => glass_key(&self.about.proposal, &self.terms),
            kind if kind.is_notice() => notice_key(&self.about.proposal, kind, &self.terms),
            _ => self.about.proposal.clone(),
        }
    }
}

fn glass_key(proposal: &str, used: &str) -> String {
    format!("{proposal}#{used}")
}

/// Calls of one reason are one matter, whenever they come.
pub(super) fn notice_key(proposal: &str, kind: Kind, terms: &str) -> String {
    let which = if let Kind::Attention(call) = kind { call.name() } else { terms };
    format!("{proposal}!{}/{which}", kind.name())
}

impl From<&Asked> for Asking {
    /// Terms are what they are asked under: whether silence allows is a part of that, so that an objection asks anew.
    fn from(asked: &Asked) -> Self {
        let (about, groups) = (About::from(&asked.line), asked.groups.clone());
        let (terms, deadline_ms, kind) = match asked.turn {
            Turn::Approve => (asked.terms.to_string(), about.deadline_ms, Kind::Pending),
            Turn::ApproveAfterAll => (format!("{}/objected", asked.terms), about.deadline_ms, Kind::Pending),
            Turn::Object(until) => (format!("{}/silence", asked.terms), until.0, Kind::Window),
        };
        Self { about: About { deadline_ms, ..about }, terms, groups, kind }
    }
}

/// What the core shows of approvals at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What waits for a person.
    pub(super) waiting: Vec<Asking>,
    /// What became of those that were asked about before and wait no longer.
    pub(super) settled: BTreeMap<String, (About, &'static str)>,
    /// What is said once and still holds, by what it is remembered under.
    pub(super) notices: BTreeSet<String>,
    /// What they say: what need not be read again.
    pub(super) shown: Shown,
}

impl Seen {
    /// Reads what `/v1/approvals` shows, the state of the proposals in `known`, and the notices that were not `shown` before.
    pub(super) fn of(core: &NodeCore, now: Clock, known: &BTreeSet<String>, shown: &Shown) -> Self {
        let mut seen = Self::default();
        for used in core.glass_view() {
            let line = used.proposal.parse().ok().and_then(|id| core.line_of(now, &id));
            line.iter().for_each(|line| seen.glass(line, &used, known));
        }
        seen.waiting.extend(core.asked(now).iter().map(Asking::from));
        let told = core.told(now.wall_ms.saturating_sub(REVIEW_MS), now).into_iter().map(Notice::from);
        let notices = told.chain(core.attention().into_iter().map(|calls| Notice::of(calls, now)));
        for notice in notices.collect::<Vec<_>>() {
            let new = seen.shown.take(shown, &notice, now);
            seen.notices.insert(notice.key());
            if let Some(line) = new.then(|| core.line_of(now, &notice.proposal)).flatten() {
                let about = About { deadline_ms: notice.until_ms, ..About::from(&line) };
                seen.waiting.push(Asking { about, terms: notice.terms, groups: notice.groups, kind: notice.kind });
            }
        }
        seen.shown.keep_recent(shown, now);
        for line in known.iter().filter_map(|id| core.line_of(now, &id.parse().ok()?)) {
            if let Some(outcome) = outcome(line.state) {
                seen.settled.insert(line.id.clone(), (About::from(&line), outcome));
            }
        }
        seen
    }
}

impl Seen {
    fn glass(&mut self, line: &ProposalView, used: &GlassView, known: &BTreeSet<String>) {
        let about = About {
            rationale: with_reason("broken glass", &used.reason),
            deadline_ms: used.used.0.saturating_add(REVIEW_MS),
            ..About::from(line)
        };
        let key = glass_key(&line.id, &used.id);
        if used.needs_review {
            let groups = used.reviewers.iter().cloned().collect();
            self.waiting.push(Asking { about, terms: used.id.clone(), groups, kind: Kind::Broken });
        } else if known.contains(&key) {
            self.settled.insert(key, (about, "reviewed"));
        }
    }
}

/// How an asking ended; nothing for states in which a person may be asked yet.
pub(super) fn outcome(state: &str) -> Option<&'static str> {
    match state {
        "PROPOSED" | "EVALUATED" | "DEFERRED" | "VETO_WINDOW" | WAITS => None,
        "DENIED" => Some("denied"),
        "EXPIRED" => Some("expired"),
        "VOID" => Some("void"),
        "SUPERSEDED" => Some("superseded"),
        // Everything behind an approval, however it went on.
        _ => Some("approved"),
    }
}

/// Who sends, and where links lead.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) node: String,
    pub(super) mesh: String,
    pub(super) page: Page,
}

impl Sender {
    /// The body of a message: one form for every type. `outcome` is null until there is one.
    pub(super) fn body(
        &self,
        kind: Kind,
        about: &About,
        groups: &BTreeSet<String>,
        outcome: Option<&str>,
        now_ms: u64,
    ) -> Bytes {
        let shown = |text: &str| for_display(text.as_bytes(), NAME_BYTES_MAX);
        let listed = |these: bool| {
            let groups = groups.iter().take(if these { GROUPS_MAX } else { 0 });
            groups.map(|group| shown(group)).collect::<Vec<_>>()
        };
        let told = matches!(kind, Kind::Told(_));
        let body = json!({
            "type": kind.name(),
            "timestamp": Time(now_ms),
            "data": {
                "proposal": about.proposal,
                "short": about.short,
                "operation": shown(&about.operation),
                "target": shown(&about.target),
                "class": about.class,
                "rationale": for_display(about.rationale.as_bytes(), RATIONALE_BYTES_MAX),
                "agent": shown(&about.agent),
                "site": shown(&about.site),
                "waiting_for": listed(!told),
                "told": listed(told),
                "opened": Time(about.opened_ms),
                "deadline": (!kind.is_notice()).then_some(Time(about.deadline_ms)),
                "how": kind.how(about),
                "outcome": outcome.or(kind.outcome()),
                "link": self.page.link(&about.proposal),
                "node": self.node,
                "mesh": self.mesh,
            },
        });
        body.to_string().into()
    }
}

/// The message's `webhook-id`: the same from every node and at every attempt, another for another receiver or other terms.
pub(super) fn id(url: &HookUrl, proposal: &str, kind: Kind, terms: &str) -> String {
    let text = [url.secret().to_string().as_str(), proposal, kind.name(), terms].join("\n");
    let digest = Digest::of("cauldron/webhook-id/v1", text.as_bytes()).to_string();
    format!("msg_{}", digest.get(..32).unwrap_or(&digest))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::tests::{about, groups, sender};
    use super::*;

    #[test]
    fn a_message_says_what_a_person_needs_and_its_text_is_harmless() {
        let about = About { rationale: format!("\u{202e}ok\x1b[2J {}", "x".repeat(900)), ..about("ab12") };
        let body = sender().body(Kind::Pending, &about, &groups(&["security-duty"]), None, 1_764_500_000_000);
        assert!(body.len() < 4_096, "{} bytes", body.len());
        let mut value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let rationale = value["data"]["rationale"].take();
        let rationale = rationale.as_str().expect("text");
        assert!(rationale.starts_with("\\u{202e}ok\\u{1b}[2J xxx") && rationale.ends_with('…'), "{rationale}");
        expect![[r#"
            {
              "type": "approval.pending",
              "timestamp": "2025-11-30T10:53:20.000Z",
              "data": {
                "proposal": "ab12",
                "short": "ab12",
                "operation": "security.address.block",
                "target": "lyon/lyon/blocklist/203.0.113.9",
                "class": "R1",
                "rationale": null,
                "agent": "spiffe://acme.example/site/lyon/node/lyon/agent/sshd-bruteforce",
                "site": "lyon",
                "waiting_for": [
                  "security-duty"
                ],
                "told": [],
                "opened": "2025-11-30T10:53:20.000Z",
                "deadline": "2096-10-02T07:06:40.000Z",
                "how": "Decide by 2096-10-02T07:06:40.000Z, behind the link or with `cauldron approvals approve ab12` or `deny`: no answer is a no.",
                "outcome": null,
                "link": "https://approve.acme.example/approvals/ab12",
                "node": "spiffe://acme.example/coordinator/hq",
                "mesh": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
              }
            }"#]]
        .assert_eq(&format!("{value:#}"));
    }

    #[test]
    fn a_window_says_when_it_closes_and_how_to_object() {
        let body = sender().body(Kind::Window, &about("ab12"), &groups(&["devops"]), None, 1_764_500_000_000);
        let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(value["type"], "veto-window.opened");
        let how = value["data"]["how"].as_str().expect("text");
        assert!(how.contains("after 2096-10-02T07:06:40.000Z unless somebody objects"), "{how}");
        assert!(how.contains("`cauldron approvals object ab12`") && how.ends_with("No answer is a yes."), "{how}");
        assert_eq!(value["data"]["link"], "https://approve.acme.example/approvals/ab12");
    }

    #[test]
    fn who_is_told_is_not_asked_and_who_must_look_learns_why_and_what_to_do() {
        let body = |kind: Kind| {
            let body = sender().body(kind, &about("ab12"), &groups(&["devops"]), None, 1_764_500_000_000);
            let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert!(value["data"]["deadline"].is_null(), "nobody has to decide: {value}");
            value
        };
        let told = body(Kind::Told(Outcome::Allow));
        assert_eq!((&told["type"], &told["data"]["outcome"]), (&"proposal.told".into(), &"allowed".into()));
        assert_eq!((&told["data"]["told"], &told["data"]["waiting_for"]), (&json!(["devops"]), &json!([])));
        assert!(told["data"]["how"].is_null(), "{told}");
        for (call, says, can) in [
            (Call::Unknown, "nobody knows whether it happened", "`cauldron reconcile ab12 --happened yes|no`"),
            (Call::CompensationFailed, "could not be taken back", "`cauldron undo ab12`"),
            (Call::VerifyFailed, "a check of it did not come out well", "`cauldron break-glass review ab12`"),
            (Call::Contested, "a no came after it was begun", "`cauldron undo ab12`"),
            (Call::Audit, "selected to be looked at", "`cauldron break-glass review ab12`"),
        ] {
            let needed = body(Kind::Attention(call));
            assert_eq!(
                (&needed["type"], &needed["data"]["outcome"]),
                (&"attention.needed".into(), &call.name().into())
            );
            assert_eq!((&needed["data"]["told"], &needed["data"]["waiting_for"]), (&json!([]), &json!(["devops"])));
            let how = needed["data"]["how"].as_str().expect("text");
            assert!(how.contains(says) && how.contains(can), "{how}");
        }
    }

    #[test]
    fn an_id_names_receiver_proposal_kind_and_terms() {
        let url = |text: &str| text.parse::<HookUrl>().expect("a URL");
        let (a, b) = (url("https://a.example/x"), url("https://a.example/y"));
        let all = [
            id(&a, "p", Kind::Pending, "t"),
            id(&b, "p", Kind::Pending, "t"),
            id(&a, "q", Kind::Pending, "t"),
            id(&a, "p", Kind::Escalated, "t"),
            id(&a, "p", Kind::Pending, "u"),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all[0], id(&a, "p", Kind::Pending, "t"));
        assert!(all.iter().all(|id| id.len() == 36 && !id.contains('.')), "{all:?}");
    }

    #[test]
    fn only_an_end_of_the_asking_is_an_outcome() {
        let cases = [
            "PENDING_APPROVAL",
            "EVALUATED",
            "VETO_WINDOW",
            "DENIED",
            "EXPIRED",
            "VOID",
            "SUPERSEDED",
            "STARTED",
            "FAILED",
        ];
        let told: Vec<_> = cases.into_iter().map(outcome).collect();
        let (none, yes) = (None, Some("approved"));
        assert_eq!(
            told,
            [none, none, none, Some("denied"), Some("expired"), Some("void"), Some("superseded"), yes, yes]
        );
    }
}
