//! Orders to restrict that people sign. The council's is a file that is passed around like an entry of the authority chain, then handed
//! to any node; somebody on duty signs alone, at once. Neither needs a sequencer: restrictions have no order.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{ORDER_NAMESPACE, Order, Restriction, Target};
use cauldron_identity::SignerKey;
use cauldron_identity::charter::KeySignature;
use cauldron_identity::codec::{from_cbor, to_cbor};
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

use super::Global;
use super::approvals::voter;
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::output::print;
use crate::signer::{Signer, SignerArgs};
use crate::{clock, files};

/// An order that waits for signatures. Who may sign is as the node said: a service to those who sign, believed by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct PendingOrder {
    /// Apart from every key of a pending entry: neither reads as the other.
    #[n(20)]
    order: Order,
    #[n(21)]
    signatures: Vec<KeySignature>,
    #[n(22)]
    council: Vec<SignerKey>,
    #[n(23)]
    threshold: u32,
}

/// Has the node draft an order, and writes it down.
pub(super) async fn draft(client: &Client, global: &Global, body: &Value, out: &Path) -> Result<(), CliError> {
    let answer = client.post("/v1/restrictions/order", body).await?;
    let read = || {
        let order = from_cbor(&BASE64_STANDARD.decode(answer.get("order")?.as_str()?).ok()?).ok()?;
        let council = serde_json::from_value(answer.get("council")?.clone()).ok()?;
        let threshold = u32::try_from(answer.get("threshold")?.as_u64()?).ok()?;
        Some(PendingOrder { order, signatures: vec![], council, threshold })
    };
    let pending = read().ok_or_else(|| CliError::integrity("the node's draft of an order cannot be read"))?;
    pending.put(global, out)
}

/// Has the node find what is meant, signs the order in the person's own name, and hands it in: for a site that nobody outside
/// reaches, too.
pub(super) async fn in_own_name(
    client: &Client,
    global: &Global,
    body: &Value,
    signer: &SignerArgs,
) -> Result<Value, CliError> {
    let (person, key) = voter(client, signer, &global.data_dir()).await?;
    let answer = client.post("/v1/restrictions/order", body).await?;
    let drafted = || from_cbor::<Order>(&BASE64_STANDARD.decode(answer.get("order")?.as_str()?).ok()?).ok();
    let drafted = drafted().ok_or_else(|| CliError::integrity("the node's draft of an order cannot be read"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    // The node finds what is meant; it must not stop something else under this person's name.
    if !means(text("kind"), text("target"), &drafted.target) {
        return Err(CliError::integrity("the node drafted an order against something else than you asked for")
            .hint("do not order it here; try another node, and tell the security team"));
    }
    let reason = text("reason").to_owned();
    let order = Order { by: person, reason, issued_ms: clock::wall_ms(), ..drafted };
    let signature = key.sign(ORDER_NAMESPACE, &to_cbor(&order))?;
    let signed = Restriction::signed(&order, KeySignature { key: key.public(), signature });
    let body = json!({ "restriction": BASE64_STANDARD.encode(to_cbor(&signed)) });
    client.post("/v1/restrictions/signed", &body).await
}

/// Whether a target is what somebody asked for, as far as that can be told without the node: which lineage and which author a prefix or
/// a name stands for cannot.
fn means(kind: &str, asked: &str, target: &Target) -> bool {
    match (kind, target) {
        ("veto", Target::Lineage(_)) | ("kill-all", Target::All) => true,
        ("kill-class", Target::ActionClass(class)) => {
            class == asked || class.rsplit_once('/').is_some_and(|(operation, _)| operation == asked)
        }
        ("kill-agent", Target::Agent(name)) | ("kill-site", Target::Site(name)) => name == asked,
        ("stop-feature", Target::Feature(name)) => name == asked,
        ("kill-build", Target::Build(digest)) => digest.to_string() == asked,
        ("suspend", Target::Author(author, _)) => asked.starts_with("spiffe://") || author.to_string() == asked,
        _ => false,
    }
}

impl PendingOrder {
    /// Reads a file; none where it is something else.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CliError> {
        let Ok(pending) = from_cbor::<Self>(&files::read(path)?) else { return Ok(None) };
        let message = to_cbor(&pending.order);
        for s in &pending.signatures {
            s.key.verify(ORDER_NAMESPACE, &message, &s.signature).map_err(|_| {
                CliError::integrity(format!("{} is no order that can be signed", path.display())).detail(format!(
                    "the signature by {} does not fit: the file was changed after it was signed",
                    s.key
                ))
            })?;
        }
        Ok(Some(pending))
    }

    pub(super) fn may_sign(&self, key: &SignerKey) -> Result<(), CliError> {
        if !self.council.contains(key) {
            return Err(CliError::new(Kind::Refused, "this key is not of the council").detail(format!("it is {key}")));
        }
        if self.signatures.iter().any(|s| s.key == *key) {
            return Err(CliError::new(Kind::Refused, "this key has signed already").hint("pass the file on"));
        }
        Ok(())
    }

    pub(super) fn sign(&mut self, signer: &Signer) -> Result<(), CliError> {
        let key = signer.public();
        self.may_sign(&key)?;
        let signature = signer.sign(ORDER_NAMESPACE, &to_cbor(&self.order))?;
        self.signatures.push(KeySignature { key, signature });
        Ok(())
    }

    fn restriction(&self) -> Restriction {
        Restriction::by_council(&self.order, self.signatures.clone())
    }

    fn missing(&self) -> Option<String> {
        let signed = self.restriction().council_signers(&self.council);
        let short = signed < self.threshold as usize;
        short.then(|| format!("{signed} of {} needed council keys signed", self.threshold))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "mesh": self.order.mesh, "what": "restricts", "target": self.order.target, "reason": self.order.reason,
            "signed_by": self.signatures.iter().map(|s| &s.key).collect::<Vec<_>>(), "missing": self.missing(),
        })
    }

    /// Writes the file and says that it waits, and for whom.
    pub(super) fn put(&self, global: &Global, path: &Path) -> Result<(), CliError> {
        files::write_public(path, &to_cbor(self))?;
        print(global.output, &self.json(), || {
            let path = path.display();
            match self.missing() {
                Some(missing) => format!("{missing}: pass the file on to sign with `cauldron authority sign {path}`\n"),
                None => format!("enough have signed: hand it in with `cauldron authority submit {path}`\n"),
            }
        })
    }

    /// Hands it to the node, which carries it as far as it may write.
    pub(super) async fn submit(&self, client: &Client, global: &Global) -> Result<(), CliError> {
        let restriction = BASE64_STANDARD.encode(to_cbor(&self.restriction()));
        let answer = client.post("/v1/restrictions/signed", &json!({ "restriction": restriction })).await?;
        super::decide::told(client, global.output, "stopped", answer, None).await
    }
}

#[cfg(test)]
mod tests {
    use cauldron_identity::{AuthorId, AuthorKey, Digest, FactId, MeshId};

    use super::*;
    use crate::keyfile::Purpose;

    fn signer(seed: u8) -> Signer {
        Signer::File(Purpose::Council("ana".into()), Box::new(AuthorKey::from_seed(&[seed; 32])))
    }

    #[test]
    fn a_node_that_drafts_something_else_is_caught() {
        let class = Target::ActionClass("security.address.block/blocklist".into());
        let author = AuthorId::from_bytes([7; 32]);
        let good = [
            ("veto", "ab12", Target::Lineage(FactId::from_bytes([1; 32]))),
            ("kill-all", "", Target::All),
            ("kill-class", "security.address.block", class.clone()),
            ("kill-class", "security.address.block/blocklist", class.clone()),
            ("kill-agent", "spiffe://a.test/x", Target::Agent("spiffe://a.test/x".into())),
            ("kill-site", "lyon", Target::Site("lyon".into())),
            ("stop-feature", "sessions", Target::Feature("sessions".into())),
            ("kill-build", &"07".repeat(32), Target::Build(Digest::from_bytes([7; 32]))),
            ("suspend", "spiffe://a.test/x", Target::Author(author, vec![])),
            ("suspend", &author.to_string(), Target::Author(author, vec![])),
        ];
        for (kind, asked, target) in good {
            assert!(means(kind, asked, &target), "{kind} {asked}");
        }
        let bad = [
            ("kill-class", "security.address", class.clone()),
            ("kill-class", "security.address.block", Target::All),
            ("kill-site", "lyon", Target::Site("porto".into())),
            ("veto", "ab12", Target::All),
            ("stop-feature", "sessions", Target::Feature("autonomy".into())),
            ("suspend", &"01".repeat(32), Target::Author(author, vec![])),
            ("anything", "", Target::All),
        ];
        for (kind, asked, target) in bad {
            assert!(!means(kind, asked, &target), "{kind} {asked}");
        }
    }

    #[test]
    fn an_order_goes_round_and_carries_each_members_signature_once() {
        let order = Order {
            mesh: MeshId::from_bytes([1; 32]),
            target: Target::Feature("autonomy".into()),
            by: "the council".into(),
            reason: "it learnt something bad".into(),
            issued_ms: 1,
        };
        let council = [3, 4].map(|n| signer(n).public()).to_vec();
        let mut pending = PendingOrder { order, signatures: vec![], council, threshold: 2 };
        pending.sign(&signer(3)).expect("a member");
        for stranger in [3, 5] {
            assert_eq!(pending.sign(&signer(stranger)).expect_err("twice, or no member").kind(), Kind::Refused);
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("stop.order");
        let global = Global { output: crate::output::Format::Json, socket: None, node: None };
        pending.put(&global, &path).expect("written");
        let mut pending = PendingOrder::read(&path).expect("readable").expect("an order");
        assert_eq!(pending.missing().as_deref(), Some("1 of 2 needed council keys signed"));
        pending.sign(&signer(4)).expect("the other member");
        assert_eq!(pending.missing(), None);
        pending.order.reason = "another".into();
        pending.put(&global, &path).expect("written");
        assert!(PendingOrder::read(&path).expect_err("changed").to_string().contains("no order that can be signed"));
        std::fs::write(&path, to_cbor(&1u8)).expect("written");
        assert_eq!(PendingOrder::read(&path).expect("readable"), None, "something else");
    }
}
