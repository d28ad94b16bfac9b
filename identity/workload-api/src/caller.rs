//! Who is at the other end of a Unix socket, as the kernel says.
//!
//! The kernel notes user, group and process when the caller connects. The process is then held by a *pidfd*, so that
//! whatever is read under `/proc/<pid>` is known to be the caller's: after reading, the pidfd must still be alive, and while
//! it is, its number cannot have gone to another process. The executable seen first, before a byte of the connection is read,
//! is the one that must be seen at every later call; a process whose first look failed is not looked at again.
//!
//! `/proc` and the file systems behind it may be slow or hang: [`Caller::of`] asks the socket alone, and everything else is for
//! threads that may wait.
//!
//! Path and digest narrow what *one user* may have. They do not part processes of the same user from each other, which can
//! trace one another and pass sockets on; the user id is the boundary.

use std::path::PathBuf;

/// What is known about a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// Effective user id when it connected.
    pub uid: u32,
    /// Effective group id when it connected.
    pub gid: u32,
    /// Its executable; nothing when it cannot be known, or lies in another mount namespace, where a path means something
    /// else.
    pub path: Option<PathBuf>,
    /// SHA-256 of the executable; nothing when nobody asked or it cannot be read.
    pub sha256: Option<[u8; 32]>,
}

/// Why a caller's process cannot be looked at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallerError {
    /// It has ended, or its socket outlived it.
    #[error("process {0} has ended")]
    Gone(i32),
    /// It runs another program than when it was first looked at.
    #[error("process {0} has replaced its executable since it connected")]
    Changed(i32),
    /// It was a stranger when it connected, so nobody looked at its program then.
    #[error("process {0} was not looked at when it connected; it may connect again")]
    Unseen(i32),
    /// Its program could not be looked at in time.
    #[error("the executable could not be looked at in time")]
    Slow,
    /// No process that we can see: another PID namespace, or no `/proc` here.
    #[error("the caller's process is not visible here")]
    Invisible,
    /// The kernel said no; for another user's process it wants `CAP_SYS_PTRACE`.
    #[error("the executable of process {pid} cannot be read: {why}")]
    Unreadable {
        /// The process.
        pid: i32,
        /// The kernel's words.
        why: String,
    },
}

pub use imp::Caller;

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::Instant;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::{Attested, CallerError};
    use crate::digest::{Digests, Inode};

    /// A connected caller.
    #[derive(Debug)]
    pub struct Caller {
        uid: u32,
        gid: u32,
        process: Option<Process>,
        /// What the first look has found.
        first: OnceLock<Result<Inode, CallerError>>,
    }

    #[derive(Debug)]
    struct Process {
        pid: i32,
        fd: OwnedFd,
    }

    impl Caller {
        /// Asks the kernel about the peer of `stream` and takes hold of its process. Opens no file, so that it never waits.
        ///
        /// # Errors
        /// When the kernel does not tell even user and group.
        pub fn of(stream: &tokio::net::UnixStream) -> std::io::Result<Self> {
            let credentials = stream.peer_cred()?;
            let process = credentials.pid().filter(|pid| *pid > 0).and_then(|pid| hold(stream, pid));
            let (uid, gid) = (credentials.uid(), credentials.gid());
            Ok(Self { uid, gid, process, first: OnceLock::new() })
        }

        /// The first look at the process; later ones must find the same program. Reads files: not for the async threads.
        pub(crate) fn look(&self) {
            // A failure stands too: a process could hide what it runs until it runs something better.
            self.first.get_or_init(|| self.open_executable().map(|(_, inode)| inode));
        }

        /// Effective user id when it connected.
        #[must_use]
        pub fn uid(&self) -> u32 {
            self.uid
        }

        /// Effective group id when it connected.
        #[must_use]
        pub fn gid(&self) -> u32 {
            self.gid
        }

        /// Its process id, where it can be seen.
        #[must_use]
        pub fn pid(&self) -> Option<i32> {
            self.process.as_ref().map(|p| p.pid)
        }

        /// User and group alone, without a look at the process.
        #[must_use]
        pub fn credentials(&self) -> Attested {
            Attested { uid: self.uid, gid: self.gid, path: None, sha256: None }
        }

        /// Whether [`Caller::attest`] would have to read the executable for its digest.
        pub(crate) fn must_be_read(&self, digests: &Digests) -> bool {
            matches!(self.first.get(), Some(Ok(inode)) if digests.known(inode).is_none())
        }

        /// Looks at the process, and at the bytes of its executable when `digests` are given, until `deadline`. Reads files:
        /// not for the async threads.
        ///
        /// # Errors
        /// [`CallerError`].
        pub(crate) fn attest(&self, digests: Option<&Digests>, deadline: Instant) -> Result<Attested, CallerError> {
            let Process { pid, .. } = self.process.as_ref().ok_or(CallerError::Invisible)?;
            let first = self.first.get().ok_or(CallerError::Unseen(*pid))?.clone()?;
            let (file, inode) = self.open_executable()?;
            if first != inode {
                return Err(CallerError::Changed(*pid));
            }
            let path = self.path();
            let sha256 = match digests {
                Some(digests) => Some(digests.of(file, inode, deadline).map_err(|e| self.unreadable(&e))?),
                None => None,
            };
            // Everything above was read from the process that connected, if that one still lives.
            self.still_alive()?;
            Ok(Attested { path, sha256, ..self.credentials() })
        }

        fn open_executable(&self) -> Result<(File, Inode), CallerError> {
            let process = self.process.as_ref().ok_or(CallerError::Invisible)?;
            // Through the magic link: the very file that runs, also when it was deleted or lies in another namespace.
            let opened = File::open(format!("/proc/{}/exe", process.pid)).and_then(|f| f.metadata().map(|m| (f, m)));
            self.still_alive()?;
            let (file, metadata) = opened.map_err(|e| self.unreadable(&e))?;
            Ok((file, Inode::of(&metadata)))
        }

        fn unreadable(&self, why: &std::io::Error) -> CallerError {
            match why.kind() {
                std::io::ErrorKind::TimedOut => CallerError::Slow,
                _ => CallerError::Unreadable { pid: self.pid().unwrap_or_default(), why: why.to_string() },
            }
        }

        fn path(&self) -> Option<PathBuf> {
            let pid = self.pid()?;
            let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
            let ours = namespace("self")?;
            (namespace(&pid.to_string())? == ours).then_some(())?;
            std::fs::read_link(format!("/proc/{pid}/exe")).ok()
        }

        fn still_alive(&self) -> Result<(), CallerError> {
            let process = self.process.as_ref().ok_or(CallerError::Invisible)?;
            // A pidfd becomes readable when its process ends (pidfd_open(2)).
            let mut fds = [PollFd::new(&process.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(0) => Ok(()),
                _ => Err(CallerError::Gone(process.pid)),
            }
        }
    }

    /// A pidfd of the peer: the kernel's own for the socket (Linux 6.5), which is exact; on older ones that of its number,
    /// which a process that ends between connecting and this line leaves to a successor.
    fn hold(stream: &tokio::net::UnixStream, pid: i32) -> Option<Process> {
        let exact = nix::sys::socket::getsockopt(&stream.as_fd(), nix::sys::socket::sockopt::PeerPidfd);
        let fd = match exact {
            Ok(fd) => fd,
            Err(nix::errno::Errno::ENOPROTOOPT) => pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?,
            Err(_) => return None,
        };
        Some(Process { pid, fd })
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::time::Instant;

    use super::{Attested, CallerError};
    use crate::digest::Digests;

    /// A connected caller. Here the kernel tells user and group; processes cannot be held on to, so entries that name an
    /// executable match nobody.
    #[derive(Debug)]
    pub struct Caller {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
    }

    #[allow(missing_docs, clippy::missing_errors_doc, reason = "as on Linux")]
    impl Caller {
        pub fn of(stream: &tokio::net::UnixStream) -> std::io::Result<Self> {
            let credentials = stream.peer_cred()?;
            Ok(Self { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
        }

        #[must_use]
        pub fn uid(&self) -> u32 {
            self.uid
        }

        #[must_use]
        pub fn gid(&self) -> u32 {
            self.gid
        }

        #[must_use]
        pub fn pid(&self) -> Option<i32> {
            self.pid
        }

        #[must_use]
        pub fn credentials(&self) -> Attested {
            Attested { uid: self.uid, gid: self.gid, path: None, sha256: None }
        }

        pub(crate) fn look(&self) {}

        pub(crate) fn must_be_read(&self, _: &Digests) -> bool {
            false
        }

        pub(crate) fn attest(&self, _: Option<&Digests>, _: Instant) -> Result<Attested, CallerError> {
            Err(CallerError::Invisible)
        }
    }
}
