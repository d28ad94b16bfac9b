//! What it costs the authority that a whole mesh renews: real requests on the enrol lane of a real process, handshakes included.

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
/// The figure: per cent of a core.
const SHARE_MAX: f64 = 1.0;
/// Time that the authority needs for itself is taken off; this long it is watched doing nothing else.
const IDLE: Duration = Duration::from_secs(10);
/// sysconf(_SC_CLK_TCK) on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of the authority for 1,000 renewals, as a share of a core over an hour.
pub(crate) fn figure() -> Result<Figure, String> {
    spine::build()?;
    let mesh = Mesh::only_hq(cauldron_tests::Plan::default());
    let joined = mesh.join("lyon", &[]);
    if joined.code != Some(0) {
        return Err(format!("lyon did not join: {}", joined.err));
    }
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
    for _ in 0..NODES {
        let csr = SvidKey::generate().and_then(|key| key.csr_der()).map_err(|e| e.to_string())?;
        let enrol = Enrol::new(&pin, &author, &id);
        let request = |exporter: &[u8; 32]| EnrolRequest::new(pin, None, enrol, csr, &author, exporter).to_bytes();
        let check = |exporter: &[u8; 32], bytes: &[u8]| {
            EnrolReply::open(bytes, &pin, exporter, &Believed::default()).map_err(|e| e.to_string())
        };
        match runtime.block_on(enrol_client(&address, request, check)).map_err(|e| e.to_string())? {
            Outcome::Granted(_) => {}
            Outcome::Refused(why) => return Err(format!("hq refuses to renew: {}", why.reason)),
        }
    }
    let spent = processor_s(mesh.hq.pid())? - before - idle * began.elapsed().as_secs_f64();
    Ok(Figure {
        name: format!("{NODES} nodes renew in an hour: the authority's share of a core"),
        value: spent / 3_600.0 * 100.0,
        unit: "%",
        yardstick: None,
        target: Some(Bound::AtMost(SHARE_MAX)),
    })
}

/// User and system time of a process (proc_pid_stat(5), fields 14 and 15).
fn processor_s(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let behind_name = text.rsplit(") ").next().unwrap_or_default();
    let ticks: Vec<f64> = behind_name.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    if ticks.len() == 2 {
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    } else {
        Err(format!("{path} is malformed"))
    }
}
