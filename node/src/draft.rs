//! A founding that waits for its council: one file, passed around from member to member.
//!
//! It carries everything that the council founds: the charter, the first policy, the first entries of the authority chain. One
//! signature of a member covers all of it. The coordinator that drafted it starts once enough have signed.

use std::path::Path;

use cauldron_coordinator::bodies::KIND_BUNDLE;
use cauldron_coordinator::policy::Bundle;
use cauldron_identity::authority::{Activate, Entry, EntryBody, KIND_ENTRY, Person, founding_entry};
use cauldron_identity::charter::{CHARTER_NAMESPACE, KeySignature, founding_digest};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{
    AuthorKey, Charter, Digest, Fact, FactId, HeaderDraft, MeshId, Scope, SealedFact, SignedCharter, SignerKey,
    SshSignature,
};
use minicbor::{Decode, Encode};

use crate::error::{CliError, Kind};
use crate::files;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Draft {
    /// The charter, with the signatures so far.
    #[n(0)]
    pub charter: SignedCharter,
    /// The first policy: the sequencer's first fact in `mesh`.
    #[n(1)]
    bundle: SealedFact,
    /// The first entries of the authority chain.
    #[n(2)]
    entries: Vec<Entry>,
}

/// What a draft says, every part of it checked against the others.
#[derive(Debug)]
pub struct Content {
    /// The charter.
    pub charter: Charter,
    /// The first policy.
    pub policy: Bundle,
    /// The first people.
    pub people: Vec<Person>,
}

/// Who has signed, and who is still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Council members that signed.
    pub council: usize,
    /// Council members needed.
    pub threshold: usize,
    /// Policy authors that signed.
    pub policy: usize,
    /// Policy authors needed to activate the first policy.
    pub policy_needed: usize,
}

impl Progress {
    /// What is missing, in a sentence; nothing where the mesh can begin.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let of = |signed: usize, needed: usize, who: &str| {
            (signed < needed).then(|| format!("{signed} of {needed} needed {who} signed: {} missing", needed - signed))
        };
        let parts: Vec<String> =
            [of(self.council, self.threshold, "council keys"), of(self.policy, self.policy_needed, "policy authors")]
                .into_iter()
                .flatten()
                .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Draft {
    /// Drafts a mesh, nothing signed yet. `author` is the sequencer's key.
    #[must_use]
    pub fn new(charter: &Charter, author: &AuthorKey, bundle: &Bundle, person: Person) -> Self {
        let mesh = SignedCharter::draft(charter, None).mesh_id();
        let fact =
            seal(author, &mesh, charter.created_ms, (Scope::mesh(), 1, None), KIND_BUNDLE, bundle.packed().to_vec());
        let activate = Activate { bundle: fact.id(), digest: bundle.digest(), version: bundle.version().to_owned() };
        let entries = vec![Entry::Person(person), Entry::Activate(activate)];
        let founding = founding_digest(&named(&entries));
        Self { charter: SignedCharter::draft(charter, Some(founding)), bundle: fact.sealed().clone(), entries }
    }

    /// Reads a draft and checks it.
    ///
    /// # Errors
    /// [`CliError`] of kind `Integrity` that says which part does not fit.
    pub fn read(path: &Path) -> Result<(Self, Content), CliError> {
        let refused = || CliError::integrity(format!("{} is no draft that can be signed", path.display()));
        let draft: Self = from_cbor(&files::read(path)?).map_err(|e| refused().because(&e))?;
        let content = draft.content().map_err(|why| {
            refused().detail(why).hint("ask the coordinator's operator for the file again; never sign this one")
        })?;
        Ok((draft, content))
    }

    /// Writes it where it was, whole or not at all.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn write(&self, path: &Path) -> Result<(), CliError> {
        files::write_public(path, &to_cbor(self))
    }

    /// The mesh that it would found.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        self.charter.mesh_id()
    }

    fn content(&self) -> Result<Content, String> {
        let charter = self.charter.read().map_err(|e| crate::run::chain(&e))?;
        if self.charter.founding != Some(founding_digest(&named(&self.entries))) {
            return Err("its first entries are not those that the council signs".into());
        }
        let fact = self.bundle.clone().open(&charter.sequencer.author).map_err(|e| crate::run::chain(&e))?;
        let header = fact.header();
        if header.mesh != self.mesh() || header.scope != Scope::mesh() || header.kind != KIND_BUNDLE {
            return Err("its policy is not this mesh's".into());
        }
        let policy = fact
            .body()
            .ok_or("its policy is missing")
            .and_then(|body| Bundle::unpack(body).map_err(|_| "its policy cannot be read"))?;
        let mut people = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Person(person) => people.push(person.clone()),
                Entry::Activate(a) if a.bundle == fact.id() && a.digest == policy.digest() => {}
                Entry::Activate(_) => return Err("it activates another policy than the one it carries".into()),
                _ => return Err("it founds more than people and a policy".into()),
            }
        }
        let message = self.charter.message();
        for s in &self.charter.signatures {
            if !signs(&charter, &s.key) {
                return Err(format!("{} signed it and is neither of its council nor a policy author", s.key));
            }
            s.key.verify(CHARTER_NAMESPACE, &message, &s.signature).map_err(|_| {
                format!("the signature by {} does not fit: the file was changed after it was signed", s.key)
            })?;
        }
        Ok(Content { charter, policy, people })
    }

    /// Who has signed.
    #[must_use]
    pub fn progress(&self, charter: &Charter) -> Progress {
        Progress {
            council: self.charter.signers(&charter.council),
            threshold: charter.threshold as usize,
            policy: self.charter.signers(&charter.policy_authors),
            policy_needed: charter.policy_authors.len().min(2),
        }
    }

    /// Whether `key` may sign it now.
    ///
    /// # Errors
    /// [`CliError`] of kind `Refused`: not of the council, or signed already.
    pub fn may_sign(&self, charter: &Charter, key: &SignerKey) -> Result<(), CliError> {
        if !signs(charter, key) {
            return Err(CliError::new(Kind::Refused, "this key is neither of the council nor a policy author")
                .detail(format!("it is {key}"))
                .hint("`cauldron charter show FILE` lists the council; is this the file and the key you mean?"));
        }
        if self.charter.signatures.iter().any(|s| s.key == *key) {
            return Err(CliError::new(Kind::Refused, "this key has signed already").hint("pass the file on"));
        }
        Ok(())
    }

    /// Adds a signature over [`SignedCharter::message`] for [`CHARTER_NAMESPACE`].
    ///
    /// # Errors
    /// As [`Draft::may_sign`]; kind `Integrity` where it does not verify.
    pub fn add(&mut self, charter: &Charter, key: SignerKey, signature: SshSignature) -> Result<(), CliError> {
        self.may_sign(charter, &key)?;
        key.verify(CHARTER_NAMESPACE, &self.charter.message(), &signature)
            .map_err(|e| CliError::integrity("this is no signature over this draft").because(&e))?;
        self.charter.signatures.push(KeySignature { key, signature });
        Ok(())
    }

    /// The sequencer's first facts: the policy on `mesh`, then the entries. `author` is the sequencer's key.
    #[must_use]
    pub fn facts(&self, charter: &Charter, author: &AuthorKey) -> Vec<SealedFact> {
        let (mesh, founding) = (self.mesh(), named(&self.entries));
        let mut facts = vec![self.bundle.clone()];
        let mut prev = None;
        for (index, entry) in (1..).zip(&self.entries) {
            let signatures = self.charter.signatures.clone();
            let body = EntryBody::founded(prev, index, entry, founding.clone(), signatures);
            let place = (Scope::authority(), index, prev);
            let fact = seal(author, &mesh, charter.created_ms, place, KIND_ENTRY, to_cbor(&body));
            prev = Some(fact.id());
            facts.push(fact.sealed().clone());
        }
        facts
    }
}

fn signs(charter: &Charter, key: &SignerKey) -> bool {
    charter.council.contains(key) || charter.policy_authors.contains(key)
}

fn named(entries: &[Entry]) -> Vec<Digest> {
    entries.iter().map(founding_entry).collect()
}

fn seal(
    author: &AuthorKey,
    mesh: &MeshId,
    now_ms: u64,
    (scope, seq, prev): (Scope, u64, Option<FactId>),
    kind: &str,
    body: Vec<u8>,
) -> Fact {
    // The bundle is first in its chain and in time; the entries follow.
    let counter = if kind == KIND_BUNDLE { 0 } else { seq };
    let draft = HeaderDraft {
        mesh: *mesh,
        scope,
        incarnation: 0,
        seq,
        prev,
        hlc: (now_ms << 16) | counter,
        kind: kind.to_owned(),
        deps: Vec::new(),
        traceparent: None,
    };
    Fact::seal(author, draft, body)
}
