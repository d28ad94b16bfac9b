//! Who is at the other end of a Unix socket, as the kernel says.
//!
//! The kernel notes user, group and process when the caller connects. The process is then held by a *pidfd*, so that
//! whatever is read under `/proc/<pid>` is known to be the caller's: after reading, the pidfd must still be alive, and while
//! it is, its number cannot have gone to another process. The executable seen first is the one that must be seen at every
//! later call.
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
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// It has ended, or its socket outlived it.
    #[error("process {0} has ended")]
    Gone(i32),
    /// It runs another program than when it was first looked at.
    #[error("process {0} has replaced its executable since it connected")]
    Changed(i32),
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

pub use imp::{Caller, Digests};

#[cfg(target_os = "linux")]
mod imp {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::{Attested, CallerError};

    /// Larger programs are not digested: reading must not become a way to keep the node busy. No executable we know of
    /// comes near.
    const EXECUTABLE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

    /// A connected caller.
    #[derive(Debug)]
    pub struct Caller {
        uid: u32,
        gid: u32,
        process: Option<Process>,
        executable: OnceLock<Inode>,
    }

    #[derive(Debug)]
    struct Process {
        pid: i32,
        fd: OwnedFd,
    }

    /// Which file, in which state. The change time cannot be set by anybody.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    struct Inode {
        dev: u64,
        ino: u64,
        size: u64,
        ctime: (i64, i64),
    }

    /// Digests of executables that were read before.
    #[derive(Debug, Default)]
    pub struct Digests(Mutex<BTreeMap<Inode, [u8; 32]>>);

    impl Digests {
        /// Callers must fit an entry's user before they are digested, so these are programs that the operator named.
        const MAX: usize = 256;

        fn of(&self, file: File, inode: Inode) -> std::io::Result<[u8; 32]> {
            let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(digest) = known().get(&inode) {
                return Ok(*digest);
            }
            let digest = sha256(file.take(EXECUTABLE_BYTES_MAX))?;
            let mut known = known();
            if known.len() >= Self::MAX {
                known.clear();
            }
            known.insert(inode, digest);
            Ok(digest)
        }
    }

    impl Caller {
        /// Asks the kernel about the peer of `stream` and takes hold of its process.
        ///
        /// # Errors
        /// When the kernel does not tell even user and group.
        pub fn of(stream: &tokio::net::UnixStream) -> std::io::Result<Self> {
            let credentials = stream.peer_cred()?;
            let process = credentials.pid().filter(|pid| *pid > 0).and_then(|pid| hold(stream, pid));
            let (uid, gid) = (credentials.uid(), credentials.gid());
            let caller = Self { uid, gid, process, executable: OnceLock::new() };
            if let Ok((_, inode)) = caller.open_executable() {
                let _ = caller.executable.set(inode);
            }
            Ok(caller)
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

        /// Looks at the process, and at the bytes of its executable when `digests` are given. Reads files: not for the
        /// async threads.
        ///
        /// # Errors
        /// [`CallerError`].
        pub fn attest(&self, digests: Option<&Digests>) -> Result<Attested, CallerError> {
            let Process { pid, .. } = self.process.as_ref().ok_or(CallerError::Invisible)?;
            let (file, inode) = self.open_executable()?;
            if *self.executable.get_or_init(|| inode) != inode {
                return Err(CallerError::Changed(*pid));
            }
            let path = self.path();
            let sha256 = digests.map(|d| self.sha256_of(d, file, inode)).transpose()?;
            // Everything above was read from the process that connected, if that one still lives.
            self.still_alive()?;
            Ok(Attested { path, sha256, ..self.credentials() })
        }

        fn open_executable(&self) -> Result<(File, Inode), CallerError> {
            let process = self.process.as_ref().ok_or(CallerError::Invisible)?;
            let unreadable = |e: std::io::Error| CallerError::Unreadable { pid: process.pid, why: e.to_string() };
            // Through the magic link: the very file that runs, also when it was deleted or lies in another namespace.
            let opened = File::open(format!("/proc/{}/exe", process.pid)).and_then(|f| f.metadata().map(|m| (f, m)));
            self.still_alive()?;
            let (file, m) = opened.map_err(unreadable)?;
            let inode = Inode { dev: m.dev(), ino: m.ino(), size: m.size(), ctime: (m.ctime(), m.ctime_nsec()) };
            Ok((file, inode))
        }

        fn path(&self) -> Option<PathBuf> {
            let pid = self.pid()?;
            let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
            let ours = namespace("self")?;
            (namespace(&pid.to_string())? == ours).then_some(())?;
            std::fs::read_link(format!("/proc/{pid}/exe")).ok()
        }

        fn sha256_of(&self, digests: &Digests, file: File, inode: Inode) -> Result<[u8; 32], CallerError> {
            let unreadable = |why| CallerError::Unreadable { pid: self.pid().unwrap_or_default(), why };
            if inode.size > EXECUTABLE_BYTES_MAX {
                return Err(unreadable(format!("{} bytes, at most {EXECUTABLE_BYTES_MAX} are read", inode.size)));
            }
            digests.of(file, inode).map_err(|e| unreadable(e.to_string()))
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

    fn sha256(mut file: impl Read) -> std::io::Result<[u8; 32]> {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => context.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        let mut out = [0; 32];
        out.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Ok(out)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{Attested, CallerError};

    /// A connected caller. Here the kernel tells user and group; processes cannot be held on to, so entries that name an
    /// executable match nobody.
    #[derive(Debug)]
    pub struct Caller {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
    }

    /// Nothing to keep here.
    #[derive(Debug, Default)]
    pub struct Digests;

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

        pub fn attest(&self, _: Option<&Digests>) -> Result<Attested, CallerError> {
            Err(CallerError::Invisible)
        }
    }
}
