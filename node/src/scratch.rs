//! A process of its own, with little memory and time, for bytes that only Automerge can read: a few of them may become
//! gigabytes, or a panic.

use std::io::{Read, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cauldron_crdt::doc::check::{self, NotUnpacked};
use cauldron_crdt::limits::DOC_BYTES_MAX;
use cauldron_identity::codec::{from_cbor, to_cbor};
use minicbor::bytes::ByteVec;

/// The longest input, bytes: twice the largest document epoch.
pub const INPUT_LEN_MAX: u64 = 2 * DOC_BYTES_MAX;
/// The longest answer, bytes: an epoch's changes, and their lengths.
const ANSWER_LEN_MAX: u64 = 2 * DOC_BYTES_MAX;
/// How much memory it may have, bytes.
const MEMORY: u64 = 1 << 30;
/// How long a file that somebody asks about may take to load.
pub const LOAD_MAX: Duration = Duration::from_secs(1);
/// How long a full document may take to be unpacked: some tenths of a second on a server, more on an edge box that is busy.
const UNPACK_MAX: Duration = Duration::from_secs(10);

/// What the process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Load a chunk and say what it holds.
    Load,
    /// Unpack a document chunk into its changes.
    Unpack,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// None when it took too long.
    pub status: Option<ExitStatus>,
    /// What it wrote.
    pub answer: Vec<u8>,
}

impl Task {
    fn time(self) -> Duration {
        match self {
            Self::Load => LOAD_MAX,
            Self::Unpack => UNPACK_MAX,
        }
    }

    /// Has a new process do it.
    ///
    /// # Errors
    /// When there can be no process, or it cannot be talked to.
    pub fn start(self, bytes: &[u8]) -> std::io::Result<Ended> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["doc", "check", "--alone"]).args((self == Self::Unpack).then_some("--unpack")).arg("-");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        // On threads of their own: a child that does not read or write must not hold up whoever watches it.
        if let Some(mut input) = child.stdin.take() {
            let bytes = bytes.to_vec();
            std::thread::spawn(move || input.write_all(&bytes));
        }
        let output = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut answer = Vec::new();
            output.map(|output| output.take(ANSWER_LEN_MAX).read_to_end(&mut answer)).transpose().map(|_| answer)
        });
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if begun.elapsed() >= self.time() {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let answer = reader.join().map_err(|_| std::io::Error::other("the reader panicked"))??;
        Ok(Ended { status, answer })
    }

    /// Within the process: bounds it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bound(self) -> std::io::Result<()> {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limits = [(Resource::As, MEMORY), (Resource::Cpu, self.time().as_secs() + 1), (Resource::Core, 0)];
        for (resource, most) in limits {
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        // What panics is told in the answer.
        std::panic::set_hook(Box::new(|_| {}));
        Ok(())
    }
}

/// The changes in a document chunk, unpacked by a process of its own.
///
/// # Errors
/// [`NotUnpacked`]: what this machine could not try is nobody's lie.
pub fn unpack(chunk: &[u8]) -> Result<Vec<Vec<u8>>, NotUnpacked> {
    let untried = |why: String| NotUnpacked::Untried(why);
    let ended = Task::Unpack.start(chunk).map_err(|error| untried(error.to_string()))?;
    match ended.status {
        None => Err(untried(format!("it takes longer than {} s", UNPACK_MAX.as_secs()))),
        Some(status) if status.success() => {
            let changes: Vec<ByteVec> =
                from_cbor(&ended.answer).map_err(|error| untried(format!("no answer: {error}")))?;
            Ok(changes.into_iter().map(Into::into).collect())
        }
        Some(status) if ended.answer.is_empty() => Err(untried(format!("it ended the process ({status})"))),
        Some(_) => {
            let said = String::from_utf8_lossy(&ended.answer).trim().chars().take(200).collect();
            Err(NotUnpacked::Bad(said))
        }
    }
}

/// Within the process: the answer to [`unpack`].
///
/// # Errors
/// A sentence that says why not.
pub fn unpacked(chunk: &[u8]) -> Result<Vec<u8>, String> {
    let changes = check::unpack(chunk).map_err(|why| why.to_string())?;
    Ok(to_cbor(&changes.into_iter().map(ByteVec::from).collect::<Vec<_>>()))
}
