//! Orders to restrict that the council signs: a file that is passed around like an entry of the authority chain, then handed to any
//! node. It needs no sequencer: restrictions have no order.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{ORDER_NAMESPACE, Order, Restriction};
use cauldron_identity::SignerKey;
use cauldron_identity::charter::KeySignature;
use cauldron_identity::codec::{from_cbor, to_cbor};
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

use super::Global;
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::files;
use crate::output::print;
use crate::signer::Signer;

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
    use cauldron_coordinator::bodies::Target;
    use cauldron_identity::{AuthorKey, MeshId};

    use super::*;
    use crate::keyfile::Purpose;

    fn signer(seed: u8) -> Signer {
        Signer::File(Purpose::Council("ana".into()), Box::new(AuthorKey::from_seed(&[seed; 32])))
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
