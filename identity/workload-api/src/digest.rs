//! Digests of executables, kept by the state of the file.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Larger programs are not digested: reading must not become a way to keep the node busy. The largest that we know to ask
/// for identities, servers in Go and runtimes of JavaScript, have some 100 MiB.
const EXECUTABLE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// File systems count changes in steps of some milliseconds, FAT and some servers in whole seconds: a file that changed this
/// recently can change again without a sign, and its digest is not kept.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// Which file, in which state. The change time cannot be set by anybody, unlike that of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inode {
    dev: u64,
    ino: u64,
    size: u64,
    ctime: (i64, i64),
}

impl Inode {
    pub(crate) fn of(m: &Metadata) -> Self {
        Self { dev: m.dev(), ino: m.ino(), size: m.size(), ctime: (m.ctime(), m.ctime_nsec()) }
    }

    fn settled(&self) -> bool {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let changed_s = u64::try_from(self.ctime.0).unwrap_or(u64::MAX);
        changed_s.saturating_add(SETTLED_AFTER.as_secs()) < now_s
    }
}

/// Digests of executables that were read before.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<BTreeMap<Inode, [u8; 32]>>);

impl Digests {
    /// Callers must fit an entry's user before they are digested, so these are programs of users that the operator named.
    const MAX: usize = 256;

    /// The digest, where the file was read before and has not changed since.
    pub(crate) fn known(&self, inode: &Inode) -> Option<[u8; 32]> {
        self.lock().get(inode).copied()
    }

    /// The digest of `file`, which is in the state `inode`. Reads all of it, until `deadline`.
    ///
    /// # Errors
    /// The file is too large, changes, or cannot be read in time.
    pub(crate) fn of(&self, mut file: File, inode: Inode, deadline: Instant) -> Result<[u8; 32]> {
        if let Some(digest) = self.known(&inode) {
            return Ok(digest);
        }
        if inode.size > EXECUTABLE_BYTES_MAX {
            return Err(Error::other(format!("{} bytes, at most {EXECUTABLE_BYTES_MAX} are read", inode.size)));
        }
        let digest = sha256((&mut file).take(inode.size), deadline)?;
        if Inode::of(&file.metadata()?) != inode {
            return Err(Error::other("it changes while it is read"));
        }
        if inode.settled() {
            let mut known = self.lock();
            if known.len() >= Self::MAX {
                known.clear();
            }
            known.insert(inode, digest);
        }
        Ok(digest)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Inode, [u8; 32]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha256(mut file: impl Read, deadline: Instant) -> Result<[u8; 32]> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::TimedOut, "it was not read in time"));
        }
        match file.read(&mut buffer)? {
            0 => break,
            read => context.update(buffer.get(..read).unwrap_or_default()),
        }
    }
    let mut out = [0; 32];
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> (File, Inode) {
        let file = File::open(path).expect("opened");
        let inode = Inode::of(&file.metadata().expect("metadata"));
        (file, inode)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_huge_or_slow_executable_is_not_read_to_its_end() {
        let (digests, dir) = (Digests::default(), tempfile::tempdir().expect("a folder"));
        let path = dir.path().join("huge");
        File::create(&path).and_then(|f| f.set_len(EXECUTABLE_BYTES_MAX + 1)).expect("a sparse file");
        let (file, inode) = open(&path);
        let refused = digests.of(file, inode, soon()).expect_err("too large").to_string();
        assert!(refused.contains("at most 268435456 are read"), "{refused}");

        let (file, inode) = open(&std::env::current_exe().expect("ours"));
        let late = digests.of(file, inode, Instant::now()).expect_err("too slow");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert_eq!(digests.known(&inode), None);
    }

    #[test]
    fn a_digest_is_kept_once_the_file_has_settled_and_for_that_state_alone() {
        let (digests, dir) = (Digests::default(), tempfile::tempdir().expect("a folder"));
        let path = dir.path().join("program");
        std::fs::write(&path, b"good").expect("written");
        let (file, inode) = open(&path);
        let good = digests.of(file, inode, soon()).expect("read");
        assert_eq!(good, cauldron_identity::ids::sha256(b"good"));
        assert_eq!(digests.known(&inode), None, "it could change within the same tick of the file system");

        std::thread::sleep(SETTLED_AFTER + Duration::from_secs(1));
        let (file, inode) = open(&path);
        assert_eq!(digests.of(file, inode, soon()).expect("read"), good);
        assert_eq!(digests.known(&inode), Some(good));
        std::fs::write(&path, b"evil").expect("written");
        let (file, inode) = open(&path);
        assert_eq!(digests.of(file, inode, soon()).expect("read"), cauldron_identity::ids::sha256(b"evil"));
    }

    #[test]
    fn a_file_that_changes_under_our_hands_has_no_digest() {
        let (digests, dir) = (Digests::default(), tempfile::tempdir().expect("a folder"));
        let path = dir.path().join("program");
        std::fs::write(&path, b"good").expect("written");
        let (file, inode) = open(&path);
        std::fs::write(&path, b"longer").expect("written");
        digests.of(file, inode, soon()).expect_err("neither the one nor the other");
    }
}
