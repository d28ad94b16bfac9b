//! The charter and its draft, read and signed as files: no node needs to run.

use std::path::{Path, PathBuf};

use cauldron_identity::charter::{CHARTER_NAMESPACE, Charter, Seat};
use cauldron_identity::codec::from_cbor;
use cauldron_identity::{MeshId, SignedCharter, SignerKey, SshSignature, ssh};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::files::time;
use super::look::tree;
use super::{Global, can_confirm, confirm};
use crate::draft::{Content, Draft};
use crate::error::CliError;
use crate::files;
use crate::output::print;
use crate::signer::{Signer, SignerArgs};

/// `charter …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a charter or a draft, check its signatures, say who signed and who is missing
    Show {
        /// The file [default: charter.cbor in the node's data directory, else charter.draft]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Add your signature to a draft, after looking at it
    Sign(SignArgs),
    /// Draft a change of the charter for the council to sign
    Amend(super::draft::AmendArgs),
}

/// `charter sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The draft that `cauldron init --first --council …` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    signer: SignerArgs,
    /// A signature made by `ssh-keygen -Y sign -n cauldron/charter/v1` over what --message wrote
    #[arg(long, value_name = "SIG", conflicts_with_all = ["key", "agent", "message"])]
    signature: Option<PathBuf>,
    /// Sign nothing; write here what is to be signed, for ssh-keygen
    #[arg(long, value_name = "OUT")]
    message: Option<PathBuf>,
    /// The mesh id that you were told another way; anything else is refused
    #[arg(long, value_name = "ID")]
    mesh: Option<MeshId>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Where a signature comes from.
enum Made {
    Here(Signer),
    Elsewhere((SignerKey, SshSignature)),
}

pub(super) fn show(global: &Global, file: Option<&Path>) -> Result<(), CliError> {
    let dir = global.data_dir();
    let path = match file {
        Some(file) => file.to_owned(),
        None if !dir.charter().exists() && dir.draft().exists() => dir.draft(),
        None => dir.charter(),
    };
    let bytes = files::read(&path)?;
    let value = if from_cbor::<Draft>(&bytes).is_ok() {
        let (draft, content) = Draft::read(&path)?;
        draft_json(&draft, &content)
    } else {
        let refused = || CliError::integrity(format!("{} is no valid charter", path.display()));
        let signed: SignedCharter = from_cbor(&bytes).map_err(|e| refused().because(&e))?;
        let pinned = match (file, dir.binding()) {
            (None, Ok(Some(binding))) => binding.mesh,
            _ => signed.mesh_id(),
        };
        charter_json(&signed, &signed.open(&pinned).map_err(|e| refused().because(&e))?)
    };
    print(global.output, &value, || tree(&value, 0))
}

pub(super) fn sign(global: &Global, args: &SignArgs) -> Result<(), CliError> {
    let (mut draft, content) = Draft::read(&args.file)?;
    if let Some(told) = args.mesh.filter(|told| *told != draft.mesh()) {
        return Err(CliError::integrity(format!("{} founds another mesh", args.file.display()))
            .detail(format!("it founds {}, you were told {told}", draft.mesh()))
            .hint("do not sign; ask the coordinator's operator for the right file"));
    }
    if let Some(out) = &args.message {
        return files::write_public(out, &draft.charter.message());
    }
    can_confirm(args.yes)?;
    let made = match &args.signature {
        Some(path) => Made::Elsewhere(ssh::from_armour(&files::read_text(path)?, CHARTER_NAMESPACE).map_err(|e| {
            CliError::integrity(format!("{} is no signature for a charter", path.display())).because(&e)
        })?),
        None => Made::Here(args.signer.open()?.for_council()?),
    };
    let key = match &made {
        Made::Here(signer) => signer.public(),
        Made::Elsewhere((key, _)) => key.clone(),
    };
    draft.may_sign(&content.charter, &key)?;
    if !args.yes {
        eprint!("{}", tree(&draft_json(&draft, &content), 0));
    }
    confirm(&format!("Found exactly this mesh, as {key}?"), args.yes)?;
    let signature = match &made {
        Made::Here(signer) => signer.sign(CHARTER_NAMESPACE, &draft.charter.message())?,
        Made::Elsewhere((_, signature)) => *signature,
    };
    draft.add(&content.charter, key, signature)?;
    draft.write(&args.file)?;
    let value = draft_json(&draft, &content);
    print(global.output, &value, || match draft.progress(&content.charter).missing() {
        None => "Signed, and enough have: put the file back at the coordinator and start it.\n".to_owned(),
        Some(missing) => format!("Signed. {missing}: pass the file on.\n"),
    })
}

/// A draft as it stands. Whoever signs sees the policy by digest and version, and the people by name and key.
fn draft_json(draft: &Draft, content: &Content) -> Value {
    let mut value = charter_json(&draft.charter, &content.charter);
    let missing = draft.progress(&content.charter).missing();
    if let Some(map) = value.as_object_mut() {
        map.insert("policy".into(), json!({ "version": content.policy.version(), "digest": content.policy.digest() }));
        map.insert("people".into(), json!(content.people));
        map.insert("missing".into(), json!(missing));
        map.insert("can_start".into(), json!(missing.is_none()));
    }
    value
}

fn charter_json(signed: &SignedCharter, charter: &Charter) -> Value {
    let seat = |s: &Seat| json!({ "spiffe_id": s.spiffe_id, "author_key": s.author });
    let ages = &charter.class_ages;
    let signed_by: Vec<_> = signed.signatures.iter().map(|s| &s.key).collect();
    let not_signed: Vec<_> = charter.council.iter().filter(|key| !signed_by.contains(key)).collect();
    json!({
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
        "signed_by": signed_by,
        "not_signed_by": not_signed,
    })
}
