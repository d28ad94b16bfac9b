//! Documents in one piece between two cores, one of which may be tampered with.

use std::collections::{BTreeMap, VecDeque};

use cauldron_crdt::doc::{DocKey, Edit, Field, What, check};
use cauldron_crdt::limits::HOLD_MS_MAX;
use cauldron_identity::authority::{Enrol, Entry};
use cauldron_identity::charter::Seat;
use cauldron_identity::{AuthorKey, Clock, Digest, Scope, SignedCharter, SpiffeId};

use crate::frame::{BaseAsk, BaseOffer, Frame};
use crate::testing::{NOW, charter, config, key};
use crate::{Command, Event, Input, LinkId, NodeConfig, NodeCore, Output};

const HQ: usize = 0;
const LYON: usize = 1;
const NAMES: [&str; 2] = ["spiffe://acme.test/coordinator/hq", "spiffe://acme.test/site/lyon/node/lyon"];
const PORTO: &str = "spiffe://acme.test/site/porto/node/porto";
/// Facts that are many here.
const FAR: u64 = 8;
const EDITS: u64 = 120;

/// The author of a node.
fn author(node: usize) -> AuthorKey {
    key(if node == HQ { 1 } else { 4 })
}

fn id(name: &str) -> SpiffeId {
    SpiffeId::new(name).expect("an id")
}

fn document() -> DocKey {
    DocKey { scope: Scope::mesh(), doc: "config/main".parse().expect("a document") }
}

/// What becomes of a frame of hq: nothing when it is lost.
type Tamper = fn(Frame) -> Option<Frame>;

/// Two cores on one link. What hq sends may be exchanged for something else.
struct Pair {
    cores: [NodeCore; 2],
    now: Clock,
    link: Option<LinkId>,
    links: LinkId,
    flying: VecDeque<(usize, Vec<u8>)>,
    tamper: Tamper,
    closed: Vec<String>,
    /// How many facts lyon held when the document came in one piece.
    in_one_piece: Vec<u64>,
    /// Lists and parts that were sent.
    told: usize,
}

fn open(n: usize, charter: &SignedCharter) -> NodeCore {
    let config = NodeConfig { far_facts: FAR, ..config(author(n), NAMES[n], charter) };
    NodeCore::open(config, BTreeMap::new(), NOW).expect("it opens")
}

/// Text that does not shrink much, so that a base has several parts.
fn noise(n: u64) -> String {
    (0..100u64).map(|block| Digest::of("noise", &[n.to_be_bytes(), block.to_be_bytes()].concat()).to_string()).collect()
}

impl Pair {
    /// hq has written much; lyon is enrolled and has heard of nothing.
    fn new(tamper: Tamper) -> Self {
        let charter = charter(Seat { author: author(HQ).public(), spiffe_id: NAMES[HQ].into() });
        let mut pair = Self {
            cores: [open(HQ, &charter), open(LYON, &charter)],
            now: NOW,
            link: None,
            links: 0,
            flying: VecDeque::new(),
            tamper,
            closed: Vec::new(),
            in_one_piece: Vec::new(),
            told: 0,
        };
        for (name, of) in [(NAMES[LYON], author(LYON)), (PORTO, key(5))] {
            let entry = Entry::Enrol(Enrol::new(&charter.mesh_id(), &of, &id(name)));
            pair.cores[HQ].write_entry(&entry).expect("the sequencer enrols");
        }
        for n in 0..EDITS {
            let fields = BTreeMap::from([("text".to_owned(), Some(Field::Text(noise(n)[..4_000].to_owned())))]);
            pair.edit(HQ, document(), Edit::Row { row: format!("r{n}"), fields });
        }
        pair
    }

    fn edit(&mut self, node: usize, key: DocKey, edit: Edit) {
        let command = Box::new(Command::Edit { key, edit, if_digest: None });
        self.cores[node].handle(self.now, Input::Command { ticket: 1, command });
        self.settle();
    }

    fn connect(&mut self) {
        self.links += 1;
        self.link = Some(self.links);
        for (node, other) in [(HQ, LYON), (LYON, HQ)] {
            let up = Input::LinkUp { link: self.links, spiffe_id: id(NAMES[other]), author: author(other).public() };
            self.cores[node].handle(self.now, up);
        }
        self.settle();
    }

    /// Carries out all that both want, until they want nothing more.
    fn settle(&mut self) {
        loop {
            for node in [HQ, LYON] {
                while self.act(node) {}
            }
            let Some((to, bytes)) = self.flying.pop_front() else { return };
            if let Some(link) = self.link {
                self.cores[to].handle(self.now, Input::Frame { link, bytes });
            }
        }
    }

    fn act(&mut self, node: usize) -> bool {
        match self.cores[node].poll() {
            Output::Idle { .. } => return false,
            Output::Send { link, bytes, .. } => {
                self.cores[node].handle(self.now, Input::Drained { link, bytes: bytes.len() });
                let frame = Frame::decode(&bytes).expect("ours");
                self.told += usize::from(matches!(frame, Frame::BaseList(_) | Frame::BasePart(_)));
                let frame = if node == HQ { (self.tamper)(frame) } else { Some(frame) };
                self.flying.extend(frame.map(|frame| (1 - node, frame.encode())));
            }
            Output::Close { link, detail } => {
                self.closed.push(detail);
                self.flying.clear();
                self.link = None;
                self.cores.iter_mut().for_each(|core| core.handle(self.now, Input::LinkDown { link }));
            }
            Output::Work(work) => self.cores[node].handle(self.now, Input::Worked(Box::new(work.run(&check::unpack)))),
            Output::Event(Event::Document { what: What::Base, .. }) => {
                self.in_one_piece.push(self.cores[node].document_facts(&document()).len() as u64);
            }
            _ => {}
        }
        true
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now.boottime_ms + ms;
        while self.now.boottime_ms < end {
            self.now.boottime_ms += 50;
            self.now.wall_ms += 50;
            for node in [HQ, LYON] {
                self.cores[node].handle(self.now, Input::Tick);
            }
            self.settle();
        }
    }

    fn lyon_has_it_all(&self) {
        let (hq, lyon) = (&self.cores[HQ], &self.cores[LYON]);
        let (one, other) = (hq.doc_view(self.now, &document()), lyon.doc_view(self.now, &document()));
        assert_eq!(one.map(|view| view.content), other.map(|view| view.content));
        assert_eq!(lyon.document_facts(&document()).len() as u64, EDITS);
        assert_eq!(lyon.doc_to_come(&document()), 0);
    }
}

#[test]
fn a_newcomer_takes_a_document_in_one_piece_and_then_its_facts() {
    let mut pair = Pair::new(Some);
    pair.connect();
    assert_eq!(pair.in_one_piece, [0], "before any of its facts");
    assert!(pair.told > 2, "a list and several parts: {}", pair.told);
    pair.lyon_has_it_all();
    // The line breaks and comes back: nothing is far any more.
    let told = pair.told;
    pair.connect();
    assert_eq!((pair.told, pair.closed.len()), (told, 0));
}

#[test]
fn a_base_that_is_not_what_it_should_be_closes_the_link_by_name_and_harms_nothing() {
    let lies: [(Tamper, &str); 5] = [
        (|frame| part(frame, |part| part.at += 1), "not what was asked for"),
        (|frame| part(frame, |part| part.len = u32::MAX), "not what was asked for"),
        (|frame| part(frame, |part| part.bytes.clear()), "not what was asked for"),
        (|frame| part(frame, |part| part.bytes[100] ^= 1), "not what it was said to be"),
        (
            |frame| {
                part(frame, |part| {
                    part.bytes.truncate(64);
                    (part.len, part.of) = (64, Digest::of("cauldron/base/v1", &part.bytes));
                })
            },
            "not the bytes of a base",
        ),
    ];
    for (tamper, word) in lies {
        let mut pair = Pair::new(tamper);
        pair.connect();
        let [detail] = &pair.closed[..] else { panic!("{:?}", pair.closed) };
        assert!(detail.contains("in one piece") && detail.contains(word), "{detail}");
        assert!(pair.in_one_piece.is_empty());
        pair.tamper = Some;
        pair.connect();
        pair.lyon_has_it_all();
    }
}

fn part(frame: Frame, change: impl Fn(&mut crate::frame::BasePart)) -> Option<Frame> {
    match frame {
        Frame::BasePart(mut part) => {
            change(&mut part);
            Some(Frame::BasePart(part))
        }
        other => Some(other),
    }
}

#[test]
fn who_promises_and_is_silent_holds_the_facts_up_for_a_moment_only() {
    let silences: [Tamper; 3] = [
        |frame| (!matches!(frame, Frame::BaseList(_))).then_some(frame),
        |frame| (!matches!(frame, Frame::BasePart(_))).then_some(frame),
        |frame| match frame {
            Frame::BaseList(mut list) => {
                // More than there is, and names that are none.
                list.docs = (0..200).map(|n| BaseOffer { doc: format!("config/no-{n}"), changes: 1 << 40 }).collect();
                list.docs.push(BaseOffer { doc: "../etc".into(), changes: u64::MAX });
                Some(Frame::BaseList(list))
            }
            other => Some(other),
        },
    ];
    for tamper in silences {
        let mut pair = Pair::new(tamper);
        pair.connect();
        pair.pass(HOLD_MS_MAX + 100);
        assert!(pair.in_one_piece.is_empty() && pair.closed.is_empty(), "{:?}", pair.closed);
        pair.lyon_has_it_all();
    }
}

#[test]
fn of_a_scope_that_is_not_shared_nothing_is_told() {
    let mut pair = Pair::new(Some);
    let scope = Scope::site("porto").expect("a name");
    let key = DocKey { scope: scope.clone(), ..document() };
    for n in 0..EDITS {
        let fields = BTreeMap::from([("n".to_owned(), Some(Field::Int(i64::try_from(n).expect("small"))))]);
        pair.edit(HQ, key.clone(), Edit::Row { row: "r".into(), fields });
    }
    pair.connect();
    let told = pair.told;
    for doc in [None, Some("config/main".to_owned())] {
        let ask = Frame::BaseAsk(BaseAsk { scope: scope.clone(), doc, at: 0, of: None });
        let link = pair.link.expect("up");
        pair.cores[HQ].handle(pair.now, Input::Frame { link, bytes: ask.encode() });
        pair.settle();
    }
    assert_eq!((pair.told, pair.closed.len()), (told, 0));
    assert!(!pair.cores[LYON].holds_document(&key));
}

#[test]
fn kinds_of_facts_of_a_later_build_are_carried_and_its_frames_are_ignored() {
    let mut pair = Pair::new(Some);
    let later = pair.cores[HQ].append(Scope::mesh(), "of-later", vec![], vec![0x80], None).expect("it is written");
    pair.connect();
    let held = pair.cores[LYON].log.get(&later.id()).expect("lyon carries it");
    assert_eq!(held.sealed(), later.sealed(), "to the byte");
    let link = pair.link.expect("it is up");
    pair.cores[LYON].handle(pair.now, Input::Frame { link, bytes: vec![200, 1, 2] });
    pair.settle();
    assert_eq!(pair.cores[LYON].refused.get("unknown_frame"), Some(&1));
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
    pair.lyon_has_it_all();
}
