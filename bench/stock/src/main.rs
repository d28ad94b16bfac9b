//! Two stock libp2p nodes in one process. Reads `BYTES CHUNK` from its input, carries so many bytes over one stream in chunks, and
//! answers with the seconds that took.
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::swarm::{Config, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, Swarm, Transport, identity};
use libp2p_stream::{Behaviour, Control};

/// As a link of the mesh has them (`mesh/src/limits.rs`). The rest is libp2p's own tuning.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/bulk");

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (from, to, peer) = runtime.block_on(linked())?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let (bytes, chunk) = line.split_once(' ').ok_or("BYTES CHUNK is wanted")?;
        let (count, chunk) = (bytes.parse::<usize>()? / chunk.parse::<usize>()?, chunk.parse()?);
        let seconds = runtime.block_on(carry(from.clone(), to.clone(), peer, count, chunk))?;
        println!("{seconds}");
    }
    Ok(())
}

fn node() -> Swarm<Behaviour> {
    let keys = identity::Keypair::generate_ed25519();
    let mut config = libp2p_quic::Config::new(&keys);
    config.max_stream_data = STREAM_WINDOW_BYTES;
    config.max_connection_data = CONNECTION_WINDOW_BYTES;
    let transport = libp2p_quic::tokio::Transport::new(config);
    let transport = transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed();
    let idle = Config::with_tokio_executor().with_idle_connection_timeout(Duration::MAX);
    Swarm::new(transport, Behaviour::new(), keys.public().to_peer_id(), idle)
}

/// Two nodes with a connection, and how to open and to accept streams on it.
async fn linked() -> Outcome<(Control, Control, PeerId)> {
    let (mut from, mut to) = (node(), node());
    to.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = to.select_next_some().await {
            break address;
        }
    };
    let (peer, controls) = (*to.local_peer_id(), [&from, &to].map(|node| node.behaviour().new_control()));
    from.dial(address)?;
    tokio::spawn(async move {
        loop {
            to.select_next_some().await;
        }
    });
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = from.select_next_some().await {
            break;
        }
    }
    tokio::spawn(async move {
        loop {
            from.select_next_some().await;
        }
    });
    let [from, to] = controls;
    Ok((from, to, peer))
}

async fn carry(mut from: Control, mut to: Control, peer: PeerId, count: usize, chunk: usize) -> Outcome<f64> {
    let mut streams = to.accept(PROTOCOL)?;
    let start = Instant::now();
    let receive = tokio::spawn(async move {
        let (_, mut stream) = streams.next().await.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let mut buffer = vec![0; chunk];
        for _ in 0..count {
            stream.read_exact(&mut buffer).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut stream = from.open_stream(peer, PROTOCOL).await?;
    let send = tokio::spawn(async move {
        let buffer = vec![7; chunk];
        for _ in 0..count {
            stream.write_all(&buffer).await?;
        }
        stream.close().await
    });
    receive.await??;
    let spent = start.elapsed().as_secs_f64();
    // The reader has dropped its end, which may reset the stream before the goodbye.
    let _ = send.await?;
    Ok(spent)
}
