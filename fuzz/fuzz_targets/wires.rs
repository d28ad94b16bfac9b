//! What stands on the wires before anybody is known: admission frames of both lanes, frames on a stream, and the Workload API's
//! header blocks, which are mended on their way in.
//!
//! Input: a door, then 0 an admission frame, 1 the same under a signature of its key's owner, 2 a stream of frames, 3 a stream of
//! the Workload API.
#![no_main]
#![allow(dead_code, reason = "modules of other crates, which no library exports")]

#[path = "../../mesh/src/admission.rs"]
mod admission;
#[path = "../../identity/workload-api/src/authority.rs"]
mod authority;
#[path = "../../mesh/src/frames.rs"]
mod frames;
#[path = "../../mesh/src/hello.rs"]
mod hello;
#[path = "../../mesh/src/limits.rs"]
mod limits;

/// The codes that the reader of frames names; the crate's own list needs all of QUIC.
mod code {
    pub enum CloseCode {
        FrameTooLarge,
        FrameEmpty,
        FrameTruncated,
        FrameTimeout,
        StreamLost,
    }
}

use std::sync::LazyLock;

use admission::{Hello, Lane, Process, Side, Version};
use authority::Mended;
use cauldron_fuzz::chunks::door;
use cauldron_fuzz::hostile::Memory;
use cauldron_fuzz::mesh::{FOUNDED, LYON, key, spiffe_id};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::SpiffeId;
use futures::io::Cursor;
use hello::{Features, ProcessNonce};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const EXPORTER: [u8; 32] = [5; 32];
/// One frame of full size, announced: its length is judged before memory is taken.
const MEMORY: Memory = Memory { base: limits::FRAME_BYTES_MAX + 64 * 1024, per_byte: 16 };

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

fuzz_target!(init: { ready(); LazyLock::force(&RUNTIME) }, |input: &[u8]| hostile(input, MEMORY, |input| {
    let (door, rest) = door(input);
    match door % 4 {
        0 => admitted(rest),
        1 => proven(rest),
        2 => RUNTIME.block_on(streamed(rest)),
        _ => mended(rest),
    }
}));

/// Every lane and version that a peer may come on.
fn lanes(id: &SpiffeId) -> [Lane<'_>; 3] {
    [Lane::Mesh(Version::V1, id), Lane::Mesh(Version::V2, id), Lane::Data]
}

/// Frames as they are, and as long as they have to be.
fn admitted(bytes: &[u8]) {
    let (mesh, id) = (FOUNDED.id, spiffe_id(LYON));
    for lane in lanes(&id) {
        let mut whole = vec![0; lane.frame_bytes()];
        whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        for (side, frame) in [Side::Dialer, Side::Listener].into_iter().flat_map(|side| [(side, bytes), (side, &whole)])
        {
            assert!(admission::open(lane, frame, &mesh, side, &EXPORTER).is_err(), "admitted without a proof");
        }
    }
}

/// Every bit of a proof counts: the input says what of it is changed.
fn proven(changes: &[u8]) {
    let (mesh, id) = (FOUNDED.id, spiffe_id(LYON));
    let process = Process { nonce: ProcessNonce::from_bytes([7; 16]), features: Features(1 << 40) };
    for lane in lanes(&id) {
        let good = admission::seal(lane, key(LYON), &process, &mesh, Side::Dialer, &EXPORTER);
        let mut frame = good.clone();
        frame.iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= change);
        let opened = admission::open(lane, &frame, &mesh, Side::Dialer, &EXPORTER);
        assert_eq!(opened.is_ok(), frame == good, "{opened:?}");
        if let Ok(Hello { process: Some(said), .. }) = opened {
            assert_eq!(said, process);
        }
    }
}

async fn streamed(bytes: &[u8]) {
    let mut stream = Cursor::new(bytes);
    let mut again = Cursor::new(Vec::new());
    loop {
        match frames::read(&mut stream).await {
            Ok(Some(content)) => frames::write(&mut again, &content).await.expect("it was read"),
            Ok(None) => return assert_eq!(again.get_ref().as_slice(), bytes, "a frame was lost or changed"),
            Err(why) => {
                let _ = why.code();
                return assert!(bytes.starts_with(again.get_ref()), "a frame was changed");
            }
        }
    }
}

fn mended(bytes: &[u8]) {
    let mut whole = Mended::default();
    whole.take(bytes);
    let same = |(mended, came): (&u8, &u8)| mended == came || (*came, *mended) == (b'%', b'-');
    assert!(
        whole.ready.len() <= bytes.len() && whole.ready.iter().zip(bytes).all(same),
        "more than a sign was changed"
    );
    let mut parts = Mended::default();
    bytes.chunks(3).for_each(|part| parts.take(part));
    assert_eq!(whole.ready, parts.ready, "it matters how the bytes are cut");
}
