//! The data directory: one place that says what lies where, and whose it is.
//!
//! | file | what | mode |
//! |---|---|---|
//! | `node.id` | the [`Binding`]: mesh, SPIFFE ID and author that this directory belongs to | 0644 |
//! | `node.toml` | configuration, where `init` or `join` wrote it | 0644 |
//! | `charter.cbor` | the signed charter; its hash is the mesh id | 0644 |
//! | `charter.draft` | a founding that waits for its council's signatures; counts until there is a charter | 0644 |
//! | `author.key` | the node's Ed25519 author key | 0600 |
//! | `svid.pem` | the key of the present X.509-SVID and its chain, in one file | 0600 |
//! | `bundle.pem` | root certificates of the trust domain | 0644 |
//! | `ca/root.pem`, `ca/root.key` | the embedded authority, on the coordinator alone | 0600 |
//! | `ca/root-<digest>.key`, `.uri` | a root key that a rotation brought, or where it is in a token | 0600 |
//! | `ca/site.pem` | key and certificate of the site's intermediate, on a node that holds one | 0600 |
//! | `ca/jwt.key` | the keys that sign JWT-SVIDs, with the times of their publication | 0600 |
//! | `ca/bundle.json` | the trust bundle as this domain publishes it (JWK Set), with its sequence | 0644 |
//! | `federation/<trust domain>.json` | a foreign trust bundle, and when it was fetched | 0600 |
//! | `notify/<webhook>.json` | what a webhook was told of approvals | 0600 |
//! | `founding.cbor` | the founder's facts, taken over by the first run of the first node | 0600 |
//! | `terms.cbor` | terms of the council that a successor starts with | 0600 |
//! | `join.token` | a token not redeemed yet, taken over by the first run of a joining node | 0600 |
//! | `clock.cbor` | where this node's clock stood at founding or join: the first high-water mark | 0600 |
//! | `people/<person>.key` | software credentials and council keys made by `init` or `people enrol` | 0600 |
//! | `store.redb` | everything else | 0600 |
//! | `workloads/<name>.pem` | key and chain of the SVID of a workload on this machine | 0600 |
//! | `workloads/jwt.json` | the trust domain's JWT keys (JWK Set), on a node without its authority | 0644 |
//! | `workload.sock` | the Workload API, where something is registered for it | 0666 |
//! | `node.sock` | the HTTP API | 0660 |
//!
//! The directory itself is 0700. `author.key`, `svid.pem` and `ca/root.key` are sealed where `node.key_seal` is set.

use std::path::{Path, PathBuf};

use cauldron_identity::{AuthorId, MeshId, SpiffeId};
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::files;
use crate::sealing::{self, Seal, Source, Unlock};

/// A data directory; knows the name of every file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
    seal: Option<Source>,
}

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(&self) -> PathBuf { self.root.join($file) })*
    };
}

impl DataDir {
    /// The directory at `root`, which need not exist.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), seal: None }
    }

    /// The same directory, whose secrets `source` seals.
    #[must_use]
    pub fn sealed_by(self, source: Option<Source>) -> Self {
        Self { seal: source, ..self }
    }

    /// How a sealed file in it is opened.
    #[must_use]
    pub fn unlock(&self) -> Unlock<'_> {
        Unlock::Node(self.seal.as_ref())
    }

    /// How a secret is written into it; nothing where `node.key_seal` is not set.
    ///
    /// # Errors
    /// [`CliError`] when the sealing secret cannot be read.
    pub fn seal(&self) -> Result<Option<Seal>, CliError> {
        self.seal.as_ref().map(Source::load).transpose()
    }

    /// Seals the node's own secrets that still lie plain, with a root key outside of `ca/` where there is one: after
    /// `node.key_seal` was set, one start is enough.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn seal_plain_secrets(&self, root_key: Option<&Path>) -> Result<Vec<PathBuf>, CliError> {
        let Some(seal) = self.seal()? else { return Ok(Vec::new()) };
        let mut sealed = Vec::new();
        let own = [self.author_key(), self.ca_key(), self.svid(), self.site_ca(), self.jwt_key()];
        let workloads = std::fs::read_dir(self.workloads()).into_iter().flatten().flatten().map(|entry| entry.path());
        let workloads = workloads.filter(|path| path.extension().is_some_and(|e| e == "pem"));
        let rotated = std::fs::read_dir(self.ca()).into_iter().flatten().flatten().map(|entry| entry.path());
        let rotated = rotated.filter(|path| path.extension().is_some_and(|e| e == "key"));
        for path in own.into_iter().chain(workloads).chain(rotated).chain(root_key.map(Path::to_owned)) {
            if !path.try_exists().unwrap_or(true) {
                continue;
            }
            let text = Zeroizing::new(files::read_secret(&path)?);
            if !cauldron_identity::seal::is_sealed(&text) {
                sealing::write(&path, &sealing::purpose(&text), &text, Some(&seal))?;
                sealed.push(path);
            }
        }
        Ok(sealed)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    files! {
        /// Whose directory this is.
        id = "node.id";
        /// Configuration written by `init` or `join`.
        config = "node.toml";
        /// The signed charter.
        charter = "charter.cbor";
        /// The founding that waits for its council.
        draft = "charter.draft";
        /// The author key.
        author_key = "author.key";
        /// The present SVID: key and chain.
        svid = "svid.pem";
        /// Root certificates of the trust domain.
        bundle = "bundle.pem";
        /// The embedded authority.
        ca = "ca";
        /// The root certificate of the embedded authority.
        ca_certificate = "ca/root.pem";
        /// The root key of the embedded authority.
        ca_key = "ca/root.key";
        /// The site's intermediate: key and certificate.
        site_ca = "ca/site.pem";
        /// The keys that sign JWT-SVIDs.
        jwt_key = "ca/jwt.key";
        /// The trust bundle as this domain publishes it.
        own_bundle = "ca/bundle.json";
        /// Foreign trust bundles.
        federation = "federation";
        /// What webhooks were told.
        notify = "notify";
        /// Facts of the founder, for the first run.
        founding = "founding.cbor";
        /// Terms of the council, for the first run of a successor.
        terms = "terms.cbor";
        /// A join token, for the first run.
        join_token = "join.token";
        /// The first mark of the clock.
        clock = "clock.cbor";
        /// Keys of people.
        people = "people";
        /// The store.
        store = "store.redb";
        /// SVIDs of workloads.
        workloads = "workloads";
        /// The trust domain's JWT keys, as the authority told them.
        jwt_bundle = "workloads/jwt.json";
        /// The Workload API's socket.
        workload_socket = "workload.sock";
        /// The API's socket.
        socket = "node.sock";
    }

    /// The key file of a person's software credential.
    #[must_use]
    pub fn person_key(&self, person: &str) -> PathBuf {
        self.people().join(format!("{person}.key"))
    }

    /// What a rotation brought: the `key` of a root, or the `uri` of one in a token.
    #[must_use]
    pub fn next_root(&self, key: &cauldron_identity::Digest, extension: &str) -> PathBuf {
        self.ca().join(format!("root-{key}.{extension}"))
    }

    /// What a webhook was told.
    #[must_use]
    pub fn told(&self, webhook: &str) -> PathBuf {
        self.notify().join(format!("{webhook}.json"))
    }

    /// The SVID of a workload.
    #[must_use]
    pub fn workload(&self, name: &str) -> PathBuf {
        self.workloads().join(format!("{name}.pem"))
    }

    /// The key file of a council member.
    #[must_use]
    pub fn council_key(&self, person: &str) -> PathBuf {
        self.people().join(format!("{person}.council.key"))
    }

    /// Creates the directory for a new node and refuses one that belongs to somebody or something else.
    ///
    /// # Errors
    /// [`CliError`] with a sentence that says what lies there.
    pub fn create_new(&self) -> Result<(), CliError> {
        if files::is_occupied(&self.root)? {
            let shown = self.root.display();
            let error = match self.binding()? {
                Some(b) => CliError::config(format!("{shown} is the data directory of another node"))
                    .detail(format!("it belongs to {} in mesh {}", b.spiffe_id, b.mesh)),
                None => CliError::config(format!("{shown} is not empty and is no data directory of a node")),
            };
            return Err(error.hint("give this node a directory of its own with --dir"));
        }
        files::create_dir(&self.root)
    }

    /// Whose directory this is; nothing where no node was made in it.
    ///
    /// # Errors
    /// [`CliError`] when `node.id` exists and cannot be read.
    pub fn binding(&self) -> Result<Option<Binding>, CliError> {
        let path = self.id();
        if !path.try_exists().unwrap_or(true) {
            return Ok(None);
        }
        Binding::parse(&files::read_text(&path)?).map(Some).map_err(|why| {
            CliError::integrity(format!("{} cannot be read", path.display()))
                .detail(why)
                .hint("it is written by `init` and `join` and never by hand; restore it from the node's backup")
        })
    }

    /// Writes down whose directory this is.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn bind(&self, binding: &Binding) -> Result<(), CliError> {
        files::write_public(&self.id(), binding.to_text().as_bytes())
    }

    /// Opens the directory for a node that is `spiffe_id` and, where configuration pins it, in `mesh`.
    ///
    /// # Errors
    /// [`CliError`] with a sentence: no node was made here, or it is another node's, or of another mesh.
    pub fn open(&self, spiffe_id: &SpiffeId, mesh: Option<&MeshId>) -> Result<Binding, CliError> {
        let shown = self.root.display();
        let Some(binding) = self.binding()? else {
            return Err(CliError::config(format!("{shown} holds no node"))
                .hint("make one with `cauldron init --first`, or with `cauldron node join TOKEN`"));
        };
        if binding.spiffe_id != *spiffe_id {
            return Err(CliError::config(format!("{shown} is the data directory of another node"))
                .detail(format!("it belongs to {}, the configuration says {spiffe_id}", binding.spiffe_id))
                .hint("set node.dir to this node's own directory"));
        }
        match mesh {
            Some(pinned) if *pinned != binding.mesh => {
                Err(CliError::config(format!("{shown} is the data directory of another mesh"))
                    .detail(format!("it belongs to mesh {}, mesh.charter pins {pinned}", binding.mesh))
                    .hint("correct mesh.charter, or give this mesh a directory of its own"))
            }
            _ => Ok(binding),
        }
    }
}

/// Whose a data directory is: `node.id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The mesh: the hash of its charter.
    pub mesh: MeshId,
    /// The node.
    pub spiffe_id: SpiffeId,
    /// Its author.
    pub author: AuthorId,
}

impl Binding {
    fn to_text(&self) -> String {
        format!(
            "# Whose data directory this is. Written once, checked at every start.\n\
             mesh = \"{}\"\nspiffe_id = \"{}\"\nauthor = \"{}\"\n",
            self.mesh, self.spiffe_id, self.author
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.message().to_owned())?;
        let field =
            |name: &str| table.get(name).and_then(toml::Value::as_str).ok_or_else(|| format!("`{name}` is missing"));
        Ok(Self {
            mesh: field("mesh")?.parse().map_err(|e| format!("mesh: {e}"))?,
            spiffe_id: SpiffeId::new(field("spiffe_id")?).map_err(|e| format!("spiffe_id: {e}"))?,
            author: field("author")?.parse().map_err(|e| format!("author: {e}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            mesh: MeshId::from_bytes([1; 32]),
            spiffe_id: SpiffeId::new("spiffe://acme.test/coordinator/hq").expect("a SPIFFE ID"),
            author: AuthorId::from_bytes([2; 32]),
        }
    }

    #[test]
    fn a_directory_of_another_node_or_mesh_is_refused_with_a_sentence() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path().join("hq"));
        let me = binding().spiffe_id;
        assert!(dir.open(&me, None).expect_err("empty").to_string().contains("holds no node"));

        dir.create_new().expect("created");
        assert_eq!(files::mode(dir.root()), Ok(0o700));
        dir.bind(&binding()).expect("bound");
        assert_eq!(dir.open(&me, Some(&binding().mesh)), Ok(binding()));

        let other = SpiffeId::new("spiffe://acme.test/coordinator/other").expect("a SPIFFE ID");
        let error = dir.open(&other, None).expect_err("another node");
        assert!(error.to_string().contains("data directory of another node"), "{error}");
        let error = dir.open(&me, Some(&MeshId::from_bytes([9; 32]))).expect_err("another mesh");
        assert!(error.to_string().contains("data directory of another mesh"), "{error}");
        let error = dir.create_new().expect_err("occupied");
        assert!(error.to_string().contains("belongs to spiffe://acme.test/coordinator/hq"), "{error}");
    }

    #[test]
    fn a_damaged_binding_is_an_integrity_error_and_a_foreign_directory_is_left_alone() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path());
        std::fs::write(temporary.path().join("photo.jpg"), b"x").expect("written");
        assert!(dir.create_new().expect_err("occupied").to_string().contains("no data directory of a node"));
        std::fs::write(dir.id(), "mesh = 3").expect("written");
        assert_eq!(dir.binding().expect_err("damaged").kind().exit_code(), 6);
    }
}
