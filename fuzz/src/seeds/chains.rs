//! Facts, the charter and the authority chain: records, frames and deeds.

use std::collections::BTreeMap;

use cauldron_coordinator::lease::{LeaseAsk, LeaseGrant};
use cauldron_crdt::doc::{DocId, DocKey, Documents, Edit, Field, KIND as KIND_CHANGE, KIND_SEAL};
use cauldron_crdt::escrow::{Body, Credit, Debit, Reserve, Settle, Source};
use cauldron_crdt::log::Pack;
use cauldron_crdt::{ChainId, Draft, Evidence, FactLog, Sync, SyncInput, SyncOutput};
use cauldron_identity::authority::{
    Amend, Autonomy, AutonomyGrant, AutonomyOf, ChainEnd, Cut, Enrol, Entry, Fenced, Incarnate, KIND_ENTRY, KIND_HELD,
    Level, Lift, Reassign, Term,
};
use cauldron_identity::budget::{Budget, Life, Mint};
use cauldron_identity::charter::Seat;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::fact::VERSION;
use cauldron_identity::isolation::{BreakGlass, HORIZONS_MAX, IsolationGrant};
use cauldron_identity::{Digest, Fact, FactId, HeaderDraft, Scope, SealedFact};

use super::{Seed, seed};
use crate::chunks::{join, through};
use crate::insider::{Deed, deed};
use crate::mesh::{FOUNDED, HQ, LYON, Mesh, NOW, PORTO, STRANGER, charter, key, person, scopes, spiffe_id};

/// What a node keeps of a closed epoch: two readers of one document, of which two epochs ended.
fn closed_epoch() -> Vec<u8> {
    let mut docs = [HQ, LYON].map(|who| {
        let mut docs = Documents::with_epoch(4);
        docs.set_author(&key(who).author_id(), 0);
        docs
    });
    let mut logs = [FactLog::new(FOUNDED.id), FactLog::new(FOUNDED.id)];
    let sites = DocKey { scope: Scope::mesh(), doc: DocId::sites() };
    for n in 1..100 {
        let fields = [("lyon.k".to_owned(), Some(Field::Int(n)))].into();
        let edit = docs[0].edit(&sites, &Edit::Row { row: "lyon".into(), fields }).expect("fits");
        let mut said: Vec<(usize, &str, Vec<u8>)> = edit.into_iter().map(|body| (0, KIND_CHANGE, body)).collect();
        loop {
            for (who, kind, body) in std::mem::take(&mut said) {
                let draft = Draft {
                    scope: Scope::mesh(),
                    incarnation: 0,
                    kind: kind.into(),
                    deps: vec![],
                    body,
                    hlc: n as u64,
                    traceparent: None,
                };
                let fact = logs[who].append(key([HQ, LYON][who]), draft).expect("fits");
                for docs in &mut docs {
                    if kind == KIND_SEAL {
                        docs.apply_seal(&fact, true)
                    } else {
                        docs.apply(&fact, true)
                    };
                }
            }
            for (who, docs) in docs.iter_mut().enumerate() {
                for due in docs.seals_due() {
                    let body = docs.seal(&due).or_else(|| docs.seal(&due));
                    said.extend(body.map(|body| (who, KIND_SEAL, body)));
                }
            }
            if said.is_empty() {
                break;
            }
        }
        assert!(docs[0].reissue().is_none(), "nobody was late");
        if let Some(closing) = docs[0].close() {
            return closing.record;
        }
    }
    unreachable!("two epochs end")
}

pub(super) fn seeds() -> Vec<Seed> {
    [facts(), charters(), entries(), frames(), records()].concat()
}

/// Two facts of lyon, the second one twice: with another time, which forks its chain.
fn chain() -> Vec<Fact> {
    let draft = |seq, prev, hlc| HeaderDraft {
        mesh: FOUNDED.id,
        scope: Scope::site("lyon").expect("a name"),
        incarnation: 0,
        seq,
        prev,
        hlc,
        kind: "note".into(),
        deps: vec![FactId::from_bytes([3; 32])],
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    };
    let first = Fact::seal(key(LYON), draft(1, None, 1), b"body".to_vec());
    let second = Fact::seal(key(LYON), draft(2, Some(first.id()), 2), b"body".to_vec());
    let fork = Fact::seal(key(LYON), draft(2, Some(first.id()), 3), b"body".to_vec());
    vec![first, second, fork]
}

fn facts() -> Vec<Seed> {
    let chain = chain();
    let headers: Vec<&[u8]> = chain.iter().map(|fact| fact.sealed().header.as_slice()).collect();
    let mut all = vec![
        seed("fact", "header", through(1, headers[1])),
        seed("fact", "log", through(3, join(&headers))),
        seed(
            "fact",
            "evidence",
            through(2, to_cbor(&Evidence::new(&[chain[1].sealed().clone()], &[chain[2].sealed().clone()]))),
        ),
    ];
    let known = FOUNDED.facts.iter().take(4).chain(&chain).enumerate();
    all.extend(known.map(|(n, fact)| seed("fact", format!("envelope-{n}"), through(0, to_cbor(fact.sealed())))));
    all
}

fn charters() -> Vec<Seed> {
    let mut other = charter();
    other.council.push(key(PORTO).public().into());
    other.threshold = 2;
    other.rp_id = "acme.test".into();
    other.vote_origins = vec!["https://acme.test".into()];
    vec![
        seed("charter", "signed", through(0, to_cbor(&FOUNDED.charter))),
        seed("charter", "bytes", through(1, &FOUNDED.charter.bytes)),
        seed("charter", "two", through(1, to_cbor(&other))),
    ]
}

/// One entry of every kind, in an order in which each counts.
fn all_entries() -> Vec<Entry> {
    let mesh = FOUNDED.id;
    let end = ChainEnd { scope: Scope::mesh(), seq: 1, id: Some(FactId::from_bytes([4; 32])) };
    let amend = Amend { retention_floor_days: Some(90), ..Amend::default() };
    let council = Amend { council: Some(vec![key(7).public().into()]), threshold: Some(1), ..Amend::default() };
    let seat = Seat { author: key(HQ).public(), spiffe_id: spiffe_id(HQ).to_string() };
    let elsewhere = Seat { author: key(STRANGER).public(), spiffe_id: "spiffe://acme.test/coordinator/hq-2".into() };
    let site = || "lyon".to_owned();
    let grant = IsolationGrant {
        site: site(),
        acting: vec![spiffe_id(LYON).to_string()],
        horizon: HORIZONS_MAX,
        groups: vec!["security-duty".into()],
        escrow: vec![],
        lift: 2,
    };
    let tokens =
        BreakGlass { site: site(), holder: life(LYON), digests: vec![Digest::of("token", b"1")], expires_ms: 9 };
    vec![
        mint(),
        Entry::Lift(Lift { restrictions: vec![FactId::from_bytes([7; 32])], reason: "over".into() }),
        autonomy(Some(AutonomyGrant {
            level: Level::L3,
            votes_r2: 0,
            votes_r3: 2,
            expires_ms: NOW.wall_ms,
            evidence: None,
        })),
        autonomy(None),
        Entry::Reassign(Box::new(Reassign {
            prefix: "lyon/lyon/blocklist".into(),
            from: life(LYON),
            to: life(LYON),
            handover: None,
            fencing: Some(Fenced::None),
            attests: vec![],
        })),
        Entry::Isolation(grant),
        Entry::BreakGlass(tokens),
        Entry::Enrol(Enrol::new(&mesh, key(STRANGER), &spiffe_id(STRANGER))),
        Entry::Incarnate(Incarnate::new(&mesh, key(LYON), 1, vec![end.clone()])),
        Entry::Person(person(7, &["finance"])),
        Entry::RevokePerson("bo".into()),
        Entry::Amend(Box::new(amend)),
        Entry::Cut(Cut { author: key(PORTO).author_id(), incarnation: 0, ends: vec![end], fork: vec![] }),
        Entry::Term(Term { n: 1, sequencer: seat, ends: vec![], root_keys: vec![Digest::of("root", b"2")] }),
        Entry::Amend(Box::new(council)),
        Entry::Term(Term { n: 2, sequencer: elsewhere, ends: vec![], root_keys: vec![] }),
    ]
}

fn autonomy(grant: Option<AutonomyGrant>) -> Entry {
    let of = AutonomyOf {
        build: Digest::of("build", b"1"),
        model: None,
        prompt: None,
        tools: None,
        action_class: "security.address.block/blocklist".into(),
        site: "lyon".into(),
    };
    Entry::Autonomy(Autonomy { of, grant, reason: "so".into() })
}

fn mint() -> Entry {
    let budget = Budget::new("blocks").expect("a name");
    Entry::Mint(Mint { budget, window: 0, amount: 9, holder: life(LYON), window_ms: 0 })
}

fn life(n: u8) -> Life {
    Life { author: key(n).author_id(), incarnation: 0 }
}

/// lyon credits a mint, grants some of it to hq, and reserves and settles the rest.
fn budget_deeds() -> Vec<Vec<u8>> {
    let mut mesh = Mesh::founded();
    let mint = deed(HQ, "mesh#authority", KIND_ENTRY, 1, &to_cbor(&mint()));
    let Some(Deed::Fact(entry)) = mesh.insider(&mint) else { unreachable!("an entry is a fact") };
    let held = deed(LYON, "mesh", KIND_HELD, 0, &to_cbor(&mesh.held()));
    mesh.insider(&held);
    let (budget, window) = (Budget::new("blocks").expect("a name"), 0);
    let mut deeds = vec![mint, held];
    let mut write = |body: Body| {
        let deed = deed(LYON, "mesh", body.kind(), 0, &body.to_bytes());
        let written = mesh.insider(&deed);
        deeds.push(deed);
        if let Some(Deed::Fact(fact)) = written { fact.id() } else { unreachable!("it is a fact") }
    };
    write(Body::Credit(Credit { budget: budget.clone(), window, source: Source::Mint(entry.id()) }));
    write(Body::Debit(Debit { budget: budget.clone(), window, amount: 4, to: life(HQ), purpose: None }));
    let reserve = write(Body::Reserve(Reserve { budget, window, amount: 5, purpose: Digest::of("purpose", b"") }));
    write(Body::Settle(Settle { reserve, spent: 3 }));
    deeds
}

fn entry_deeds() -> Vec<Vec<u8>> {
    let deed = |entry: &Entry| deed(HQ, "mesh#authority", KIND_ENTRY, 1, &to_cbor(entry));
    all_entries().iter().map(deed).collect()
}

fn held_deed() -> Vec<u8> {
    deed(LYON, "mesh", KIND_HELD, 0, &to_cbor(&FOUNDED.held()))
}

fn entries() -> Vec<Seed> {
    let deeds = entry_deeds();
    let mut with_held = vec![held_deed()];
    with_held.extend(deeds.iter().take(10).cloned());
    let mesh = Mesh::founded();
    let told: Vec<Vec<u8>> =
        all_entries().into_iter().map(|entry| through(0x80, to_cbor(&mesh.entry(entry)))).collect();
    let mut all = vec![
        seed("authority", "all", join(&deeds)),
        seed("authority", "held", join(&with_held)),
        seed("authority", "told", join(&told)),
        seed("sync", "entries", as_frames(0, &with_held)),
        seed("node", "entries", as_node(NO_POLICY, &with_held)),
    ];
    all.extend(deeds.iter().enumerate().map(|(n, deed)| seed("authority", format!("entry-{n}"), join([deed]))));
    all
}

/// Deeds as messages of the target `sync`, from its first or second peer.
pub(super) fn as_frames(who: u8, deeds: &[Vec<u8>]) -> Vec<u8> {
    through(who, join(deeds.iter().map(|deed| through(1, deed))))
}

/// In the target `node`: a mesh with a policy, and one without.
pub(super) const POLICY: u8 = 0;
const NO_POLICY: u8 = 1;

/// Deeds as messages of the target `node`, on lyon's link.
pub(super) fn as_node(mesh: u8, deeds: &[Vec<u8>]) -> Vec<u8> {
    through(mesh, join(deeds.iter().map(|deed| through(1, through(0, deed)))))
}

/// What an honest peer that holds nothing, and one that holds a little more, say to a node.
fn sync_frames() -> Vec<Vec<u8>> {
    let mut mesh = Mesh::founded();
    let mut log = mesh.log();
    for fact in chain() {
        let _ = log.insert(fact.sealed().clone(), &crate::mesh::Writers(&mesh.authority));
    }
    mesh.facts.clear();
    let empty = mesh.log();
    let mut frames = Vec::new();
    for holds in [&log, &empty] {
        let mut peer = Sync::new();
        let scopes = scopes().into_iter().collect();
        peer.handle(0, holds, SyncInput::LinkUp { link: 1, peer: key(HQ).author_id(), scopes });
        // An announcement of hq's to answer, and time for digests.
        let mut hq = Sync::new();
        let all = self::scopes().into_iter().collect();
        hq.handle(0, &log, SyncInput::LinkUp { link: 1, peer: key(LYON).author_id(), scopes: all });
        while let Some(output) = hq.poll() {
            if let SyncOutput::Send { bytes, .. } = output {
                peer.handle(1, holds, SyncInput::Frame { link: 1, bytes: &bytes });
            }
        }
        peer.handle(9_000, holds, SyncInput::Tick);
        while let Some(output) = peer.poll() {
            if let SyncOutput::Send { bytes, .. } = output {
                frames.push(bytes);
            }
        }
    }
    let [first, second, fork] = <[Fact; 3]>::try_from(chain()).expect("three");
    let evidence = to_cbor(&Evidence::new(&[second.sealed().clone()], &[fork.sealed().clone()]));
    frames.extend([first, second, fork].map(|fact| crate::insider::pushed(fact.sealed())));
    frames.push([vec![VERSION, 4], evidence].concat());
    frames.extend(cauldron_crdt::sync::packed(&long_chain()));
    frames.push(vec![VERSION, 6]);
    frames
}

/// As long as it takes for a range to be packed.
fn long_chain() -> Vec<SealedFact> {
    let mut log = FactLog::new(FOUNDED.id);
    let mut draft = |n: u8| {
        let kind = "note".to_owned();
        let (scope, body) = (Scope::mesh(), vec![n; 40]);
        let draft = Draft { scope, incarnation: 0, kind, deps: vec![], body, hlc: u64::from(n), traceparent: None };
        log.append(key(LYON), draft).expect("it fits").sealed().clone()
    };
    (0..40).map(&mut draft).collect()
}

fn frames() -> Vec<Seed> {
    let frames = sync_frames();
    let messages: Vec<_> = frames.iter().map(|frame| through(0, frame)).collect();
    let late: Vec<_> = messages.iter().flat_map(|message| [message.clone(), through(2, [50])]).collect();
    let ask = LeaseAsk { node: key(LYON).author_id(), nonce: Digest::of("nonce", b"") };
    let grant = LeaseGrant::new(&FOUNDED.id, key(HQ), &ask, FOUNDED.authority.head(), Digest::of("r", b""));
    let again = Incarnate::new(&FOUNDED.id, key(LYON), 1, vec![]);
    let term = all_entries().into_iter().find(|entry| matches!(entry, Entry::Term(_))).expect("there is one");
    let nonce = BTreeMap::from([(0_u8, Digest::of("nonce", b""))]);
    let others = [
        through(1, to_cbor(&ask)),
        through(2, to_cbor(&grant)),
        through(3, to_cbor(&again)),
        through(4, to_cbor(&nonce)),
        through(6, to_cbor(&Mesh::founded().entry(term))),
    ];
    let on_link = |link: u8, frame: &Vec<u8>| through(0, through(link, frame));
    let synced: Vec<_> = frames.iter().map(|frame| on_link(0, &through(0, frame))).collect();
    let data_lane: Vec<_> = frames.iter().map(|frame| on_link(3, &through(0, frame))).collect();
    let spoken: Vec<_> =
        others.iter().flat_map(|frame| [on_link(0, frame), on_link(2, frame), through(2, [0, 20])]).collect();
    let mut all = vec![
        seed("sync", "said", through(0, join(&messages))),
        seed("sync", "late", through(1, join(&late))),
        seed("node", "synced", through(NO_POLICY, join(&synced))),
        seed("node", "data-lane", through(NO_POLICY, join(&data_lane))),
        seed("node", "spoken", through(NO_POLICY, join(&spoken))),
        seed("node", "document", as_node(NO_POLICY, &document_deeds())),
        seed("node", "budget", as_node(POLICY, &budget_deeds())),
    ];
    all.extend(messages.iter().enumerate().map(|(n, it)| seed("sync", format!("frame-{n}"), through(0, join([it])))));
    all.extend(
        spoken.iter().enumerate().map(|(n, it)| seed("node", format!("frame-{n}"), through(NO_POLICY, join([it])))),
    );
    all
}

fn document_deeds() -> Vec<Vec<u8>> {
    let bodies = super::document::history(LYON, 1);
    bodies.iter().map(|body| deed(LYON, "mesh", cauldron_crdt::doc::KIND, 0, body)).collect()
}

/// A pack of four facts of hq in `mesh`, where the target's stubs stand.
fn pack() -> Vec<u8> {
    let mut log = FactLog::new(FOUNDED.id);
    let mut fact = |hlc| {
        let (scope, kind, body) = (Scope::mesh(), "note".to_owned(), b"body".to_vec());
        let draft = Draft { scope, incarnation: 0, kind, deps: vec![], body, hlc, traceparent: None };
        log.append(key(HQ), draft).expect("fits").sealed().clone()
    };
    let facts: Vec<(u64, SealedFact)> = (1..=4).map(|seq| (seq, fact(seq))).collect();
    let chain = ChainId { scope: Scope::mesh(), author: key(HQ).author_id(), incarnation: 0 };
    Pack::of(&chain, &facts).value()
}

fn records() -> Vec<Seed> {
    let sealed = |fact: &Fact| -> SealedFact { fact.sealed().clone() };
    let own: Vec<Vec<u8>> = chain()[..2].iter().flat_map(|fact| [Vec::new(), to_cbor(&sealed(fact))]).collect();
    let term = all_entries().into_iter().find(|entry| matches!(entry, Entry::Term(_))).expect("there is one");
    let term = to_cbor(&Mesh::founded().entry(term));
    // The map of node/core/src/local.rs: hash of the secret, whom it admits, until when.
    #[derive(minicbor::Encode)]
    #[cbor(map)]
    struct Token {
        #[cbor(n(0), with = "minicbor::bytes")]
        secret_hash: [u8; 32],
        #[n(1)]
        spiffe_id: String,
        #[n(2)]
        expires_ms: u64,
    }
    let token =
        to_cbor(&Token { secret_hash: [1; 32], spiffe_id: spiffe_id(STRANGER).to_string(), expires_ms: NOW.wall_ms });
    let epoch = closed_epoch();
    let kept: [(&[u8], &[u8]); 7] = [
        (b"l/born", b""),
        (b"l/behind", &[0]),
        (b"l/lease", &to_cbor(&None::<u8>)),
        (b"l/note/x", b"note"),
        (&[b"l/token/".as_slice(), &[1; 16]].concat(), &token),
        (&[b"l/term/".as_slice(), &[2; 32]].concat(), &term),
        (b"l/epoch/mesh", &epoch),
    ];
    let kept: Vec<&[u8]> = kept.iter().flat_map(|(key, value)| [*key, *value]).collect();
    vec![
        seed("store", "facts", through(0, join(own))),
        seed("store", "kept", through(0, join(kept))),
        seed("store", "value", through(1, b"body")),
        seed("store", "pack", through(2, pack())),
    ]
}
