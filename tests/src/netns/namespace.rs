//! One network namespace, by name, for as long as it is held.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Where `ip netns` mounts namespaces.
const PLACE: &str = "/run/netns";
/// Every name here begins with it and the id of the process that made it.
const PREFIX: &str = "cauldron";

/// Whether this process may build namespaces and TUN devices: tried, not guessed.
///
/// # Errors
/// What is missing, in a sentence.
pub fn able() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root to make network namespaces".to_owned());
    }
    let space = Namespace::new("probe").map_err(|e| format!("needs ip (iproute2) and network namespaces: {e}"))?;
    space.tun("wan0").map(drop).map_err(|e| format!("needs /dev/net/tun: {e}"))
}

/// A namespace; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one whose name ends with `label`, with its loopback up.
    pub(super) fn new(label: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        if count == 0 {
            sweep();
        }
        let name = format!("{PREFIX}-{}-{count}-{label}", std::process::id());
        run(&["netns", "add", &name])?;
        let space = Self { name };
        // Nobody else is on these networks: link-local addresses need not be tried out for a second either.
        space
            .inside(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))?
            .map_err(|e| e.to_string())?;
        space.ip(&["link set lo up".to_owned()])?;
        Ok(space)
    }

    /// Its name for `ip netns`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands in it, one after the other, until one fails.
    pub(super) fn ip(&self, commands: &[String]) -> Result<(), String> {
        commands.iter().try_for_each(|command| {
            let words: Vec<&str> = ["-n", &self.name].into_iter().chain(command.split_whitespace()).collect();
            run(&words)
        })
    }

    /// Does `work` on a thread of its own inside the namespace.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        let path = self.path();
        let file = File::open(&path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
        let there = || {
            let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            moved.map_err(|e| format!("cannot enter {}: {e}", path.display()))?;
            Ok(work())
        };
        // The thread ends with the work, so nothing else ever runs in there by mistake.
        std::thread::scope(|threads| {
            threads.spawn(there).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Makes the TUN device `name` in it. The device works from anywhere and vanishes with its handle.
    pub(super) fn tun(&self, name: &str) -> Result<SyncDevice, String> {
        self.inside(|| DeviceBuilder::new().name(name).mtu(super::net::MTU).build_sync())?.map_err(|e| e.to_string())
    }

    fn path(&self) -> PathBuf {
        Path::new(PLACE).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(why) = run(&["netns", "del", &self.name]) {
            eprintln!("{why}");
        }
    }
}

/// Removes what processes that are gone have left.
fn sweep() {
    let Ok(found) = std::fs::read_dir(PLACE) else { return };
    for name in found.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            // Another test may be removing it at this moment.
            let _ = run(&["netns", "del", &name]);
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|e| format!("cannot run ip (iproute2): {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
