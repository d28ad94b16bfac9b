//! A whole node core, hq's, and its peers: frames of every kind, on every kind of link.
//!
//! Input: a mesh (0 with a policy, 1 without), then messages, each behind a door and a link (0 lyon, 1 porto, 2 a stranger, 3 porto on the data lane): 0 a frame, 1 a deed
//! (fuzz/src/insider.rs) whose fact or term is sent, 2 time that passes, in tenths of a second.
#![no_main]

use std::collections::BTreeMap;

use cauldron_crdt::doc::check::NotUnpacked;
use cauldron_crdt::escrow::invariants;
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::insider::{Deed, pushed};
use cauldron_fuzz::mesh::{FOUNDED, HQ, LYON, Mesh, NOW, PORTO, STRANGER, WITHOUT_POLICY, key, spiffe_id};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::Clock;
use cauldron_identity::codec::to_cbor;
use cauldron_node_core::{Input, LinkId, NodeCore, Output};
use libfuzzer_sys::fuzz_target;

const TERM: u8 = 6;
/// More than any input asks for; a core that answers without end would be found by it.
const OUTPUTS_MAX: usize = 20_000;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    let (mesh, messages) = door(input);
    let mut node = Node::new(if mesh % 2 == 0 { &FOUNDED } else { &WITHOUT_POLICY });
    for message in chunks(messages) {
        let (what, rest) = door(message);
        let (link, rest) = door(rest);
        let link = LinkId::from(link % 4);
        match what {
            0 => node.frame(link, rest.to_vec()),
            1 => match node.mesh.insider(rest) {
                Some(Deed::Fact(fact)) => node.frame(link, [vec![0], pushed(fact.sealed())].concat()),
                Some(Deed::Term(body)) => node.frame(link, [vec![TERM], to_cbor(&body)].concat()),
                None => {}
            },
            _ => node.pass(rest.iter().map(|tenth| u64::from(*tenth) * 100).sum()),
        }
    }
    node.shows_itself();
    if node.disk != node.opened_on {
        node.starts_again();
    }
}));

struct Node {
    mesh: Mesh,
    core: NodeCore,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    opened_on: BTreeMap<Vec<u8>, Vec<u8>>,
    now: Clock,
}

impl Node {
    fn new(mesh: &Mesh) -> Self {
        let mesh = mesh.clone();
        let disk = mesh.records();
        let core = NodeCore::open(mesh.config(HQ), disk.clone(), NOW).expect("its own store");
        let mut node = Self { mesh, core, disk, opened_on: BTreeMap::new(), now: NOW };
        node.drain();
        node.opened_on.clone_from(&node.disk);
        for (link, peer) in [LYON, PORTO, STRANGER].into_iter().enumerate() {
            let link = LinkId::try_from(link).expect("few");
            node.handle(Input::LinkUp { link, spiffe_id: spiffe_id(peer), author: key(peer).public() });
        }
        node.handle(Input::DataLinkUp { link: 3, author: key(PORTO).public() });
        node
    }

    fn frame(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.handle(Input::Frame { link, bytes });
    }

    fn pass(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.boottime_ms += ms;
        self.handle(Input::Tick);
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            match self.core.poll() {
                Output::Persist(record) => {
                    match record.value {
                        Some(value) => self.disk.insert(record.key, value),
                        None => self.disk.remove(&record.key),
                    };
                }
                Output::Close { link, .. } => self.core.handle(self.now, Input::LinkDown { link }),
                Output::Work(work) => self.core.handle(
                    self.now,
                    Input::Worked(Box::new(
                        work.run(&|_| Err(NotUnpacked::Untried("a process of its own does that".to_owned()))),
                    )),
                ),
                Output::Idle { .. } => return,
                _ => {}
            }
        }
        panic!("the core answers without end");
    }

    /// What operators and programs ask of a node, whatever its peers made of it.
    fn shows_itself(&mut self) {
        let now = self.now;
        let _ =
            (self.core.self_view(now), self.core.peers_view(now), self.core.sites_view(now), self.core.sync_view(now));
        let _ = (self.core.authority_view(now), self.core.proposals_view(now), self.core.runway(now));
        let _ = (self.core.audit_tail(100, None), self.core.verify(), self.core.welcome(None));
        let _ = self.core.budgets_view(now, true);
        invariants::conserve(self.core.escrow()).expect("rights are conserved");
        invariants::credit_once(self.core.escrow()).expect("nothing is taken twice");
    }

    /// A node comes up on what it stored, however hostile those were who sent it.
    fn starts_again(&mut self) {
        let authority = self.core.authority();
        let (head, index, term) = (authority.head(), authority.index(), authority.term());
        let again = match NodeCore::open(self.mesh.config(HQ), std::mem::take(&mut self.disk), self.now) {
            Ok(again) => again,
            Err(why) => panic!("it does not start on what it stored: {why}"),
        };
        let authority = again.authority();
        assert_eq!((head, index, term), (authority.head(), authority.index(), authority.term()), "another authority");
    }
}
