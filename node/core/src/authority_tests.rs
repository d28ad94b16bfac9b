//! The authority chain as a node keeps it, shows it and hands it on, without a network.

use std::collections::BTreeMap;

use cauldron_identity::authority::{Cut, Enrol, Entry, EntryBody, Issuance, IssuedKind, Person, Term};
use cauldron_identity::charter::Seat;
use cauldron_identity::{Clock, Digest, FactId, SignedCharter, SpiffeId};

use crate::enrol::{Believed, EnrolError, EnrolReply, Grant, Have, Outcome, Part};
use crate::testing::{NOW, charter, config, key};
use crate::{Command, Input, NodeCore, Output, Refusal, Reply};

fn seat(n: u8, name: &str) -> Seat {
    Seat { author: key(n).public(), spiffe_id: format!("spiffe://acme.test/coordinator/{name}") }
}

/// The sequencer `hq` (key 1) of a mesh whose council is key 2, and what it has on disk.
struct Hq {
    charter: SignedCharter,
    core: NodeCore,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Hq {
    fn found() -> Self {
        let charter = charter(seat(1, "hq"));
        let disk = BTreeMap::new();
        let mut hq = Self { core: open(&charter, &disk), charter, disk };
        hq.save();
        hq
    }

    /// Carries out what the core wants on disk; returns what it answered.
    fn save(&mut self) -> Option<Result<Reply, Refusal>> {
        let mut answer = None;
        loop {
            match self.core.poll() {
                Output::Persist(record) => {
                    match record.value {
                        Some(value) => self.disk.insert(record.key, value),
                        None => self.disk.remove(&record.key),
                    };
                }
                Output::Reply { result, .. } => answer = Some(result),
                Output::Idle { .. } => return answer,
                _ => {}
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.core.handle(NOW, Input::Command { ticket: 1, command: Box::new(command) });
        self.save().expect("an answer")
    }

    /// Writes an entry with the council's signature.
    fn write(&mut self, entry: &Entry) {
        let (prev, index) = (self.core.authority().head(), self.core.authority().index());
        let body = self.signed(prev, index, entry, &[2]);
        self.command(Command::Authority(Box::new(body))).expect("it counts");
    }

    fn signed(&self, prev: Option<FactId>, index: u64, entry: &Entry, signers: &[u8]) -> EntryBody {
        let mut body = EntryBody::new(prev, index + 1, entry);
        signers.iter().for_each(|n| body.sign(&self.charter.mesh_id(), &key(*n)));
        body
    }

    fn term(&self, prev: Option<FactId>, index: u64, n: u32) -> EntryBody {
        let term = Term { n, sequencer: seat(5, "hq-2"), ends: vec![], root_keys: vec![] };
        self.signed(prev, index, &Entry::Term(term), &[2])
    }

    fn terms_on_disk(&self) -> Vec<&[u8]> {
        self.disk.iter().filter(|(key, _)| key.starts_with(b"l/term/")).map(|(_, value)| value.as_slice()).collect()
    }
}

fn open(charter: &SignedCharter, disk: &BTreeMap<Vec<u8>, Vec<u8>>) -> NodeCore {
    let config = config(key(1), "spiffe://acme.test/coordinator/hq", charter);
    NodeCore::open(config, disk.clone(), NOW).expect("it opens")
}

#[test]
fn terms_that_made_room_for_others_leave_the_store() {
    let mut hq = Hq::found();
    let elsewhere = Some(FactId::from_bytes([7; 32]));
    for n in 1..=12 {
        let waits = hq.term(elsewhere, 40, n);
        hq.command(Command::Term(Box::new(waits))).expect("it waits");
    }
    assert_eq!((hq.terms_on_disk().len(), hq.core.authority().terms().count()), (8, 8));
    let again = open(&hq.charter, &hq.disk);
    let numbers = |core: &NodeCore| -> Vec<FactId> { core.authority().terms().map(|(id, _)| id).collect() };
    assert_eq!(numbers(&again), numbers(&hq.core));
}

#[test]
fn a_copy_with_fewer_signatures_takes_none_from_the_store() {
    let mut hq = Hq::found();
    let elsewhere = Some(FactId::from_bytes([7; 32]));
    let term = Entry::Term(Term { n: 1, sequencer: seat(5, "hq-2"), ends: vec![], root_keys: vec![] });
    for signer in [2, 3] {
        let copy = hq.signed(elsewhere, 40, &term, &[signer]);
        hq.command(Command::Term(Box::new(copy))).expect("it waits");
    }
    let kept: Vec<EntryBody> =
        hq.terms_on_disk().into_iter().filter_map(|b| cauldron_identity::codec::from_cbor(b).ok()).collect();
    assert_eq!(kept.iter().map(|body| body.signatures.len()).collect::<Vec<_>>(), [2]);
}

#[test]
fn more_terms_than_may_wait_are_all_found_again_once_they_have_begun() {
    let mut hq = Hq::found();
    for n in 1..=12 {
        let (prev, index) = (hq.core.authority().head(), hq.core.authority().index());
        let sequencer = seat(100 + n, &format!("hq-{n}"));
        let term = Entry::Term(Term { n: n.into(), sequencer, ends: vec![], root_keys: vec![] });
        let body = hq.signed(prev, index, &term, &[2]);
        hq.command(Command::Term(Box::new(body))).expect("it begins");
    }
    assert_eq!(hq.core.authority().term(), 12);
    let again = open(&hq.charter, &hq.disk);
    assert_eq!((again.authority().term(), again.authority().terms().count()), (12, 12));
}

#[test]
fn cuts_by_a_term_and_beside_the_chain_are_listed_with_their_source() {
    let mut hq = Hq::found();
    let lyon = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("id");
    hq.write(&Entry::Enrol(Enrol::new(&hq.charter.mesh_id(), &key(4), &lyon)));
    let (base, index) = (hq.core.authority().head(), hq.core.authority().index());
    hq.write(&Entry::Cut(Cut { author: key(4).author_id(), incarnation: 0, ends: vec![], fork: vec![] }));
    let listed = |hq: &Hq| -> Vec<(String, String, String)> {
        let views = hq.core.restrictions_view(NOW).into_iter();
        views.map(|view| (view.target, view.by, view.reason)).collect()
    };
    let text = |target: &str, by: &str, reason: &str| (target.to_owned(), by.to_owned(), reason.to_owned());
    assert_eq!(listed(&hq), [text(&lyon.to_string(), "the council", "authority entry 2")]);
    let term = hq.term(base, index, 1);
    hq.command(Command::Term(Box::new(term))).expect("it begins");
    let beside = "beside the authority chain, which it left behind entry 1";
    let expected = [
        text("spiffe://acme.test/coordinator/hq", "term 1 of the council", "authority entry 2"),
        text(&lyon.to_string(), "the council", beside),
    ];
    assert_eq!(listed(&hq), expected);
}

/// A mesh whose council named another sequencer behind a chain that is longer than a reply.
fn grown() -> Hq {
    let mut hq = Hq::found();
    for n in 0..12 {
        let name = "x".repeat(20_000);
        hq.write(&Entry::Person(Person { id: format!("p{n}"), name, groups: vec![], credentials: vec![] }));
    }
    let term = hq.term(hq.core.authority().head(), hq.core.authority().index(), 1);
    hq.command(Command::Term(Box::new(term))).expect("it begins");
    hq
}

/// What the present sequencer answers, as `node/src/run/enrolment.rs` puts it together.
fn answer(hq: &Hq, have: Option<Have>) -> Outcome {
    let welcome = hq.core.welcome(have);
    if welcome.amended && welcome.more {
        let (charter, authority, terms) = (welcome.charter, welcome.authority, welcome.terms);
        return Outcome::Part(Box::new(Part { charter, authority, terms }));
    }
    Outcome::Granted(Box::new(Grant {
        charter: welcome.charter,
        chain: vec![],
        bundle: vec![],
        authority: welcome.authority,
        time_ms: 1,
        site: None,
        jwt_bundle: None,
        token: None,
        terms: welcome.terms,
    }))
}

#[test]
fn a_newcomer_reads_a_long_chain_in_parts_until_it_sees_whom_the_charter_names() {
    let hq = grown();
    let (pin, exporter) = (hq.charter.mesh_id(), [7; 32]);
    let reply = |by: u8, have| EnrolReply::new(answer(&hq, have), &key(by), &exporter).to_bytes();
    let mut believed = Believed::default();
    let mut parts = 0;
    let granted = loop {
        let bytes = reply(5, believed.have());
        assert!(bytes.len() < 256 * 1024, "{} bytes fit into no reply", bytes.len());
        match EnrolReply::open(&bytes, &pin, &exporter, &believed).expect("believed") {
            Outcome::Part(part) => assert!(believed.learn(&pin, *part).expect("of this mesh")),
            Outcome::Granted(grant) => break grant,
            Outcome::Refused(why) => panic!("{}", why.reason),
        }
        parts += 1;
    };
    assert_eq!(parts, 1);
    assert_eq!(believed.told_with(granted.authority).len(), 12, "it starts with the whole chain");
    // The one that was replaced is believed by nobody who has read so far.
    let past = EnrolReply::open(&reply(1, believed.have()), &pin, &exporter, &believed);
    assert_eq!(past, Err(EnrolError::NotACoordinator));
}

#[test]
fn a_part_that_brings_nothing_is_not_asked_for_again() {
    let hq = grown();
    let mut believed = Believed::default();
    let Outcome::Part(part) = answer(&hq, None) else { panic!("too long for one reply") };
    assert_eq!(believed.learn(&hq.charter.mesh_id(), (*part).clone()), Ok(true));
    assert_eq!(believed.learn(&hq.charter.mesh_id(), *part), Ok(false));
    let other = Part { charter: hq.charter.clone(), authority: vec![], terms: vec![] };
    assert!(matches!(
        believed.learn(&cauldron_identity::MeshId::from_bytes([0; 32]), other),
        Err(EnrolError::Charter(_))
    ));
}

#[test]
fn who_renews_is_told_what_it_lacks_and_nothing_of_the_past() {
    let hq = grown();
    let all = hq.core.believed();
    let told = hq.core.welcome(all.have());
    assert!(told.authority.is_empty() && !told.more);
    let ahead = Have { head: FactId::from_bytes([9; 32]), index: 99, term: 1 };
    let told = hq.core.welcome(Some(ahead));
    assert!(told.authority.is_empty() && !told.more, "it is the asker who knows more");
    let lost = Have { head: FactId::from_bytes([9; 32]), index: 99, term: 0 };
    assert!(hq.core.welcome(Some(lost)).more, "a branch that a term took out");
}

fn issuance(n: u64) -> Issuance {
    Issuance {
        kind: IssuedKind::X509Svid,
        spiffe_id: "spiffe://acme.test/coordinator/hq".into(),
        digest: Digest::of("certificate", &n.to_be_bytes()),
        not_after_s: n,
        signed_by: Digest::of("root", b""),
    }
}

#[test]
fn what_is_issued_before_a_node_may_write_is_kept_and_beyond_the_room_refused() {
    let mut hq = Hq::found();
    hq.core = open(&hq.charter, &hq.disk);
    assert_eq!(hq.core.self_view(NOW).state, "confirming", "its store was used before");
    assert_eq!(hq.command(Command::Issued((0..4_000).map(issuance).collect())), Ok(Reply::Ok));
    let refused = hq.command(Command::Issued((4_000..4_097).map(issuance).collect()));
    assert_eq!(refused.expect_err("no room").code, "issued_log_full");
    assert_eq!(hq.command(Command::Issued((4_000..4_096).map(issuance).collect())), Ok(Reply::Ok));
    assert!(hq.core.issued_view(None, 1_000).is_empty(), "nothing is written yet");

    hq.core.handle(Clock { boottime_ms: NOW.boottime_ms + 11_000, ..NOW }, Input::Tick);
    hq.save();
    let newest = hq.core.issued_view(None, 1_000);
    assert_eq!((newest.len(), newest[0].digest.as_str()), (1_000, issuance(4_095).digest.to_string().as_str()));
    let reopened = open(&hq.charter, &hq.disk);
    assert_eq!(reopened.issued_view(None, 1_000), newest, "on disk");
}
