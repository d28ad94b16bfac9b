//! `cargo xtask fuzz`: hostile bytes for every decoder, with libFuzzer, on the toolchain that builds the rest.
//!
//! The targets are built once, by plain cargo with LLVM's coverage passes, which a stable compiler has. Without a sanitizer: all
//! of the code is safe Rust, and what a sanitizer would watch is in dependencies that are fuzzed at home; memory and time are
//! counted by the targets themselves (fuzz/src/hostile.rs).

mod output;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use clap::Args;

use crate::forward::{cargo, repository};
use output::Run;

/// What `cargo fuzz` passes too, but for the sanitizers.
const COVERAGE: [&str; 6] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// The longest input, bytes: twice a certificate chain, and many messages; larger ones are refused by their length alone.
const INPUT_BYTES_MAX: u32 = 32 * 1024;
/// One input, seconds. The targets themselves allow one second of processor time; this one ends what never comes back.
const INPUT_S_MAX: u32 = 5;
/// A whole process, MiB: the instrumented program, its corpus, and one input.
const PROCESS_MIB_MAX: u32 = 1024;

/// What to fuzz, and for how long.
#[derive(Args)]
pub struct Options {
    /// How long to fuzz each target, seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Draw the same inputs at every run, as far as a machine gets; 0 draws others each time.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Targets at the same time; by default one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run one target once, with the input in this file, and show what happens.
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    replay: Option<PathBuf>,
    /// Only build.
    #[arg(long, conflicts_with_all = ["seconds", "replay"])]
    no_run: bool,
    /// Which ones; all by default. `fuzz/fuzz_targets/` has them.
    targets: Vec<String>,
}

/// Builds the targets, writes the seeds, and runs.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let fuzz = repository()?.join("fuzz");
    let targets = chosen(&fuzz, &options.targets)?;
    let programs = build(&fuzz, &targets)?;
    if options.no_run {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(input) = &options.replay {
        let [target] = &targets[..] else { return Err("name the one target that --replay is for".into()) };
        return replay(&programs, target, input);
    }
    let seeded = Command::new(programs.join("seeds")).arg(fuzz.join("corpus")).status();
    if !seeded.is_ok_and(|status| status.success()) {
        return Err("the seeds cannot be written; see above".into());
    }
    println!("{}", Run::HEADINGS);
    let queue: Mutex<VecDeque<&String>> = Mutex::new(targets.iter().collect());
    let findings = Mutex::new(Vec::new());
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, targets.len()) {
            scope.spawn(|| {
                while let Some(target) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    let run = one(&fuzz, &programs, target, options);
                    let found = run.and_then(|run| {
                        println!("{}", run.line(target));
                        if run.ok { Ok(()) } else { Err(told(&fuzz, target, &run)) }
                    });
                    if let (Err(what), Ok(mut findings)) = (found, findings.lock()) {
                        findings.push(what);
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().map_err(|_| "a run ended in a panic".to_owned())?;
    findings.iter().for_each(|finding| println!("\n{finding}"));
    println!("fuzz: {} targets for {} s each, {} findings", targets.len(), options.seconds, findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The targets to run, by name.
fn chosen(fuzz: &Path, wanted: &[String]) -> Result<Vec<String>, String> {
    let folder = fuzz.join("fuzz_targets");
    let files = std::fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let stem = |file: PathBuf| Some(file.file_stem()?.to_str()?.to_owned());
    let mut all: Vec<String> = files.flatten().filter_map(|file| stem(file.path())).collect();
    all.sort();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        return Err(format!("no fuzz target is called {unknown}; there are: {}", all.join(", ")));
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}

/// Builds targets and seeds; the folder that the programs are in.
fn build(fuzz: &Path, targets: &[String]) -> Result<PathBuf, String> {
    let host = host()?;
    // Beside the product's own build, which must not be instrumented; `cargo clean` finds it.
    let folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| fuzz.with_file_name("target"), PathBuf::from).join("fuzz");
    let mut command = cargo();
    command.args(["build", "--locked", "--manifest-path"]).arg(fuzz.join("Cargo.toml"));
    // With a target named, the flags do not reach build scripts and procedural macros.
    command.args(["--target", &host, "--bin", "seeds"]).arg("--target-dir").arg(&folder);
    for target in targets {
        command.args(["--bin", target]);
    }
    command.env("RUSTFLAGS", COVERAGE.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err("the fuzz targets do not build; libFuzzer needs a C++ compiler".into());
    }
    Ok(folder.join(host).join("debug"))
}

fn host() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).arg("-vV").output().map_err(|error| format!("cannot start rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what machine this is".into())
}

/// Fuzzes one target.
fn one(fuzz: &Path, programs: &Path, target: &str, options: &Options) -> Result<Run, String> {
    let (corpus, artifacts) = (fuzz.join("corpus").join(target), fuzz.join("artifacts").join(target));
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let output = program(programs, target)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-seed={}", options.seed))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(corpus)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start the fuzz target {target}: {error}"))?;
    Ok(Run::of(output.status.success(), &String::from_utf8_lossy(&output.stderr)))
}

fn program(programs: &Path, target: &str) -> Command {
    let mut command = Command::new(programs.join(target));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={INPUT_S_MAX}"));
    command.arg(format!("-rss_limit_mb={PROCESS_MIB_MAX}"));
    command
}

fn replay(programs: &Path, target: &str, input: &Path) -> Result<ExitCode, String> {
    let status = program(programs, target).arg(input).env("CAULDRON_FUZZ_TELL", "1").status();
    let status = status.map_err(|error| format!("cannot start the fuzz target {target}: {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A finding, with the one command that shows it again.
fn told(fuzz: &Path, target: &str, run: &Run) -> String {
    let root = fuzz.parent().unwrap_or(fuzz);
    let input = run.artifact.as_deref().map(Path::new);
    let input = input.map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string());
    let mut text = format!("{target}: {}\n", run.what);
    match (&input, &run.base64) {
        (Some(file), Some(bytes)) => {
            text.push_str(&format!(
                "  again: echo {bytes} | base64 -d > {file} && cargo xtask fuzz --replay {file} {target}"
            ));
        }
        (Some(file), None) => text.push_str(&format!("  again: cargo xtask fuzz --replay {file} {target}")),
        (None, _) => text.push_str("  it left no input"),
    }
    text
}
