//! The Workload API: how long a program waits for its SVID, from connecting to the first reply, attestation included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cauldron_identity::x509::{AuthorityCa, SvidKey, Validity};
use cauldron_identity::{SpiffeId, TrustDomain, ids};
use cauldron_workload_api::{Entry, Selectors, Served, Server, Svid, client};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::{Bound, Figure};

const FETCHES: usize = 2_000;
/// Left out: the first one reads and digests the executable.
const WARM_UP: usize = 50;
/// The issue's figure, milliseconds.
const P99_MS_MAX: f64 = 2.0;
const NOW_S: u64 = 1_790_000_000;

/// Measures against a server in this process, one caller after the other.
///
/// # Errors
/// Something of it cannot be set up; or a fetch fails.
pub(crate) fn figures() -> Result<Vec<Figure>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(fetches())
}

async fn fetches() -> Result<Vec<Figure>, String> {
    let id = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon/agent/web").map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).map_err(|e| e.to_string())?;
    let (_served, receiver) = watch::channel(Arc::new(state(&id)?));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(Server::new(listener, receiver, Arc::new(|| NOW_S), None).run(stopped));

    let (mut fetched, mut connected) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + FETCHES {
        let start = Instant::now();
        let raw = UnixStream::connect(&socket).await.map_err(|e| e.to_string())?;
        let connecting = start.elapsed();
        drop(raw);
        let start = Instant::now();
        let mut states = client::watch(&socket, id.clone()).await.map_err(|e| e.to_string())?;
        states.next().await.map_err(|e| e.to_string())?;
        if round >= WARM_UP {
            fetched.push(start.elapsed());
            connected.push(connecting);
        }
    }
    let figure = |name: &str, value: f64, yardstick: Option<f64>, target: Option<Bound>| Figure {
        name: name.to_owned(),
        value,
        unit: "ms",
        yardstick: yardstick.map(|value| ("connecting to the same socket".to_owned(), value)),
        target,
    };
    let (p50, p99) = (quantile_ms(&mut fetched, 50), quantile_ms(&mut fetched, 99));
    let yardstick = Some(quantile_ms(&mut connected, 50));
    Ok(vec![
        figure("Workload API fetch on a new connection, p50", p50, yardstick, None),
        figure("Workload API fetch on a new connection, p99", p99, None, Some(Bound::AtMost(P99_MS_MAX))),
    ])
}

/// A real SVID, for this very program by user, path and digest.
fn state(id: &SpiffeId) -> Result<Served, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let domain = TrustDomain::new("acme.test").map_err(|e| text(&e))?;
    let key = || SvidKey::generate().map_err(|e| text(&e));
    let validity = Validity { not_before_s: NOW_S - 60, not_after_s: NOW_S + 86_400 };
    let ca = AuthorityCa::self_signed(domain.clone(), key()?, validity, [1; 16]).map_err(|e| text(&e))?;
    let own = key()?;
    let csr = own.csr_der().map_err(|e| text(&e))?;
    let chain = ca.issue(&csr, id, NOW_S, 3_600, [2; 16]).map_err(|e| text(&e))?;
    let exe = std::env::current_exe().and_then(std::fs::canonicalize).map_err(|e| text(&e))?;
    let digest = ids::sha256(&std::fs::read(&exe).map_err(|e| text(&e))?);
    let selectors = Selectors { path: Some(exe), sha256: Some(digest), ..Selectors::default() };
    let svid = Svid {
        chain_der: chain.iter().flat_map(|c| c.to_vec()).collect(),
        key_pkcs8: own.to_pkcs8_der(),
        not_after_s: NOW_S + 3_600,
    };
    Ok(Served {
        entries: vec![Entry { spiffe_id: id.clone(), hint: "web".to_owned(), selectors }],
        svids: [(id.clone(), svid)].into(),
        x509_bundles: [(domain, ca.certificate().to_vec())].into(),
        jwt_bundles: Default::default(),
    })
}

fn quantile_ms(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
