//! Governance: what a decision costs, beside the bare interpreter and beside OPA; what the last judge costs, an action from end to end, and many that
//! wait.

mod action;
mod opa;
mod pending;
mod permit;
mod rules;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cauldron_coordinator::input::Input;
use cauldron_coordinator::policy::{Bundle, Engine, backtest};
use regorus::Value;

use self::rules::{Style, VERDICT, bundle, document, text};
use crate::identity::processor_time;
use crate::{Bound, Figure, Report};

/// Figures of the issue.
const DECISION_P50_US_MAX: f64 = 60.0;
const DECISION_P99_US_MAX: f64 = 200.0;
const DECISION_RATIO_MIN: f64 = 0.8;
const BUNDLE_P50_US_MAX: f64 = 30.0;
const OPA_RATIO_MAX: f64 = 1.0;
const BACKTEST_MIN: f64 = 10_000.0;

/// Rounds in which all pieces of work take turns, and the length of one turn.
const ROUNDS: usize = 9;
const TURN: Duration = Duration::from_millis(150);
/// Recorded decisions that are judged again.
const RECORDED: usize = 20_000;
/// Bundles that are held at once to see what one takes.
const HELD: usize = 40;

/// Measures on the calling thread, and two real nodes.
///
/// # Errors
/// A debug build, or an operation that fails.
pub fn measure() -> Result<Report, String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: use `cargo xtask bench`".to_owned());
    }
    let mut figures = Vec::new();
    decided(&mut figures)?;
    many_operations(&mut figures)?;
    loaded(&mut figures)?;
    tested_back(&mut figures)?;
    permit::figures(&mut figures)?;
    action::figures(&mut figures)?;
    pending::figures(&mut figures)?;
    Ok(Report { figures })
}

/// One class with 100 rules. The bare interpreter is prepared once, holds the input in its own form, and evaluates one
/// rule that gathers all outcomes: no conversion, no digest, no timer, no combination.
fn decided(figures: &mut Vec<Figure>) -> Result<(), String> {
    for (style, name, bound) in [
        (Style::Compare, "decision, 100 rules that read three fields", true),
        (Style::Call, "decision, 100 rules that call a builtin first", true),
        (Style::Walk, "decision, 100 rules that walk a list first", false),
    ] {
        let engine = Engine::new(&bundle(1, 100, style)?).map_err(|e| e.to_string())?;
        let input = Input::from_document(document(0));
        let mut bare = bare(&text(0, 100, style, false))?;
        let value = Value::from(document(0));
        let mut one = || drop(black_box(engine.evaluate(black_box(&input))));
        let mut other = || {
            bare.set_input(value.clone());
            drop(black_box(bare.eval_rule(VERDICT.to_owned())));
        };
        let [ours, theirs] = latencies([&mut one, &mut other]);
        figures.push(Figure {
            name: format!("{name}, p50"),
            value: ours.p50,
            unit: "µs",
            yardstick: None,
            target: bound.then_some(Bound::AtMost(DECISION_P50_US_MAX)),
        });
        figures.push(Figure {
            name: format!("{name}, p99"),
            value: ours.p99,
            unit: "µs",
            yardstick: None,
            target: bound.then_some(Bound::AtMost(DECISION_P99_US_MAX)),
        });
        figures.push(Figure {
            name: format!("{name}, throughput"),
            value: 1e6 / ours.p50,
            unit: "/s",
            yardstick: Some(("bare regorus".to_owned(), 1e6 / theirs.p50)),
            target: Some(Bound::AtLeast(DECISION_RATIO_MIN)),
        });
    }
    let input = Input::from_document(document(0));
    let [digest] = latencies([&mut || _ = black_box(input.digest())]);
    figures.push(shown("of which the digest of the input", digest.p50, "µs"));
    Ok(())
}

/// 1,000 rules over 100 operations, one operation asked.
fn many_operations(figures: &mut Vec<Figure>) -> Result<(), String> {
    const NAME: &str = "1,000 rules over 100 operations, one asked";
    let engine = Engine::new(&bundle(100, 10, Style::Compare)?).map_err(|e| e.to_string())?;
    let input = Input::from_document(document(37));
    let [ours] = latencies([&mut || drop(black_box(engine.evaluate(black_box(&input))))]);
    figures.push(Figure {
        name: format!("{NAME}, p50"),
        value: ours.p50,
        unit: "µs",
        yardstick: None,
        target: Some(Bound::AtMost(BUNDLE_P50_US_MAX)),
    });
    figures.push(shown(&format!("{NAME}, p99"), ours.p99, "µs"));
    let Some(opa) = opa::Opa::find()? else {
        cauldron_tests::skipped("bench governance against OPA", "needs go and the Go module proxy, or CAULDRON_OPA");
        return Ok(());
    };
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    rules::write(folder.path(), 100, 10)?;
    let measured = opa.measure(folder.path(), &document(37))?;
    let hundred = tempfile::tempdir().map_err(|e| e.to_string())?;
    rules::write(hundred.path(), 1, 100)?;
    let engine = Engine::new(&bundle(1, 100, Style::Compare)?).map_err(|e| e.to_string())?;
    let input = Input::from_document(document(0));
    let [decision] = latencies([&mut || drop(black_box(engine.evaluate(black_box(&input))))]);
    figures.push(Figure {
        name: "decision, 100 rules that read three fields, beside opa bench".to_owned(),
        value: decision.p50,
        unit: "µs",
        yardstick: Some((format!("opa bench {}", opa::VERSION), opa.bench(hundred.path(), &document(0))?)),
        target: None,
    });
    for (name, value, target) in [
        ("opa bench", measured.bench_us, Some(Bound::AtMost(OPA_RATIO_MAX))),
        ("OPA as a server on loopback", measured.server_us, None),
        ("OPA as a process, opa eval", measured.process_us, None),
    ] {
        figures.push(Figure {
            name: format!("{NAME}, beside {name}"),
            value: ours.p50,
            unit: "µs",
            yardstick: Some((format!("{name} {}", opa::VERSION), value)),
            target,
        });
    }
    Ok(())
}

fn loaded(figures: &mut Vec<Figure>) -> Result<(), String> {
    let bundle = bundle(100, 10, Style::Compare)?;
    let packed = bundle.packed();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let bundle = Bundle::unpack(packed).map_err(|e| e.to_string())?;
        drop(black_box(Engine::new(&bundle).map_err(|e| e.to_string())?));
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    figures.push(shown("bundle of 1,000 rules unpacked and compiled", times[ROUNDS / 2], "ms"));
    let before = resident_kib()?;
    let held: Vec<_> = (0..HELD).map(|_| Engine::new(&bundle)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let grown = resident_kib()? - before;
    drop(black_box(held));
    figures.push(shown("memory of one loaded bundle of 1,000 rules", grown / 1024.0 / HELD as f64, "MiB"));
    Ok(())
}

fn tested_back(figures: &mut Vec<Figure>) -> Result<(), String> {
    let engine = Engine::new(&bundle(100, 10, Style::Compare)?).map_err(|e| e.to_string())?;
    let inputs: Vec<Input> = (0..RECORDED).map(|n| Input::from_document(document(n % 100))).collect();
    let recorded: Vec<_> = inputs.into_iter().map(|input| (input.clone(), engine.evaluate(&input))).collect();
    let start = processor_time();
    let report = backtest(&engine, recorded);
    let spent = (processor_time() - start).as_secs_f64();
    if report.same != RECORDED as u64 {
        return Err(format!("a back-test of the same policy changes {} decisions", report.changed));
    }
    figures.push(Figure {
        name: "recorded decisions judged again, per core".to_owned(),
        value: RECORDED as f64 / spent,
        unit: "/s",
        yardstick: None,
        target: Some(Bound::AtLeast(BACKTEST_MIN)),
    });
    Ok(())
}

fn bare(rego: &str) -> Result<regorus::Engine, String> {
    let mut engine = regorus::Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.add_policy("rules.rego".to_owned(), format!("{rego}{}", rules::GATHERED)).map_err(|e| e.to_string())?;
    engine.set_input(Value::from(document(0)));
    engine.eval_rule(VERDICT.to_owned()).map_err(|e| e.to_string())?;
    Ok(engine)
}

/// In the unit of what was measured: microseconds, unless something else is said.
struct Latency {
    p50: f64,
    p99: f64,
}

/// How long each piece of work takes, in turns, so that a busy machine slows each of them alike.
fn latencies<const N: usize>(mut works: [&mut dyn FnMut(); N]) -> [Latency; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..=ROUNDS {
        for (work, times) in works.iter_mut().zip(&mut times) {
            let turn = Instant::now();
            while turn.elapsed() < TURN {
                let start = Instant::now();
                work();
                let spent = start.elapsed().as_secs_f64() * 1e6;
                // The first round only warms up.
                if round > 0 {
                    times.push(spent);
                }
            }
        }
    }
    times.map(latency)
}

fn latency(mut times: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    Latency { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
}

fn resident_kib() -> Result<f64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().map_err(|e| format!("VmRSS: {e}"))
}

fn shown(name: &str, value: f64, unit: &'static str) -> Figure {
    Figure { name: name.to_owned(), value, unit, yardstick: None, target: None }
}
