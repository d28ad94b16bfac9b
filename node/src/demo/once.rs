//! The story without a person: each check asks a node or reads a file.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::auth_log::ATTACKERS;
use super::checks::{Check, Outcome};
use super::look::{self, Watch, address, count, sentences, text, with_id};
use super::process::{Failure, Node, until};
use super::stranger::{Signer, Stranger};
use super::world::{START_MAX, World};
use crate::output::items;

/// Sync, decision, permit and effect on a busy machine; a node that was restarted may take 10 s to confirm its heads.
const STEP_MAX: Duration = Duration::from_secs(25);
/// A peer that was killed counts as gone within 10 s.
const DARK_MAX: Duration = Duration::from_secs(30);
/// How late a block may leave: the sweep's second, the file's whole second, a node that was just restarted.
const LATE_MAX: Duration = Duration::from_secs(15);
/// Something that must happen at once or not at all.
const SOON: Duration = Duration::from_secs(8);
/// Proposals that the story decides before hq goes dark.
const PROPOSALS_MIN: usize = 4;

type Told = Result<String, Failure>;

/// A run of all checks.
pub struct Once<'w> {
    pub(super) world: &'w World,
    pub(super) sabotage: Option<Check>,
    /// Every line that ever stood in the blocklist.
    pub(super) watch: Watch,
    /// Which proposal plays which part, by id and address.
    pub(super) parts: Option<Parts>,
    /// The one made while hq was dark.
    dark: Option<Part>,
    denied: Told,
}

/// A proposal of lyon's agent.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its fact.
    pub id: String,
    /// What it is about.
    pub address: String,
    /// The line of the blocklist, once it stood there.
    line: String,
}

/// The proposals that the story decides.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Denied by the person.
    pub denied: Part,
    /// Approved by the person.
    pub approved: Part,
    /// Approved; lyon dies before the effect.
    pub killed: Part,
    /// Permitted by hq alone.
    pub forged: Part,
}

impl<'w> Once<'w> {
    /// Nothing is checked yet.
    ///
    /// # Errors
    /// [`Failure`] when the blocklist cannot be watched.
    pub fn new(world: &'w World, sabotage: Option<Check>) -> Result<Self, Failure> {
        let watch = Watch::start(world.blocklist.clone())?;
        let denied = Err(Failure::new("nothing was denied"));
        Ok(Self { world, sabotage, watch, parts: None, dark: None, denied })
    }

    /// Makes every check, in order; `tell` hears of each as it is made.
    pub async fn run(&mut self, mut tell: impl FnMut(&Outcome)) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for check in Check::ALL {
            let began = Instant::now();
            let result = self.make(check).await;
            let outcome = Outcome { check, result, took: began.elapsed() };
            tell(&outcome);
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn make(&mut self, check: Check) -> Told {
        match check {
            Check::ThreeUp => self.three_up().await,
            Check::ForeignCertificateRefused => self.foreign_certificate_refused().await,
            Check::ProposalWithEvidence => self.proposal_with_evidence().await,
            Check::ApprovedExecutedOnce => self.approved_executed_once().await,
            Check::KilledBetweenPermitAndEffect => self.killed_between_permit_and_effect().await,
            Check::ForgedPermitRefused => self.forged_permit_refused().await,
            Check::TtlRemoval => self.ttl_removal().await,
            Check::WaitsWhileHqDark => self.waits_while_hq_dark().await,
            Check::EqualStateHashes => self.equal_state_hashes().await,
            Check::DeniedLeavesNoTrace => self.denied_leaves_no_trace().await,
            Check::NoForeignScopeByte => self.no_foreign_scope_byte().await,
            Check::StoryVerifies => self.story_verifies().await,
        }
    }

    pub(super) fn sabotaged(&self, check: Check) -> bool {
        self.sabotage == Some(check)
    }

    pub(super) fn parts(&self) -> Result<Parts, Failure> {
        self.parts.clone().ok_or_else(|| Failure::new("lyon proposed nothing that could be decided"))
    }

    async fn three_up(&self) -> Told {
        let world = self.world;
        if self.sabotaged(Check::ProposalWithEvidence) {
            world.auth_log.clear()?;
        }
        let starts: &[&Node] =
            if self.sabotaged(Check::ThreeUp) { &[&world.lyon] } else { &[&world.lyon, &world.porto] };
        world.rise(starts).await?;
        let mut told = Vec::new();
        for node in world.nodes() {
            let others: Vec<String> =
                world.nodes().iter().filter(|n| n.name != node.name).map(|n| n.spiffe_id.to_string()).collect();
            let what = "two peers that are up and count";
            node.until(START_MAX, what, "/v1/peers", |peers| {
                let up = |id: &&String| {
                    items(peers).iter().any(|p| {
                        text(p, "/spiffe_id") == *id && text(p, "/state") == "alive" && text(p, "/standing") == "counts"
                    })
                };
                (others.iter().filter(up).count() == others.len()).then_some(())
            })
            .await?;
            let own = active(node).await?;
            if own.pointer("/svid/valid") != Some(&Value::Bool(true))
                || text(&own, "/spiffe_id") != node.spiffe_id.to_string()
            {
                return Err(node.failure(format!("{} has no valid SVID of its own", node.name)));
            }
            told.push(format!("{} until {}", text(&own, "/spiffe_id"), text(&own, "/svid/not_after")));
        }
        Ok(format!("each sees the two others; SVIDs: {}", told.join(", ")))
    }

    async fn foreign_certificate_refused(&self) -> Told {
        let hq = &self.world.hq;
        let counted = async || match hq.client().text("/metrics").await {
            Ok(page) => Ok(look::metric(&page, "cauldron_mesh_refused_total", "code=\"certificate\"")),
            Err(e) => Err(hq.failure(Failure::from(e).why)),
        };
        let before = counted().await?;
        let sabotaged = self.sabotaged(Check::ForeignCertificateRefused);
        let signer = if sabotaged { Signer::Mesh } else { Signer::Itself };
        let mut stranger = Stranger::knock(self.world, signer)?;
        let reason = stranger.turned_away(SOON).await?;
        let after = until(SOON, "hq to count a refused certificate", async || match counted().await? {
            after if after > before => Ok(after),
            _ => Err(hq.failure(format!("its counter stays at {before}"))),
        })
        .await?;
        Ok(format!(
            "hq refused it and counts {after} refused certificates, {before} before; the stranger saw: {reason}"
        ))
    }

    async fn proposal_with_evidence(&mut self) -> Told {
        let lyon = &self.world.lyon;
        let enough = |limit| {
            lyon.until(limit, "proposals that wait for a person", "/v1/approvals", |list| {
                (items(list).len() >= PROPOSALS_MIN).then(|| list.clone())
            })
        };
        let waiting = match enough(STEP_MAX).await {
            Ok(waiting) => waiting,
            Err(failure) if self.sabotaged(Check::ProposalWithEvidence) => return Err(failure),
            // The user's own log has fewer attacks than the story decides.
            Err(_) => {
                ATTACKERS.iter().skip(1).try_for_each(|a| self.world.auth_log.attack(a, Timestamp::now()))?;
                enough(STEP_MAX).await?
            }
        };
        // Oldest first: the API lists the newest first.
        let mut parts = items(&waiting).iter().rev().map(|p| Part {
            id: text(p, "/id").to_owned(),
            address: address(p).to_owned(),
            line: String::new(),
        });
        if let (Some(approved), Some(denied), Some(killed), Some(forged)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        {
            self.parts = Some(Parts { denied, approved, killed, forged });
        }
        let parts = self.parts()?;
        let full = lyon.get(&format!("/v1/proposals/{}", parts.approved.id)).await?;
        let told = self.evidence(&parts.approved, &full)?;
        self.denied = self.deny(&parts.denied).await;
        Ok(format!("{} proposals wait for a person; {told}", items(&waiting).len()))
    }

    /// The evidence of a proposal, compared with the log itself.
    fn evidence(&self, part: &Part, full: &Value) -> Told {
        let wrong =
            |why: String| Err(self.world.lyon.failure(format!("the proposal to block {}: {why}", part.address)));
        let log = look::read_lossy(self.world.auth_log.path())?;
        let lines: Vec<&str> = log.split('\n').collect();
        let evidence = full.pointer("/proposal/evidence").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for e in evidence {
            let number = e.pointer("/line_no").and_then(Value::as_u64).unwrap_or(0);
            let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
            let line = index.and_then(|i| lines.get(i)).copied().unwrap_or_default();
            if !line.contains(&part.address) || !text(e, "/text").contains(&part.address) {
                return wrong(format!("line {number} of {} is not what it says", self.world.auth_log.path().display()));
            }
        }
        let sure = full.pointer("/summary/confidence_ppm").and_then(Value::as_u64).unwrap_or(0);
        let (class, undo) = (text(full, "/summary/class"), text(full, "/proposal/undo_plan"));
        if evidence.is_empty() || sure == 0 || class != "R1" || undo.is_empty() {
            let n = evidence.len();
            return wrong(format!("{n} lines of evidence, confidence {sure} ppm, class {class:?}, undo plan {undo:?}"));
        }
        let n = evidence.len();
        Ok(format!(
            "{} has {n} lines of the log as evidence, confidence {sure} ppm, class {class}, and an undo plan",
            part.address
        ))
    }

    async fn deny(&self, part: &Part) -> Told {
        self.world.decide("deny", &part.id, "the demo says no").await?;
        let lyon = &self.world.lyon;
        self.reach(lyon, part, "DENIED", STEP_MAX).await?;
        if self.sabotaged(Check::DeniedLeavesNoTrace) {
            append(&self.world.blocklist, &format!("{}\n", part.address))?;
        }
        Ok(String::new())
    }

    /// Waits until `node` shows the proposal in this state.
    async fn reach(&self, node: &Node, part: &Part, state: &str, limit: Duration) -> Result<(), Failure> {
        let what =
            format!("{} ({}) to be {state}", crate::output::harmless(&part.address), part.id.get(..12).unwrap_or(""));
        let found = |list: &Value| with_id(list, &part.id).is_some_and(|p| text(p, "/state") == state);
        node.until(limit, &what, "/v1/proposals", |list| found(list).then_some(())).await
    }

    async fn approved_executed_once(&mut self) -> Told {
        let Parts { approved: part, .. } = self.parts()?;
        let (lyon, blocklist) = (&self.world.lyon, &self.world.blocklist);
        leased(lyon).await?;
        self.world.decide("approve", &part.id, "the demo says yes").await?;
        self.reach(lyon, &part, "DONE", STEP_MAX).await?;
        if self.sabotaged(Check::ApprovedExecutedOnce) {
            let copied = look::lines_of(blocklist, &part.address)?.concat();
            append(blocklist, &format!("{copied}\n"))?;
        }
        let line = self.executed_once(&part).await?;
        if self.sabotaged(Check::TtlRemoval) {
            let text = look::read_lossy(blocklist)?.replace(&line, &format!("{line} by hand"));
            std::fs::write(blocklist, text).map_err(|e| Failure::new(format!("cannot edit the blocklist: {e}")))?;
        }
        if let Some(parts) = &mut self.parts {
            parts.approved.line.clone_from(&line);
        }
        Ok(format!("one line in {}: {line}", blocklist.display()))
    }

    /// One line in the file, one start and one outcome in the record; answers with the line.
    async fn executed_once(&self, part: &Part) -> Told {
        let lines = look::lines_of(&self.world.blocklist, &part.address)?;
        let kinds = look::kinds(&self.world.lyon, &part.id).await?;
        let (started, done) = (count(&kinds, "started"), count(&kinds, "done"));
        match (&lines[..], started, done) {
            ([line], 1, 1) => Ok(line.clone()),
            _ => {
                let why = format!("{} has {} lines, {started} starts and {done} outcomes", part.address, lines.len());
                Err(self.world.lyon.failure(why))
            }
        }
    }

    async fn killed_between_permit_and_effect(&mut self) -> Told {
        let Parts { killed: part, .. } = self.parts()?;
        let lyon = &self.world.lyon;
        lyon.stop().await;
        let fault = (!self.sabotaged(Check::KilledBetweenPermitAndEffect)).then_some("effect.before:kill");
        lyon.start(fault)?;
        leased(lyon).await?;
        self.world.decide("approve", &part.id, "the demo says yes").await?;
        let ended = lyon.ended(SOON).await?;
        let standing = look::lines_of(&self.world.blocklist, &part.address)?;
        if ended.success() || !standing.is_empty() {
            return Err(lyon.failure(format!("lyon ended with {ended}, {} lines stand", standing.len())));
        }
        lyon.start(None)?;
        self.reach(lyon, &part, "DONE", STEP_MAX).await?;
        let line = self.executed_once(&part).await?;
        Ok(format!("lyon died before the effect ({ended}), came back, and finished it once: {line}"))
    }

    async fn forged_permit_refused(&self) -> Told {
        let Parts { forged: part, .. } = self.parts()?;
        let World { hq, lyon, .. } = self.world;
        let refused = |own: &Value| own.pointer("/refused/permit.quorum").and_then(Value::as_u64).unwrap_or(0);
        leased(lyon).await?;
        let before = refused(&lyon.get("/v1/self").await?);
        hq.stop().await;
        hq.start((!self.sabotaged(Check::ForgedPermitRefused)).then_some("permit:forge-permit"))?;
        hq.until(START_MAX, "hq to take work", "/v1/ready", |_| Some(())).await?;
        let forged = lyon
            .until(STEP_MAX, "a permit without votes to be refused", "/v1/self", |own| {
                Some(refused(own)).filter(|n| *n > before)
            })
            .await;
        hq.stop().await;
        hq.start(None)?;
        hq.until(START_MAX, "hq to take work", "/v1/ready", |_| Some(())).await?;
        let refusals = forged? - before;
        let why = lyon.get(&format!("/v1/proposals/{}", part.id)).await?;
        let kinds = look::kinds(lyon, &part.id).await?;
        let lines = self.watch.mentions(&part.address);
        if count(&kinds, "permit") == 0 || count(&kinds, "started") > 0 || !lines.is_empty() {
            let lines = lines.len();
            return Err(lyon.failure(format!(
                "{}: the story is {}, {lines} lines stood",
                part.address,
                kinds.join(", ")
            )));
        }
        self.world.decide("deny", &part.id, "nobody approved this").await?;
        self.reach(lyon, &part, "DENIED", STEP_MAX).await?;
        let why = sentences(&why, "/summary/why");
        Ok(format!(
            "lyon holds a permit for {} that nobody voted for, refused {refusals} such permits and wrote no line; it says: {why}",
            part.address
        ))
    }

    async fn ttl_removal(&self) -> Told {
        let Parts { approved: part, .. } = self.parts()?;
        let stood = |what: &str| Failure::new(format!("{} {what}", part.address));
        let until_text = part.line.split_whitespace().nth(3).unwrap_or_default();
        let end: Timestamp = until_text.parse().map_err(|_| stood("never stood in the file with a time"))?;
        let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
        let blocklist = &self.world.blocklist;
        until(left + LATE_MAX, "the line to leave the file", async || {
            match &look::lines_of(blocklist, &part.address)?[..] {
                [] => Ok(()),
                [line, ..] => Err(self.world.lyon.failure(format!("it still stands: {line}"))),
            }
        })
        .await?;
        let path = format!("/v1/audit/{}", part.id);
        let ended = self.world.lyon.until(STEP_MAX, "a fact that the block has ended", &path, |story| {
            let fact = items(story).iter().find(|fact| text(fact, "/kind") == "ended")?;
            text(fact, "/time").parse::<Timestamp>().ok()
        });
        match ended.await? {
            ended if ended < end => Err(stood(&format!("left at {ended}, before its time {end}"))),
            ended => Ok(format!("{} stood until {end}; the record says that it ended at {ended:.3}", part.address)),
        }
    }

    async fn waits_while_hq_dark(&mut self) -> Told {
        let World { hq, lyon, auth_log, .. } = self.world;
        let [source, ..] = ATTACKERS;
        if self.sabotaged(Check::EqualStateHashes) {
            self.cut_off_porto().await?;
        }
        active(lyon).await?;
        let facts = |own: &Value| own.pointer("/facts").and_then(Value::as_u64).unwrap_or(0);
        let before = facts(&lyon.get("/v1/self").await?);
        if !self.sabotaged(Check::WaitsWhileHqDark) {
            hq.kill().await;
        }
        auth_log.attack(source, Timestamp::now())?;
        self.world.propose_where_full(source).await?;
        let what = format!("a proposal about {source} that names the coordinator it waits for");
        let waits = lyon
            .until(DARK_MAX, &what, "/v1/proposals", |list| {
                let p = items(list).iter().find(|p| address(p) == source)?;
                let why = sentences(p, "/why");
                let waits = text(p, "/state") == "PROPOSED" && why.contains("no coordinator is connected");
                waits.then(|| (Part { id: text(p, "/id").into(), address: source.into(), line: String::new() }, why))
            })
            .await;
        let own = lyon.get("/v1/self").await;
        // It goes on, whatever became of the check.
        if hq.gone().is_some() {
            hq.start(None)?;
        }
        let (part, why) = waits?;
        self.dark = Some(part);
        let own = own?;
        let (state, after) = (text(&own, "/state").to_owned(), facts(&own));
        if state != "active" || after <= before {
            return Err(lyon.failure(format!("lyon was {state} and held {after} facts, {before} before")));
        }
        Ok(format!(
            "with hq killed lyon was {state}, recorded {} facts more and proposed {source}: {why}",
            after - before
        ))
    }

    /// Restarts porto where nobody finds it, and with nobody to call.
    async fn cut_off_porto(&self) -> Result<(), Failure> {
        let porto = &self.world.porto;
        porto.stop().await;
        let path = porto.dir.config();
        let failed = |e: std::io::Error| Failure::new(format!("cannot edit {}: {e}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let edited: String = text
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some(("listen", _)) if line.contains(&self.world.ports[2].mesh.to_string()) => {
                    "listen = \"127.0.0.2:0\"\n".replace(":0", &format!(":{}", self.world.ports[2].mesh.port()))
                }
                Some(("join", _)) => "join = [\"127.0.0.3:9\"]\n".into(),
                _ => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&path, edited).map_err(failed)?;
        porto.start(None)?;
        porto.until(START_MAX, "porto to take work", "/v1/ready", |_| Some(())).await
    }

    async fn equal_state_hashes(&self) -> Told {
        let World { hq, lyon, porto, .. } = self.world;
        hq.until(START_MAX, "hq to take work", "/v1/ready", |_| Some(())).await?;
        if let Some(part) = &self.dark {
            self.reach(hq, part, "PENDING_APPROVAL", DARK_MAX).await?;
            self.world.decide("approve", &part.id, "the demo says yes").await?;
            self.reach(lyon, part, "DONE", STEP_MAX).await?;
            self.executed_once(part).await?;
        }
        until(STEP_MAX, "equal hashes", async || {
            let (at_hq, at_lyon, at_porto) =
                tokio::try_join!(hq.get("/v1/sync"), lyon.get("/v1/sync"), porto.get("/v1/sync"))?;
            let mesh = [&at_hq, &at_lyon, &at_porto].map(|at| text(at, "/state_hash/mesh"));
            let site = [&at_hq, &at_lyon].map(|at| text(at, "/state_hash/site~1lyon"));
            let short = |hash: &str| hash.get(..12).unwrap_or("none").to_owned();
            let equal = |hashes: &[&str]| hashes.iter().all(|h| !h.is_empty() && Some(h) == hashes.first());
            let told = format!("mesh {}, site/lyon {}", mesh.map(short).join(" "), site.map(short).join(" "));
            if equal(&mesh) && equal(&site) { Ok(told) } else { Err(porto.failure(told)) }
        })
        .await
    }

    async fn denied_leaves_no_trace(&self) -> Told {
        let Parts { denied: part, .. } = self.parts()?;
        self.denied.clone()?;
        for node in [&self.world.lyon, &self.world.hq] {
            self.reach(node, &part, "DENIED", SOON).await?;
            let kinds = look::kinds(node, &part.id).await?;
            if count(&kinds, "started") > 0 {
                return Err(node.failure(format!("{} was started: {}", part.address, kinds.join(", "))));
            }
        }
        match &self.watch.mentions(&part.address)[..] {
            [] => Ok(format!("{} was denied; no line ever mentioned it, no node started it", part.address)),
            [line, ..] => {
                Err(self.world.lyon.failure(format!("{} was denied, but stood in the file: {line}", part.address)))
            }
        }
    }
}

/// Waits until the node is active; answers with what it says of itself.
async fn active(node: &Node) -> Result<Value, Failure> {
    node.until(START_MAX, "it to be active", "/v1/self", |own| (text(own, "/state") == "active").then(|| own.clone()))
        .await
}

/// Waits until the node is active with a lease from hq and a link to it: it may act.
async fn leased(node: &Node) -> Result<(), Failure> {
    let ready =
        |own: &Value| text(own, "/state") == "active" && own.pointer("/lease/age_ms").is_some_and(Value::is_u64);
    node.until(START_MAX, "it to be active with a lease", "/v1/self", |own| ready(own).then_some(())).await
}

fn append(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes()))
        .map_err(|e| Failure::new(format!("cannot append to {}: {e}", path.display())))
}
