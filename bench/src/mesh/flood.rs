//! First packets of handshakes by the thousand, from nobody, against a real node; and an honest peer that comes meanwhile.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cauldron_identity::x509::AuthorityCa;
use cauldron_identity::{MeshId, SpiffeId};
use cauldron_mesh::MeshConfig;
use cauldron_tests::{Mesh, Plan};

use super::initial::Initials;
use super::peers::{Peer, source};
use super::runtime;
use crate::spine::{build, percentile, rss_mb};
use crate::{Bound, Figure, Report, approve};

/// The figures.
const RATE: u32 = 10_000;
const LASTS: Duration = Duration::from_secs(10);
const JOIN_P99_MS_MAX: f64 = 2_000.0;
const BYTES_RATIO_MAX: f64 = 3.0;
/// What `mesh/src/limits.rs` lets strangers hold: 256 handshakes with their buffers and 4 MiB of datagrams.
const GROWTH_MB_MAX: f64 = 32.0;
/// Of the rate; below it the flood was none.
const RATE_SHARE_MIN: f64 = 0.95;
/// The flood comes from so many ports, which take turns.
const SOCKETS: usize = 64;
const TICK: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_heard: AtomicU64,
    retries: AtomicU64,
}

pub(super) fn measure() -> Result<Report, String> {
    build()?;
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let own = mesh.hq.get("/v1/self");
    let to: SocketAddr = own["listen"][0].as_str().and_then(|a| a.parse().ok()).ok_or("hq names no address")?;
    let pin: MeshId = own["mesh"].as_str().and_then(|id| id.parse().ok()).ok_or("hq names no mesh")?;
    // lyon's place is taken by a peer of this process, with lyon's key and name.
    let author = Arc::new(approve::key_file(&mesh.lyon.dir().join("author.key"))?);
    mesh.lyon.stop();
    let id = SpiffeId::new(Mesh::site_id("lyon")).map_err(|e| e.to_string())?;
    let read =
        |name: &str| std::fs::read_to_string(mesh.hq.dir().join("ca").join(name)).map_err(|e| format!("{name}: {e}"));
    let ca = AuthorityCa::from_pem(&read("root.key")?, &read("root.pem")?).map_err(|e| e.to_string())?;
    let source = source(&ca, &id)?;
    let config = || {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        MeshConfig::new(any, pin, author.clone(), source.clone())
    };
    let before = rss_mb(mesh.hq.pid())?;
    let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let flooding = {
        let (tally, over) = (tally.clone(), over.clone());
        std::thread::spawn(move || flood(to, &tally, &over))
    };
    let runtime = runtime()?;
    let (began, mut joins, mut most) = (Instant::now(), Vec::new(), before);
    while began.elapsed() < LASTS {
        joins.push(runtime.block_on(join(config(), to))?);
        most = most.max(rss_mb(mesh.hq.pid())?);
    }
    over.store(true, Relaxed);
    flooding.join().map_err(|_| "the flood panicked")??;
    let (sent, out, heard) =
        (tally.sent.load(Relaxed), tally.bytes_sent.load(Relaxed), tally.bytes_heard.load(Relaxed));
    let figure =
        |name: &str, value, unit, target| Figure { name: name.to_owned(), value, unit, yardstick: None, target };
    let retried = tally.retries.load(Relaxed);
    mesh.hq.stop();
    Ok(Report {
        figures: vec![
            figure(
                "flood of Initials at a node",
                sent as f64 / LASTS.as_secs_f64(),
                "/s",
                Some(Bound::AtLeast(f64::from(RATE) * RATE_SHARE_MIN)),
            ),
            figure("of them answered with Retry", retried as f64 / sent.max(1) as f64 * 100.0, "%", None),
            figure("memory that the flood adds", most - before, "MB", Some(Bound::AtMost(GROWTH_MB_MAX))),
            figure(
                "bytes to the flooders for each of theirs",
                heard as f64 / out.max(1) as f64,
                "",
                Some(Bound::AtMost(BYTES_RATIO_MAX)),
            ),
            figure(
                &format!("an honest peer dials during it, {} times, p50", joins.len()),
                percentile(&joins, 0.5),
                "ms",
                None,
            ),
            figure(
                "an honest peer dials during it, p99",
                percentile(&joins, 0.99),
                "ms",
                Some(Bound::AtMost(JOIN_P99_MS_MAX)),
            ),
        ],
    })
}

/// From dialling to the link, of a node that has just started.
async fn join(config: MeshConfig, to: SocketAddr) -> Result<f64, String> {
    let mut peer = Peer::start(config).await?;
    let start = Instant::now();
    peer.handle.dial(to.to_string());
    peer.up().await?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    peer.handle.shutdown().await;
    Ok(took)
}

/// Sends what is due, and hears what comes back, until told to stop. What is late is made up for.
fn flood(to: SocketAddr, tally: &Tally, over: &AtomicBool) -> Result<(), String> {
    let sockets: Vec<UdpSocket> =
        (0..SOCKETS).map(|_| opened()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut initials = Initials::new()?;
    let (start, mut packet) = (Instant::now(), Vec::new());
    while !over.load(Relaxed) {
        let due = (start.elapsed().min(LASTS).as_secs_f64() * f64::from(RATE)) as u64;
        let mut n = tally.sent.load(Relaxed);
        while n < due {
            initials.next(n, &mut packet)?;
            // A full buffer of the system drops what a network would have dropped.
            if sockets[n as usize % SOCKETS].send_to(&packet, to).is_ok() {
                tally.bytes_sent.fetch_add(packet.len() as u64, Relaxed);
            }
            n += 1;
        }
        tally.sent.store(n, Relaxed);
        hear(&sockets, tally);
        std::thread::sleep(TICK);
    }
    // What is still on its way.
    std::thread::sleep(Duration::from_secs(2));
    hear(&sockets, tally);
    Ok(())
}

fn opened() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn hear(sockets: &[UdpSocket], tally: &Tally) {
    let mut buffer = [0; 2048];
    for socket in sockets {
        while let Ok((bytes, _)) = socket.recv_from(&mut buffer) {
            tally.bytes_heard.fetch_add(bytes as u64, Relaxed);
            // A long header of type Retry (RFC 9000 §17.2.5).
            tally.retries.fetch_add(u64::from(buffer[0] & 0xf0 == 0xf0), Relaxed);
        }
    }
}
