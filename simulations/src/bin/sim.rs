//! `sim`: worlds from the command line. `cargo xtask sim …` builds and runs it.

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cauldron_simulations::reached::Reached;
use cauldron_simulations::run::{self, Report};
use cauldron_simulations::{scale, week};
use clap::Parser;

/// Seeds run side by side; each world has one thread.
const WORKERS: usize = 2;
/// Seeds at or above this are drawn from the clock, when none is given; small enough to be typed.
const FRESH_SEEDS: u64 = 1_000_000;
/// How long a planted bug may live.
#[cfg(feature = "planted")]
const PLANTED_MAX: Duration = Duration::from_secs(90);
/// For how long worlds without one are run beside them.
#[cfg(feature = "planted")]
const CLEAN_FOR: Duration = Duration::from_secs(10);

/// Seeded worlds of node cores.
#[derive(Debug, Parser)]
#[command(name = "sim", version, about)]
struct Args {
    /// Run this seed; with --for or --seeds, the first of many.
    #[arg(long)]
    seed: Option<u64>,
    /// Run seed after seed for this long, e.g. 60s.
    #[arg(long = "for", value_parser = seconds)]
    duration: Option<Duration>,
    /// Run so many seeds: the same worlds on a slow machine as on a quick one.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    seeds: Option<u64>,
    /// Find every planted bug, and nothing in a clean build.
    #[arg(long)]
    planted: bool,
    /// Wake this planted bug.
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "BUG", conflicts_with = "planted")]
    bug: Option<String>,
    /// How many nodes, hq included.
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=2_000))]
    nodes: Option<u64>,
    /// Run a large mesh of so many nodes instead: sites of ten around hq, parted and healed.
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u64).range(12..=20_000))]
    #[arg(conflicts_with_all = ["duration", "seeds", "planted", "nodes"])]
    scale: Option<u64>,
    /// Cut a site off for so many days instead, and let people work on both sides.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=30))]
    #[arg(conflicts_with_all = ["duration", "seeds", "planted", "nodes", "scale"])]
    days: Option<u64>,
    /// Print every event with its virtual time.
    #[arg(long)]
    log: bool,
    /// Print the figures of a large mesh as JSON.
    #[arg(long, requires = "scale", conflicts_with = "log")]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time; write 60s or 5m"))?;
    Ok(Duration::from_secs(number * factor))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let nodes = args.nodes.and_then(|n| usize::try_from(n).ok());
    let much = args.duration.map(Much::For).or(args.seeds.map(Much::Seeds));
    if args.planted || much.is_some() {
        // Worlds catch panics and report them as NO-PANIC; where it happened shows when the seed is replayed alone.
        std::panic::set_hook(Box::new(|_| {}));
    }
    #[cfg(feature = "planted")]
    if !cauldron_identity::planted::activate(args.bug.as_deref()) {
        eprintln!("no planted bug has that name; `--planted` lists them");
        return ExitCode::from(2);
    }
    if let Some(nodes) = args.scale.and_then(|n| usize::try_from(n).ok()) {
        return large(args.seed.unwrap_or_else(fresh_seed), nodes, args.log, args.json);
    }
    if let Some(days) = args.days {
        return apart(args.seed.unwrap_or_else(fresh_seed), days, args.log);
    }
    match (args.planted, much) {
        (true, _) => planted(),
        (false, Some(much)) => many(args.seed.unwrap_or_else(fresh_seed), much, nodes),
        (false, None) => one(args.seed.unwrap_or_else(fresh_seed), nodes, args.log),
    }
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    FRESH_SEEDS + u64::try_from(now % 1_000_000_000).unwrap_or(0)
}

fn one(seed: u64, nodes: Option<usize>, log: bool) -> ExitCode {
    let begun = Instant::now();
    let report = run::seed(seed, nodes, log);
    println!(
        "seed {seed}: {} machines, {} events, {} facts, {} effects, {} virtual s in {:.2} s",
        report.machines,
        report.events,
        report.facts,
        report.effects,
        report.virtual_ms / 1_000,
        begun.elapsed().as_secs_f64()
    );
    if report.violation.is_some() {
        failed(&report, nodes);
    }
    println!("trace {}", report.trace);
    if report.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn large(seed: u64, nodes: usize, log: bool, json: bool) -> ExitCode {
    let begun = Instant::now();
    let (report, f) = scale::run(seed, nodes, log);
    if json && report.violation.is_none() {
        let figures = serde_json::json!({
            "nodes": report.machines,
            "sessions": f.sessions,
            "events": report.events,
            "facts": f.facts,
            "seconds": begun.elapsed().as_secs_f64(),
            "memory_mb": most_resident(),
            "idle_bytes_s": f.idle.0,
            "idle_bytes_s_busiest": f.idle.1,
            "push_p50_ms": f.push_ms.0,
            "push_p99_ms": f.push_ms.1,
            "copies": f.copies,
            "restricted_ms": f.restricted_ms,
            "restricted_healed_ms": f.restricted_healed_ms,
            "rejoined_ms": f.rejoined_ms,
            "backlog": f.backlog,
        });
        println!("{figures}");
        return ExitCode::SUCCESS;
    }
    println!(
        "seed {seed}: {} machines, {} sessions, {} events, {} facts at hq, {} virtual s in {:.1} s{}",
        report.machines,
        f.sessions,
        report.events,
        f.facts,
        report.virtual_ms / 1_000,
        begun.elapsed().as_secs_f64(),
        most_resident().map_or_else(String::new, |mb| format!(", {mb} MB at most")),
    );
    println!("idle, sent per node   {:.0} B/s, the busiest {:.0} B/s", f.idle.0, f.idle.1);
    println!("write to have         p50 {} ms, p99 {} ms, {:.2} copies", f.push_ms.0, f.push_ms.1, f.copies);
    println!(
        "restriction           {} ms to all connected, {} ms from healing to all",
        f.restricted_ms, f.restricted_healed_ms
    );
    println!("healed                {} ms until {} missing deliveries were made", f.rejoined_ms, f.backlog);
    if let Some(violation) = &report.violation {
        println!("seed {seed} breaks {violation}");
        println!("  commit  {}", commit().unwrap_or_else(|| "unknown".into()));
        println!("  replay  cargo xtask sim --seed {seed} --scale {nodes} --log");
    }
    println!("trace {}", report.trace);
    if report.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn apart(seed: u64, days: u64, log: bool) -> ExitCode {
    let begun = Instant::now();
    let (report, f) = week::run(seed, days, log);
    println!(
        "seed {seed}: {} machines, a site cut off for {} h, {} events, {} facts at hq, in {:.1} s",
        report.machines,
        f.parted_ms / 3_600_000,
        report.events,
        f.facts,
        begun.elapsed().as_secs_f64(),
    );
    println!("restriction           {} ms from healing to all", f.restricted_healed_ms);
    println!(
        "healed                {} ms of {} ms until {} missing deliveries were made",
        f.rejoined_ms, f.rejoined_ms_max, f.backlog
    );
    if let Some(violation) = &report.violation {
        println!("seed {seed} breaks {violation}");
        println!("  commit  {}", commit().unwrap_or_else(|| "unknown".into()));
        println!("  replay  cargo xtask sim --seed {seed} --days {days} --log");
    }
    println!("trace {}", report.trace);
    if report.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The most memory that this process ever had, MB; none where the kernel does not say.
fn most_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim();
    kib.parse::<u64>().ok().map(|kib| kib * 1_024 / 1_000_000)
}

/// Says what broke, where, and how to see it again.
fn failed(report: &Report, nodes: Option<usize>) {
    if let Some(violation) = &report.violation {
        println!("seed {} breaks {violation}", report.seed);
    }
    let nodes = nodes.map_or_else(String::new, |n| format!(" --nodes {n}"));
    println!("  commit  {}", commit().unwrap_or_else(|| "unknown".into()));
    println!("  replay  cargo xtask sim --seed {}{nodes} --log", report.seed);
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}

/// How many worlds.
#[derive(Debug, Clone, Copy)]
enum Much {
    For(Duration),
    Seeds(u64),
}

impl Much {
    fn over(self, begun: Instant, run: u64) -> bool {
        match self {
            Self::For(duration) => begun.elapsed() >= duration,
            Self::Seeds(count) => run >= count,
        }
    }
}

fn many(first: u64, much: Much, nodes: Option<usize>) -> ExitCode {
    match much {
        Much::For(duration) => println!("seeds from {first}, for {} s", duration.as_secs()),
        Much::Seeds(count) => println!("seeds {first} to {}", first.saturating_add(count).saturating_sub(1)),
    }
    let (begun, next, stop) = (Instant::now(), AtomicU64::new(first), AtomicBool::new(false));
    let (reached, failure) = (Mutex::new(Reached::default()), Mutex::new(None::<Report>));
    let (seeds, events, virtual_ms) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if much.over(begun, seed - first) {
                        break;
                    }
                    let report = run::checked(seed, nodes);
                    seeds.fetch_add(1, Ordering::Relaxed);
                    events.fetch_add(report.events, Ordering::Relaxed);
                    virtual_ms.fetch_add(report.virtual_ms, Ordering::Relaxed);
                    if let Ok(mut all) = reached.lock() {
                        all.add(&report.reached);
                    }
                    if report.violation.is_some() {
                        stop.store(true, Ordering::Relaxed);
                        if let Ok(mut slot) = failure.lock() {
                            slot.get_or_insert(report);
                        }
                    }
                }
            });
        }
    });
    let (seeds, wall) = (seeds.into_inner(), begun.elapsed().as_secs_f64());
    let reached = reached.into_inner().unwrap_or_default();
    println!("{}", reached.table());
    let (events, hours) = (events.into_inner(), virtual_ms.into_inner() as f64 / 3_600_000.0);
    println!(
        "{seeds} seeds, {events} events, {hours:.1} virtual hours in {wall:.1} s ({:.1} seeds/s)",
        seeds as f64 / wall
    );
    if let Some(report) = failure.into_inner().ok().flatten() {
        failed(&report, nodes);
        return ExitCode::FAILURE;
    }
    if let Err(violation) = run::not_vacuous(seeds, &reached) {
        println!("{violation}");
        return ExitCode::FAILURE;
    }
    println!("clean");
    ExitCode::SUCCESS
}

#[cfg(not(feature = "planted"))]
fn planted() -> ExitCode {
    println!("this build has no planted bugs; run `cargo xtask sim --planted`");
    ExitCode::from(2)
}

/// The lowest seed that each core finds to break; of several the lowest.
#[cfg(feature = "planted")]
fn hunt(bug: &str, begun: Instant) -> Option<Report> {
    let found = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let search = |core: u64| {
        // Awake in this thread alone.
        assert!(cauldron_identity::planted::activate(Some(bug)), "{bug} is in the list of its own crate");
        let broken = (core..)
            .step_by(cores)
            .take_while(|_| begun.elapsed() < PLANTED_MAX && !found.load(Ordering::Relaxed))
            .map(|seed| run::seed(seed, None, false))
            .find(|report| report.violation.is_some());
        found.fetch_or(broken.is_some(), Ordering::Relaxed);
        broken
    };
    std::thread::scope(|scope| {
        let search = &search;
        let threads: Vec<_> = (0..).take(cores).map(|core| scope.spawn(move || search(core))).collect();
        let reports = threads.into_iter().filter_map(|thread| thread.join().ok().flatten());
        reports.min_by_key(|report| report.seed)
    })
}

#[cfg(feature = "planted")]
fn planted() -> ExitCode {
    use cauldron_identity::planted::{MODEL_NAMES, NAMES};
    let all: Vec<&str> = NAMES.into_iter().chain(MODEL_NAMES).collect();
    println!("{:<32} {:<14} {:>6} {:>8}", "planted bug", "broken", "seed", "time");
    let mut survivors = 0;
    for name in all.iter().copied() {
        let begun = Instant::now();
        let killed = hunt(name, begun);
        let time = begun.elapsed().as_secs_f64();
        match killed {
            Some(report) => {
                let broken = report.violation.map_or("", |v| v.invariant);
                println!("{name:<32} {broken:<14} {:>6} {time:>7.2}s", report.seed);
            }
            None => {
                survivors += 1;
                println!("{name:<32} {:<14} {:>6} {time:>7.2}s", "SURVIVES", "-");
            }
        }
    }
    let begun = Instant::now();
    let clean = (0..)
        .take_while(|_| begun.elapsed() < CLEAN_FOR)
        .map(|s| run::seed(s, None, false))
        .find(|r| r.violation.is_some());
    let time = begun.elapsed().as_secs_f64();
    match clean {
        Some(report) => {
            println!("{:<32} {:<14} {:>6} {time:>7.2}s", "(none)", "BROKEN", report.seed);
            failed(&report, None);
            return ExitCode::FAILURE;
        }
        None => println!("{:<32} {:<14} {:>6} {time:>7.2}s", "(none)", "clean", "-"),
    }
    println!("{} of {} planted bugs found", all.len() - survivors, all.len());
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
