//! Certificates, read from files: no node needs to run.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use super::{Global, verify};
use crate::error::CliError;
use crate::output::{As, Field, field, print, record};
use crate::paths::DataDir;
use crate::{clock, files};

const IDENTITY: &[Field] = &[
    field("node", "/spiffe_id", As::Text),
    field("mesh", "/mesh", As::Text),
    field("author", "/author", As::Text),
    field("SVID from", "/svid/not_before", As::Time),
    field("SVID ends", "/svid/not_after", As::Time),
    field("SVID", "/svid/problem", As::Text),
];

/// `identity …`.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Whose data directory this is, and its present SVID
    Show,
    /// Decide an X.509-SVID, a JWT-SVID or a trust bundle, as any peer would
    Verify(verify::Args),
}

pub(super) fn identity(global: &Global, command: &IdentityCommand) -> Result<(), CliError> {
    let dir = global.data_dir();
    match command {
        IdentityCommand::Show => show(global, &dir),
        IdentityCommand::Verify(args) => verify::run(global, args),
    }
}

fn show(global: &Global, dir: &DataDir) -> Result<(), CliError> {
    let Some(binding) = dir.binding()? else {
        return Err(CliError::config(format!("{} holds no node", dir.root().display()))
            .hint("name its data directory with --node DIR"));
    };
    let sealed = files::read_text(&dir.svid()).is_ok_and(|text| cauldron_identity::seal::is_sealed(&text));
    let svid = match dir.svid().exists() {
        true if sealed => json!({ "problem": "sealed by node.key_seal: ask the running node with `cauldron status`" }),
        true => match verify::own(dir, clock::wall_ms() / 1_000) {
            Ok(svid) => svid,
            Err(e) => json!({ "problem": e.to_string().replace('\n', " ") }),
        },
        false => json!({ "problem": "none yet: the node gets one at its first start" }),
    };
    let value = json!({ "spiffe_id": binding.spiffe_id.to_string(), "mesh": binding.mesh, "author": binding.author, "svid": svid });
    print(global.output, &value, || record(&value, IDENTITY, Timestamp::now()))
}

/// RFC 3339 in UTC; nothing for moments beyond what it can write.
pub(super) fn time(ms: u64) -> Option<String> {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|t| t.to_string())
}
