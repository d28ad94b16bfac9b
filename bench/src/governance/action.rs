//! One governed action from end to end: proposed, judged, permitted, judged again, begun, done, all of it on disk.
//!
//! Two processes on one machine, hq and lyon. The target is architecture.md's: evaluate, permit, re-evaluate, consume; from lyon's word that the proposal is
//! stored to its word that the start is. On the way lie two commits: of decision and permit at hq, and of the start at lyon. The whole, from handing
//! the proposal over until `done` is stored, has three more: the proposal's, the connector's and the outcome's.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Node, Plan, eventually};

use super::latency;
use crate::{Bound, Figure, fsync, spine};

/// The figure, beside what two fsyncs take.
const ACTION_MS_MAX: f64 = 5.0;
const SYNCS: usize = 2;
const ACTIONS: usize = 200;
/// Not counted: caches and links are cold.
const WARM: usize = 20;
const TTL_S: u32 = 3_600;
const OUTCOME_MAX: Duration = Duration::from_secs(10);
const KIND: &str = "\"kind\":\"";

pub(super) fn figures(figures: &mut Vec<Figure>) -> Result<(), String> {
    spine::build()?;
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    allow(&mesh)?;
    let disk = latency(fsync::times_ms(mesh.folder(), SYNCS, ACTIONS)?);
    let (events, at_hq) = (Events::follow(&mesh.lyon)?, Events::follow(&mesh.hq)?);
    let (mut consumed, mut whole) = (Vec::with_capacity(ACTIONS), Vec::with_capacity(ACTIONS));
    let (mut permitted, mut begun) = (Vec::with_capacity(ACTIONS), Vec::with_capacity(ACTIONS));
    for n in 0..WARM + ACTIONS {
        let address = format!("198.51.{}.{}", 100 + n / 250, n % 250 + 1);
        let start = Instant::now();
        mesh.lyon.propose(&address, TTL_S).ok_or("lyon recorded no proposal")?;
        let (recorded, started, done) = (events.until("proposal")?, events.until("started")?, events.until("done")?);
        let permit = at_hq.until("permit")?;
        if n >= WARM {
            permitted.push((permit - recorded).as_secs_f64() * 1e3);
            begun.push((started - permit).as_secs_f64() * 1e3);
            consumed.push((started - recorded).as_secs_f64() * 1e3);
            whole.push((done - start).as_secs_f64() * 1e3);
        }
    }
    let carried_out = mesh.carried_out();
    if carried_out != WARM + ACTIONS {
        return Err(format!("{carried_out} addresses are blocked, not {}", WARM + ACTIONS));
    }
    let (consumed, whole) = (latency(consumed), latency(whole));
    let (permitted, begun) = (latency(permitted), latency(begun));
    let sync = |name: &str, ms| Some((format!("{SYNCS} fsyncs, {name}"), ms));
    let figure = |name: String, value, yardstick, target| Figure { name, value, unit: "ms", yardstick, target };
    for (name, consumed, permitted, begun, whole, disk, most) in [
        ("p50", consumed.p50, permitted.p50, begun.p50, whole.p50, disk.p50, None),
        ("p99", consumed.p99, permitted.p99, begun.p99, whole.p99, disk.p99, Some(Bound::AtMost(ACTION_MS_MAX))),
    ] {
        figures.push(figure(format!("governed action, stored to consumed, {name}"), consumed, sync(name, disk), None));
        figures.push(figure(format!("the same, {name}, less {SYNCS} fsyncs"), consumed - disk, None, most));
        figures.push(figure(format!("of which until the permit is stored at hq, {name}"), permitted, None, None));
        figures.push(figure(
            format!("of which from there until the start is stored at lyon, {name}"),
            begun,
            None,
            None,
        ));
        figures.push(figure(format!("governed action, proposed to done, {name}"), whole, sync(name, disk), None));
    }
    Ok(())
}

/// Activates the shipped policy, but that a block is allowed without asking anybody.
fn allow(mesh: &Mesh) -> Result<(), String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies");
    let to = mesh.folder().join("allowing");
    let failed = |e: std::io::Error| format!("cannot copy the policies: {e}");
    std::fs::create_dir(&to).map_err(failed)?;
    for file in std::fs::read_dir(from).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        let (Some(name), mut text) = (path.file_name(), std::fs::read_to_string(&path).map_err(failed)?) else {
            continue;
        };
        match name.to_string_lossy().as_ref() {
            "manifest.json" => text = text.replace("\"version\": \"", "\"version\": \"allowing-"),
            "security_address_block.rego" => {
                let asks = text.find("step_up contains").ok_or("the shipped policy asks nobody")?;
                text.truncate(asks);
                text.push_str("allow contains {\"rule\": \"bench.allows\", \"why\": \"w\"} if input.proposal.operation == \"security.address.block\"\n");
            }
            name if name.ends_with("_test.rego") => continue,
            _ => {}
        }
        std::fs::write(to.join(name), text).map_err(failed)?;
    }
    let (folder, key) = (to.display().to_string(), mesh.hq.dir().join("people/ana.council.key").display().to_string());
    let _ = mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &key, "--yes"]).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        let active = || node.get("/v1/self")["policy"].as_str().is_some_and(|p| p.starts_with("allowing-"));
        eventually("the policy is active", active);
    }
    Ok(())
}

/// What a node says that it stores, as it does: each with the moment at which it was heard.
struct Events {
    heard: Receiver<(Instant, String)>,
}

impl Events {
    fn follow(node: &Node) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot follow the events: {e}");
        let mut stream = UnixStream::connect(node.dir().join("node.sock")).map_err(failed)?;
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: node\r\n\r\n").map_err(failed)?;
        let mut lines = BufReader::new(stream).lines();
        // The head, so that nothing is missed once this returns.
        loop {
            match lines.next() {
                Some(Ok(line)) if line.is_empty() => break,
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(failed(e)),
                None => return Err("the node tells nothing".to_owned()),
            }
        }
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let kind = line.split_once(KIND).and_then(|(_, rest)| rest.split_once('"'));
                if kind.is_some_and(|(kind, _)| tell.send((Instant::now(), kind.to_owned())).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { heard })
    }

    /// When the next fact of a kind was stored.
    fn until(&self, wanted: &str) -> Result<Instant, String> {
        loop {
            let (at, kind) = self.heard.recv_timeout(OUTCOME_MAX).map_err(|e| format!("no `{wanted}` is told: {e}"))?;
            if kind == wanted {
                return Ok(at);
            }
        }
    }
}
