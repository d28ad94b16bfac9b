//! Receipts: the story of one action with everything that proves it, to be checked by anybody, without a node and without a
//! network. It holds charter, authority chain and the facts of a lineage as they were signed.

use cauldron_coordinator::bodies::{KIND_DECISION, KIND_READ};
use cauldron_coordinator::ledger::Ledger;
use cauldron_identity::authority::Authority;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{FactId, MeshId, SealedFact};
use cauldron_node_core::view::Time;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::run::chain;
use crate::successor::Export;

/// What proves an action.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Receipt {
    /// Charter and authority chain: who may sign what.
    #[n(0)]
    pub authority: Export,
    /// The lineage.
    #[n(1)]
    pub lineage: FactId,
    /// Its facts.
    #[n(2)]
    pub facts: Vec<SealedFact>,
    /// How far members have said that they hold the authority chain: an enrolment is in effect when that is far enough.
    #[n(3)]
    pub held: Vec<SealedFact>,
    /// The other steps of its saga, where it is a step of one: without them nothing tells that it is one.
    #[n(4)]
    #[cbor(default)]
    pub steps: Vec<SealedFact>,
}

impl Receipt {
    /// Reads one.
    ///
    /// # Errors
    /// A sentence.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        from_cbor(bytes).map_err(|e| format!("it is no receipt: {}", chain(&e)))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Checks every signature, from the charter's council down to each fact, and says what is proven. `mesh` is the one that
    /// the reader believes in; without it the receipt proves only what the mesh that it names says.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self, mesh: Option<&MeshId>) -> Result<Value, String> {
        let named = self.authority.charter.mesh_id();
        if let Some(mesh) = mesh.filter(|mesh| **mesh != named) {
            return Err(format!("it is a receipt of mesh {named}, not of {mesh}"));
        }
        let Export { charter, authority, terms } = &self.authority;
        let (mut authority, passed) = cauldron_node_core::authority_told(&named, charter, authority, terms)?;
        if passed > 0 {
            return Err(format!("{passed} entries of its authority chain are not signed as they must be"));
        }
        for sealed in &self.held {
            let fact = proven(sealed, &named, &authority)?;
            authority.apply(&fact);
        }
        let mut ledger = Ledger::new();
        for sealed in self.facts.iter().chain(&self.steps) {
            ledger.insert(&proven(sealed, &named, &authority)?);
        }
        let events = ledger.timeline(&self.lineage, &authority);
        if events.is_empty() || events.len() != self.facts.len() {
            return Err(format!("{} of its {} facts belong to its lineage", events.len(), self.facts.len()));
        }
        let facts: Vec<Value> = events
            .iter()
            .map(|e| {
                json!({ "id": e.id, "kind": e.kind, "by": e.author, "time": Time(e.at_ms), "says": e.says, "void": e.void })
            })
            .collect();
        Ok(json!({
            "mesh": named,
            "lineage": self.lineage,
            "authority": { "entries": authority.index(), "head": authority.head() },
            "facts": facts,
            "judged": judged(&ledger, &self.lineage),
        }))
    }
}

fn proven(sealed: &SealedFact, mesh: &MeshId, authority: &Authority) -> Result<cauldron_identity::Fact, String> {
    let id = sealed.id();
    let wrong = |why: String| format!("fact {}: {why}", id.short());
    let header = sealed.peek().map_err(|e| wrong(chain(&e)))?;
    if header.mesh != *mesh {
        return Err(wrong("it belongs to another mesh".to_owned()));
    }
    let member = authority.member(&header.author).ok_or_else(|| wrong("its author is no member".to_owned()))?;
    if !authority.may_write(&header.author, &header.scope, &header.kind) {
        return Err(wrong(format!("{} may not write `{}` there", member.spiffe_id, header.kind)));
    }
    let fact = sealed.clone().open(&member.key).map_err(|e| wrong(chain(&e)))?;
    if fact.body().is_none() {
        return Err(wrong("its body is missing".to_owned()));
    }
    Ok(fact)
}

/// What was judged, by whom, for whom and under which policy: of each decision, and of each read that its owner judged alone.
fn judged(ledger: &Ledger, lineage: &FactId) -> Vec<Value> {
    let mut all = Vec::new();
    for p in ledger.lineage(lineage) {
        all.extend(ledger.decisions_on(&p.id).map(|d| {
            let mut view = serde_json::to_value(&d.body).unwrap_or_default();
            view["id"] = json!(d.id);
            view["kind"] = json!(KIND_DECISION);
            view["session"] = json!(p.body.session);
            view["decided"] = json!(Time(d.body.decided_ms));
            view
        }));
        all.extend(ledger.read(&p.id).map(|r| {
            let mut view = serde_json::to_value(&r.body).unwrap_or_default();
            if let Some(map) = view.as_object_mut() {
                map.remove("proposal");
            }
            view["id"] = json!(r.id);
            view["kind"] = json!(KIND_READ);
            view["session"] = json!(p.body.session);
            view
        }));
    }
    all
}

/// Checks a file: everything signed holds, and what it says is what was signed.
///
/// # Errors
/// [`CliError`] that says what does not hold.
pub fn check_file(file: &Value, mesh: Option<&MeshId>) -> Result<Value, CliError> {
    use base64::Engine as _;
    let refused = |why: String| CliError::integrity("the receipt proves nothing").detail(why);
    let proof = file.get("proof").and_then(Value::as_str).ok_or_else(|| refused("it has no `proof`".to_owned()))?;
    let bytes = base64::prelude::BASE64_STANDARD.decode(proof).map_err(|e| refused(e.to_string()))?;
    let says = Receipt::read(&bytes).and_then(|receipt| receipt.check(mesh)).map_err(refused)?;
    if file.get("says").is_some_and(|said| *said != says) {
        return Err(refused("what it says is not what was signed".to_owned())
            .hint("remove `says` from the file: then what the proof says is printed"));
    }
    Ok(says)
}
