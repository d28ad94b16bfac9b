//! Completions, manual pages, versions.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use jiff::Timestamp;
use serde_json::json;

use super::{Cli, Global};
use crate::error::CliError;
use crate::files;
use crate::output::{As, Field, field, print, record, say};

const VERSION: &[Field] = &[
    field("cauldron", "/version", As::Text),
    field("features", "/features", As::Text),
    field("facts", "/fact_format", As::Text),
    field("records", "/record_format", As::Text),
    field("vote", "/vote_format", As::Text),
];

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page per command into this folder instead of printing the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cauldron", &mut script);
    say(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs) -> Result<(), CliError> {
    let mut root = Cli::command();
    root.build();
    match &args.dir {
        None => say(&page(root)?),
        Some(dir) => {
            files::create_dir(dir)?;
            let mut waiting = vec![root];
            while let Some(command) = waiting.pop() {
                waiting
                    .extend(command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").cloned());
                let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
                files::write_public(&dir.join(format!("{name}.1")), page(command)?.as_bytes())?;
            }
            Ok(())
        }
    }
}

fn page(command: clap::Command) -> Result<String, CliError> {
    let mut roff = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut roff)
        .map_err(|e| CliError::config("cannot write the manual page").because(&e))?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}

/// What this build has beside what every build has.
fn features() -> Vec<&'static str> {
    let all = [("fault-points", cfg!(feature = "fault-points")), ("pkcs11", cfg!(feature = "pkcs11"))];
    all.into_iter().filter_map(|(name, built)| built.then_some(name)).collect()
}

pub(super) fn version(global: &Global) -> Result<(), CliError> {
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "features": features(),
        "fact_format": format!("v{}", cauldron_identity::fact::VERSION),
        "record_format": "v1",
        "vote_format": "v1",
    });
    print(global.output, &value, || record(&value, VERSION, Timestamp::now()))
}
