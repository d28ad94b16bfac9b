//! Writes every seed to `<folder>/<target>/`: `seeds FOLDER`. What fuzzing found there before stays.

use std::path::Path;
use std::process::ExitCode;

// The library is built with the calls that libFuzzer answers.
use libfuzzer_sys as _;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("Error: say where: seeds FOLDER");
        return ExitCode::FAILURE;
    };
    match write(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} seeds");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: cannot write a seed to {}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> std::io::Result<usize> {
    let seeds = cauldron_fuzz::seeds::all();
    for seed in &seeds {
        let folder = folder.join(seed.target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("seed-{}", seed.name)), &seed.bytes)?;
    }
    Ok(seeds.len())
}
