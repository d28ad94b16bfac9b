//! What a real node keeps in memory: one that idles, and a hub with many real peers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Node, Plan, append, cauldron, cauldron_with, free_port};

use crate::spine::{build, rss_mb};
use crate::{Bound, Figure, Report};

/// The figures.
const IDLE_MB_MAX: f64 = 32.0;
const HUB_MB_MAX: f64 = 80.0;
const PEERS: usize = 200;
/// Tokens that one call mints, and nodes that start at once: two cores build 200 links in some minutes.
const BATCH: usize = 10;
/// After the last link came up, leases and their allocations are over.
const SETTLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure() -> Result<Report, String> {
    build()?;
    let mut mesh = Mesh::only_hq(Plan::default());
    let mut peers = Vec::with_capacity(PEERS);
    for n in 0..PEERS {
        peers.push(joined(&mesh, n)?);
    }
    let Some((first, rest)) = peers.split_first_mut() else { return Err("no peers".into()) };
    first.start();
    first.until_up();
    sleep(SETTLE);
    let mut figures = vec![
        shown("resident memory, idle: a hub with one peer", rss_mb(mesh.hq.pid())?, Some(IDLE_MB_MAX)),
        shown("resident memory, idle: a site's node", rss_mb(first.pid())?, Some(IDLE_MB_MAX)),
    ];
    for some in rest.chunks_mut(BATCH) {
        some.iter_mut().for_each(Node::start);
        some.iter().for_each(Node::until_up);
    }
    let began = Instant::now();
    let links = || mesh.hq.get("/v1/peers")["items"].as_array().map_or(0, Vec::len);
    while mesh.hq.metric("cauldron_mesh_links") < PEERS as u64 {
        if began.elapsed() > PATIENCE {
            return Err(format!("hq has {} links", links()));
        }
        sleep(Duration::from_millis(500));
    }
    sleep(SETTLE);
    figures.push(shown(
        &format!("resident memory: a hub with {PEERS} peers"),
        rss_mb(mesh.hq.pid())?,
        Some(HUB_MB_MAX),
    ));
    drop(peers);
    mesh.hq.stop();
    Ok(Report { figures })
}

/// A node with a folder and a token, ready to start. Each has an address of its own: the authority lets one address enrol 30
/// nodes at once and then one each second.
fn joined(mesh: &Mesh, n: usize) -> Result<Node, String> {
    let name = format!("n{n}");
    let id = Mesh::site_id(&name);
    let dir = mesh.hq.dir().display().to_string();
    let token = cauldron(mesh.folder(), &["authority", "token", &id, "--node", &dir]);
    if token.code != Some(0) {
        return Err(format!("no token for {name}: {}", token.err));
    }
    let listen = format!("127.0.0.{}:{}", 2 + n, free_port());
    let ran = cauldron_with(mesh.folder(), &["node", "join", "-", "--listen", &listen], token.out.trim(), &[]);
    if ran.code != Some(0) {
        return Err(format!("{name} does not join: {}", ran.err));
    }
    Ok(Node::new(mesh.folder(), &name))
}

fn shown(name: &str, value: f64, most: Option<f64>) -> Figure {
    Figure { name: name.to_owned(), value, unit: "MB", yardstick: None, target: most.map(Bound::AtMost) }
}
