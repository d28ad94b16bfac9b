//! A compromised member: whatever the input says, signed as the mesh expects it, so that mutation reaches what lies behind the
//! signatures.
//!
//! A *deed* is `author ‖ scope ‖ kind ‖ how ‖ body`, one byte each but the body. With `how` 0 the body is the fact's as it is;
//! with 1 the body is what people sign inside it (an entry, a statement, an order), and they do.

use cauldron_coordinator::bodies::{
    KIND_ABORTED, KIND_BREAK_GLASS, KIND_BUNDLE, KIND_COMPENSATED, KIND_COMPENSATING, KIND_COMPENSATION_FAILED,
    KIND_DECISION, KIND_DEPUTY, KIND_DONE, KIND_ENDED, KIND_FAILED, KIND_PERMIT, KIND_PROPOSAL, KIND_RECONCILED,
    KIND_RESTRICTION, KIND_REVIEW, KIND_SITE_LIFT, KIND_STARTED, KIND_UNKNOWN, KIND_VERIFIED, KIND_VERIFY_FAILED,
    KIND_VOTE, KIND_WINDOW, Order, Restriction,
};
use cauldron_coordinator::vote::VoteStatement;
use cauldron_crdt::doc::{KIND as KIND_CHANGE, KIND_SEAL};
use cauldron_crdt::escrow::{KIND_CREDIT, KIND_DEBIT, KIND_REFUSE, KIND_RESERVE, KIND_SETTLE};
use cauldron_identity::authority::{
    Enrol, Entry, EntryBody, Incarnate, KIND_ENTRY, KIND_HELD, KIND_ISSUED, KIND_ROOTS,
};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::fact::VERSION;
use cauldron_identity::{AuthorKey, Fact, MeshId, SealedFact};
use minicbor::Encode;

use crate::mesh::{ANA, BO, COUNCIL, HQ, LYON, Mesh, PORTO, STRANGER, key, key_of, key_of_author, scopes};

/// What an insider may write; the last is no fact.
pub const KINDS: [&str; 34] = [
    KIND_ENTRY,
    KIND_HELD,
    KIND_ROOTS,
    KIND_ISSUED,
    KIND_BUNDLE,
    KIND_CHANGE,
    KIND_SEAL,
    KIND_PROPOSAL,
    KIND_DECISION,
    KIND_VOTE,
    KIND_PERMIT,
    KIND_STARTED,
    KIND_DONE,
    KIND_FAILED,
    KIND_UNKNOWN,
    KIND_ENDED,
    KIND_DEBIT,
    KIND_CREDIT,
    KIND_REFUSE,
    KIND_RESERVE,
    KIND_SETTLE,
    KIND_RESTRICTION,
    KIND_VERIFIED,
    KIND_VERIFY_FAILED,
    KIND_COMPENSATING,
    KIND_COMPENSATED,
    KIND_COMPENSATION_FAILED,
    KIND_WINDOW,
    KIND_DEPUTY,
    KIND_BREAK_GLASS,
    KIND_REVIEW,
    KIND_SITE_LIFT,
    KIND_ABORTED,
    KIND_RECONCILED,
];
const AUTHORS: [u8; 4] = [HQ, LYON, PORTO, STRANGER];

/// What came of a deed.
#[derive(Debug, Clone)]
pub enum Deed {
    /// A fact in its author's chain.
    Fact(Box<Fact>),
    /// A term, which is no fact.
    Term(EntryBody),
}

impl Mesh {
    /// Does what a deed says; nothing, where what people would sign cannot be read.
    pub fn insider(&mut self, deed: &[u8]) -> Option<Deed> {
        let ([author, scope, kind, how], body) = deed.split_first_chunk::<4>()?;
        let author = AUTHORS[usize::from(*author) % AUTHORS.len()];
        let scopes = scopes();
        let scope = scopes[usize::from(*scope) % scopes.len()].clone();
        let kind = *KINDS.get(usize::from(*kind))?;
        let body = match (how & 1, kind) {
            (1, KIND_ENTRY) => {
                let body = self.entry(from_cbor(body).ok()?);
                if matches!(body.entry(), Ok(Entry::Term(_))) {
                    self.authority.apply_term(&body);
                    return Some(Deed::Term(body));
                }
                to_cbor(&body)
            }
            (1, KIND_VOTE) => to_cbor(&from_cbor::<VoteStatement>(body).ok()?.sign(key(ANA))),
            (1, KIND_RESTRICTION) => to_cbor(&Restriction::by_person(&from_cbor::<Order>(body).ok()?, key(BO))),
            _ => body.to_vec(),
        };
        Some(Deed::Fact(Box::new(self.seal(author, scope, kind, body))))
    }

    /// An entry at the end of the chain, with every signature that it may need.
    #[must_use]
    pub fn entry(&self, entry: Entry) -> EntryBody {
        let entry = proven(&self.id, entry);
        let mut body = EntryBody::new(self.authority.head(), self.authority.index() + 1, &entry);
        [COUNCIL, BO, ANA].into_iter().for_each(|n| body.sign(&self.id, key(n)));
        body
    }
}

/// What authors sign of themselves, where the key is one of ours.
fn proven(mesh: &MeshId, entry: Entry) -> Entry {
    match entry {
        Entry::Enrol(it) => {
            let id = cauldron_identity::SpiffeId::new(&it.spiffe_id);
            let signed = key_of(&it.author).zip(id.ok()).map(|(key, id)| Enrol::new(mesh, key, &id));
            Entry::Enrol(signed.filter(|signed| signed.spiffe_id == it.spiffe_id).unwrap_or(it))
        }
        Entry::Incarnate(it) => match key_of_author(&it.author) {
            Some(key) => Entry::Incarnate(Incarnate::new(mesh, key, it.incarnation, it.ends)),
            None => Entry::Incarnate(it),
        },
        other => other,
    }
}

/// A fact with any header bytes at all, signed by `author` over them.
#[must_use]
pub fn with_header(author: &AuthorKey, header: &[u8], body: Option<Vec<u8>>) -> SealedFact {
    let unsigned = SealedFact::new(header.to_vec(), cauldron_identity::Signature::from_bytes([0; 64]), None);
    let signature = author.sign("cauldron/fact/v1", unsigned.id().as_bytes());
    SealedFact::new(header.to_vec(), signature, body)
}

/// Body of a sync frame `Facts`, unasked.
#[derive(Encode)]
#[cbor(map)]
struct Pushed {
    #[n(0)]
    request: Option<u32>,
    #[n(1)]
    facts: Vec<SealedFact>,
}

/// A sync frame that pushes a fact.
#[must_use]
pub fn pushed(fact: &SealedFact) -> Vec<u8> {
    const FACTS: u8 = 3;
    [vec![VERSION, FACTS], to_cbor(&Pushed { request: None, facts: vec![fact.clone()] })].concat()
}

/// A deed, for a seed.
#[must_use]
pub fn deed(author: u8, scope: &str, kind: &str, how: u8, body: &[u8]) -> Vec<u8> {
    let place = |found: Option<usize>| u8::try_from(found.expect("one of those above")).expect("few");
    let scope = scope.parse().expect("a scope");
    let head = [
        place(AUTHORS.iter().position(|a| *a == author)),
        place(scopes().iter().position(|s| *s == scope)),
        place(KINDS.iter().position(|k| *k == kind)),
        how,
    ];
    [&head, body].concat()
}
