//! Policy bundles: versioned sets of Rego and data files, indexed by action class.

use std::collections::BTreeMap;

use cauldron_identity::Digest;
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::Deserialize;

use crate::action::{Catalogue, SchemaError};
use crate::bodies::RiskClass;

/// The file that names version and classes.
pub const MANIFEST: &str = "manifest.json";
/// A packed bundle must fit into one fact body.
pub const PACKED_LEN_MAX: usize = cauldron_identity::fact::BODY_LEN_MAX;
const FILES_MAX: usize = 256;
const NAME_LEN_MAX: usize = 128;

/// Why bytes are no usable bundle.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum BundleError {
    /// Not strictly encoded.
    #[error("the bundle cannot be read")]
    Encoding(#[from] CodecError),
    /// Too large for a fact.
    #[error("the bundle packs to {0} bytes; at most {PACKED_LEN_MAX} fit into a fact")]
    Size(usize),
    /// Names are not sorted, unique, short and plain.
    #[error("{0:?} is no file name of a bundle: use a-z, 0-9, '_', '-', '.' and '/', sorted and unique")]
    Name(String),
    /// No manifest, or one that cannot be read.
    #[error("{MANIFEST}: {0}")]
    Manifest(String),
    /// An action schema that is none, or does not fit its class.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The manifest names a file that the bundle lacks.
    #[error("{MANIFEST}: class {class} names {file}, which the bundle lacks")]
    Missing {
        /// The action class.
        class: String,
        /// The file.
        file: String,
    },
}

/// One action class of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The class that policy gives it.
    pub risk: RiskClass,
    /// The Rego and JSON files that judge it.
    pub files: Vec<String>,
    /// The action schema, where the build has none for this class.
    #[serde(default)]
    pub schema: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: String,
    classes: BTreeMap<String, Class>,
}

/// A set of files with its index. Equal files make equal bytes, hence one digest.
#[derive(Debug, Clone)]
pub struct Bundle {
    version: String,
    files: BTreeMap<String, Vec<u8>>,
    classes: BTreeMap<String, Class>,
    catalogue: Catalogue,
    packed: Vec<u8>,
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.packed == other.packed
    }
}

impl Eq for Bundle {}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Packed {
    #[n(0)]
    v: u8,
    #[n(1)]
    files: Vec<PackedFile>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PackedFile {
    #[n(0)]
    name: String,
    #[n(1)]
    bytes: ByteVec,
}

impl Bundle {
    /// Reads manifest and index.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Result<Self, BundleError> {
        if let Some(bad) = files.keys().find(|name| !is_file_name(name)) {
            return Err(BundleError::Name(bad.chars().take(NAME_LEN_MAX).collect()));
        }
        if files.len() > FILES_MAX {
            return Err(BundleError::Manifest(format!("{} files; at most {FILES_MAX}", files.len())));
        }
        let manifest = files.get(MANIFEST).ok_or_else(|| BundleError::Manifest("is missing".into()))?;
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(|e| BundleError::Manifest(e.to_string()))?;
        for (class, entry) in &manifest.classes {
            if let Some(file) = entry.files.iter().chain(&entry.schema).find(|f| !files.contains_key(*f)) {
                return Err(BundleError::Missing { class: class.clone(), file: file.clone() });
            }
        }
        let catalogue = catalogue(&files, &manifest.classes)?;
        let packed = pack(&files);
        if packed.len() > PACKED_LEN_MAX {
            return Err(BundleError::Size(packed.len()));
        }
        Ok(Self { version: manifest.version, files, classes: manifest.classes, catalogue, packed })
    }

    /// Reads a packed bundle, e.g. the body of a `policy.bundle` fact.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn unpack(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > PACKED_LEN_MAX {
            return Err(BundleError::Size(bytes.len()));
        }
        let packed: Packed = from_cbor(bytes)?;
        if packed.v != 0 {
            return Err(BundleError::Manifest(format!("bundle format {}; this build reads 0", packed.v)));
        }
        let mut files = BTreeMap::new();
        for file in packed.files {
            let follows = files.last_key_value().is_none_or(|(last, _): (&String, _)| *last < file.name);
            if !follows {
                return Err(BundleError::Name(file.name.chars().take(NAME_LEN_MAX).collect()));
            }
            files.insert(file.name, file.bytes.into());
        }
        Self::new(files)
    }

    /// The bundle that every build carries: `deploy/policies/`.
    ///
    /// # Panics
    /// Never: a test loads it.
    #[must_use]
    pub fn default_bundle() -> Self {
        macro_rules! files {
            ($($name:literal),*) => {
                [$(($name, include_bytes!(concat!("../../../deploy/policies/", $name)).as_slice())),*]
            };
        }
        let files = files![
            "devops_file.json",
            "devops_file_delete.rego",
            "devops_file_delete_test.rego",
            "devops_file_read.rego",
            "devops_file_read_test.rego",
            "devops_file_restore.rego",
            "devops_file_restore_test.rego",
            "devops_file_write.rego",
            "devops_file_write_test.rego",
            "manifest.json",
            "security_address_block.json",
            "security_address_block.rego",
            "security_address_block_test.rego",
            "security_address_unblock.rego",
            "security_address_unblock_test.rego",
            "security_blocklist_read.rego",
            "security_blocklist_read_test.rego"
        ];
        match Self::new(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()) {
            Ok(bundle) => bundle,
            Err(e) => unreachable!("the built-in bundle is broken: {e}"),
        }
    }

    /// Deterministic CBOR: the body of a `policy.bundle` fact.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Digest of the packed bytes, as an `Activate` entry names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("cauldron/bundle/v1", &self.packed)
    }

    /// What it calls itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The classes it judges.
    #[must_use]
    pub fn classes(&self) -> &BTreeMap<String, Class> {
        &self.classes
    }

    /// The actions that it can judge: those that the build knows, and those that it brings a schema for.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// Digest of one class's name, risk, rules and data: the *policy version* that terms and permits name.
    #[must_use]
    pub fn class_version(&self, class: &str) -> Option<Digest> {
        let entry = self.classes.get(class)?;
        let files = entry.files.iter().chain(&entry.schema).filter_map(|f| self.files.get_key_value(f));
        let subset: BTreeMap<String, Vec<u8>> = files.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        let mut bytes = to_cbor(&(class, entry.risk));
        bytes.extend_from_slice(&pack(&subset));
        Some(Digest::of("cauldron/class-version/v1", &bytes))
    }
}

/// The built-in schemas and the bundle's own. Each of these is of the class that names it, and no less than the manifest says.
fn catalogue(files: &BTreeMap<String, Vec<u8>>, classes: &BTreeMap<String, Class>) -> Result<Catalogue, BundleError> {
    let built_in = Catalogue::built_in();
    let brought = classes.iter().filter_map(|(class, c)| Some((class, c.schema.as_ref()?)));
    let brought: Vec<(&String, &String, &[u8])> =
        brought.filter_map(|(class, name)| Some((class, name, files.get(name)?.as_slice()))).collect();
    let catalogue = built_in.with(brought.iter().map(|(_, name, bytes)| (name.as_str(), *bytes)))?;
    for (class, name, _) in brought {
        if catalogue.get(class).is_none() {
            let why = format!("is the schema of another class than {class}, which names it");
            return Err(SchemaError { name: name.clone(), why }.into());
        }
    }
    Ok(catalogue)
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let file = |(name, bytes): (&String, &Vec<u8>)| PackedFile { name: name.clone(), bytes: bytes.clone().into() };
    to_cbor(&Packed { v: 0, files: files.iter().map(file).collect() })
}

fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-./".contains(&b);
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        list.iter().map(|(n, b)| ((*n).to_owned(), b.as_bytes().to_vec())).collect()
    }

    const EMPTY: &str = r#"{"version":"1","classes":{}}"#;

    #[test]
    fn packs_and_unpacks_to_the_same_digest() {
        let bundle = Bundle::default_bundle();
        let again = Bundle::unpack(bundle.packed()).expect("own bytes");
        assert_eq!((again.digest(), &again), (bundle.digest(), &bundle));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        assert_eq!(Bundle::new(files(&[])), Err(BundleError::Manifest("is missing".into())));
        assert!(matches!(Bundle::new(files(&[(MANIFEST, "{}")])), Err(BundleError::Manifest(_))));
        for name in ["../x", "/x", "a//b", "A", "", ".hidden", "a/.b"] {
            assert_eq!(Bundle::new(files(&[(MANIFEST, EMPTY), (name, "")])), Err(BundleError::Name(name.into())));
        }
        let missing = r#"{"version":"1","classes":{"c":{"risk":"R0","files":["x.rego"]}}}"#;
        let want = BundleError::Missing { class: "c".into(), file: "x.rego".into() };
        assert_eq!(Bundle::new(files(&[(MANIFEST, missing)])), Err(want));
        let large = Bundle::new(files(&[(MANIFEST, EMPTY), ("x", &"x".repeat(PACKED_LEN_MAX))]));
        assert!(matches!(large, Err(BundleError::Size(_))));
        assert!(matches!(Bundle::unpack(b"\xff"), Err(BundleError::Encoding(_))));
    }

    #[test]
    fn a_class_version_changes_only_with_its_own_files() {
        let with = |a: &str, b: &str| {
            let manifest = r#"{"version":"1","classes":{"a":{"risk":"R0","files":["a.rego"]},"b":{"risk":"R0","files":["b.rego"]}}}"#;
            Bundle::new(files(&[(MANIFEST, manifest), ("a.rego", a), ("b.rego", b)])).expect("valid")
        };
        let (one, two) = (with("1", "1"), with("1", "2"));
        assert_eq!(one.class_version("a"), two.class_version("a"));
        assert_ne!(one.class_version("b"), two.class_version("b"));
        assert_ne!(one.class_version("a"), one.class_version("b"));
        assert_eq!(one.class_version("c"), None);
    }
}
