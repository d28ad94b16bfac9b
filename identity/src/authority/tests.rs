use super::*;
use crate::charter::SignedCharter;
use crate::charter::tests::sample;
use crate::fact::HeaderDraft;
use crate::ids::Digest;
use crate::keys::AuthorKey;
use crate::scope::Scope;

mod golden;
mod isolation;
mod mints;
mod order;
mod people;
mod powers;
mod reform;

/// A founded mesh: council of one, `hq` as sequencer, and the chain written so far.
struct Mesh {
    hq: AuthorKey,
    authority: Authority,
    last: Option<FactId>,
}

fn key(n: u8) -> AuthorKey {
    AuthorKey::from_seed(&[n; 32])
}

fn node_id(name: &str) -> SpiffeId {
    SpiffeId::new(format!("spiffe://acme.test/site/{name}/node/{name}")).expect("valid id")
}

impl Mesh {
    fn found() -> Self {
        Self::found_with(|_| {})
    }

    fn found_with(change: impl FnOnce(&mut crate::charter::Charter)) -> Self {
        let (council, hq) = (key(1), key(2));
        let mut charter = sample(&[&council], 1, &hq);
        change(&mut charter);
        let signed = SignedCharter::sign(&charter, &[&council]);
        let authority = Authority::new(signed.mesh_id(), charter).expect("seats are roles");
        Self { hq, authority, last: None }
    }

    fn write(&mut self, entry: &Entry, signers: &[&AuthorKey]) -> Option<String> {
        let mut body = EntryBody::new(self.authority.head(), self.authority.index() + 1, entry);
        for signer in signers {
            body.sign(&self.authority.mesh(), signer);
        }
        let seq = self.authority.index() + 1;
        let fact = seal(&self.hq, self.authority.mesh(), Scope::authority(), seq, self.last, KIND_ENTRY, &body);
        self.last = Some(fact.id());
        self.authority.apply(&fact);
        self.authority.entries().last().and_then(|a| a.refused.clone())
    }

    fn enrol(&mut self, author: &AuthorKey, name: &str) -> Option<String> {
        let enrol = Enrol::new(&self.authority.mesh(), author, &node_id(name));
        self.write(&Entry::Enrol(enrol), &[])
    }

    fn hold(&mut self, author: &AuthorKey) {
        let held = Held {
            head: self.authority.head().expect("entries"),
            index: self.authority.index(),
            suspensions: vec![],
            trust: None,
        };
        let fact = seal(author, self.authority.mesh(), Scope::mesh(), 1, None, KIND_HELD, &held);
        self.authority.apply(&fact);
    }

    fn person(&mut self, signers: &[&AuthorKey]) -> Option<String> {
        let credential = Credential::of(key(50).public().into());
        let person =
            Person { id: "ana".into(), name: "Ana".into(), groups: vec!["g".into()], credentials: vec![credential] };
        self.write(&Entry::Person(person), signers)
    }
}

fn seal<T: minicbor::Encode<()>>(
    author: &AuthorKey,
    mesh: MeshId,
    scope: Scope,
    seq: u64,
    prev: Option<FactId>,
    kind: &str,
    body: &T,
) -> Fact {
    let draft = HeaderDraft {
        mesh,
        scope,
        incarnation: 0,
        seq,
        prev,
        hlc: 0,
        kind: kind.into(),
        deps: vec![],
        traceparent: None,
    };
    Fact::seal(author, draft, crate::codec::to_cbor(body))
}

fn header(author: &AuthorKey, incarnation: u32, scope: Scope, seq: u64) -> crate::fact::Header {
    let fact = seal(author, MeshId::from_bytes([0; 32]), scope, 1, None, "note", &0u8);
    let mut header = fact.header().clone();
    (header.incarnation, header.seq) = (incarnation, seq);
    header
}

const SOME: FactId = FactId::from_bytes([7; 32]);

#[test]
fn a_coordinator_enrols_new_nodes_alone_but_neither_people_nor_coordinators() {
    let mut mesh = Mesh::found();
    assert_eq!(mesh.enrol(&key(3), "lyon"), None);
    assert!(mesh.person(&[]).is_some());
    assert!(mesh.authority.people().is_empty());
    let id = SpiffeId::new("spiffe://acme.test/coordinator/evil").expect("id");
    let enrol = Enrol::new(&mesh.authority.mesh(), &key(9), &id);
    assert!(mesh.write(&Entry::Enrol(enrol), &[]).expect("refused").contains("only the charter"));
}

#[test]
fn an_enrolment_needs_the_keys_proof_the_trust_domain_and_a_strong_key() {
    let mut mesh = Mesh::found();
    let mut stolen = Enrol::new(&mesh.authority.mesh(), &key(3), &node_id("lyon"));
    stolen.author = key(4).public();
    assert!(mesh.write(&Entry::Enrol(stolen), &[]).expect("refused").contains("prove"));
    let foreign = SpiffeId::new("spiffe://other.test/site/a/node/a").expect("id");
    let enrol = Enrol::new(&mesh.authority.mesh(), &key(3), &foreign);
    assert!(mesh.write(&Entry::Enrol(enrol), &[]).expect("refused").contains("trust domain"));
    let mut weak = Enrol::new(&mesh.authority.mesh(), &key(3), &node_id("lyon"));
    weak.author = PublicKey::from_bytes([0; 32]);
    assert!(mesh.write(&Entry::Enrol(weak), &[]).expect("refused").contains("weak"));
}

#[test]
fn one_active_author_per_spiffe_id_and_replacement_needs_cut_and_council() {
    let mut mesh = Mesh::found();
    let council = key(1);
    assert_eq!(mesh.enrol(&key(3), "lyon"), None);
    assert!(mesh.enrol(&key(4), "lyon").is_some());
    let cut = Cut { author: key(3).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
    assert!(mesh.write(&Entry::Cut(cut.clone()), &[]).is_some(), "a coordinator alone cuts nobody");
    assert_eq!(mesh.write(&Entry::Cut(cut), &[&council]), None);
    assert!(mesh.enrol(&key(4), "lyon").is_some());
    let enrol = Enrol::new(&mesh.authority.mesh(), &key(4), &node_id("lyon"));
    assert_eq!(mesh.write(&Entry::Enrol(enrol), &[&council]), None);
    assert!(!mesh.authority.may_read(&key(3).author_id(), &Scope::mesh()), "a cut author reads nothing");
}

#[test]
fn an_entry_waits_until_somebody_other_than_the_sequencer_holds_it() {
    let mut mesh = Mesh::found();
    let (council, lyon) = (key(1), key(3));
    assert_eq!(mesh.person(&[&council]), None);
    assert_eq!(mesh.authority.people().len(), 1, "before anybody else is enrolled, at once");
    mesh.enrol(&lyon, "lyon");
    assert!(!mesh.authority.in_effect(2));
    let standing = |m: &Mesh| m.authority.standing(&header(&lyon, 0, Scope::mesh(), 1), SOME);
    assert_eq!(standing(&mesh), Standing::Pending);
    let hq = key(2);
    mesh.hold(&hq);
    assert!(!mesh.authority.in_effect(2), "the sequencer does not witness itself");
    mesh.hold(&lyon);
    assert!(mesh.authority.in_effect(2));
    assert_eq!(standing(&mesh), Standing::Counts);
    mesh.write(&Entry::RevokePerson("ana".into()), &[&council]);
    assert_eq!(mesh.authority.people().len(), 1, "the revocation is not held yet");
    mesh.hold(&lyon);
    assert_eq!(mesh.authority.people().len(), 0);
    assert!(mesh.authority.person_at("ana", 1).is_some(), "she was a person at entry 1");
}

#[test]
fn a_held_that_names_another_chain_covers_nothing() {
    let mut mesh = Mesh::found();
    let lyon = key(3);
    mesh.enrol(&lyon, "lyon");
    let lie = Held { head: SOME, index: 1, suspensions: vec![], trust: None };
    let fact = seal(&lyon, mesh.authority.mesh(), Scope::mesh(), 1, None, KIND_HELD, &lie);
    mesh.authority.apply(&fact);
    assert!(!mesh.authority.in_effect(1));
}

#[test]
fn beyond_a_cut_nothing_counts_and_unnamed_scopes_end_at_their_start() {
    let mut mesh = Mesh::found();
    let (council, lyon) = (key(1), key(3));
    mesh.enrol(&lyon, "lyon");
    mesh.hold(&lyon);
    let site = Scope::site("lyon").expect("name");
    let ends = vec![ChainEnd { scope: Scope::mesh(), seq: 2, id: Some(SOME) }];
    let cut = Cut { author: lyon.author_id(), incarnation: 0, ends, fork: vec![] };
    assert_eq!(mesh.write(&Entry::Cut(cut), &[&council]), None);
    let at = |scope: &Scope, seq, id| mesh.authority.standing(&header(&lyon, 0, scope.clone(), seq), id);
    assert_eq!(
        at(&Scope::mesh(), 2, SOME),
        Standing::Counts,
        "lyon's word from before its cut keeps entry 1 in effect"
    );
    assert_eq!(at(&Scope::mesh(), 2, FactId::from_bytes([8; 32])), Standing::BeyondCut);
    assert_eq!(at(&Scope::mesh(), 3, SOME), Standing::BeyondCut);
    assert_eq!(at(&site, 1, SOME), Standing::BeyondCut);
}

#[test]
fn the_lowest_of_two_cuts_wins() {
    let end = |scope: Scope, seq| ChainEnd { scope, seq, id: None };
    let site = Scope::site("lyon").expect("name");
    let mut ends = Ends::default();
    ends.lower(&[end(Scope::mesh(), 5), end(site.clone(), 3)]);
    ends.lower(&[end(Scope::mesh(), 4)]);
    let mut mesh = Mesh::found();
    let lyon = key(3);
    mesh.enrol(&lyon, "lyon");
    mesh.hold(&lyon);
    mesh.authority.fold.ends.insert((lyon.author_id(), 0), ends);
    let at = |scope: &Scope, seq| mesh.authority.standing(&header(&lyon, 0, scope.clone(), seq), SOME);
    assert_eq!(at(&Scope::mesh(), 4), Standing::Counts);
    assert_eq!(at(&Scope::mesh(), 5), Standing::BeyondCut);
    assert_eq!(at(&site, 1), Standing::BeyondCut);
}

#[test]
fn fork_evidence_cuts_without_the_council() {
    let mut mesh = Mesh::found();
    let lyon = key(3);
    mesh.enrol(&lyon, "lyon");
    let id = mesh.authority.mesh();
    let a = seal(&lyon, id, Scope::mesh(), 1, None, "note", &1u8);
    let b = seal(&lyon, id, Scope::mesh(), 1, None, "note", &2u8);
    let cut = |fork| Entry::Cut(Cut { author: lyon.author_id(), incarnation: 0, ends: vec![], fork });
    assert!(mesh.write(&cut(vec![a.sealed().clone(), a.sealed().clone()]), &[]).is_some());
    assert_eq!(mesh.write(&cut(vec![a.sealed().clone(), b.sealed().clone()]), &[]), None);
}

#[test]
fn a_new_incarnation_ends_the_old_and_only_its_author_begins_it() {
    let mut mesh = Mesh::found();
    let lyon = key(3);
    mesh.enrol(&lyon, "lyon");
    mesh.hold(&lyon);
    let ends = vec![ChainEnd { scope: Scope::mesh(), seq: 1, id: None }];
    let id = mesh.authority.mesh();
    let mut forged = Incarnate::new(&id, &key(9), 1, ends.clone());
    forged.author = lyon.author_id();
    assert!(mesh.write(&Entry::Incarnate(forged), &[]).is_some());
    assert!(mesh.write(&Entry::Incarnate(Incarnate::new(&id, &lyon, 2, vec![])), &[]).is_some());
    assert_eq!(mesh.write(&Entry::Incarnate(Incarnate::new(&id, &lyon, 1, ends)), &[]), None);
    let at = |incarnation, seq| mesh.authority.standing(&header(&lyon, incarnation, Scope::mesh(), seq), SOME);
    assert_eq!((at(0, 1), at(0, 2)), (Standing::Counts, Standing::BeyondCut));
    assert_eq!((at(1, 9), at(2, 1)), (Standing::Counts, Standing::Unknown));
    assert!(mesh.authority.may_read(&lyon.author_id(), &Scope::mesh()));
}

#[test]
fn policy_needs_its_authors_and_the_newest_in_effect_wins() {
    let mut mesh = Mesh::found();
    let council = key(1);
    let activate =
        |v: &str| Entry::Activate(Activate { bundle: SOME, digest: Digest::of("b", v.as_bytes()), version: v.into() });
    assert!(mesh.write(&activate("0"), &[]).is_some());
    assert!(mesh.write(&activate("0"), &[&key(2)]).is_some(), "a coordinator is no policy author");
    assert_eq!(mesh.write(&activate("1"), &[&council]), None);
    assert_eq!(mesh.write(&activate("2"), &[&council]), None);
    assert_eq!(mesh.authority.policy().map(|p| p.activate.version), Some("2".into()));
}

#[test]
fn policy_needs_two_of_its_authors_where_there_are_several() {
    let (a, b, c) = (key(11), key(12), key(13));
    let mut mesh =
        Mesh::found_with(|charter| charter.policy_authors = [&a, &b, &c].map(|k| k.public().into()).to_vec());
    let entry = Entry::Activate(Activate { bundle: SOME, digest: Digest::of("b", b"1"), version: "1".into() });
    assert!(mesh.write(&entry, &[&a]).is_some(), "one of three");
    assert!(mesh.write(&entry, &[&a, &a]).is_some(), "one of them twice");
    assert!(mesh.write(&entry, &[&a, &key(1)]).is_some(), "one of them and the council");
    assert_eq!(mesh.authority.policy(), None);
    assert_eq!(mesh.write(&entry, &[&a, &c]), None);
    assert_eq!(mesh.authority.policy().map(|p| p.activate.version), Some("1".into()));
}

#[test]
fn a_signature_does_not_move_to_another_place_in_the_chain() {
    let mut mesh = Mesh::found();
    let council = key(1);
    let mut body = EntryBody::new(None, 1, &Entry::RevokePerson("ana".into()));
    body.sign(&mesh.authority.mesh(), &council);
    assert_eq!(mesh.person(&[&council]), None);
    let mut replay = body.clone();
    (replay.prev, replay.index) = (mesh.authority.head(), 2);
    let fact = seal(&mesh.hq, mesh.authority.mesh(), Scope::authority(), 2, mesh.last, KIND_ENTRY, &replay);
    mesh.authority.apply(&fact);
    assert_eq!(mesh.authority.people().len(), 1);
}

#[test]
fn readers_and_writers_follow_the_spiffe_id() {
    let mut mesh = Mesh::found();
    let (hq, lyon, porto) = (key(2), key(3), key(4));
    mesh.enrol(&lyon, "lyon");
    mesh.enrol(&porto, "porto");
    let site = Scope::site("lyon").expect("name");
    let read = |k: &AuthorKey, s: &Scope| mesh.authority.may_read(&k.author_id(), s);
    assert!(read(&hq, &site) && read(&lyon, &site) && !read(&porto, &site) && !read(&key(77), &Scope::mesh()));
    assert!(read(&porto, &Scope::mesh()) && !read(&porto, &site.restrict()));
    let write = |k: &AuthorKey, s: &Scope, kind: &str| mesh.authority.may_write(&k.author_id(), s, kind);
    assert!(write(&hq, &Scope::authority(), KIND_ENTRY) && !write(&lyon, &Scope::authority(), KIND_ENTRY));
    assert!(write(&lyon, &site, "proposal") && !write(&porto, &site, "proposal"));
    assert!(
        write(&hq, &Scope::mesh_restrict(), "restriction") && !write(&lyon, &Scope::mesh_restrict(), "restriction")
    );
    assert!(!write(&lyon, &site, "restriction"), "a restriction has its lane");
    for kind in [KIND_ROOTS, KIND_ISSUED] {
        assert!(write(&hq, &Scope::mesh(), kind) && !write(&lyon, &Scope::mesh(), kind), "{kind}");
    }
    assert!(write(&lyon, &site, KIND_ISSUED) && !write(&porto, &site, KIND_ISSUED));
}

#[test]
fn what_the_council_founds_with_the_charter_counts_at_its_place_alone() {
    let (a, b, c, hq) = (key(1), key(2), key(3), key(9));
    let person =
        |id: &str| Entry::Person(Person { id: id.into(), name: id.into(), groups: vec![], credentials: vec![] });
    let entries = [person("ana"), person("bo")];
    let founding: Vec<Digest> = entries.iter().map(founding_entry).collect();
    let mut charter = sample(&[&a, &b, &c], 2, &hq);
    charter.policy_authors = charter.council.clone();
    let mut signed = SignedCharter::draft(&charter, Some(crate::charter::founding_digest(&founding)));
    let sign = |signed: &mut SignedCharter, key: &AuthorKey| {
        let signature = key.sign_ssh(crate::charter::CHARTER_NAMESPACE, &signed.message());
        signed.signatures.push(crate::charter::KeySignature { key: key.public().into(), signature });
    };
    sign(&mut signed, &a);
    assert!(signed.open(&signed.mesh_id()).is_err(), "one of two");
    sign(&mut signed, &c);
    assert_eq!(signed.open(&signed.mesh_id()), Ok(charter.clone()));
    let stripped = SignedCharter { founding: None, ..signed.clone() };
    assert!(stripped.open(&stripped.mesh_id()).is_err(), "the signatures name what is founded");

    let authority = Authority::new(signed.mesh_id(), charter).expect("seats");
    let body = |index, entry: &Entry, founding: &[Digest]| {
        EntryBody::founded(None, index, entry, founding.to_vec(), signed.signatures.clone())
    };
    assert_eq!(authority.would_accept(&body(1, &entries[0], &founding)), Ok(()));
    let refused = |body: EntryBody| assert!(authority.would_accept(&body).is_err(), "{body:?}");
    refused(body(1, &entries[1], &founding));
    refused(body(1, &person("eve"), &founding));
    refused(body(1, &person("eve"), &[founding_entry(&person("eve"))]));
    refused(body(0, &entries[0], &founding));
    assert_eq!(body(2, &entries[0], &founding).signers(&signed.mesh_id(), &authority.charter().council), 0);
    assert_eq!(body(2, &entries[1], &founding).signers(&signed.mesh_id(), &authority.charter().council), 2);
}
