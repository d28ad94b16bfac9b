//! Charter and certificates, read from files: no node needs to run.

use std::path::PathBuf;

use cauldron_identity::SignedCharter;
use cauldron_identity::codec::from_cbor;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use super::look::tree;
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

/// `charter …`.
#[derive(Debug, Subcommand)]
pub enum CharterCommand {
    /// Read a charter, check its signatures, print it
    Show {
        /// The file [default: charter.cbor in the node's data directory]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `identity …`.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Whose data directory this is, and its present SVID
    Show,
    /// Decide an X.509-SVID, a JWT-SVID or a trust bundle, as any peer would
    Verify(verify::Args),
}

pub(super) fn charter(global: &Global, command: &CharterCommand) -> Result<(), CliError> {
    let CharterCommand::Show { file } = command;
    let dir = global.data_dir();
    let path = file.clone().unwrap_or_else(|| dir.charter());
    let refused = || CliError::integrity(format!("{} is no valid charter", path.display()));
    let signed: SignedCharter = from_cbor(&files::read(&path)?).map_err(|e| refused().because(&e))?;
    let pinned = match (file, dir.binding()) {
        (None, Ok(Some(binding))) => binding.mesh,
        _ => signed.mesh_id(),
    };
    let charter = signed.open(&pinned).map_err(|e| refused().because(&e))?;
    let seat = |s: &cauldron_identity::charter::Seat| json!({ "spiffe_id": s.spiffe_id, "author_key": s.author });
    let ages = &charter.class_ages;
    let value = json!({
        "mesh": signed.mesh_id(),
        "trust_domain": charter.trust_domain,
        "created": time(charter.created_ms),
        "council": charter.council,
        "threshold": charter.threshold,
        "recovery": charter.recovery,
        "sequencer": seat(&charter.sequencer),
        "coordinators": charter.coordinators.iter().map(seat).collect::<Vec<_>>(),
        "policy_authors": charter.policy_authors,
        "root_keys": charter.root_keys,
        "rp_id": charter.rp_id,
        "vote_origins": charter.vote_origins,
        "lease_age_ms_max": { "R0": ages.r0_ms, "R1": ages.r1_ms, "R2": ages.r2_ms, "R3": ages.r3_ms },
        "retention_floor_days": charter.retention_floor_days,
        "signed_by": signed.signatures.iter().map(|s| &s.key).collect::<Vec<_>>(),
    });
    print(global.output, &value, || tree(&value, 0))
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
