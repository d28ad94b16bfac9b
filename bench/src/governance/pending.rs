//! Ten thousand proposals that wait for people, at a coordinator as it ships.
//!
//! Twenty sites of 25 agents with 20 proposals each, as many as the bounds allow. The enrolments and proposals are written into hq's store, signed
//! like any; hq itself judges them when it starts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cauldron_coordinator::action::Action;
use cauldron_coordinator::bodies::{Evidence, KIND_PROPOSAL, Proposal};
use cauldron_crdt::log::INDEX_HEAD;
use cauldron_crdt::{ChainId, Draft, FactLog};
use cauldron_identity::authority::{Enrol, Entry, EntryBody, Held, KIND_ENTRY, KIND_HELD};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorKey, Digest, MeshId, Scope, SpiffeId};
use cauldron_store::{CACHE_BYTES_DEFAULT, RedbStore, Store, WriteBatch};
use cauldron_tests::{Mesh, Node, Plan};

use super::latency;
use crate::million::restored;
use crate::partition::{facts, until};
use crate::state::put;
use crate::{Bound, Figure, approve, spine};

const SITES: usize = 20;
const AGENTS: usize = 25;
const EACH: usize = 20;
const PENDING: usize = SITES * AGENTS * EACH;
const LISTS: usize = 20;
const VOTES: usize = 50;
/// The figures.
const LIST_MS_MAX: f64 = 50.0;
const RSS_MB_MAX: f64 = 100.0;
/// What the kernel may still take back after the work.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn figures(figures: &mut Vec<Figure>) -> Result<(), String> {
    spine::build()?;
    let mut mesh = Mesh::only_hq(Plan::default());
    let hq = &mut mesh.hq;
    let pin: MeshId = hq.get("/v1/self")["mesh"].as_str().and_then(|id| id.parse().ok()).ok_or("hq names no mesh")?;
    hq.stop();
    write(&hq.dir(), pin)?;
    hq.start();
    let began = Instant::now();
    // Asked in short: a list of everything every few milliseconds would be what is measured.
    until("every proposal is judged", || facts(hq) >= (2 * PENDING + SITES + 1) as u64)?;
    let judged_s = began.elapsed().as_secs_f64();
    // As it stays: what the first judging took is given back.
    hq.stop();
    hq.start();
    until("hq is back and may write", || hq.get("/v1/self")["state"] == "active")?;
    std::thread::sleep(SETTLE);
    let rss_mb = spine::rss_mb(hq.pid())?;
    let waiting = hq.items("/v1/approvals").len();
    if waiting != PENDING {
        return Err(format!("{waiting} proposals wait for people, not {PENDING}"));
    }
    let list = || hq.try_get("/v1/approvals").map(drop).ok_or("nobody answers");
    let listed = latency(timed(LISTS, list)?);
    let listed_mb = spine::rss_mb(hq.pid())?;
    let votes = votes(hq)?;
    let figure = |name: &str, value, unit, target| {
        let name = format!("{PENDING} proposals that wait for people: {name}");
        Figure { name, value, unit, yardstick: None, target }
    };
    figures.extend([
        figure("listed by the API, p50", listed.p50 / 1e3, "ms", Some(Bound::AtMost(LIST_MS_MAX))),
        figure("resident memory of the node", rss_mb, "MB", Some(Bound::AtMost(RSS_MB_MAX))),
        figure("a vote handed over and answered, p50", votes.p50 / 1e3, "ms", None),
        figure("a vote handed over and answered, p99", votes.p99 / 1e3, "ms", None),
        figure("judged one by one at a start, policy and store included", PENDING as f64 / judged_s, "/s", None),
        figure("resident memory after so many lists", listed_mb, "MB", None),
    ]);
    Ok(())
}

fn timed(times: usize, mut one: impl FnMut() -> Result<(), &'static str>) -> Result<Vec<f64>, String> {
    let mut all = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        one()?;
        all.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(all)
}

/// Fifty people-made yeses, each durable before it is answered; each leads to a permit.
fn votes(hq: &Node) -> Result<super::Latency, String> {
    let key = approve::key_file(&hq.dir().join("people").join("ana.key"))?;
    let ids: Vec<String> =
        hq.items("/v1/approvals").iter().take(VOTES).filter_map(|p| p["id"].as_str().map(str::to_owned)).collect();
    let mut times = Vec::with_capacity(VOTES);
    for (n, id) in (0u8..).zip(&ids) {
        let shown = hq.get(&format!("/v1/approvals/{id}"));
        let vote = approve::vote(&shown, &key, n).ok_or("hq does not show what is to be signed")?;
        let start = Instant::now();
        let answer = hq.post(&format!("/v1/approvals/{id}/votes"), &vote);
        times.push(start.elapsed().as_secs_f64() * 1e6);
        if answer.status != 200 {
            return Err(format!("hq refused the vote: {}", answer.body));
        }
    }
    Ok(latency(times))
}

/// Continues hq's authority chain by enrolments, and writes what the enrolled nodes would have sent.
fn write(dir: &Path, mesh: MeshId) -> Result<(), String> {
    let hq: AuthorKey = approve::key_file(&dir.join("author.key"))?;
    let store = Arc::new(RedbStore::open(dir.join("store.redb"), CACHE_BYTES_DEFAULT).map_err(|e| e.to_string())?);
    let mut log = restored(&store, mesh)?;
    let now_ms = approve::now_ms()?;
    let chain = ChainId { scope: Scope::authority(), author: hq.author_id(), incarnation: 0 };
    let mut batch = WriteBatch::new();
    batch.delete(INDEX_HEAD);
    let mut add = |log: &mut FactLog, key: &AuthorKey, scope: Scope, kind: &str, body: Vec<u8>| {
        let (kind, hlc) = (kind.to_owned(), now_ms << 16);
        let draft = Draft { scope, incarnation: 0, kind, deps: vec![], body, hlc, traceparent: None };
        let fact = log.append(key, draft).map_err(|e| e.to_string())?;
        put(&mut batch, fact.sealed())
    };
    let nodes: Vec<(AuthorKey, String)> = (0..SITES)
        .map(|n| (AuthorKey::from_seed(Digest::of("bench/site", &n.to_be_bytes()).as_bytes()), format!("site-{n}")))
        .collect();
    for (key, site) in &nodes {
        let id = SpiffeId::new(format!("spiffe://{}/site/{site}/node/{site}", Mesh::TRUST_DOMAIN))
            .map_err(|e| e.to_string())?;
        let head = log.at(&chain, log.held(&chain)).map(|fact| fact.id());
        let entry = EntryBody::new(head, log.held(&chain) + 1, &Entry::Enrol(Enrol::new(&mesh, key, &id)));
        add(&mut log, &hq, Scope::authority(), KIND_ENTRY, to_cbor(&entry))?;
    }
    // The entries are in effect once somebody else holds them.
    let index = log.held(&chain);
    let head = log.at(&chain, index).map(|fact| fact.id()).ok_or("the authority chain is empty")?;
    let held = Held { head, index, suspensions: vec![], trust: None };
    add(&mut log, &nodes[0].0, Scope::mesh(), KIND_HELD, to_cbor(&held))?;
    for (nth, (key, site)) in nodes.iter().enumerate() {
        let scope = Scope::site(site).map_err(|e| e.to_string())?;
        for n in 0..AGENTS * EACH {
            let body = to_cbor(&proposal(nth, site, n, now_ms)?);
            add(&mut log, key, scope.clone(), KIND_PROPOSAL, body)?;
        }
    }
    store.commit(batch).map_err(|e| e.to_string())
}

/// Proposal `n` of a site, about an address of its own, with a line of evidence.
fn proposal(nth: usize, site: &str, n: usize, now_ms: u64) -> Result<Proposal, String> {
    let address = format!("198.{}.{}.{}", 18 + nth % 2, nth * 2 + n / 250, n % 250 + 1);
    let action = Action::block(&address, 3_600, "brute force").map_err(|e| e.to_string())?;
    let agent = format!("spiffe://{}/site/{site}/node/{site}/agent/watch-{}", Mesh::TRUST_DOMAIN, n / EACH);
    let text = format!("sshd[{}]: Failed password for root from {address} port 50214 ssh2", 1_000 + n);
    Ok(Proposal {
        agent_build: Digest::of("bench/build", b"1"),
        undo_plan: "the line is removed when its time is over".into(),
        confidence_ppm: 900_000,
        confidence_method: "rule".into(),
        rationale: "9 failed logins in 10 minutes, none before, none successful".into(),
        evidence: vec![Evidence {
            source: "/var/log/auth.log".into(),
            line_no: 1_000 + n as u64,
            digest: Digest::of("bench/line", text.as_bytes()),
            text,
            labels: vec!["untrusted:log".into()],
        }],
        taint: vec!["untrusted:log".into()],
        created_ms: now_ms + n as u64,
        expires_ms: now_ms + 12 * 3_600_000,
        ..action.proposal(site, site, &agent, &n.to_string())
    })
}
