//! A small message there and one back, on what has been up for long.

use std::time::Instant;

use super::peers::{Domain, Peer};
use super::runtime;
use crate::spine::percentile;
use crate::{Bound, Figure, Report};

/// Most frames are small: heads, asks, one fact.
const MESSAGE_BYTES: usize = 256;
const TURN: usize = 1_000;
/// Rounds in which both take turns, each time the other first. The round before them only warms up.
const ROUNDS: usize = 10;
/// The figure.
const OF_RAW_MAX: f64 = 1.5;

pub(super) fn measure() -> Result<Report, String> {
    let runtime = runtime()?;
    let domain = Domain::new()?;
    let (peers, links) = runtime.block_on(domain.pair())?;
    let (connections, _endpoints) = runtime.block_on(domain.connection())?;
    let [mut near, mut far] = peers;
    runtime.spawn(async move {
        while let Ok(frame) = far.frame().await {
            if far.handle.send(links[1], frame).is_err() {
                break;
            }
        }
    });
    let mut raw = runtime.block_on(echoing(&connections))?;
    let mut times = [const { Vec::new() }; 2];
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            let variant = (round + turn) % 2;
            // On a worker, as a node's own tasks are.
            let took = if variant == 0 {
                let (took, back) =
                    runtime.block_on(runtime.spawn(over_link(near, links[0]))).map_err(|e| e.to_string())??;
                near = back;
                took
            } else {
                let (took, back) = runtime.block_on(runtime.spawn(over_quinn(raw))).map_err(|e| e.to_string())??;
                raw = back;
                took
            };
            if round > 0 {
                times[variant].extend(took);
            }
        }
    }
    let figure = |name: &str, share, target| Figure {
        name: format!("{MESSAGE_BYTES} bytes there and back over a link, {name}"),
        value: percentile(&times[0], share),
        unit: "µs",
        yardstick: Some(("raw quinn stream".to_owned(), percentile(&times[1], share))),
        target,
    };
    Ok(Report { figures: vec![figure("p50", 0.5, Some(Bound::AtMost(OF_RAW_MAX))), figure("p99", 0.99, None)] })
}

async fn over_link(mut near: Peer, link: u64) -> Result<(Vec<f64>, Peer), String> {
    let mut took = Vec::with_capacity(TURN);
    for _ in 0..TURN {
        let start = Instant::now();
        near.handle.send(link, vec![7; MESSAGE_BYTES]).map_err(|e| e.to_string())?;
        near.frame().await?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok((took, near))
}

type Stream = (quinn::SendStream, quinn::RecvStream);

/// A stream whose other end sends everything back.
async fn echoing([near, far]: &[quinn::Connection; 2]) -> Result<Stream, String> {
    let far = far.clone();
    tokio::spawn(async move {
        let Ok((mut send, mut receive)) = far.accept_bi().await else { return };
        let mut message = [0; MESSAGE_BYTES];
        while receive.read_exact(&mut message).await.is_ok() && send.write_all(&message).await.is_ok() {}
    });
    near.open_bi().await.map_err(|e| e.to_string())
}

async fn over_quinn((mut send, mut receive): Stream) -> Result<(Vec<f64>, Stream), String> {
    let (mut took, mut message) = (Vec::with_capacity(TURN), [7; MESSAGE_BYTES]);
    for _ in 0..TURN {
        let start = Instant::now();
        send.write_all(&message).await.map_err(|e| e.to_string())?;
        receive.read_exact(&mut message).await.map_err(|e| e.to_string())?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok((took, (send, receive)))
}
