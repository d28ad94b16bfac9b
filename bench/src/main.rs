//! `cauldron-bench [ROOM] [--json] [--curve]`: measures one room, or all of them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cauldron_bench::{ROOMS, Report, Room, mesh};

/// As everywhere in the product: 1 is a check that did not hold, 2 is wrong usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let (mut json, mut wanted) = (false, Vec::<(&str, Room)>::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            // Takes hours, so nothing else asks for it.
            "--curve" => wanted.push(("curve", mesh::curve)),
            "--help" | "-h" => {
                println!("{}", usage());
                return ExitCode::SUCCESS;
            }
            room => match ROOMS.iter().chain(&mesh::PARTS).find(|(name, _)| *name == room) {
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
    let parts: Vec<_> = mesh::PARTS.iter().map(|(name, _)| *name).collect();
    format!(
        "Usage: cargo xtask bench [{}] [--json]\nOf the mesh alone: {}; the curve over many sizes of mesh: --curve",
        rooms.join("|"),
        parts.join(", ")
    )
}
