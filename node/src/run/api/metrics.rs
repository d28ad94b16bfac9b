//! `/metrics` in the Prometheus text format. Names are `cauldron_<room>_<what>_<unit>`.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cauldron_crdt::sync::SyncStats;
use cauldron_mesh::CloseCode;
use prometheus::core::Collector;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::{Context, Problem};
use crate::run::notify::{Counted, Counts};

/// All metrics of this node, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain")))]
pub async fn metrics(State(context): State<Context>) -> Result<Response, Problem> {
    let now = context.clock.now();
    let (own, sync, exchanged, proposals, flows) = context
        .node
        .read(move |core| {
            let flows = core.flow_view(now);
            (core.self_view(now), core.sync_view(now), core.sync_stats(), core.proposals_view(now), flows)
        })
        .await?;
    let page = Page::new();
    let mesh = context.mesh.counters();
    page.counter("cauldron_mesh_frames_total", "Frames by direction.", &["direction"], |c| {
        c(&["in"], mesh.frames_in.load(Relaxed));
        c(&["out"], mesh.frames_out.load(Relaxed));
    });
    page.counter("cauldron_mesh_bytes_total", "Bytes of frames by direction.", &["direction"], |c| {
        c(&["in"], mesh.bytes_in.load(Relaxed));
        c(&["out"], mesh.bytes_out.load(Relaxed));
    });
    page.counter("cauldron_mesh_refused_total", "Connections refused before admission, by code.", &["code"], |c| {
        CloseCode::ALL.into_iter().for_each(|code| c(&[code.label()], mesh.refused(code)));
    });
    page.counter("cauldron_mesh_closed_total", "Connections closed after admission, by code.", &["code"], |c| {
        CloseCode::ALL.into_iter().for_each(|code| c(&[code.label()], mesh.closed(code)));
    });
    page.gauge("cauldron_mesh_links", "Links that are up.", &[], |g| g(&[], mesh.links.load(Relaxed)));
    page.counter("cauldron_mesh_enrolments_total", "Exchanges answered on the enrol lane.", &[], |c| {
        c(&[], mesh.enrolments.load(Relaxed));
    });
    page.flows(&flows);
    page.gauge("cauldron_crdt_facts", "Facts held, by scope.", &["scope"], |g| {
        sync.scopes.iter().for_each(|scope| g(&[&scope.scope], scope.facts));
    });
    page.sync(&exchanged);
    page.counter("cauldron_core_refused_total", "Facts, frames and permits refused, by code.", &["code"], |c| {
        own.refused.iter().for_each(|(code, n)| c(&[code], *n));
    });
    page.gauge("cauldron_governance_proposals", "Proposals, by state.", &["state"], |g| {
        let mut by_state = std::collections::BTreeMap::<&str, u64>::new();
        proposals.iter().for_each(|p| *by_state.entry(p.state).or_default() += 1);
        by_state.into_iter().for_each(|(state, n)| g(&[state], n));
    });
    page.gauge("cauldron_governance_attention", "Actions that a person must look at, by reason.", &["why"], |g| {
        own.attention_counts.iter().for_each(|(why, n)| g(&[why], *n));
    });
    if let Some(notifier) = &context.facts.notifier {
        page.notify(&notifier.counted());
    }
    let hands = context.facts.hands.views();
    page.gauge("cauldron_connector_hangs", "Whether a connector does not answer.", &["connector"], |g| {
        hands.iter().for_each(|hand| g(&[&hand.name], u64::from(hand.since.is_some())));
    });
    page.counter(
        "cauldron_connector_hung_total",
        "How often a connector did not answer in time.",
        &["connector"],
        |c| {
            hands.iter().for_each(|hand| c(&[&hand.name], hand.hung));
        },
    );
    let commits = context.node.commits();
    page.counter("cauldron_store_commits_total", "Durable commits.", &[], |c| c(&[], commits.commits.load(Relaxed)));
    page.counter("cauldron_store_records_total", "Records in durable commits.", &[], |c| {
        c(&[], commits.records.load(Relaxed));
    });
    page.counter("cauldron_store_commit_micros_total", "Microseconds spent in durable commits.", &[], |c| {
        c(&[], commits.micros.load(Relaxed));
    });
    let mut text = page.render()?;
    if let Some(age_ms) = own.lease.and_then(|lease| lease.age_ms) {
        let _ = write!(
            text,
            "# HELP cauldron_governance_lease_age_ms Age of the lease.\n# TYPE cauldron_governance_lease_age_ms gauge\n\
             cauldron_governance_lease_age_ms {age_ms}\n"
        );
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// One scrape: filled from state and thrown away.
struct Page(Registry);

impl Page {
    fn new() -> Self {
        Self(Registry::new())
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str], fill: impl FnOnce(&mut dyn FnMut(&[&str], u64))) {
        if let Ok(vec) = IntCounterVec::new(Opts::new(name, help), labels) {
            fill(&mut |values, n| vec.with_label_values(values).inc_by(n));
            self.add(vec);
        }
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str], fill: impl FnOnce(&mut dyn FnMut(&[&str], u64))) {
        if let Ok(vec) = IntGaugeVec::new(Opts::new(name, help), labels) {
            fill(&mut |values, n| vec.with_label_values(values).set(i64::try_from(n).unwrap_or(i64::MAX)));
            self.add(vec);
        }
    }

    /// What waits for links, and what is left of their budgets.
    fn flows(&self, flows: &std::collections::BTreeMap<String, cauldron_node_core::view::FlowView>) {
        self.gauge("cauldron_mesh_lane_waiting_bytes", "Bytes of frames that wait for their link.", &["lane"], |g| {
            let mut waiting = std::collections::BTreeMap::<&str, u64>::new();
            let lanes = flows.values().flat_map(|flow| &flow.lanes);
            lanes.for_each(|lane| *waiting.entry(lane.lane).or_default() += lane.bytes);
            waiting.into_iter().for_each(|(lane, bytes)| g(&[lane], bytes));
        });
        self.gauge("cauldron_mesh_budget_left_bytes", "What a metered link may carry now.", &["peer"], |g| {
            for (peer, budget) in flows.iter().filter_map(|(peer, flow)| Some((peer, flow.budget.as_ref()?))) {
                g(&[peer], u64::try_from(budget.left_bytes).unwrap_or(0));
            }
        });
    }

    /// What became of what peers sent for sync.
    fn sync(&self, stats: &SyncStats) {
        let facts = [
            ("new", stats.facts_new),
            ("duplicate", stats.facts_duplicate),
            ("mended", stats.facts_mended),
            ("unasked", stats.facts_unasked),
            ("refused", stats.facts_refused),
        ];
        self.counter(
            "cauldron_sync_facts_total",
            "Facts that peers sent, by what became of them.",
            &["outcome"],
            |c| {
                facts.into_iter().for_each(|(outcome, n)| c(&[outcome], n));
            },
        );
        self.counter("cauldron_sync_ranges_total", "Ranges of facts that came packed.", &[], |c| c(&[], stats.ranges));
        let faults = [
            ("claim_unmet", stats.claims_unmet),
            ("digest_repeated", stats.digests_repeated),
            ("foreign_scope", stats.foreign_scope),
            ("frame_unknown", stats.frames_unknown),
            ("orphans_dropped", stats.orphans_dropped),
            ("over_limit", stats.over_limit),
            ("request_timed_out", stats.requests_timed_out),
        ];
        self.counter(
            "cauldron_sync_faults_total",
            "What peers did that they need not have, by kind.",
            &["kind"],
            |c| {
                faults.into_iter().for_each(|(kind, n)| c(&[kind], n));
            },
        );
        self.counter("cauldron_sync_closed_total", "Sessions that the sync core closed.", &[], |c| {
            c(&[], stats.closed);
        });
    }

    /// What webhooks were told, and what not.
    fn notify(&self, hooks: &[Counted<'_>]) {
        self.gauge("cauldron_notify_queued", "Messages that wait, by webhook.", &["webhook"], |g| {
            hooks.iter().for_each(|hook| g(&[hook.name], hook.queued));
        });
        self.counter("cauldron_notify_delivered_total", "Messages that a webhook took.", &["webhook"], |c| {
            hooks.iter().for_each(|hook| c(&[hook.name], hook.counts.delivered));
        });
        let each = |of: fn(&Counts) -> &std::collections::BTreeMap<&'static str, u64>| {
            hooks.iter().flat_map(move |hook| of(&hook.counts).iter().map(move |(why, n)| (hook.name, *why, *n)))
        };
        let failed = "Attempts that a webhook did not take, by reason.";
        self.counter("cauldron_notify_failed_total", failed, &["webhook", "why"], |c| {
            each(|counts| &counts.failed).for_each(|(name, why, n)| c(&[name, why], n));
        });
        let dropped = "Messages that a webhook is not told any more, by reason.";
        self.counter("cauldron_notify_dropped_total", dropped, &["webhook", "why"], |c| {
            each(|counts| &counts.dropped).for_each(|(name, why, n)| c(&[name, why], n));
        });
    }

    fn add(&self, collector: impl Collector + 'static) {
        // Names are constants of this file and distinct; a clash would only leave one family out.
        let _ = self.0.register(Box::new(collector));
    }

    fn render(&self) -> Result<String, Problem> {
        let mut out = Vec::new();
        TextEncoder::new()
            .encode(&self.0.gather(), &mut out)
            .map_err(|e| Problem::unavailable("metrics", e.to_string()))?;
        String::from_utf8(out).map_err(|e| Problem::unavailable("metrics", e.to_string()))
    }
}
