//! What must hold for every input, whatever the decoder: guarantees, section 1, "Hostile peers".

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// No input may keep others waiting for longer. Processor time of this thread, so that a busy machine is no finding; the
/// instrumented build is slower than the one that ships.
const WORK_MS_MAX: u64 = 1_000;

/// Memory that working on an input may take, beside what was there before.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Whatever its length, bytes.
    pub base: usize,
    /// For each of its bytes.
    pub per_byte: usize,
}

/// A decoder alone: the smallest items of the encoding take one byte each and become a `String` or `Vec` of 24, in a list whose
/// room doubles.
pub const DECODER: Memory = Memory { base: 256 * 1024, per_byte: 128 };
/// A state machine over a small mesh: what it keeps for one peer has bounds of its own (crdt/src/limits.rs).
pub const MACHINE: Memory = Memory { base: 16 * 1024 * 1024, per_byte: 1024 };

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());
/// Set by `cargo xtask fuzz --replay`: every panic is told at once, with a backtrace.
const TELL: &str = "CAULDRON_FUZZ_TELL";

/// Call once before the first input: libFuzzer's own hook ends the process at every panic, also at one that a fence catches.
pub fn ready() {
    let tell = std::env::var_os(TELL).is_some();
    // A panic under a fence is expected; only one that gets out is told.
    set_hook(Box::new(move |panic| {
        if tell {
            // The names for a backtrace take more memory than any input may.
            let (held, peak) = (HELD.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed));
            eprintln!("{panic}\n{}", Backtrace::force_capture());
            HELD.store(held, Ordering::Relaxed);
            PEAK.store(peak, Ordering::Relaxed);
        }
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = panic.to_string();
        }
    }));
    std::sync::LazyLock::force(&crate::mesh::FOUNDED);
    std::sync::LazyLock::force(&crate::mesh::WITHOUT_POLICY);
    std::sync::LazyLock::force(&crate::pki::PKI);
}

/// Works on `input` and ends the process, as libFuzzer expects of a finding, when a panic gets out or a bound is broken.
pub fn hostile(input: &[u8], memory: Memory, work: impl FnOnce(&[u8])) {
    let (before, started_ms) = (mark(), worked_ms());
    let outcome = catch_unwind(AssertUnwindSafe(|| work(input)));
    let (grew, took_ms) = (PEAK.load(Ordering::Relaxed).saturating_sub(before), worked_ms() - started_ms);
    let bytes_max = memory.base + memory.per_byte * input.len();
    if outcome.is_err() {
        let last = LAST_PANIC.lock().map(|text| text.clone()).unwrap_or_default();
        finding(&last);
    }
    if took_ms > WORK_MS_MAX {
        finding(&format!("it took {took_ms} ms of processor time, at most {WORK_MS_MAX} ms are allowed"));
    }
    if grew > bytes_max {
        finding(&format!("it took {grew} bytes of memory, at most {bytes_max} are allowed for {} bytes", input.len()));
    }
}

fn finding(what: &str) -> ! {
    eprintln!("FINDING: {}", what.replace('\n', " "));
    std::process::abort();
}

fn worked_ms() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Bytes held now; the peak counts from here.
fn mark() -> usize {
    let held = HELD.load(Ordering::Relaxed);
    PEAK.store(held, Ordering::Relaxed);
    held
}

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

/// The system's allocator, counted: libFuzzer looks at the resident memory once a second and at whole processes only.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches no memory of it.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        took(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}
