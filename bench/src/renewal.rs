//! What it costs the authority that a whole mesh renews: real requests on the enrol lane of a real process, handshakes included,
//! counted up from a burst.

use std::time::{Duration, Instant};

use cauldron_identity::authority::Enrol;
use cauldron_identity::x509::SvidKey;
use cauldron_identity::{MeshId, SpiffeId};
use cauldron_mesh::enrol_client;
use cauldron_node_core::enrol::{Believed, EnrolReply, EnrolRequest, Outcome};
use cauldron_tests::Mesh;

use crate::{Bound, Figure, approve, spine};

/// The mesh: as many nodes, each renewing once in an hour.
const NODES: u32 = 1_000;
/// Renewals that are made. The authority lets one address ask 30 times at once, and then once a second.
const BURST: u32 = 25;
/// The figure: per cent of a core.
const SHARE_MAX: f64 = 1.0;
/// Time that the authority needs for itself is taken off; this long it is watched doing nothing else.
const IDLE: Duration = Duration::from_secs(10);

/// Processor time of the authority for 1,000 renewals, as a share of a core over an hour.
pub(crate) fn figure() -> Result<Figure, String> {
    spine::build()?;
    let mut mesh = Mesh::only_hq(cauldron_tests::Plan::default());
    let joined = mesh.join("lyon", &[]);
    if joined.code != Some(0) {
        return Err(format!("lyon did not join: {}", joined.err));
    }
    // Its first start redeems the token; from there on its author key renews.
    mesh.lyon.start();
    mesh.lyon.until_up();
    mesh.lyon.stop();
    let author = approve::key_file(&mesh.lyon.dir().join("author.key"))?;
    let id = SpiffeId::new(Mesh::site_id("lyon")).map_err(|e| e.to_string())?;
    let own = mesh.hq.get("/v1/self");
    let address = own["listen"][0].as_str().ok_or("hq names no address")?.to_owned();
    let pin: MeshId = own["mesh"].as_str().and_then(|id| id.parse().ok()).ok_or("hq names no mesh")?;

    let idle = {
        let before = processor_s(mesh.hq.pid())?;
        std::thread::sleep(IDLE);
        (processor_s(mesh.hq.pid())? - before) / IDLE.as_secs_f64()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (before, began) = (processor_s(mesh.hq.pid())?, Instant::now());
    for _ in 0..BURST {
        let csr = SvidKey::generate().and_then(|key| key.csr_der()).map_err(|e| e.to_string())?;
        let enrol = Enrol::new(&pin, &author, &id);
        let request = |exporter: &[u8; 32]| EnrolRequest::new(pin, None, enrol, csr, &author, exporter).to_bytes();
        let check = |exporter: &[u8; 32], bytes: &[u8]| {
            EnrolReply::open(bytes, &pin, exporter, &Believed::default()).map_err(|e| e.to_string())
        };
        match runtime.block_on(enrol_client(&address, request, check)).map_err(|e| e.to_string())? {
            Outcome::Granted(_) => {}
            Outcome::Part(_) => return Err("hq shows its chain in parts".into()),
            Outcome::Refused(why) => return Err(format!("hq refuses to renew: {}", why.reason)),
        }
    }
    let spent = processor_s(mesh.hq.pid())? - before - idle * began.elapsed().as_secs_f64();
    Ok(Figure {
        name: format!("{NODES} nodes renew in an hour: the authority's share of a core"),
        value: spent / f64::from(BURST) * f64::from(NODES) / 3_600.0 * 100.0,
        unit: "%",
        yardstick: None,
        target: Some(Bound::AtMost(SHARE_MAX)),
    })
}

/// Time that the threads of a process were running: the first field of each `schedstat`, nanoseconds
/// (Documentation/scheduler/sched-stats.rst).
fn processor_s(pid: u32) -> Result<f64, String> {
    let folder = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&folder).map_err(|error| format!("cannot read {folder}: {error}"))?;
    let spent = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    let spent: f64 = spent.sum();
    if spent > 0.0 { Ok(spent / 1e9) } else { Err(format!("{folder} names no schedstat")) }
}
