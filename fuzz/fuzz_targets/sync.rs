//! The sync core with a log behind it, and two peers: one hostile, one that only wants to go on.
//!
//! Input: who is hostile (even lyon, odd porto), then messages, each behind a door: 0 a frame, 1 a deed (fuzz/src/insider.rs)
//! whose fact is pushed, 2 time that passes, in tenths of a second.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use cauldron_crdt::limits::{FRAME_LEN_MAX, SETTLE_FACTS};
use cauldron_crdt::{FactLog, Inserted, LinkId, Record, Sync, SyncInput, SyncOutput};
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::insider::{Deed, pushed};
use cauldron_fuzz::mesh::{LYON, Mesh, NOW, PORTO, Writers, key, scopes};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::{AuthorId, Scope};
use libfuzzer_sys::fuzz_target;

const HOSTILE: LinkId = 1;
const HONEST: LinkId = 2;
/// A sync frame that asks for everything to be announced anew.
const AGAIN: [u8; 2] = [cauldron_identity::fact::VERSION, 6];

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    let (who, rest) = door(input);
    let peers = if who % 2 == 0 { [LYON, PORTO] } else { [PORTO, LYON] };
    let mut node = Node::new(peers);
    for message in chunks(rest) {
        match door(message) {
            (0, bytes) => node.handle(SyncInput::Frame { link: HOSTILE, bytes }),
            (1, deed) => {
                if let Some(Deed::Fact(fact)) = node.mesh.insider(deed) {
                    node.handle(SyncInput::Frame { link: HOSTILE, bytes: &pushed(fact.sealed()) });
                }
            }
            (_, tenths) => {
                node.now_ms += tenths.iter().map(|tenth| u64::from(*tenth) * 100).sum::<u64>();
                node.handle(SyncInput::Tick);
            }
        }
    }
    node.serves_the_other();
    node.brings_its_log_back();
}));

/// Facts that are many here.
const FAR: u64 = 3;

struct Node {
    mesh: Mesh,
    log: FactLog,
    records: Vec<Record>,
    sync: Sync,
    now_ms: u64,
    honest: AuthorId,
    sent_to_honest: usize,
}

impl Node {
    fn new(peers: [u8; 2]) -> Self {
        let mesh = Mesh::founded();
        let records = mesh.facts.iter().map(|fact| Record::Fact(fact.sealed().clone())).collect();
        let (log, honest) = (mesh.log(), key(peers[1]).author_id());
        let (sync, now_ms) = (Sync::with_far(FAR), NOW.boottime_ms);
        let mut node = Self { mesh, log, records, sync, now_ms, honest, sent_to_honest: 0 };
        for (link, peer) in [HOSTILE, HONEST].into_iter().zip(peers) {
            let peer = key(peer).author_id();
            let scopes = node.shared(&peer);
            node.handle(SyncInput::LinkUp { link, peer, scopes });
        }
        node
    }

    fn shared(&self, peer: &AuthorId) -> BTreeSet<Scope> {
        scopes().into_iter().filter(|scope| self.mesh.authority.may_read(peer, scope)).collect()
    }

    fn handle(&mut self, input: SyncInput<'_>) {
        self.sync.handle(self.now_ms, &self.log, input);
        while let Some(output) = self.sync.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: SyncOutput) {
        match output {
            SyncOutput::Send { link, bytes, .. } => {
                assert!(bytes.len() <= FRAME_LEN_MAX, "a frame that its receiver refuses");
                self.sent_to_honest += usize::from(link == HONEST);
            }
            SyncOutput::Offer { link, facts } => {
                for sealed in facts {
                    let id = sealed.id();
                    let answer = self.log.insert(sealed.clone(), &Writers(&self.mesh.authority));
                    self.sync.handle(self.now_ms, &self.log, SyncInput::Answered { id, answer: &answer });
                    match answer {
                        Ok(Inserted::New(_)) => {
                            self.records.push(Record::Fact(sealed));
                            self.sync.handle(self.now_ms, &self.log, SyncInput::Spread { id, source: Some(link) });
                        }
                        Ok(Inserted::Fork(evidence)) => self.records.push(Record::Evidence(*evidence)),
                        Ok(Inserted::Mended(_)) => self.records.push(Record::Fact(sealed)),
                        Ok(Inserted::Duplicate) | Err(_) => {}
                    }
                }
            }
            SyncOutput::OfferRange { link, chain, from, facts } => {
                let taken = self.log.insert_range(&chain, from, facts, &Writers(&self.mesh.authority));
                let answered = SyncInput::RangeAnswered { link, chain: &chain, taken: &taken };
                self.sync.handle(self.now_ms, &self.log, answered);
                self.records.extend(taken.mark);
                let facts = taken.mended.iter().chain(&taken.new);
                self.records.extend(facts.map(|fact| Record::Fact(fact.sealed().clone())));
                self.records.extend(taken.fork.map(|evidence| Record::Evidence(*evidence)));
                if let Some(id) = taken.new.last().map(|fact| fact.id()) {
                    self.sync.handle(self.now_ms, &self.log, SyncInput::Spread { id, source: Some(link) });
                }
            }
            // It waits its time out, or goes on at once.
            SyncOutput::Far { link, scope } if link == HONEST => {
                self.sync.handle(self.now_ms, &self.log, SyncInput::Release { scope, tried: true });
            }
            SyncOutput::Far { .. } => {}
            SyncOutput::Settle => {
                let settled = self.log.settle(SETTLE_FACTS, &Writers(&self.mesh.authority));
                self.records.extend(settled.records);
            }
            SyncOutput::OfferEvidence { link, evidence } => {
                let answer = self.log.insert_evidence(*evidence, &Writers(&self.mesh.authority));
                self.sync.handle(self.now_ms, &self.log, SyncInput::EvidenceAnswered { link, answer: &answer });
                if let Ok(Inserted::Fork(evidence)) = answer {
                    let header = evidence.header().expect("it was verified");
                    let chain = cauldron_crdt::ChainId::of(&header);
                    self.records.push(Record::Evidence(*evidence));
                    self.sync.handle(self.now_ms, &self.log, SyncInput::SpreadEvidence { chain, source: Some(link) });
                }
            }
            SyncOutput::Close { link, code } => {
                assert_ne!((link, code), (HONEST, "malformed"), "for what another said")
            }
            SyncOutput::Timer { at_ms } => assert!(at_ms > self.now_ms, "a timer that never ends"),
        }
    }

    /// A link is closed for its own silence, never for what another sends.
    fn serves_the_other(&mut self) {
        let peer = self.honest;
        if self.now_ms > NOW.boottime_ms {
            let scopes = self.shared(&peer);
            self.handle(SyncInput::LinkUp { link: HONEST, peer, scopes });
        }
        let before = self.sent_to_honest;
        self.handle(SyncInput::Frame { link: HONEST, bytes: &AGAIN });
        assert!(self.sent_to_honest > before, "the other peer gets no answer");
    }

    fn brings_its_log_back(&mut self) {
        // A later record of one place replaces an earlier one, as in the store.
        let records = std::mem::take(&mut self.records).into_iter();
        let records: BTreeMap<Vec<u8>, Record> =
            records.map(|record| (record.key().expect("it has a place"), record)).collect();
        let records = records.into_values();
        let again = FactLog::restore(self.mesh.id, records, Some(&Writers(&self.mesh.authority)));
        let again = again.expect("what the log took, it takes from its store");
        for scope in scopes() {
            assert_eq!(self.log.state_hash(&scope), again.state_hash(&scope), "the store brings back another log");
        }
    }
}
