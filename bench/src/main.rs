//! `cauldron-bench [ROOM] [--json]`: measures one room, or all of them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cauldron_bench::{ROOMS, Report};

/// As everywhere in the product: 1 is a check that did not hold, 2 is wrong usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let (mut json, mut wanted) = (false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            "--help" | "-h" => {
                println!("{}", usage());
                return ExitCode::SUCCESS;
            }
            room => match ROOMS.iter().find(|(name, _)| *name == room) {
                Some(found) => wanted.push(*found),
                None => {
                    eprintln!("Error: no room is called `{room}`\n{}", usage());
                    return ExitCode::from(USAGE);
                }
            },
        }
    }
    if wanted.is_empty() {
        wanted.extend(ROOMS);
    }
    let mut all = Report::default();
    for (name, measure) in wanted {
        match measure() {
            Ok(report) => all.figures.extend(report.figures),
            Err(why) => {
                eprintln!("Error: cannot measure {name}\n  {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    if json {
        println!("{:#}", all.json());
    } else {
        print!("{}", all.table());
    }
    if all.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> String {
    let rooms: Vec<_> = ROOMS.iter().map(|(name, _)| *name).collect();
    format!("Usage: cargo xtask bench [{}] [--json]", rooms.join("|"))
}
