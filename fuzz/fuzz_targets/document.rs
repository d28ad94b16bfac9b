//! Document changes of hostile authors, at the fence that stands before Automerge.
//!
//! Input: messages, each an author (0 lyon, 1 porto), a document (0 the board, 1 configuration, 2 notes), a door, and 0 a change
//! whose chunk checksum is put right, so that mutation gets behind it, 1 a change as it is, 2 a body as it is, 3 what the author
//! honestly writes, 4 the same change as the beginning of a round that keeps as many as the first byte says, 5 a body of a seal as
//! it is, 6 the seal that the author honestly finds due when it has heard everything; an epoch takes four changes.
//!
//! Whatever they send: documents can be read and show what hq wrote, or tell why not until hq has said it again; the next honest change counts, another order of the
//! authors gives the same documents, and so does a cut of one of them, before or after.
#![no_main]

use std::sync::Arc;

use cauldron_crdt::doc::{Applied, DocChange, Documents, Field, KIND, KIND_SEAL, Unfit, View, check};
use cauldron_crdt::{Draft, FactLog};
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::mesh::{ANA, FOUNDED, HQ, LYON, PORTO, key};
use cauldron_fuzz::seeds::document::{document, honest};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::fact::BODY_LEN_MAX;
use cauldron_identity::ids::sha256;
use cauldron_identity::{Digest, Fact, Scope};
use libfuzzer_sys::fuzz_target;

const AUTHORS: [u8; 2] = [LYON, PORTO];
/// Changes that an epoch takes.
const EPOCH: u64 = 4;

struct Writer {
    key: u8,
    log: FactLog,
    docs: Documents,
    /// How many of the facts that were sent it has heard.
    heard: usize,
}

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    let mut hq = Writer::new(HQ);
    let first = hq.write(0, "up").expect("an empty board takes it");
    let mut docs = Documents::with_epoch(EPOCH);
    assert_eq!(docs.apply(&first, true), Applied::Yes);
    let mut writers = AUTHORS.map(Writer::new);
    let mut sent: Vec<(u8, Arc<Fact>)> = Vec::new();
    for message in chunks(input) {
        let (author, rest) = door(message);
        let index = usize::from(author) % AUTHORS.len();
        let Some(fact) = writers[index].send(rest, &sent) else { continue };
        take(&mut docs, &fact, true);
        assert!(shows(&docs, "up") || tells_as(&docs, &first, Unfit::Late), "the board lost what was on it");
        sent.push((AUTHORS[index], fact));
    }
    hq.hear(&sent);
    let mut again = vec![first.clone()];
    while let Some((_, bodies)) = hq.docs.reissue() {
        for body in bodies {
            again.push(hq.sign(KIND, body));
            take(&mut hq.docs, again.last().expect("signed"), true);
        }
    }
    again.iter().skip(1).for_each(|fact| take(&mut docs, fact, true));
    let stood_back = tells_as(&docs, &first, Unfit::SaidAgain);
    assert!(shows(&docs, "up") || stood_back, "what was on the board was not said again, and nobody had said otherwise later");
    let cut = |fact: &Fact| fact.header().author != key(LYON).author_id() || fact.header().seq <= 2;

    let (mut other, mut before) = (Documents::with_epoch(EPOCH), Documents::with_epoch(EPOCH));
    for author in AUTHORS.into_iter().rev() {
        for (_, fact) in sent.iter().filter(|(by, _)| *by == author) {
            take(&mut other, fact, true);
            take(&mut before, fact, cut(fact));
        }
    }
    for fact in &again {
        take(&mut other, fact, true);
        take(&mut before, fact, true);
    }
    assert_eq!(state(&docs), state(&other), "another order, other documents");
    other.recount(&cut);
    assert_eq!(state(&before), state(&other), "a cut before, and one after");
    other.recount(&|_| true);
    assert_eq!(state(&docs), state(&other), "a cut that was lifted");

    let mut ana = Writer::new(ANA);
    ana.hear(&sent);
    again.iter().for_each(|fact| take(&mut ana.docs, fact, true));
    let next = ana.write(0, "last").expect("the board takes it");
    assert_eq!(docs.apply(&next, true), Applied::Yes, "an honest change after hostile ones");
    for name in (0..3).map(document) {
        assert_eq!(docs.view(&name).is_some(), docs.history(&name, None).is_some() && docs.blame(&name).is_some());
    }
}));

fn take(docs: &mut Documents, fact: &Arc<Fact>, counts: bool) {
    match fact.header().kind.as_str() {
        KIND_SEAL => docs.apply_seal(fact, counts),
        _ => docs.apply(fact, counts),
    };
    build(docs);
}

fn build(docs: &mut Documents) {
    while let Some(work) = docs.work() {
        docs.finish(work.run(&check::unpack));
    }
}

fn tells_as(docs: &Documents, fact: &Fact, why: Unfit) -> bool {
    let steps = docs.history(&document(0), None).unwrap_or_default();
    steps.iter().any(|step| step.fact.id() == fact.id() && step.left_out == Some(why))
}

fn shows(docs: &Documents, value: &str) -> bool {
    docs.blame(&document(0)).is_some_and(|blame| blame.iter().any(|b| b.value == Field::from(value)))
}

fn state(docs: &Documents) -> Vec<(Option<Arc<View>>, Option<Digest>)> {
    let one = |n| (docs.view(&document(n)), docs.status(&document(n)).and_then(|status| status.digest));
    (0..3).map(one).collect()
}

impl Writer {
    fn new(n: u8) -> Self {
        let mut docs = Documents::with_epoch(EPOCH);
        docs.set_author(&key(n).author_id(), 0);
        Self { key: n, log: FactLog::new(FOUNDED.id), docs, heard: 0 }
    }

    fn hear(&mut self, sent: &[(u8, Arc<Fact>)]) {
        for (_, fact) in sent.iter().skip(self.heard).filter(|(by, _)| *by != self.key) {
            take(&mut self.docs, fact, true);
        }
        self.heard = sent.len();
    }

    fn send(&mut self, rest: &[u8], sent: &[(u8, Arc<Fact>)]) -> Option<Arc<Fact>> {
        let (n, rest) = door(rest);
        let (what, bytes) = door(rest);
        let body = match what % 7 {
            0 => change(n, checked(bytes), 0, None),
            1 => change(n, bytes.to_vec(), 0, None),
            2 => bytes.to_vec(),
            3 => return self.write(n, &String::from_utf8_lossy(bytes)),
            5 => return (bytes.len() <= BODY_LEN_MAX).then(|| self.sign(KIND_SEAL, bytes.to_vec())),
            6 => {
                self.hear(sent);
                let due = self.docs.seals_due().into_iter().find(|due| due.key == document(n))?;
                let body = self.docs.seal(&due).or_else(|| {
                    build(&mut self.docs);
                    self.docs.seal(&due)
                })?;
                let fact = self.sign(KIND_SEAL, body);
                self.docs.apply_seal(&fact, true);
                return Some(fact);
            }
            _ => {
                let (keeps, bytes) = door(bytes);
                change(n, checked(bytes), 1, Some(u64::from(keeps)))
            }
        };
        (body.len() <= BODY_LEN_MAX).then(|| self.sign(KIND, body))
    }

    fn write(&mut self, n: u8, text: &str) -> Option<Arc<Fact>> {
        let body = self.docs.edit(&document(n), &honest(&document(n), text)).ok()?.into_iter().next()?;
        let fact = self.sign(KIND, body);
        self.docs.apply(&fact, true);
        Some(fact)
    }

    fn sign(&mut self, kind: &str, body: Vec<u8>) -> Arc<Fact> {
        let kind = kind.to_owned();
        let draft = Draft { scope: Scope::mesh(), incarnation: 0, kind, deps: vec![], body, hlc: 0, traceparent: None };
        self.log.append(key(self.key), draft).expect("a body that fits")
    }
}

fn change(n: u8, change: Vec<u8>, round: u32, keeps: Option<u64>) -> Vec<u8> {
    to_cbor(&DocChange { doc: document(n).doc.to_string(), change, round, keeps, ..DocChange::default() })
}

/// A chunk is magic (4) ‖ checksum (4) ‖ what the checksum covers.
fn checked(chunk: &[u8]) -> Vec<u8> {
    let mut chunk = chunk.to_vec();
    if let Some((head, covered)) = chunk.split_first_chunk_mut::<8>() {
        head[4..].copy_from_slice(&sha256(covered)[..4]);
    }
    chunk
}
