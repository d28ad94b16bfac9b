//! Agents without a mesh: what one would propose over a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cauldron_agents::net::Cidr;
use cauldron_agents::security::replay::{Replay, replay};
use cauldron_agents::security::sshd::{self, Config};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use super::{Global, duration};
use crate::error::CliError;
use crate::output::{As, Field, field, plain, print, rows};

/// Enough to find a first and a last stamp, also behind a line of the longest kind.
const END_BYTES: u64 = 2 * cauldron_agents::source::LINE_BYTES_MAX as u64;
const DRAFTS: &[Field] = &[
    field("OPERATION", "/operation", As::Text),
    field("OBJECT", "/object", As::Text),
    field("CLASS", "/risk_class", As::Text),
    field("SURE", "/confidence_ppm", As::Percent),
    field("WHY", "/rationale", As::Brief),
];

/// `agent …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What an agent would propose over a file: no mesh, no effect
    Replay(ReplayArgs),
}

/// `agent replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Which agent
    #[arg(value_name = "NAME", value_parser = [sshd::NAME])]
    name: String,
    /// The log to read; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Failed logins from one source that make a finding
    #[arg(long, value_name = "N", default_value_t = 5)]
    threshold: u32,
    /// Event time in which they must lie
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    window: Duration,
    /// How long a block would be asked for
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// An address or CIDR block that is never proposed; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Cidr>,
    /// An address of the node's own; may be repeated
    #[arg(long = "own-address", value_name = "ADDRESS")]
    own_addresses: Vec<IpAddr>,
    /// Year of the first line, where stamps have none [default: so that the log ends no later than the file's last change]
    #[arg(long, value_name = "YEAR")]
    year: Option<i16>,
}

pub(super) fn run(global: &Global, command: Command) -> Result<(), CliError> {
    let Command::Replay(args) = command;
    let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    let Opened { head, tail, rest, changed_s } = open(&args.input)?;
    let config = Config {
        threshold: args.threshold,
        window_s: seconds(args.window),
        ttl_s: seconds(args.ttl),
        allow: args.allow,
        own_addresses: args.own_addresses,
        reference_year: args.year.or_else(|| sshd::reference_year(&head, &tail, changed_s)).unwrap_or(1970),
        ..Config::default()
    };
    if let Some(error) = config.problems().iter().fold(None::<CliError>, |error, problem| {
        Some(error.unwrap_or_else(|| CliError::usage("the rule's numbers make no sense")).detail(problem.to_string()))
    }) {
        return Err(error);
    }
    let found = replay(std::io::Cursor::new(head).chain(rest), config)
        .map_err(|e| CliError::config(format!("cannot read {}", args.input.display())).because(&e))?;
    show(global, &found)
}

fn show(global: &Global, found: &Replay) -> Result<(), CliError> {
    let value =
        serde_json::to_value(found).map_err(|e| CliError::integrity("the proposals cannot be shown").because(&e))?;
    print(global.output, &value, || {
        let drafts = value.get("proposals").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let table = rows(drafts, DRAFTS, "nothing would be proposed", Timestamp::now());
        format!(
            "{table}\n{} lines, {} bytes: {}\n",
            found.summary.lines,
            found.summary.bytes,
            plain(&value["summary"]["by_reason"])
        )
    })
}

/// A log, its ends read for the sake of their stamps.
struct Opened {
    head: Vec<u8>,
    /// Empty where the end cannot be seen before all is read.
    tail: Vec<u8>,
    rest: Box<dyn Read>,
    /// When it last changed, Unix seconds.
    changed_s: i64,
}

fn open(path: &Path) -> Result<Opened, CliError> {
    let failed = |e: &std::io::Error| CliError::config(format!("cannot read {}", path.display())).because(e);
    let unix =
        |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    let mut tail = Vec::new();
    let (mut input, changed): (Box<dyn Read>, SystemTime) = if path == Path::new("-") {
        (Box::new(std::io::stdin()), SystemTime::now())
    } else {
        let mut file = File::open(path).map_err(|e| failed(&e))?;
        let metadata = file.metadata().map_err(|e| failed(&e))?;
        if !metadata.is_file() {
            return Err(CliError::config(format!("{} is not a regular file", path.display())));
        }
        let end = SeekFrom::Start(metadata.len().saturating_sub(END_BYTES));
        file.seek(end).and_then(|_| (&mut file).take(END_BYTES).read_to_end(&mut tail)).map_err(|e| failed(&e))?;
        file.seek(SeekFrom::Start(0)).map_err(|e| failed(&e))?;
        (Box::new(file), metadata.modified().unwrap_or_else(|_| SystemTime::now()))
    };
    let mut head = Vec::new();
    (&mut input).take(END_BYTES).read_to_end(&mut head).map_err(|e| failed(&e))?;
    Ok(Opened { head, tail, rest: input, changed_s: unix(changed) })
}
