//! Charter and certificates, read from files: no node needs to run.

use std::path::PathBuf;

use cauldron_identity::SignedCharter;
use cauldron_identity::codec::from_cbor;
use cauldron_identity::x509::{Bundle, Bundles, VerifiedSvid, certificates_from_pem, verify_svid};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Global;
use super::look::tree;
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
const SVID: &[Field] = &[
    field("holder", "/spiffe_id", As::Text),
    field("from", "/not_before", As::Time),
    field("ends", "/not_after", As::Time),
    field("key", "/spki_sha256", As::Text),
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
    /// Draft a change of the charter for the council to sign
    Amend(super::draft::AmendArgs),
}

/// `identity …`.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Whose data directory this is, and its present SVID
    Show,
    /// Check an X.509-SVID as any peer would
    Verify {
        /// PEM with the chain, leaf first
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// PEM with the root certificates [default: bundle.pem in the node's data directory]
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// As of then (RFC 3339) instead of now
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
}

pub(super) fn charter(global: &Global, file: Option<&PathBuf>) -> Result<(), CliError> {
    let dir = global.data_dir();
    let path = file.cloned().unwrap_or_else(|| dir.charter());
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
        "signed_by": signed.signatures.iter().map(|s| s.key).collect::<Vec<_>>(),
    });
    print(global.output, &value, || tree(&value, 0))
}

pub(super) fn identity(global: &Global, command: &IdentityCommand) -> Result<(), CliError> {
    let dir = global.data_dir();
    match command {
        IdentityCommand::Show => show(global, &dir),
        IdentityCommand::Verify { file, bundle, at } => {
            let bundle = bundle.clone().unwrap_or_else(|| dir.bundle());
            let at_s = at.map_or(clock::wall_ms() / 1_000, |t| u64::try_from(t.as_second()).unwrap_or(0));
            let value = describe(&verify(file, &bundle, at_s)?);
            print(global.output, &value, || record(&value, SVID, Timestamp::now()))
        }
    }
}

fn show(global: &Global, dir: &DataDir) -> Result<(), CliError> {
    let Some(binding) = dir.binding()? else {
        return Err(CliError::config(format!("{} holds no node", dir.root().display()))
            .hint("name its data directory with --node DIR"));
    };
    let svid = match dir.svid().exists() {
        true => match verify(&dir.svid(), &dir.bundle(), clock::wall_ms() / 1_000) {
            Ok(svid) => describe(&svid),
            Err(e) => json!({ "problem": e.to_string().replace('\n', " ") }),
        },
        false => json!({ "problem": "none yet: the node gets one at its first start" }),
    };
    let value = json!({ "spiffe_id": binding.spiffe_id.to_string(), "mesh": binding.mesh, "author": binding.author, "svid": svid });
    print(global.output, &value, || record(&value, IDENTITY, Timestamp::now()))
}

/// Verifies the chain in `file` against the roots in `bundle`. Exit 6 when it does not hold.
pub(super) fn verify(file: &std::path::Path, bundle: &std::path::Path, at_s: u64) -> Result<VerifiedSvid, CliError> {
    let pem = |path: &std::path::Path| {
        certificates_from_pem(&files::read_text(path)?)
            .map_err(|e| CliError::config(format!("{} holds no certificate", path.display())).because(&e))
    };
    let (chain, roots) = (pem(file)?, pem(bundle)?);
    let unusable = || CliError::config(format!("{} is no trust bundle", bundle.display()));
    let mut bundles = Bundles::new();
    for root in roots {
        // The root's own SPIFFE ID says for which trust domain it speaks.
        let id = spiffe::cert::spiffe_id_from_der(root.as_ref()).map_err(|e| unusable().because(&e))?;
        let domain = id.trust_domain().clone();
        let mut all = bundles.get(&domain).map(|b| b.roots().to_vec()).unwrap_or_default();
        all.push(root);
        bundles.insert(Bundle::new(domain, all).map_err(|e| unusable().because(&e))?);
    }
    verify_svid(&chain, &bundles, at_s)
        .map_err(|e| CliError::integrity(format!("{} is not a valid SVID", file.display())).because(&e))
}

fn describe(svid: &VerifiedSvid) -> Value {
    json!({
        "spiffe_id": svid.spiffe_id.to_string(),
        "not_before": time(svid.not_before_s.saturating_mul(1_000)),
        "not_after": time(svid.not_after_s.saturating_mul(1_000)),
        "spki_sha256": hex::encode(svid.spki_sha256),
    })
}

/// RFC 3339 in UTC; nothing for moments beyond what it can write.
fn time(ms: u64) -> Option<String> {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|t| t.to_string())
}
