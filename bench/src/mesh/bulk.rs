//! Bytes per second over one connection, both ends in this process.

use std::time::Instant;

use super::peers::{Domain, Peer};
use super::{median, processor_s, runtime, stock::Stock};
use crate::{Bound, Figure, Report};

/// What a turn carries, in chunks of sync (`docs/wire.md`): half a second on the machine of the figures.
const TURN_BYTES: usize = 256 * 1024 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;
/// Rounds in which all variants take turns, each time another one first. The round before them only warms up.
const ROUNDS: usize = 9;
/// The figures.
const OF_RAW_MIN: f64 = 0.95;
const OF_STOCK_MIN: f64 = 1.15;

pub(super) fn measure() -> Result<Report, String> {
    let mut stock = Stock::start()?;
    let runtime = runtime()?;
    let domain = Domain::new()?;
    let (mut peers, links) = runtime.block_on(domain.pair())?;
    let (connections, _endpoints) = runtime.block_on(domain.connection())?;
    let (mut rates, mut costs) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for round in 0..=ROUNDS {
        for turn in 0..3 {
            let (variant, before) = ((round + turn) % 3, processor_s());
            let seconds = match variant {
                0 => {
                    let (spent, back) = runtime.block_on(over_link(peers, links[0]))?;
                    peers = back;
                    spent
                }
                1 => runtime.block_on(over_quinn(&connections))?,
                _ => stock.bulk(TURN_BYTES, CHUNK_BYTES)?,
            };
            if round > 0 {
                rates[variant].push(TURN_BYTES as f64 / seconds / 1e6);
                costs[variant].push((processor_s() - before) / TURN_BYTES as f64 * 1e9);
            }
        }
    }
    let [link, raw, stock] = rates.map(median);
    let figure = |yardstick: &str, value, least| Figure {
        name: format!("bulk over a link, beside {yardstick}"),
        value: link,
        unit: "MB/s",
        yardstick: Some((yardstick.to_owned(), value)),
        target: Some(Bound::AtLeast(least)),
    };
    let [link_cost, raw_cost, _] = costs.map(median);
    let figures = vec![
        figure("raw quinn", raw, OF_RAW_MIN),
        figure("stock libp2p-quic 0.14", stock, OF_STOCK_MIN),
        Figure {
            name: "of a gigabyte, processor time of both ends".to_owned(),
            value: link_cost,
            unit: "s",
            yardstick: Some(("raw quinn".to_owned(), raw_cost)),
            target: None,
        },
    ];
    Ok(Report { figures })
}

async fn over_link([a, mut b]: [Peer; 2], link: u64) -> Result<(f64, [Peer; 2]), String> {
    let start = Instant::now();
    let handle = a.handle.clone();
    let send = tokio::spawn(async move {
        let chunk = vec![7; CHUNK_BYTES];
        for _ in 0..TURN_BYTES / CHUNK_BYTES {
            handle.send_paced(link, chunk.clone()).await.map_err(|e| e.to_string())?;
        }
        Ok::<_, String>(())
    });
    let receive = tokio::spawn(async move {
        let mut left = TURN_BYTES;
        while left > 0 {
            left -= b.frame().await?.len();
        }
        Ok::<_, String>(b)
    });
    let b = receive.await.map_err(|e| e.to_string())??;
    let spent = start.elapsed().as_secs_f64();
    send.await.map_err(|e| e.to_string())??;
    Ok((spent, [a, b]))
}

/// One stream, whole chunks: written from one buffer and read into one.
async fn over_quinn([a, b]: &[quinn::Connection; 2]) -> Result<f64, String> {
    let start = Instant::now();
    let (a, b) = (a.clone(), b.clone());
    let send = tokio::spawn(async move {
        let chunk = vec![7; CHUNK_BYTES];
        let mut stream = a.open_uni().await.map_err(|e| e.to_string())?;
        for _ in 0..TURN_BYTES / CHUNK_BYTES {
            stream.write_all(&chunk).await.map_err(|e| e.to_string())?;
        }
        stream.finish().map_err(|e| e.to_string())
    });
    let receive = tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut stream = b.accept_uni().await.map_err(|e| e.to_string())?;
        for _ in 0..TURN_BYTES / CHUNK_BYTES {
            stream.read_exact(&mut chunk).await.map_err(|e| e.to_string())?;
        }
        Ok::<_, String>(())
    });
    receive.await.map_err(|e| e.to_string())??;
    let spent = start.elapsed().as_secs_f64();
    send.await.map_err(|e| e.to_string())??;
    Ok(spent)
}
