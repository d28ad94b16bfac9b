//! Authority entries that several people sign: a file that is passed around, then handed to the sequencer.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_identity::authority::{ENTRY_NAMESPACE, Entry, EntryBody};
use cauldron_identity::charter::KeySignature;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{FactId, MeshId, SignerKey};
use cauldron_node_core::summary_of_entry;
use clap::Args;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

use super::decide::recorded;
use super::look::tree;
use super::{Global, can_confirm, confirm};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::files;
use crate::output::print;
use crate::signer::{Signer, SignerArgs};

/// An entry that waits for signatures.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Pending {
    #[n(0)]
    mesh: MeshId,
    /// The entry at its place, with the signatures so far.
    #[n(1)]
    body: EntryBody,
    /// Who may sign and how many must, as the node said: a service to those who sign, believed by nobody.
    #[n(2)]
    council: Vec<SignerKey>,
    #[n(3)]
    threshold: u32,
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
    /// Puts `entry` behind the present head of the chain that `authority`, the node's answer, describes.
    pub(super) fn new(authority: &Value, entry: &Entry) -> Result<Self, CliError> {
        let bad = |name: &str| {
            CliError::integrity("the node's authority chain cannot be built on")
                .detail(format!("`{name}` is malformed"))
        };
        let text = |name: &str| authority.get(name).and_then(Value::as_str);
        let number = |name: &str| authority.get(name).and_then(Value::as_u64).ok_or_else(|| bad(name));
        let mesh = text("mesh").and_then(|t| t.parse().ok()).ok_or_else(|| bad("mesh"))?;
        let head: Option<FactId> = text("head").map(str::parse).transpose().map_err(|_| bad("head"))?;
        let keys = authority.get("council").and_then(Value::as_array).ok_or_else(|| bad("council"))?;
        let keys = keys.iter().map(|key| key.as_str().and_then(|key| key.parse().ok()).ok_or_else(|| bad("council")));
        Ok(Self {
            mesh,
            body: EntryBody::new(head, number("index")? + 1, entry),
            council: keys.collect::<Result<_, _>>()?,
            threshold: u32::try_from(number("threshold")?).map_err(|_| bad("threshold"))?,
        })
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
        if !self.council.contains(key) {
            return Err(CliError::new(Kind::Refused, "this key is not of the council").detail(format!("it is {key}")));
        }
        if self.body.signatures.iter().any(|s| s.key == *key) {
            return Err(CliError::new(Kind::Refused, "this key has signed already").hint("pass the file on"));
        }
        Ok(())
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        files::write_public(path, &to_cbor(self))
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

    /// How many of the council signed, of how many that must.
    fn signed(&self) -> (usize, usize) {
        (self.body.signers(&self.mesh, &self.council), self.threshold as usize)
    }

    fn json(&self, entry: &Entry) -> Value {
        let (signed, needed) = self.signed();
        let person = if let Entry::Person(person) = entry { Some(person) } else { None };
        json!({
            "mesh": self.mesh, "index": self.body.index, "behind": self.body.prev, "what": summary_of_entry(entry),
            "person": person, "signed_by": self.body.signatures.iter().map(|s| &s.key).collect::<Vec<_>>(),
            "signed": signed, "needed": needed,
        })
    }

    /// Hands the entry to the sequencer, which judges it.
    pub(super) async fn submit(&self, client: &Client, global: &Global, verb: &str) -> Result<(), CliError> {
        let entry = BASE64_STANDARD.encode(to_cbor(&self.body));
        let answer = client.post("/v1/authority/entries", &json!({ "entry": entry })).await?;
        recorded(global.output, verb, &answer)
    }

    /// Says that the file waits, and for whom.
    pub(super) fn tell(&self, global: &Global, entry: &Entry, path: &Path) -> Result<(), CliError> {
        let (signed, needed) = self.signed();
        let value = self.json(entry);
        print(global.output, &value, || {
            let next = if signed < needed { "pass the file on to sign" } else { "hand it in" };
            let command = if signed < needed { "sign" } else { "submit" };
            format!(
                "{signed} of {needed} needed council keys signed: {next} with `cauldron authority {command} {}`\n",
                path.display()
            )
        })
    }
}

/// `authority sign`: shows the entry, asks, adds one signature and writes the file.
pub(super) fn sign(global: &Global, args: &SignArgs) -> Result<(), CliError> {
    let (mut pending, entry) = Pending::read(&args.file)?;
    can_confirm(args.yes)?;
    let signer = args.signer.open()?.for_council()?;
    pending.may_sign(&signer.public())?;
    if !args.yes {
        eprint!("{}", tree(&pending.json(&entry), 0));
    }
    confirm("Sign exactly this entry?", args.yes)?;
    pending.sign(&signer)?;
    pending.write(&args.file)?;
    pending.tell(global, &entry, &args.file)
}

/// `authority submit`.
pub(super) async fn submit(client: &Client, global: &Global, path: &Path) -> Result<(), CliError> {
    let (pending, _) = Pending::read(path)?;
    pending.submit(client, global, "recorded").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyfile::Purpose;
    use cauldron_identity::AuthorKey;

    fn signer(seed: u8) -> Signer {
        Signer::File(Purpose::Council("ana".into()), Box::new(AuthorKey::from_seed(&[seed; 32])))
    }

    #[test]
    fn an_entry_follows_the_head_and_carries_each_members_signature_once() {
        let (mesh, head) = (MeshId::from_bytes([1; 32]), FactId::from_bytes([2; 32]));
        let council = [signer(3).public(), signer(4).public()];
        let authority = json!({ "mesh": mesh, "head": head, "index": 2, "council": council, "threshold": 2 });
        let entry = Entry::RevokePerson("bo".into());
        let mut pending = Pending::new(&authority, &entry).expect("built");
        assert_eq!((pending.body.prev, pending.body.index), (Some(head), 3));
        pending.sign(&signer(3)).expect("a member");
        assert_eq!(pending.sign(&signer(3)).expect_err("twice").kind(), Kind::Refused);
        assert_eq!(pending.sign(&signer(5)).expect_err("a stranger").kind(), Kind::Refused);

        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("bo.entry");
        pending.write(&path).expect("written");
        let (mut pending, read) = Pending::read(&path).expect("readable");
        assert_eq!((read, pending.signed()), (entry, (1, 2)));
        pending.sign(&signer(4)).expect("the other member");
        assert_eq!(pending.signed(), (2, 2));
        pending.body.index += 1;
        pending.mesh = MeshId::from_bytes([9; 32]);
        pending.write(&path).expect("written");
        assert!(Pending::read(&path).expect_err("changed").to_string().contains("changed after it was signed"));
        assert!(
            Pending::new(&json!({ "mesh": mesh, "head": "x", "index": 2 }), &Entry::RevokePerson("bo".into())).is_err()
        );
    }
}
