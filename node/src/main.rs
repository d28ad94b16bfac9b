//! The `cauldron` binary: reads the command line, carries it out, ends with the exit code of what went wrong.

use std::process::ExitCode;

use cauldron_node::cli::{self, Cli};
use cauldron_node::error::CliError;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail(&CliError::config("another TLS provider is installed in this process already"));
    }
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &CliError) -> ExitCode {
    eprintln!("{error}");
    error.exit_code()
}
