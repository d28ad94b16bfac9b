//! Authority entries that several people sign: a file that is passed around, then handed to the sequencer.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_identity::authority::{ENTRY_NAMESPACE, Entry, EntryBody, Reassign};
use cauldron_identity::charter::{Charter, KeySignature};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{FactId, MeshId, SignerKey};
use cauldron_node_core::summary_of_entry;
use clap::Args;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

use super::decide::recorded;
use super::look::tree;
use super::orders::PendingOrder;
use super::{Global, can_confirm, confirm};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::files;
use crate::output::print;
use crate::signer::{Signer, SignerArgs};

/// What an entry is built on, as the node tells: the charter that it is judged by, and its place.
pub(super) struct Base {
    mesh: MeshId,
    pub(super) charter: Charter,
    head: Option<FactId>,
    index: u64,
    pub(super) term: u32,
    /// On a frozen chain, the last entry before the fork.
    common: Option<(Option<FactId>, u64)>,
}

impl Base {
    pub(super) async fn ask(client: &Client) -> Result<Self, CliError> {
        let answer = client.get("/v1/charter").await?;
        Self::read(&answer).ok_or_else(|| CliError::integrity("the node's authority chain cannot be built on"))
    }

    fn read(answer: &Value) -> Option<Self> {
        let place = |value: &Value| {
            let head = value.get("head").and_then(Value::as_str).map(str::parse).transpose().ok()?;
            Some((head, value.get("index")?.as_u64()?))
        };
        let (head, index) = place(answer)?;
        let common = match answer.get("common") {
            None | Some(Value::Null) => None,
            Some(common) => Some(place(common)?),
        };
        let mesh = answer.get("mesh")?.as_str()?.parse().ok()?;
        let charter = from_cbor(&BASE64_STANDARD.decode(answer.get("charter")?.as_str()?).ok()?).ok()?;
        let term = u32::try_from(answer.get("term")?.as_u64()?).ok()?;
        Some(Self { mesh, charter, head, index, term, common })
    }
}

/// An entry that waits for signatures. Who may sign and how many must is as the node said: a service to those who sign,
/// believed by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Pending {
    #[n(0)]
    mesh: MeshId,
    /// The entry at its place, with the signatures so far.
    #[n(1)]
    body: EntryBody,
    #[n(2)]
    council: Vec<SignerKey>,
    #[n(3)]
    threshold: u32,
    /// Recovery keys, where they can stand in for the council.
    #[n(4)]
    recovery: Vec<SignerKey>,
    /// New council keys, which must sign too.
    #[n(5)]
    incoming: Vec<SignerKey>,
}

/// `authority sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// What a command wrote with --out
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Pending {
    /// Puts `entry` at the next place: behind the head, and a term of a frozen chain behind the last entry before the fork.
    pub(super) fn new(base: &Base, entry: &Entry) -> Self {
        let head = (base.head, base.index);
        let charter = &base.charter;
        // Two policy authors, or the only one, make a policy the active one: the council has no part in it.
        let policy = matches!(entry, Entry::Activate(_));
        let signers = if policy { charter.policy_authors.clone() } else { charter.council.clone() };
        let threshold = if policy { u32::try_from(signers.len().min(2)).unwrap_or(2) } else { charter.threshold };
        let (place, recovery, incoming) = match entry {
            Entry::Term(_) => (base.common.unwrap_or(head), charter.recovery.clone(), vec![]),
            Entry::Amend(amend) => {
                let council = amend.council.iter().flatten();
                let incoming = council.filter(|key| !charter.council.contains(key)).cloned().collect();
                (head, if amend.is_council_only() { charter.recovery.clone() } else { vec![] }, incoming)
            }
            _ => (head, vec![], vec![]),
        };
        Self {
            mesh: base.mesh,
            body: EntryBody::new(place.0, place.1 + 1, entry),
            council: signers,
            threshold,
            recovery,
            incoming,
        }
    }

    /// A draft of a reassignment that nobody has signed yet: to attest to something in it changes what is signed.
    pub(super) fn unsigned_reassign(path: &Path) -> Result<(Self, MeshId, Reassign), CliError> {
        let (pending, entry) = Self::read(path)?;
        let Entry::Reassign(reassign) = entry else {
            return Err(CliError::usage(format!("{} moves no resources", path.display())));
        };
        if !pending.body.signatures.is_empty() {
            return Err(CliError::new(Kind::Refused, "somebody of the council has signed this draft already")
                .hint("draft it again, attest first, then have it signed"));
        }
        let mesh = pending.mesh;
        Ok((pending, mesh, *reassign))
    }

    /// The same place, for another entry.
    pub(super) fn with(self, entry: &Entry) -> Self {
        Self { body: EntryBody::new(self.body.prev, self.body.index, entry), ..self }
    }

    /// Adds a signature.
    pub(super) fn sign(&mut self, signer: &Signer) -> Result<(), CliError> {
        let key = signer.public();
        self.may_sign(&key)?;
        let signature = signer.sign(ENTRY_NAMESPACE, &self.body.message(&self.mesh))?;
        self.body.signatures.push(KeySignature { key, signature });
        Ok(())
    }

    fn may_sign(&self, key: &SignerKey) -> Result<(), CliError> {
        if ![&self.council, &self.recovery, &self.incoming].iter().any(|keys| keys.contains(key)) {
            let who = if self.recovery.is_empty() { "of the council" } else { "of the council, and no recovery key" };
            return Err(CliError::new(Kind::Refused, format!("this key is not {who}")).detail(format!("it is {key}")));
        }
        if self.body.signatures.iter().any(|s| s.key == *key) {
            return Err(CliError::new(Kind::Refused, "this key has signed already").hint("pass the file on"));
        }
        Ok(())
    }

    fn read(path: &Path) -> Result<(Self, Entry), CliError> {
        let refused = || CliError::integrity(format!("{} is no entry that can be signed", path.display()));
        let pending: Self = from_cbor(&files::read(path)?).map_err(|e| refused().because(&e))?;
        // Nobody signs what this build cannot show.
        let entry: Entry = from_cbor(pending.body.entry_bytes()).map_err(|e| refused().because(&e))?;
        let message = pending.body.message(&pending.mesh);
        for s in &pending.body.signatures {
            s.key.verify(ENTRY_NAMESPACE, &message, &s.signature).map_err(|_| {
                refused().detail(format!(
                    "the signature by {} does not fit: the file was changed after it was signed",
                    s.key
                ))
            })?;
        }
        Ok((pending, entry))
    }

    /// What is missing before it counts; nothing when it can be handed in.
    fn missing(&self) -> Option<String> {
        let signed = |keys: &[SignerKey]| self.body.signers(&self.mesh, keys);
        let (council, recovery) = (signed(&self.council), signed(&self.recovery));
        let incoming = self.incoming.len() - signed(&self.incoming);
        let enough = council >= self.threshold as usize || recovery * 2 > self.recovery.len();
        let mut missing = Vec::new();
        if !enough {
            missing.push(format!("{council} of {} needed council keys signed", self.threshold));
            if !self.recovery.is_empty() {
                missing.push(format!("or {recovery} of {} recovery keys", self.recovery.len() / 2 + 1));
            }
        }
        if incoming > 0 {
            missing.push(format!("{incoming} of {} new council keys have not signed", self.incoming.len()));
        }
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    fn json(&self, entry: &Entry) -> Value {
        let person = if let Entry::Person(person) = entry { Some(person) } else { None };
        json!({
            "mesh": self.mesh, "index": self.body.index, "behind": self.body.prev, "what": summary_of_entry(entry),
            "person": person, "signed_by": self.body.signatures.iter().map(|s| &s.key).collect::<Vec<_>>(),
            "missing": self.missing(),
        })
    }

    /// Hands the entry to the sequencer, which judges it.
    pub(super) async fn submit(&self, client: &Client, global: &Global, verb: &str) -> Result<(), CliError> {
        let entry = BASE64_STANDARD.encode(to_cbor(&self.body));
        let answer = client.post("/v1/authority/entries", &json!({ "entry": entry })).await?;
        recorded(global.output, verb, &answer)
    }

    /// Writes the file and says that it waits, and for whom.
    pub(super) fn put(&self, global: &Global, path: &Path) -> Result<(), CliError> {
        files::write_public(path, &to_cbor(self))?;
        let entry = self.body.entry().map_err(|e| CliError::integrity("the entry cannot be read back").because(&e))?;
        print(global.output, &self.json(&entry), || {
            let path = path.display();
            match self.missing() {
                Some(missing) => format!("{missing}: pass the file on to sign with `cauldron authority sign {path}`\n"),
                None => format!("enough have signed: hand it in with `cauldron authority submit {path}`\n"),
            }
        })
    }
}

/// `authority sign`: shows the entry, asks, adds one signature and writes the file.
pub(super) fn sign(global: &Global, args: &SignArgs) -> Result<(), CliError> {
    if let Some(mut order) = PendingOrder::read(&args.file)? {
        can_confirm(args.yes)?;
        let signer = args.signer.open()?.for_council()?;
        order.may_sign(&signer.public())?;
        if !args.yes {
            eprint!("{}", tree(&order.json(), 0));
        }
        confirm("Sign exactly this order to restrict?", args.yes)?;
        order.sign(&signer)?;
        return order.put(global, &args.file);
    }
    let (mut pending, entry) = Pending::read(&args.file)?;
    can_confirm(args.yes)?;
    let signer = args.signer.open()?.for_council()?;
    pending.may_sign(&signer.public())?;
    if !args.yes {
        eprint!("{}", tree(&pending.json(&entry), 0));
    }
    confirm("Sign exactly this entry?", args.yes)?;
    pending.sign(&signer)?;
    pending.put(global, &args.file)
}

/// `authority submit`.
pub(super) async fn submit(client: &Client, global: &Global, path: &Path) -> Result<(), CliError> {
    if let Some(order) = PendingOrder::read(path)? {
        return order.submit(client, global).await;
    }
    let (pending, _) = Pending::read(path)?;
    pending.submit(client, global, "recorded").await
}

#[cfg(test)]
pub(super) mod tests {
    use cauldron_identity::AuthorKey;
    use cauldron_identity::authority::{Amend, Term};
    use cauldron_identity::charter::{ClassAges, Seat};

    use super::*;
    use crate::keyfile::Purpose;

    fn signer(seed: u8) -> Signer {
        Signer::File(Purpose::Council("ana".into()), Box::new(AuthorKey::from_seed(&[seed; 32])))
    }

    fn keys<const N: usize>(seeds: [u8; N]) -> Vec<SignerKey> {
        seeds.iter().map(|seed| signer(*seed).public()).collect()
    }

    /// A council of 3 and 4, of whom both must sign, and recovery keys 7, 8 and 9, at index 2 of a chain that forked at 1.
    pub(in crate::cli) fn base() -> Base {
        let hq = AuthorKey::from_seed(&[1; 32]);
        let seat = Seat { author: hq.public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() };
        let charter = Charter {
            v: cauldron_identity::fact::VERSION,
            trust_domain: "acme.test".into(),
            root_keys: vec![],
            council: keys([3, 4]),
            threshold: 2,
            recovery: keys([7, 8, 9]),
            sequencer: seat.clone(),
            coordinators: vec![seat],
            policy_authors: keys([3]),
            rp_id: "localhost".into(),
            vote_origins: vec![],
            class_ages: ClassAges { r0_ms: 1, r1_ms: 1, r2_ms: 1, r3_ms: 1 },
            retention_floor_days: 1,
            created_ms: 1,
        };
        let answer = json!({
            "mesh": MeshId::from_bytes([1; 32]),
            "charter": BASE64_STANDARD.encode(to_cbor(&charter)),
            "head": FactId::from_bytes([2; 32]), "index": 2, "term": 0,
            "common": { "head": FactId::from_bytes([3; 32]), "index": 1 },
        });
        Base::read(&answer).expect("what a node answers")
    }

    #[test]
    fn an_entry_follows_the_head_and_carries_each_members_signature_once() {
        let entry = Entry::RevokePerson("bo".into());
        let mut pending = Pending::new(&base(), &entry);
        assert_eq!((pending.body.prev, pending.body.index), (Some(FactId::from_bytes([2; 32])), 3));
        pending.sign(&signer(3)).expect("a member");
        assert_eq!(pending.sign(&signer(3)).expect_err("twice").kind(), Kind::Refused);
        for stranger in [5, 7] {
            assert_eq!(pending.sign(&signer(stranger)).expect_err("no member").kind(), Kind::Refused);
        }

        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("bo.entry");
        let global = Global { output: crate::output::Format::Json, socket: None, node: None };
        pending.put(&global, &path).expect("written");
        let (mut pending, read) = Pending::read(&path).expect("readable");
        assert_eq!(read, entry);
        assert_eq!(pending.missing().as_deref(), Some("1 of 2 needed council keys signed"));
        pending.sign(&signer(4)).expect("the other member");
        assert_eq!(pending.missing(), None);
        pending.mesh = MeshId::from_bytes([9; 32]);
        pending.put(&global, &path).expect("written");
        assert!(Pending::read(&path).expect_err("changed").to_string().contains("changed after it was signed"));
        assert!(Base::read(&json!({ "mesh": pending.mesh, "head": "x", "index": 2 })).is_none());
    }

    #[test]
    fn recovery_keys_stand_in_for_the_council_where_they_may_and_new_members_sign_too() {
        let base = base();
        let seat = base.charter.sequencer.clone();
        let term = Entry::Term(Term { n: 1, sequencer: seat, ends: vec![], root_keys: vec![] });
        let mut pending = Pending::new(&base, &term);
        assert_eq!(pending.body.index, 2, "behind the last entry before the fork");
        pending.sign(&signer(7)).expect("a recovery key");
        assert!(pending.missing().is_some_and(|m| m.contains("1 of 2 recovery keys")));
        pending.sign(&signer(8)).expect("a recovery key");
        assert_eq!(pending.missing(), None);

        let amend = Amend { council: Some(keys([3, 5])), ..Amend::default() };
        let mut pending = Pending::new(&base, &Entry::Amend(Box::new(amend)));
        for member in [3, 4] {
            pending.sign(&signer(member)).expect("a member");
        }
        assert!(pending.missing().is_some_and(|m| m.contains("1 of 1 new council keys")));
        pending.sign(&signer(5)).expect("the new member");
        assert_eq!(pending.missing(), None);
    }
}
