//! From dialling to being in, one by one and many at a time, against one that listens.
//!
//! Sockets, keys, certificates and TLS configurations of all diallers are made before the clock starts, on both sides, and nothing
//! is closed before it stops. In the window of the mesh lie, beyond the QUIC handshake with both certificates verified: the name
//! looked up, the Swarm's dial, author proofs made and checked both ways with the round trip that the dialler waits for, the
//! registry, and the news of the link reaching the node; and in the shadow of the next ones what a link does first: its stream
//! opened and confirmed, ping, identify. In the window of raw quinn lies the handshake until the dialler calls it connected.

use std::collections::VecDeque;
use std::time::Instant;

use super::peers::{Domain, Peer, dial};
use super::{median, processor_s, runtime};
use crate::{Bound, Figure, Report};

/// Handshakes of a turn, one by one and in parallel.
const TURN: usize = 160;
const PARALLEL: usize = 16;
/// Rounds in which all take turns. The round before them only warms up.
const ROUNDS: usize = 5;
/// The figures.
const ONE_BY_ONE_MIN: f64 = 0.55;
const PARALLEL_MIN: f64 = 0.70;

pub(super) fn measure() -> Result<Report, String> {
    let runtime = runtime()?;
    let domain = Domain::new()?;
    let (mut rates, mut costs) = ([const { Vec::new() }; 4], [const { Vec::new() }; 4]);
    for round in 0..=ROUNDS {
        for turn in 0..4 {
            let variant = (round + turn) % 4;
            let at_once = if variant < 2 { 1 } else { PARALLEL };
            let (seconds, cost) = if variant % 2 == 0 {
                runtime.block_on(by_mesh(&domain, at_once))?
            } else {
                runtime.block_on(by_quinn(&domain, at_once))?
            };
            if round > 0 {
                rates[variant].push(TURN as f64 / seconds);
                costs[variant].push(cost / TURN as f64 * 1e3);
            }
        }
    }
    let [mesh_one, raw_one, mesh_many, raw_many] = rates.map(median);
    let figure = |name: String, value, yardstick, least| Figure {
        name: format!("handshakes with admission, {name}"),
        value,
        unit: "/s",
        yardstick: Some(("raw quinn, same TLS".to_owned(), yardstick)),
        target: Some(Bound::AtLeast(least)),
    };
    let [.., mesh_cost, raw_cost] = costs.map(median);
    let figures = vec![
        figure("one by one".to_owned(), mesh_one, raw_one, ONE_BY_ONE_MIN),
        figure(format!("{PARALLEL} at once"), mesh_many, raw_many, PARALLEL_MIN),
        Figure {
            name: format!("of a handshake, {PARALLEL} at once, processor time of both ends"),
            value: mesh_cost,
            unit: "ms",
            yardstick: Some(("raw quinn, same TLS".to_owned(), raw_cost)),
            target: None,
        },
    ];
    Ok(Report { figures })
}

/// `TURN` diallers, shared out to `at_once` tasks.
fn shares<T>(mut diallers: VecDeque<T>, at_once: usize) -> Vec<Vec<T>> {
    let each = diallers.len().div_ceil(at_once);
    (0..at_once).map(|_| diallers.drain(..each.min(diallers.len())).collect()).collect()
}

async fn by_mesh(domain: &Domain, at_once: usize) -> Result<(f64, f64), String> {
    let mut listener = domain.peer("hub").await?;
    let address = listener.address.to_string();
    // Somebody takes its events, as its node would.
    let taking = tokio::spawn(async move {
        while listener.events.recv().await.is_some() {}
        listener
    });
    let mut diallers = VecDeque::new();
    for n in 0..TURN {
        diallers.push_back(domain.peer(&format!("edge-{n}")).await?);
    }
    let shares = shares(diallers, at_once);
    let (start, before) = (Instant::now(), processor_s());
    let tasks = shares.into_iter().map(|share| {
        let address = address.clone();
        tokio::spawn(async move {
            let mut done: Vec<Peer> = Vec::with_capacity(share.len());
            for mut peer in share {
                peer.handle.dial(&address);
                peer.up().await?;
                done.push(peer);
            }
            Ok::<_, String>(done)
        })
    });
    let mut done = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        done.extend(task.await.map_err(|e| e.to_string())??);
    }
    let spent = (start.elapsed().as_secs_f64(), processor_s() - before);
    futures::future::join_all(done.iter().map(|peer| peer.handle.shutdown())).await;
    taking.abort();
    Ok(spent)
}

async fn by_quinn(domain: &Domain, at_once: usize) -> Result<(f64, f64), String> {
    let listener = domain.listener("hub")?;
    let accepting = listener.clone();
    let taking = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = accepting.accept().await {
            held.push(tokio::spawn(async move { incoming.await.ok() }));
        }
    });
    let mut diallers = VecDeque::new();
    for n in 0..TURN {
        diallers.push_back(domain.dialler(&format!("edge-{n}"))?);
    }
    let shares = shares(diallers, at_once);
    let (start, before) = (Instant::now(), processor_s());
    let tasks = shares.into_iter().map(|share| {
        let listener = listener.clone();
        tokio::spawn(async move {
            let mut done = Vec::with_capacity(share.len());
            for endpoint in share {
                done.push((dial(&endpoint, &listener).await?, endpoint));
            }
            Ok::<_, String>(done)
        })
    });
    let mut done = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        done.extend(task.await.map_err(|e| e.to_string())??);
    }
    let spent = (start.elapsed().as_secs_f64(), processor_s() - before);
    drop(done);
    listener.close(0u32.into(), b"");
    taking.abort();
    Ok(spent)
}
