//! Developer commands: `cargo xtask check | sim | bench | planted | fuzz | proto | tidy`.
//!
//! Everything here is a thin front for something that also works without it: `check` is `.ci/run`, `sim` and `bench`
//! build and start a binary of the workspace. Only `tidy`, `planted` and `fuzz` have rules of their own.
#![forbid(unsafe_code)]

mod forward;
mod fuzz;
mod tidy;
mod wires;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of the Cauldron workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run what CI runs, or only the named steps of it (`--list` prints their names).
    #[command(visible_alias = "ci", disable_help_flag = true)]
    Check {
        /// Passed on to `.ci/run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run the simulator: `--seed N`, `--for 60s`, `--seeds N`, `--planted`, `--nodes N`.
    #[command(disable_help_flag = true)]
    Sim {
        /// Passed on to the simulator; `--help` prints what it knows.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure: `state`, `identity`, `mesh`, `governance` or `spine`, `--json` for machines.
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed on to the benchmark; `--help` prints what it knows.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Plant each bug of the wires and of ranges in turn; its test must fail.
    Planted,
    /// Fuzz every decoder with libFuzzer, for 8 seconds each; exit code 1 on a finding.
    Fuzz(fuzz::Options),
    /// Generate the Workload API's messages and stubs anew; `--check` only compares.
    Proto {
        /// Write nothing; fail if the committed code is not what the definition gives.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules that no compiler checks: clean cores, no path of one machine, links that resolve.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check { args } => forward::check(&args),
        Command::Sim { args } => forward::sim(&args),
        Command::Bench { args } => forward::bench(&args),
        Command::Planted => wires::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Proto { check } => forward::proto(check),
        Command::Tidy => tidy::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("Error: {error}");
        ExitCode::FAILURE
    })
}
