//! A sequencer on a fresh box, prepared before the council has named it: after the box that held the authority, or its root
//! key, is gone. What a mesh must not lose with one box is what every other member holds: charter and authority chain.

use std::path::Path;
use std::sync::Arc;

use cauldron_identity::authority::EntryBody;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::x509::ExternalKey;
use cauldron_identity::{AuthorKey, Digest, MeshId, PublicKey, SealedFact, SignedCharter, SpiffeId, TrustDomain};
use minicbor::{Decode, Encode};

use crate::error::CliError;
use crate::keyfile::{self, Purpose};
use crate::paths::{Binding, DataDir};
use crate::{files, founding};

/// What a member gives away for a successor to start with: `cauldron authority export`. Nothing in it is secret, and nothing
/// is believed that does not carry its own signatures.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Export {
    /// The founding charter.
    #[n(0)]
    pub charter: SignedCharter,
    /// The authority chain in its own order.
    #[n(1)]
    pub authority: Vec<SealedFact>,
    /// Terms of the council.
    #[n(2)]
    pub terms: Vec<EntryBody>,
}

/// What the council must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The mesh.
    pub mesh: MeshId,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// The new sequencer.
    pub spiffe_id: SpiffeId,
    /// Its author key.
    pub author: PublicKey,
    /// Its root key.
    pub root_key: Digest,
}

impl Export {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CliError`] when it is none, or the charter in it is not signed by its council.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let refused = || {
            CliError::integrity(format!("{} is no export of an authority chain", path.display()))
                .hint("write one at any member that still runs, with `cauldron authority export --out FILE`")
        };
        let export: Self = from_cbor(&files::read(path)?).map_err(|e| refused().because(&e))?;
        export.charter.open(&export.charter.mesh_id()).map_err(|e| refused().because(&e))?;
        Ok(export)
    }
}

/// Prepares an empty directory: author key, certificate authority, and what the export brings. It is nobody until the council
/// names it in a term.
///
/// # Errors
/// [`CliError`]: the export is of no use, a name makes no sense, the directory belongs to somebody else, or the disk refuses.
pub fn prepare(
    dir: &DataDir,
    export: &Export,
    name: &str,
    root_key: Option<Arc<dyn ExternalKey>>,
    now_ms: u64,
) -> Result<Prepared, CliError> {
    let charter =
        export.charter.read().map_err(|e| CliError::integrity("the exported charter is no charter").because(&e))?;
    let mesh = export.charter.mesh_id();
    let wrong = |e: &dyn std::error::Error| {
        CliError::usage(format!("{name} is no name for a coordinator")).detail(e.to_string())
    };
    let spiffe_id =
        SpiffeId::new(format!("spiffe://{}/coordinator/{name}", charter.trust_domain)).map_err(|e| wrong(&e))?;
    cauldron_identity::Role::of(&spiffe_id).map_err(|e| wrong(&e))?;
    if charter.sequencer.spiffe_id == spiffe_id.to_string() {
        return Err(CliError::usage(format!("{spiffe_id} is the name of the coordinator that is to be replaced"))
            .hint("give the new box a name of its own with --name, such as hq-2"));
    }
    let trust_domain = spiffe_id.trust_domain().clone();
    let (root_key, ca) = founding::make_ca(&trust_domain, root_key, now_ms)?;
    let author: AuthorKey = keyfile::generate();
    dir.create_new()?;
    files::create_dir(&dir.ca())?;
    founding::write_ca(dir, &ca)?;
    keyfile::write(&dir.author_key(), &Purpose::Author, &author, None)?;
    founding::write_clock(dir, now_ms)?;
    files::write_private(&dir.founding(), &to_cbor(&export.authority))?;
    files::write_private(&dir.terms(), &to_cbor(&export.terms))?;
    files::write_public(&dir.charter(), &to_cbor(&export.charter))?;
    dir.bind(&Binding { mesh, spiffe_id: spiffe_id.clone(), author: author.author_id() })?;
    Ok(Prepared { mesh, trust_domain, spiffe_id, author: author.public(), root_key })
}
