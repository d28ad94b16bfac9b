//! The story told to a person, who may decide in a second terminal.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::auth_log::{ATTACKERS, ATTEMPTS};
use super::look::{self, address, sentences, text, with_id};
use super::process::{Failure, Node, until};
use super::tell::Tell;
use super::world::{START_MAX, World};
use crate::output::{items, relative};

/// How long the demo waits for the person before it decides itself.
const PATIENCE: Duration = Duration::from_secs(25);
/// A step on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(30);
/// Between two looks at whether somebody decided, or a node died.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two attempts of an attack, for the eye.
const ATTEMPT_EVERY: Duration = Duration::from_millis(400);
/// Lines of evidence that are shown.
const EVIDENCE_MAX: usize = 3;

/// Tells the six steps, then keeps the nodes running until it is dropped.
///
/// # Errors
/// [`Failure`] of the first step that did not come about.
pub async fn tell(world: &World, tell: &Tell) -> Result<(), Failure> {
    let story = Story { world, tell };
    story.mesh().await?;
    let waiting = story.proposals().await?;
    let executed = story.decision(&waiting).await?;
    story.effect(&executed).await?;
    story.scopes(&executed).await?;
    story.dark().await?;
    story.end(&executed).await
}

struct Story<'w> {
    world: &'w World,
    tell: &'w Tell,
}

impl Story<'_> {
    /// A command line that works from any directory.
    fn command(&self, node: &Node, rest: &str) -> String {
        format!("{} --node {} {rest}", shell(&self.world.exe), shell(node.dir.root()))
    }

    async fn mesh(&self) -> Result<(), Failure> {
        let (world, tell) = (self.world, self.tell);
        tell.step(1, "Three nodes found a mesh")?;
        tell.prose(
            "Three processes of this program start on this machine, each with its own data directory, certificate and \
             journal: hq coordinates, lyon and porto are sites. The charter's council is a fresh key of yours.",
        )?;
        world.rise(&[&world.lyon, &world.porto]).await?;
        for node in world.nodes() {
            node.until(START_MAX, "two links", "/v1/peers", |peers| {
                (items(peers).iter().filter(|p| text(p, "/state") == "alive").count() == 2).then_some(())
            })
            .await?;
            let own = node
                .until(START_MAX, "it to be active", "/v1/self", |own| {
                    (text(own, "/state") == "active").then(|| own.clone())
                })
                .await?;
            tell.line(&format!(
                "{:<6} {:<56} 2 links, SVID ends {}",
                node.name,
                text(&own, "/spiffe_id"),
                when(text(&own, "/svid/not_after"))
            ))?;
        }
        tell.prose(&format!(
            "Everything lies in {}. In a second terminal you can look around:",
            world.root().display()
        ))?;
        tell.line(&self.command(&world.lyon, "status"))?;
        tell.line(&self.command(&world.hq, "peers"))?;
        Ok(())
    }

    async fn proposals(&self) -> Result<Vec<Value>, Failure> {
        let (world, tell) = (self.world, self.tell);
        tell.step(2, "lyon's agent reads a log and proposes")?;
        tell.prose(&format!(
            "An agent at lyon reads {}. It may propose, and nothing else. Five failed logins from one source within ten \
             minutes are enough for it.",
            world.auth_log.path().display()
        ))?;
        let some = |limit| {
            world.lyon.until(limit, "a proposal that waits for a person", "/v1/approvals", |list| {
                (!items(list).is_empty()).then(|| items(list).to_vec())
            })
        };
        let waiting = match some(PATIENCE).await {
            Ok(waiting) => waiting,
            Err(_) => {
                tell.prose("This log names no source that is worth a block: the demo appends an attack to its copy.")?;
                let [_, source, ..] = ATTACKERS;
                world.auth_log.attack(source, Timestamp::now())?;
                some(STEP_MAX).await?
            }
        };
        for proposal in &waiting {
            tell.line(&format!("{}  {}", text(proposal, "/short"), brief(proposal)))?;
        }
        // Oldest first, as they were found.
        if let Some(first) = waiting.last() {
            self.explain(first).await?;
        }
        Ok(waiting)
    }

    async fn explain(&self, proposal: &Value) -> Result<(), Failure> {
        let full = self.world.lyon.get(&format!("/v1/proposals/{}", text(proposal, "/id"))).await?;
        let sure = full.pointer("/summary/confidence_ppm").and_then(Value::as_u64).unwrap_or(0) / 10_000;
        self.tell.prose(&format!(
            "For {}, for example: class {}, confidence {sure} %, undo: {}. Evidence:",
            address(proposal),
            text(&full, "/summary/class"),
            text(&full, "/proposal/undo_plan"),
        ))?;
        let evidence = full.pointer("/proposal/evidence").and_then(Value::as_array);
        let lines = evidence.map_or(&[][..], Vec::as_slice);
        for e in lines.iter().take(EVIDENCE_MAX) {
            let number = e.pointer("/line_no").and_then(Value::as_u64).unwrap_or(0);
            self.tell.line(&format!("line {number}: {}", text(e, "/text")))?;
        }
        if lines.len() > EVIDENCE_MAX {
            self.tell.line(&format!("and {} more", lines.len() - EVIDENCE_MAX))?;
        }
        Ok(())
    }

    /// Waits for a person; answers with what was executed.
    async fn decision(&self, waiting: &[Value]) -> Result<Value, Failure> {
        let (world, tell) = (self.world, self.tell);
        tell.step(3, "The guardrail asks for a person")?;
        tell.prose(&format!(
            "Policy lets nobody block an address alone: somebody on duty decides. That is you ({}). In a second terminal:",
            world.person
        ))?;
        let first = waiting.last().map_or("", |p| text(p, "/short"));
        for rest in [
            "approvals list".into(),
            format!("approvals show {first}"),
            format!("approvals approve {first}"),
            "approvals deny ID".into(),
        ] {
            tell.line(&self.command(&world.hq, &rest))?;
        }
        tell.prose(&format!("The demo waits {} s for you to approve something.", PATIENCE.as_secs()))?;
        let began = Instant::now();
        let mut denied = 0;
        while began.elapsed() < PATIENCE {
            let list = world.lyon.get("/v1/proposals").await?;
            if let Some(moving) = items(&list).iter().find(|p| text(p, "/state") != "DENIED" && decided(p)) {
                tell.prose(&format!("You approved a block of {}.", address(moving)))?;
                return self.carried_out(text(moving, "/id")).await;
            }
            let now_denied = items(&list).iter().filter(|p| text(p, "/state") == "DENIED").count();
            if now_denied > denied {
                denied = now_denied;
                tell.prose("You denied one: it is over for good, and leaves no trace at the effect.")?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.decide_itself(denied == 0).await
    }

    /// With the person's key and the command above.
    async fn decide_itself(&self, deny_one: bool) -> Result<Value, Failure> {
        let (world, tell) = (self.world, self.tell);
        let list = world.lyon.get("/v1/approvals").await?;
        let mut open = items(&list).iter().rev();
        let Some(approve) = open.next() else {
            return Err(world.lyon.failure("nothing is left to approve"));
        };
        if let Some(deny) = open.next().filter(|_| deny_one) {
            world.decide("deny", text(deny, "/id"), "decided by the demo").await?;
            tell.prose(&format!(
                "The demo decides with your key. It denies {}: that is over for good.",
                address(deny)
            ))?;
        }
        world.decide("approve", text(approve, "/id"), "decided by the demo").await?;
        tell.prose(&format!("The demo approves {} with your key.", address(approve)))?;
        self.carried_out(text(approve, "/id")).await
    }

    async fn carried_out(&self, id: &str) -> Result<Value, Failure> {
        self.world
            .lyon
            .until(STEP_MAX, "the block to be done", "/v1/proposals", |list| {
                with_id(list, id).filter(|p| text(p, "/state") == "DONE").cloned()
            })
            .await
    }

    async fn effect(&self, executed: &Value) -> Result<(), Failure> {
        let (world, tell) = (self.world, self.tell);
        tell.step(4, "hq permits, lyon judges again and acts once")?;
        tell.prose(&format!(
            "hq issued a permit for exactly this, once. lyon, which owns the blocklist, evaluated policy and votes by \
             itself, wrote down that it starts, and then put the line into {}:",
            world.blocklist.display()
        ))?;
        for line in look::lines_of(&world.blocklist, address(executed))? {
            tell.line(&line)?;
        }
        tell.prose("The line leaves the file by itself when its time is over.")?;
        Ok(())
    }

    async fn scopes(&self, executed: &Value) -> Result<(), Failure> {
        let (world, tell) = (self.world, self.tell);
        tell.step(5, "porto sees the public line, hq the whole story")?;
        let line = world
            .porto
            .until(STEP_MAX, "lyon's line on the board", "/v1/sites", |sites| {
                let line = items(sites).iter().find(|s| text(s, "/site") == "lyon")?.get("line")?;
                line.as_object().is_some_and(|l| !l.is_empty()).then(|| line.to_string())
            })
            .await?;
        let sync = world.porto.get("/v1/sync").await?;
        let scopes: Vec<&str> = sync["scopes"].as_array().into_iter().flatten().map(|s| text(s, "/scope")).collect();
        tell.prose(&format!(
            "porto holds the scopes {}, so all it knows of lyon is the public board: {line}",
            scopes.join(", ")
        ))?;
        tell.prose("hq holds the whole story:")?;
        let story = world.hq.get(&format!("/v1/audit/{}", text(executed, "/id"))).await?;
        for fact in items(&story) {
            let summary: String = text(fact, "/summary").chars().take(72).collect();
            tell.line(&format!("{:<9} {summary}", text(fact, "/kind")))?;
        }
        tell.line(&self.command(&world.hq, &format!("audit show {}", text(executed, "/short"))))?;
        Ok(())
    }

    async fn dark(&self) -> Result<(), Failure> {
        let (world, tell) = (self.world, self.tell);
        tell.step(6, "hq is killed, and comes back")?;
        let [source, ..] = ATTACKERS;
        world.hq.kill().await;
        tell.prose(&format!("hq was killed as by a power cut, and {source} begins to attack lyon:"))?;
        for n in 0..ATTEMPTS {
            tell.line(&world.auth_log.failed_login(source, n, Timestamp::now())?)?;
            tokio::time::sleep(ATTEMPT_EVERY).await;
        }
        if world.propose_where_full(source).await? {
            tell.prose(
                "lyon's agent has as many proposals open as it may, so somebody at lyon proposes a block by hand.",
            )?;
        }
        tell.prose("lyon goes on recording and proposing; within 10 s it knows that hq is gone:")?;
        let what = format!("a proposal about {source} that waits for hq");
        let why = world.lyon.until(STEP_MAX, &what, "/v1/proposals", |list| {
            let p = items(list).iter().find(|p| address(p) == source)?;
            let why = sentences(p, "/why");
            why.contains("no coordinator is connected").then(|| (brief(p).to_owned(), why))
        });
        let (summary, why) = why.await?;
        tell.line(&summary)?;
        tell.line(&why)?;
        world.hq.start(None)?;
        world.hq.until(START_MAX, "hq to take work", "/v1/ready", |_| Some(())).await?;
        let hashes = until(STEP_MAX, "equal state", async || {
            let [hq, lyon, porto] = world.nodes();
            let (hq, lyon, porto) = tokio::try_join!(hq.get("/v1/sync"), lyon.get("/v1/sync"), porto.get("/v1/sync"))?;
            let mesh = [&hq, &lyon, &porto].map(|at| text(at, "/state_hash/mesh").to_owned());
            let site = [&hq, &lyon].map(|at| text(at, "/state_hash/site~1lyon").to_owned());
            let equal = mesh.iter().all(|h| *h == mesh[0]) && site[0] == site[1];
            if equal { Ok((mesh[0].clone(), site[0].clone())) } else { Err(Failure::new("the nodes still differ")) }
        });
        let (mesh, site) = hashes.await?;
        let short = |hash: &str| hash.get(..12).unwrap_or("none").to_owned();
        tell.prose(&format!(
            "hq is back and all hold the same again: mesh {} at the three, site/lyon {} at hq and lyon. Nothing happened \
             twice, and the proposal waits for you.",
            short(&mesh),
            short(&site)
        ))?;
        Ok(())
    }

    /// Keeps the nodes running; ends only when one of them does.
    async fn end(&self, executed: &Value) -> Result<(), Failure> {
        let (world, tell) = (self.world, self.tell);
        let address = address(executed);
        until(STEP_MAX.max(world.block_ttl()), "the block to end", async || {
            match look::lines_of(&world.blocklist, address)?.is_empty() {
                true => Ok(()),
                false => Err(Failure::new(format!("{address} still stands"))),
            }
        })
        .await?;
        tell.prose(&format!("Meanwhile the time of the block was over: {address} has left the blocklist."))?;
        tell.prose("The nodes run until you press Ctrl-C. Try for example:")?;
        tell.line(&self.command(&world.hq, "approvals list"))?;
        tell.line(&self.command(&world.lyon, "audit verify"))?;
        tell.line(&self.command(&world.porto, "sites"))?;
        loop {
            if let Some((node, why)) = world.nodes().into_iter().find_map(|node| Some((node, node.gone()?))) {
                return Err(node.failure(why));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The sentence about a proposal without what is in brackets: the times.
fn brief(proposal: &Value) -> &str {
    text(proposal, "/summary").split(" (").next().unwrap_or_default()
}

/// Whether somebody said something about it.
fn decided(proposal: &Value) -> bool {
    !matches!(text(proposal, "/state"), "PROPOSED" | "EVALUATED" | "PENDING_APPROVAL" | "EXPIRED" | "VOID")
}

fn when(time: &str) -> String {
    time.parse().map_or_else(|_| "at an unknown time".to_owned(), |then| relative(then, Timestamp::now()))
}

/// A path as a shell takes it back.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,=:@".contains(&b);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
