//! The two tasks of a link: one writes queued frames, one reads the peer's. Either ending ends the link, because a link is
//! a gapless sequence of frames each way: after a broken stream frames may be missing, and the node must sync anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::Control;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::code::CloseCode;
use crate::counters::{Counters, add};
use crate::frames;
use crate::limits::{
    ALLOCATOR_KEEPS_BYTES, FRAME_BYTES_MAX, SEND_QUEUE_BYTES_MAX, SEND_QUEUE_FRAMES_MAX, SEND_QUEUE_PACED_BYTES_MAX,
    STREAM_OPEN_TIME_MAX,
};

/// The one protocol of the sync core, version 0: unstable.
pub(crate) const SYNC: StreamProtocol = StreamProtocol::new("/cauldron/sync/1");
/// Sent by the reader when it has taken a stream. Without it a writer could not tell a stream that libp2p dropped on
/// arrival (its hand-over channel holds one) from one that is read.
const TAKEN: u8 = 0x06;
const OPEN_ATTEMPTS: u32 = 6;
/// Read ahead, so that a small frame takes one look at the connection and not three; what is larger is read into its own place.
const READ_AHEAD_BYTES: usize = 4 * 1024;

/// How a link's task ended.
pub(crate) struct Ended {
    pub(crate) link: u64,
    pub(crate) code: CloseCode,
    pub(crate) reason: String,
    /// The peer's stream was gone before we could say that we read it: no frame was ever sent on it.
    pub(crate) untaken: bool,
}

/// Why a frame cannot be queued.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// No link of that number is up.
    #[error("the link is down")]
    LinkDown,
    /// The queue is full; this closes the link, and only this link.
    #[error("the peer reads too slowly: its queue is full and the link is closed")]
    QueueFull,
    /// Our own mistake: such a frame would be refused by every peer.
    #[error("a frame has 1 to {FRAME_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
}

/// The bounded queue of a link.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    frames: mpsc::Sender<Queued>,
    bytes: Arc<AtomicUsize>,
    /// Room for producers that wait for it, in bytes.
    paced: Arc<Semaphore>,
}

/// The reading end of an [`Outbox`].
pub(crate) struct OutboxReader {
    frames: mpsc::Receiver<Queued>,
    bytes: Arc<AtomicUsize>,
}

/// A frame in the queue, with the room it takes from those who wait for some; it is given back when the frame is gone.
#[derive(Debug)]
struct Queued {
    frame: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Lets the allocator keep the room of frames. By default glibc takes what is as large as a chunk of sync from the system and gives it
/// back at once, page by page: with it a gigabyte over a link took 1.4 times the processor time of raw quinn, without 1.0 times. When
/// something larger was given back once, it keeps up to twice as much of that (mallopt(3), `M_MMAP_THRESHOLD`); no page of it is
/// ever touched. Other allocators do not care.
fn keep_room_for_frames() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| drop(std::hint::black_box(vec![0u8; ALLOCATOR_KEEPS_BYTES / 2])));
}

pub(crate) fn outbox() -> (Outbox, OutboxReader) {
    keep_room_for_frames();
    let (tx, rx) = mpsc::channel(SEND_QUEUE_FRAMES_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let paced = Arc::new(Semaphore::new(SEND_QUEUE_PACED_BYTES_MAX));
    (Outbox { frames: tx, bytes: bytes.clone(), paced }, OutboxReader { frames: rx, bytes })
}

impl Outbox {
    pub(crate) fn push(&self, frame: Vec<u8>) -> Result<(), SendError> {
        self.queue(frame, None)
    }

    /// Queues a frame as soon as less than [`SEND_QUEUE_PACED_BYTES_MAX`] of such frames wait, in the order of the calls.
    pub(crate) async fn push_paced(&self, frame: Vec<u8>) -> Result<(), SendError> {
        let bytes = u32::try_from(frame.len()).ok().filter(|bytes| *bytes as usize <= FRAME_BYTES_MAX);
        let bytes = bytes.ok_or(SendError::Length(frame.len()))?;
        // Nobody closes it: when the link goes, the frames in its queue go, and with them what they hold of it.
        let room = self.paced.clone().acquire_many_owned(bytes).await.map_err(|_| SendError::LinkDown)?;
        self.queue(frame, Some(room))
    }

    fn queue(&self, frame: Vec<u8>, room: Option<OwnedSemaphorePermit>) -> Result<(), SendError> {
        let length = frame.len();
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(SendError::Length(length));
        }
        if self.bytes.fetch_add(length, AcqRel) + length > SEND_QUEUE_BYTES_MAX {
            self.bytes.fetch_sub(length, AcqRel);
            return Err(SendError::QueueFull);
        }
        self.frames.try_send(Queued { frame, _room: room }).map_err(|e| {
            self.bytes.fetch_sub(length, AcqRel);
            match e {
                mpsc::error::TrySendError::Full(_) => SendError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => SendError::LinkDown,
            }
        })
    }

    /// Frames and bytes waiting.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.frames.max_capacity() - self.frames.capacity(), self.bytes.load(Acquire))
    }
}

/// Opens the link's outbound stream and writes what is queued until something breaks. Says of each frame that QUIC has taken it.
pub(crate) async fn write(
    link: u64,
    peer: PeerId,
    mut control: Control,
    mut outbox: OutboxReader,
    written: mpsc::UnboundedSender<(u64, usize)>,
    counters: Arc<Counters>,
) -> Ended {
    let opened = timeout(STREAM_OPEN_TIME_MAX, open(peer, &mut control)).await;
    let mut stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(reason)) => return Ended { link, code: CloseCode::StreamLost, reason, untaken: false },
        Err(_) => {
            let reason = format!("the peer did not take a stream within {} s", STREAM_OPEN_TIME_MAX.as_secs());
            return Ended { link, code: CloseCode::StreamLost, reason, untaken: false };
        }
    };
    while let Some(Queued { frame, _room }) = outbox.frames.recv().await {
        if let Err(e) = frames::write(&mut stream, &frame).await {
            return Ended { link, code: e.code(), reason: e.to_string(), untaken: false };
        }
        outbox.bytes.fetch_sub(frame.len(), AcqRel);
        // Fails only when the node stops.
        let _ = written.send((link, frame.len()));
        add(&counters.frames_out, 1);
        add(&counters.bytes_out, frame.len() + frames::HEADER_BYTES);
    }
    Ended { link, code: CloseCode::Normal, reason: "the link was closed".to_owned(), untaken: false }
}

async fn open(peer: PeerId, control: &mut Control) -> Result<Stream, String> {
    let mut last = String::new();
    for attempt in 0..OPEN_ATTEMPTS {
        sleep(Duration::from_millis(50) * attempt).await;
        match control.open_stream(peer, SYNC).await {
            Ok(mut stream) => {
                let mut taken = [0];
                match stream.read_exact(&mut taken).await {
                    Ok(()) if taken == [TAKEN] => return Ok(stream),
                    Ok(()) => return Err("the peer answered the stream with something else".to_owned()),
                    Err(e) => last = format!("the peer dropped the stream: {e}"),
                }
            }
            Err(e) => last = format!("no stream to the peer: {e}"),
        }
    }
    Err(last)
}

/// Reads the peer's stream and hands frames on until something breaks. Waits when the node is behind: the windows then
/// hold the peer back.
pub(crate) async fn read(
    link: u64,
    mut stream: Stream,
    received: mpsc::Sender<(u64, Vec<u8>)>,
    counters: Arc<Counters>,
) -> Ended {
    let taken = async {
        stream.write_all(&[TAKEN]).await?;
        stream.flush().await
    };
    if let Err(e) = taken.await {
        let reason = format!("the peer's stream broke: {e}");
        return Ended { link, code: CloseCode::StreamLost, reason, untaken: true };
    }
    let mut stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
    loop {
        match frames::read(&mut stream).await {
            Ok(Some(frame)) => {
                add(&counters.frames_in, 1);
                add(&counters.bytes_in, frame.len() + frames::HEADER_BYTES);
                if received.send((link, frame)).await.is_err() {
                    return Ended {
                        link,
                        code: CloseCode::Shutdown,
                        reason: "the node stops".to_owned(),
                        untaken: false,
                    };
                }
            }
            Ok(None) => {
                let reason = "the peer ended its stream".to_owned();
                return Ended { link, code: CloseCode::StreamLost, reason, untaken: false };
            }
            Err(e) => {
                let reason = format!("the peer sent {e}");
                return Ended { link, code: e.code(), reason, untaken: false };
            }
        }
    }
}
