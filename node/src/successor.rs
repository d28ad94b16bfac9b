//! A coordinator on a fresh box, prepared before the council has named it: one that succeeds the sequencer, after the box that held
//! the authority, or its root key, is gone; or one more beside it. What a mesh must not lose with one box is what every other member
//! holds: charter and authority chain.

use std::path::Path;
use std::sync::Arc;

use cauldron_identity::authority::EntryBody;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::x509::ExternalKey;
use cauldron_identity::{
    AuthorKey, Charter, Digest, MeshId, PublicKey, SealedFact, SignedCharter, SpiffeId, TrustDomain,
};
use minicbor::{Decode, Encode};

use crate::error::CliError;
use crate::keyfile::{self, Purpose};
use crate::paths::{Binding, DataDir};
use crate::{files, founding};

/// What a member gives away for a coordinator to start with: `cauldron authority export`. Nothing in it is secret, and nothing
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
    /// The coordinator.
    pub spiffe_id: SpiffeId,
    /// Its author key.
    pub author: PublicKey,
    /// Its root key, where it is to succeed the sequencer.
    pub root_key: Option<Digest>,
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

    fn founding(&self) -> Result<Charter, CliError> {
        self.charter.read().map_err(|e| CliError::integrity("the exported charter is no charter").because(&e))
    }
}

/// The name of a coordinator on a fresh box; `taken` says what stands against one that is another's.
fn name_of(charter: &Charter, name: &str, taken: &str, hint: &str) -> Result<SpiffeId, CliError> {
    let wrong = |e: &dyn std::error::Error| {
        CliError::usage(format!("{name} is no name for a coordinator")).detail(e.to_string())
    };
    let id = SpiffeId::new(format!("spiffe://{}/coordinator/{name}", charter.trust_domain)).map_err(|e| wrong(&e))?;
    cauldron_identity::Role::of(&id).map_err(|e| wrong(&e))?;
    if charter.sequencer.spiffe_id == id.to_string() {
        return Err(CliError::usage(format!("{id} is the name of the coordinator {taken}")).hint(hint));
    }
    Ok(id)
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
    let charter = export.founding()?;
    let hint = "give the new box a name of its own with --name, such as hq-2";
    let spiffe_id = name_of(&charter, name, "that is to be replaced", hint)?;
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
    bound(dir, export, spiffe_id, trust_domain, &author, Some(root_key))
}

/// Prepares an empty directory for one more coordinator: an author key and no certificate authority. It is nobody until the council
/// seats it in the charter; its first run gets an SVID from the sequencer by that key.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_seat(dir: &DataDir, export: &Export, name: &str) -> Result<Prepared, CliError> {
    let hint = "give the second one a name of its own with --name, such as hq-2";
    let spiffe_id = name_of(&export.founding()?, name, "that the mesh has already", hint)?;
    let trust_domain = spiffe_id.trust_domain().clone();
    let author: AuthorKey = keyfile::generate();
    dir.create_new()?;
    keyfile::write(&dir.author_key(), &Purpose::Author, &author, None)?;
    bound(dir, export, spiffe_id, trust_domain, &author, None)
}

/// The binding last: with it the directory is somebody's.
fn bound(
    dir: &DataDir,
    export: &Export,
    spiffe_id: SpiffeId,
    trust_domain: TrustDomain,
    author: &AuthorKey,
    root_key: Option<Digest>,
) -> Result<Prepared, CliError> {
    let mesh = export.charter.mesh_id();
    dir.bind(&Binding { mesh, spiffe_id: spiffe_id.clone(), author: author.author_id() })?;
    Ok(Prepared { mesh, trust_domain, spiffe_id, author: author.public(), root_key })
}
