//! One governed action from end to end: proposed, judged, permitted, judged again, begun, done, all of it on disk.
//!
//! Two processes on one machine, hq and lyon. The clock runs from handing the proposal to lyon until lyon says that `done` is stored. On the way lie
//! the proposal's commit at lyon, that of decision and permit at hq, that of the start at lyon, the connector's own, and that of the outcome.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
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

pub(super) fn figures(figures: &mut Vec<Figure>) -> Result<(), String> {
    spine::build()?;
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    allow(&mesh)?;
    let disk = latency(fsync::times_ms(mesh.folder(), SYNCS, ACTIONS)?);
    let mut events = Events::follow(&mesh.lyon)?;
    let mut times = Vec::with_capacity(ACTIONS);
    for n in 0..WARM + ACTIONS {
        let address = format!("198.51.{}.{}", 100 + n / 250, n % 250 + 1);
        let start = Instant::now();
        mesh.lyon.propose(&address, TTL_S).ok_or("lyon recorded no proposal")?;
        events.until_done()?;
        if n >= WARM {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let carried_out = mesh.carried_out();
    if carried_out != WARM + ACTIONS {
        return Err(format!("{carried_out} addresses are blocked, not {}", WARM + ACTIONS));
    }
    let action = latency(times);
    for (name, value, sync, most) in
        [("p50", action.p50, disk.p50, None), ("p99", action.p99, disk.p99, Some(Bound::AtMost(ACTION_MS_MAX)))]
    {
        figures.push(Figure {
            name: format!("governed action, proposed to done on disk, {name}"),
            value,
            unit: "ms",
            yardstick: Some((format!("{SYNCS} fsyncs, {name}"), sync)),
            target: None,
        });
        figures.push(Figure {
            name: format!("governed action, {name}, less {SYNCS} fsyncs"),
            value: value - sync,
            unit: "ms",
            yardstick: None,
            target: most,
        });
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

/// What a node says that it stores, as it does.
struct Events {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Events {
    fn follow(node: &Node) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot follow the events: {e}");
        let mut stream = UnixStream::connect(node.dir().join("node.sock")).map_err(failed)?;
        stream.set_read_timeout(Some(OUTCOME_MAX)).map_err(failed)?;
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: node\r\n\r\n").map_err(failed)?;
        let mut events = Self { stream, read: Vec::new() };
        events.until("\r\n\r\n")?;
        Ok(events)
    }

    fn until_done(&mut self) -> Result<(), String> {
        self.until("\"kind\":\"done\"")
    }

    fn until(&mut self, text: &str) -> Result<(), String> {
        let mut more = [0; 4096];
        loop {
            if let Some(at) = self.read.windows(text.len()).position(|here| here == text.as_bytes()) {
                self.read.drain(..at + text.len());
                return Ok(());
            }
            let n = self.stream.read(&mut more).map_err(|e| format!("no outcome is told: {e}"))?;
            if n == 0 {
                return Err("the node tells nothing more".to_owned());
            }
            self.read.extend(more.iter().take(n));
        }
    }
}
