use super::*;
use crate::charter::SignedCharter;
use crate::charter::tests::sample;
use crate::fact::HeaderDraft;
use crate::ids::Digest;
use crate::keys::AuthorKey;
use crate::scope::Scope;

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
        let (council, hq) = (key(1), key(2));
        let charter = sample(&[&council], 1, &hq);
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

/// Amendments, terms and recovery: a council of three with threshold two, recovery keys, and every order of arrival.
mod reform {
    use super::*;
    use crate::charter::{Charter, Seat};

    struct Reform {
        authority: Authority,
        charter: Charter,
        facts: Vec<Fact>,
    }

    const COUNCIL: [u8; 3] = [11, 12, 13];

    fn seat(n: u8, name: &str) -> Seat {
        Seat { author: key(n).public(), spiffe_id: format!("spiffe://acme.test/coordinator/{name}") }
    }

    impl Reform {
        fn found() -> Self {
            let council = COUNCIL.map(key);
            let mut charter = sample(&council.each_ref(), 2, &key(2));
            charter.recovery = vec![key(21).public().into(), key(22).public().into(), key(23).public().into()];
            charter.policy_authors = vec![council[0].public().into()];
            let signed = SignedCharter::sign(&charter, &council.each_ref());
            let authority = Authority::new(signed.mesh_id(), charter.clone()).expect("seats");
            Self { authority, charter, facts: vec![] }
        }

        fn body(&self, entry: &Entry, signers: &[u8]) -> EntryBody {
            self.body_on(self.authority.head(), self.authority.index(), entry, signers)
        }

        fn body_on(&self, prev: Option<FactId>, index: u64, entry: &Entry, signers: &[u8]) -> EntryBody {
            let mut body = EntryBody::new(prev, index + 1, entry);
            signers.iter().for_each(|n| body.sign(&self.authority.mesh(), &key(*n)));
            body
        }

        /// `author` writes the next entry of its chain of life `incarnation`; returns why it changed nothing.
        fn write_as(&mut self, author: u8, incarnation: u32, entry: &Entry, signers: &[u8]) -> Option<String> {
            let fact = self.carry(author, incarnation, &self.body(entry, signers));
            let refused = self.authority.entries().find(|a| a.id == fact).map(|a| a.refused.clone());
            refused.unwrap_or_else(|| Some("not in the chain".into()))
        }

        /// `author` writes a body wherever it belongs; returns the fact.
        fn carry(&mut self, author: u8, incarnation: u32, body: &EntryBody) -> FactId {
            let own = |f: &&Fact| f.header().author == key(author).author_id() && f.header().incarnation == incarnation;
            let last = self.facts.iter().rfind(own).map(|f| (f.header().seq, f.id()));
            let draft = HeaderDraft {
                mesh: self.authority.mesh(),
                scope: Scope::authority(),
                incarnation,
                seq: last.map_or(0, |l| l.0) + 1,
                prev: last.map(|l| l.1),
                hlc: 0,
                kind: KIND_ENTRY.into(),
                deps: vec![],
                traceparent: None,
            };
            let fact = Fact::seal(&key(author), draft, crate::codec::to_cbor(body));
            self.authority.apply(&fact);
            self.facts.push(fact.clone());
            fact.id()
        }

        fn write(&mut self, entry: &Entry, signers: &[u8]) -> Option<String> {
            self.write_as(2, 0, entry, signers)
        }

        fn enrol(&mut self, n: u8, name: &str) -> Option<String> {
            let enrol = Enrol::new(&self.authority.mesh(), &key(n), &node_id(name));
            self.write(&Entry::Enrol(enrol), &[])
        }

        fn hold(&mut self, n: u8) {
            let (head, index) = (self.authority.head().expect("entries"), self.authority.index());
            let held = Held { head, index, suspensions: vec![], trust: None };
            let held = seal(&key(n), self.authority.mesh(), Scope::mesh(), 1, None, KIND_HELD, &held);
            self.authority.apply(&held);
        }

        fn person(id: &str) -> Entry {
            let credentials = vec![Credential::of(key(50).public().into())];
            Entry::Person(Person { id: id.into(), name: id.into(), groups: vec![], credentials })
        }

        fn term(n: u32, sequencer: Seat) -> Entry {
            Entry::Term(Term { n, sequencer, ends: vec![], root_keys: vec![] })
        }
    }

    fn amend(change: impl FnOnce(&mut Amend)) -> Entry {
        let mut amend = Amend::default();
        change(&mut amend);
        Entry::Amend(Box::new(amend))
    }

    #[test]
    fn the_present_council_amends_and_what_is_read_is_the_charter_in_effect() {
        let mut mesh = Reform::found();
        let ages = amend(|a| a.vote_origins = Some(vec!["https://hq.acme.test".into()]));
        assert!(mesh.write(&ages, &[11]).expect("refused").contains("1 of 2 council keys"));
        assert_eq!(mesh.write(&ages, &[11, 12]), None);
        assert_eq!(mesh.authority.charter().vote_origins, ["https://hq.acme.test"]);
        assert_eq!(mesh.authority.founding(), &mesh.charter, "the founding charter stays the mesh's name");
        assert_eq!(mesh.enrol(3, "lyon"), None);
        assert_eq!(mesh.write(&amend(|a| a.retention_floor_days = Some(9)), &[11, 12]), None);
        assert_eq!(mesh.authority.charter().retention_floor_days, 180, "not before somebody else holds it");
        mesh.hold(3);
        assert_eq!(mesh.authority.charter().retention_floor_days, 9);
    }

    #[test]
    fn a_new_council_key_proves_itself_and_the_old_council_is_judged_no_more() {
        let mut mesh = Reform::found();
        let council = [12, 13, 14].map(|n| key(n).public().into()).to_vec();
        let change = amend(|a| a.council = Some(council));
        assert!(mesh.write(&change, &[11, 12]).expect("refused").contains("each new council key"));
        assert_eq!(mesh.write(&change, &[11, 12, 14]), None);
        assert!(mesh.write(&Reform::person("ana"), &[11, 12]).is_some(), "11 left the council");
        assert_eq!(mesh.write(&Reform::person("ana"), &[12, 14]), None);
    }

    #[test]
    fn an_amendment_cannot_break_the_rules_of_a_charter() {
        let mut mesh = Reform::found();
        let refused = |mesh: &mut Reform, change: &dyn Fn(&mut Amend)| {
            mesh.write(&amend(|a| change(a)), &[11, 12]).expect("refused")
        };
        assert!(refused(&mut mesh, &|a| a.threshold = Some(1)).contains("threshold"));
        assert!(refused(&mut mesh, &|a| a.root_keys = Some(vec![])).contains("root keys"));
        assert!(refused(&mut mesh, &|a| a.coordinators = Some(vec![])).contains("sequencer"));
        assert!(refused(&mut mesh, &|_| {}).contains("nothing"));
        let weak = PublicKey::from_bytes([0; 32]);
        assert!(refused(&mut mesh, &|a| a.policy_authors = Some(vec![weak.into()])).contains("weak"));
    }

    #[test]
    fn a_seat_is_added_by_the_council_and_goes_only_behind_a_cut() {
        let mut mesh = Reform::found();
        let both = vec![seat(2, "hq"), seat(4, "hq-2")];
        assert_eq!(mesh.write(&amend(|a| a.coordinators = Some(both.clone())), &[11, 12]), None);
        assert!(mesh.authority.member(&key(4).author_id()).is_some_and(|m| m.role.is_mesh_coordinator()));
        let twice = vec![seat(2, "hq"), seat(4, "hq-2"), seat(5, "hq-2")];
        assert!(mesh.write(&amend(|a| a.coordinators = Some(twice)), &[11, 12]).is_some(), "one author per name");
        let alone = amend(|a| a.coordinators = Some(vec![seat(2, "hq")]));
        assert!(mesh.write(&alone, &[11, 12]).expect("refused").contains("cut"));
        let cut = Cut { author: key(4).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
        assert_eq!(mesh.write(&Entry::Cut(cut), &[11, 12]), None);
        assert_eq!(mesh.write(&alone, &[11, 12]), None);
    }

    #[test]
    fn recovery_keys_replace_a_lost_council_and_name_a_sequencer_and_nothing_else() {
        let mut mesh = Reform::found();
        assert!(mesh.write(&Reform::person("ana"), &[21, 22, 23]).is_some());
        assert!(mesh.write(&amend(|a| a.retention_floor_days = Some(1)), &[21, 22, 23]).is_some());
        let council = |a: &mut Amend| (a.council, a.threshold) = (Some(vec![key(31).public().into()]), Some(1));
        assert!(mesh.write(&amend(council), &[21, 31]).is_some(), "one of three is no majority");
        assert_eq!(mesh.write(&amend(council), &[21, 22, 31]), None);
        assert_eq!(mesh.write(&Reform::person("ana"), &[31]), None);
        let term = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[22, 23]);
        assert!(matches!(mesh.authority.apply_term(&term), TermOutcome::Began(_)));
    }

    #[test]
    fn a_term_names_the_next_sequencer_cuts_the_one_before_and_needs_the_council() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let term = Reform::term(1, seat(5, "hq-2"));
        let weak = mesh.body(&term, &[11]);
        assert!(matches!(mesh.authority.apply_term(&weak), TermOutcome::Refused(why) if why.contains("the council")));
        let body = mesh.body(&term, &[11, 12]);
        assert_eq!(mesh.authority.apply_term(&body), TermOutcome::Began(2));
        assert_eq!(mesh.authority.apply_term(&body), TermOutcome::Known);
        assert!(mesh.authority.is_cut(&key(2).author_id(), 0));
        assert_eq!(mesh.authority.sequencer(), &seat(5, "hq-2"));
        assert!(mesh.write(&Reform::person("ana"), &[11, 12]).is_some(), "the outgoing one writes no more");
        assert_eq!(mesh.write_as(5, 0, &Reform::person("ana"), &[11, 12]), None);
        assert!(mesh.authority.may_write(&key(5).author_id(), &Scope::authority(), KIND_ENTRY));
        let old = mesh.body(&Reform::term(1, seat(6, "hq-3")), &[11, 12]);
        assert!(matches!(mesh.authority.apply_term(&old), TermOutcome::Beside(why) if why.contains("not above")));
    }

    #[test]
    fn for_a_restored_sequencer_the_term_is_its_incarnate() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let end = ChainEnd { scope: Scope::mesh(), seq: 4, id: None };
        let term = Entry::Term(Term { n: 1, sequencer: seat(2, "hq"), ends: vec![end], root_keys: vec![] });
        let body = mesh.body(&term, &[12, 13]);
        assert_eq!(mesh.authority.apply_term(&body), TermOutcome::Began(2));
        assert_eq!(mesh.authority.member(&key(2).author_id()).map(|m| m.incarnation), Some(1));
        assert!(!mesh.authority.is_cut(&key(2).author_id(), 0));
        let standing = |seq| mesh.authority.standing(&header(&key(2), 0, Scope::mesh(), seq), SOME);
        assert_eq!((standing(4), standing(5)), (Standing::Counts, Standing::BeyondCut));
        assert!(mesh.write(&Reform::person("ana"), &[11, 12]).is_some(), "the old life's chain is over");
        assert_eq!(mesh.write_as(2, 1, &Reform::person("ana"), &[11, 12]), None);
    }

    #[test]
    fn beside_another_entry_a_term_wins_and_what_people_restricted_there_stays() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        assert_eq!(mesh.enrol(6, "quito"), None);
        assert_eq!(mesh.write(&Reform::person("ana"), &[11, 12]), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        assert_eq!(mesh.enrol(4, "porto"), None);
        assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[11, 12]), None);
        let cut = Cut { author: key(3).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
        assert_eq!(mesh.write(&Entry::Cut(cut), &[11, 12]), None);
        let dropped = mesh.authority.head().expect("head");
        let term = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 13]);
        assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(4));
        assert!(mesh.authority.member(&key(4).author_id()).is_none(), "what was raised there is gone");
        assert!(mesh.authority.person("ana").is_none() && mesh.authority.is_cut(&key(3).author_id(), 0));
        assert_eq!(mesh.authority.index_of(&dropped), Some(index), "a vote under it knew the chain up to the branch");
        assert_eq!(mesh.write_as(5, 0, &Reform::person("ana"), &[11, 12]), None);
        mesh.hold(6);
        assert!(mesh.authority.people().iter().any(|p| p.id == "ana"), "the council may enrol her again");
    }

    #[test]
    fn facts_and_terms_make_the_same_chain_in_any_order() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        assert_eq!(mesh.write(&Reform::person("ana"), &[11, 12]), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[11, 12]), None);
        let first = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        mesh.authority.apply_term(&first);
        assert_eq!(mesh.write_as(5, 0, &Reform::person("bo"), &[11, 12]), None);
        let second = mesh.body(&Reform::term(2, seat(6, "hq-3")), &[12, 13]);
        mesh.authority.apply_term(&second);
        assert_eq!(mesh.write_as(6, 0, &Reform::person("cleo"), &[11, 12]), None);
        let seen = |a: &Authority| {
            let people: Vec<String> = a.people().iter().map(|p| p.id.clone()).collect();
            let chain: Vec<FactId> = a.entries().map(|e| e.id).collect();
            (chain, people, a.term(), a.sequencer().clone(), a.is_cut(&key(5).author_id(), 0))
        };
        let whole = seen(&mesh.authority);
        assert_eq!(whole.1, ["bo"], "the second term vouches for bo; nobody holds cleo's entry yet");
        // Every order of six things, by the factorial number system.
        let mut things: Vec<Result<Fact, EntryBody>> = mesh.facts.iter().cloned().map(Ok).collect();
        things.extend([Err(first), Err(second)]);
        let count = things.len();
        let all: usize = (1..=count).product();
        for mut code in 0..all {
            let mut order: Vec<usize> = (0..count).collect();
            let mut fresh = Authority::new(mesh.authority.mesh(), mesh.charter.clone()).expect("seats");
            for left in (1..=count).rev() {
                match &things[order.remove(code % left)] {
                    Ok(fact) => drop(fresh.apply(fact)),
                    Err(term) => drop(fresh.apply_term(term)),
                }
                code /= left;
            }
            assert_eq!(seen(&fresh), whole);
        }
    }

    /// What an authority makes of `facts` and `terms`, in each order.
    fn in_any_order(mesh: &Reform, terms: &[EntryBody]) -> Vec<(Vec<FactId>, u32, Seat)> {
        let mut things: Vec<Result<&Fact, &EntryBody>> = mesh.facts.iter().map(Ok).collect();
        things.extend(terms.iter().map(Err));
        let count = things.len();
        let mut seen = Vec::new();
        for mut code in 0..(1..=count).product() {
            let mut order: Vec<usize> = (0..count).collect();
            let mut fresh = Authority::new(mesh.authority.mesh(), mesh.charter.clone()).expect("seats");
            let mut refused = Vec::new();
            for left in (1..=count).rev() {
                match things[order.remove(code % left)] {
                    Ok(fact) => drop(fresh.apply(fact)),
                    Err(term) if matches!(fresh.apply_term(term), TermOutcome::Refused(_)) => refused.push(term),
                    Err(_) => {}
                }
                code /= left;
            }
            // As a node tries them again.
            fresh.apply_terms(refused);
            let now = (fresh.entries().map(|e| e.id).collect(), fresh.term(), fresh.sequencer().clone());
            if !seen.contains(&now) {
                seen.push(now);
            }
        }
        seen
    }

    #[test]
    fn keys_that_left_the_council_do_not_take_the_mesh_back_from_a_place_before_that() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        let council = [13, 14, 15].map(|n| key(n).public().into()).to_vec();
        assert_eq!(mesh.write(&amend(|a| a.council = Some(council)), &[11, 12, 14, 15]), None);
        assert_eq!(mesh.enrol(4, "porto"), None);
        let back = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        let outcome = mesh.authority.apply_term(&back);
        assert!(matches!(&outcome, TermOutcome::Beside(why) if why.contains("present head")), "{outcome:?}");
        let seen = in_any_order(&mesh, std::slice::from_ref(&back));
        assert!(seen.len() == 1 && seen[0].1 == 0, "{seen:?}");

        let ahead = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[13, 14]);
        assert!(matches!(mesh.authority.apply_term(&ahead), TermOutcome::Began(4)));
        let seen = in_any_order(&mesh, &[back, ahead]);
        assert!(seen.len() == 1 && seen[0].1 == 1 && seen[0].0.len() == 4, "{seen:?}");
    }

    #[test]
    fn a_term_that_was_never_used_does_not_win_over_a_later_one() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let unused = mesh.body(&Reform::term(1, seat(6, "hq-3")), &[11, 12]);
        assert_eq!(mesh.enrol(4, "porto"), None);
        let used = mesh.body(&Reform::term(2, seat(5, "hq-2")), &[12, 13]);
        assert!(matches!(mesh.authority.apply_term(&used), TermOutcome::Began(3)));
        assert!(matches!(mesh.authority.apply_term(&unused), TermOutcome::Beside(_)));
        let seen = in_any_order(&mesh, &[unused, used]);
        assert!(seen.len() == 1 && seen[0].1 == 2 && seen[0].2 == seat(5, "hq-2"), "{seen:?}");
    }

    #[test]
    fn of_two_terms_with_one_number_on_one_entry_all_nodes_take_the_same() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let one = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        let other = mesh.body(&Reform::term(1, seat(6, "hq-3")), &[12, 13]);
        assert_eq!(in_any_order(&mesh, &[one, other]).len(), 1);
    }

    #[test]
    fn a_copy_of_a_term_with_other_signatures_is_the_same_term_and_adds_what_was_missing() {
        let mut mesh = Reform::found();
        let base = FactId::from_bytes([9; 32]);
        let term = Reform::term(1, seat(5, "hq-2"));
        let whole = mesh.body_on(Some(base), 7, &term, &[11, 12, 13]);
        let mut stripped = whole.clone();
        stripped.signatures.truncate(2);
        stripped.index = 1;
        assert_eq!(mesh.authority.apply_term(&stripped), TermOutcome::Waits);
        assert_eq!(mesh.authority.apply_term(&whole), TermOutcome::Waits, "a third signature is news");
        assert_eq!(mesh.authority.apply_term(&whole), TermOutcome::Known);
        assert_eq!(mesh.authority.terms().map(|(_, b)| b.signatures.len()).collect::<Vec<_>>(), [3]);
    }

    /// Strangers may repeat what the council once signed: nothing is walked for it a second time, and nothing is forgotten.
    #[test]
    fn a_term_that_does_not_begin_is_kept_and_no_copy_of_it_is_news() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        let begun = mesh.body(&Reform::term(2, seat(5, "hq-2")), &[11, 12]);
        assert!(matches!(mesh.authority.apply_term(&begun), TermOutcome::Began(_)));
        let lower = mesh.body_on(base, index, &Reform::term(1, seat(6, "hq-3")), &[11, 12]);
        let same = mesh.body(&Reform::term(2, seat(6, "hq-3")), &[11, 12]);
        for term in [&lower, &same] {
            assert!(matches!(mesh.authority.apply_term(term), TermOutcome::Beside(_)));
            assert_eq!(mesh.authority.apply_term(term), TermOutcome::Known);
            let mut forged = term.clone();
            let mut signature = forged.signatures[0].clone();
            signature.key = key(13).public().into();
            forged.signatures.push(signature);
            assert_eq!(mesh.authority.apply_term(&forged), TermOutcome::Known);
            let mut more = term.clone();
            more.sign(&mesh.authority.mesh(), &key(99));
            assert_eq!(mesh.authority.apply_term(&more), TermOutcome::Known, "nobody asked 99");
            more.sign(&mesh.authority.mesh(), &key(13));
            assert!(matches!(mesh.authority.apply_term(&more), TermOutcome::Beside(_)), "the true signature is");
            let id = Term::id(&mesh.authority.mesh(), term);
            let signers = mesh
                .authority
                .kept_term(&id)
                .map(|b| b.signers(&mesh.authority.mesh(), &COUNCIL.map(|n| key(n).public().into())));
            assert_eq!(signers, Some(3));
        }
        let unsigned = mesh.body(&Reform::term(3, seat(6, "hq-3")), &[11]);
        assert!(matches!(mesh.authority.apply_term(&unsigned), TermOutcome::Refused(_)));
        assert_eq!(mesh.authority.terms().count(), 3);
    }

    #[test]
    fn only_so_many_terms_are_kept_beside_the_chain_and_the_highest_stay() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let waits = |n: u32| mesh.body_on(Some(SOME), 9, &Reform::term(n, seat(5, "hq-2")), &[11, 12]);
        let terms: Vec<EntryBody> = (1..=9).map(waits).collect();
        for term in terms.iter().rev().take(8) {
            assert_eq!(mesh.authority.apply_term(term), TermOutcome::Waits);
        }
        assert!(matches!(mesh.authority.apply_term(&terms[0]), TermOutcome::Refused(_)));
        assert_eq!(mesh.authority.terms().count(), 8);
        assert!(mesh.authority.kept_term(&Term::id(&mesh.authority.mesh(), &terms[0])).is_none());
        let here = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        assert!(matches!(mesh.authority.apply_term(&here), TermOutcome::Began(_)), "one that begins needs no room");
    }

    #[test]
    fn a_proven_fork_freezes_until_a_term_and_says_nothing_of_what_the_council_vouched_for() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        assert_eq!(mesh.enrol(4, "porto"), None);
        let hq = key(2).author_id();
        mesh.authority.forked(hq, 0, 2);
        assert_eq!(mesh.authority.frozen(), Some(2));
        assert!(!mesh.authority.is_vouched(&hq, 0, 1));
        let first = mesh.facts[0].id();
        let term = mesh.body_on(Some(first), 1, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(2));
        assert_eq!(mesh.authority.frozen(), None);
        assert!(mesh.authority.is_vouched(&hq, 0, 1) && !mesh.authority.is_vouched(&hq, 0, 2));
        assert!(mesh.authority.member(&key(4).author_id()).is_none(), "beyond the common entry");
    }

    /// Everything that an authority answers, of the authors with these keys.
    fn view(a: &Authority, authors: &[u8], facts: &[Fact]) -> String {
        let effects: Vec<bool> = (0..=a.index()).map(|i| a.in_effect(i)).collect();
        let entries: Vec<_> = a.entries().map(|e| (e.id, &e.refused)).collect();
        let places: Vec<_> = facts.iter().map(|f| a.index_of(&f.id())).collect();
        let mut said = format!("{entries:?} {effects:?} {places:?} {:?} {:?}", a.people(), a.next_charter());
        for author in authors.iter().map(|n| key(*n)) {
            let id = author.author_id();
            said += &format!("\n{:?} {}", a.member(&id), a.may_read(&id, &Scope::mesh()));
            for life in 0..3 {
                let standing = [1, 4, 5].map(|seq| a.standing(&header(&author, life, Scope::mesh(), seq), SOME));
                said += &format!(" {} {standing:?}", a.is_cut(&id, life));
            }
        }
        let ever: Vec<_> = ["ana", "bo"].map(|id| a.person_ever(id, a.index()).collect::<Vec<_>>()).into();
        said + &format!("\n{:?} {ever:?}", a.cuts_beside().collect::<Vec<_>>())
    }

    fn assert_same(views: &[String]) {
        let differing =
            views.iter().skip(1).flat_map(|other| views[0].lines().zip(other.lines()).filter(|(a, b)| a != b));
        let differing: Vec<String> = differing.map(|(a, b)| format!("{a}\n{b}")).collect();
        assert!(views.len() == 1, "{} views:\n{}", views.len(), differing.join("\n\n"));
    }

    /// One thing that a node may hear of.
    #[derive(Clone, Copy)]
    enum Heard<'a> {
        Fact(&'a Fact),
        Term(&'a EntryBody),
        Fork(u8, u64),
    }

    /// Tells an authority of all things in `rounds` random orders; returns the views it came to.
    fn in_random_orders(mesh: &Reform, things: &[Heard<'_>], rounds: u64, authors: &[u8]) -> Vec<String> {
        let (mut views, mut state) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..rounds {
            let mut order = things.to_vec();
            for i in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                order.swap(i, usize::try_from((state >> 33) % (i as u64 + 1)).expect("small"));
            }
            let mut fresh = Authority::new(mesh.authority.mesh(), mesh.charter.clone()).expect("seats");
            let mut refused = Vec::new();
            for thing in order {
                match thing {
                    Heard::Fact(fact) => _ = fresh.apply(fact),
                    Heard::Term(term) if matches!(fresh.apply_term(term), TermOutcome::Refused(_)) => {
                        refused.push(term)
                    }
                    Heard::Term(_) => {}
                    Heard::Fork(author, seq) => fresh.forked(key(author).author_id(), 0, seq),
                }
            }
            // As a node tries them again.
            fresh.apply_terms(refused);
            let view = view(&fresh, authors, &mesh.facts);
            if !views.contains(&view) {
                views.push(view);
            }
        }
        views
    }

    /// What people cut on a branch that a term took out, and what its author shows later, changes nothing of which entries behind the
    /// term count, whenever it comes.
    #[test]
    fn cuts_beside_the_chain_come_to_the_same_in_any_order() {
        let mut mesh = Reform::found();
        let (lyon, quito, porto) = (key(3).author_id(), key(6).author_id(), key(4).author_id());
        let cut = |author, incarnation, fork: Vec<crate::fact::SealedFact>| {
            let ends = vec![ChainEnd { scope: Scope::mesh(), seq: 4, id: Some(SOME) }];
            Entry::Cut(Cut { author, incarnation, ends, fork })
        };
        let id = mesh.authority.mesh();
        let forged =
            |n: u8| [1u8, 2].map(|v| seal(&key(n), id, Scope::mesh(), 1, None, "note", &v).sealed().clone()).to_vec();
        let enrol = |n: u8, name: &str| Entry::Enrol(Enrol::new(&id, &key(n), &node_id(name)));
        let incarnate = |n: u8, life| Entry::Incarnate(Incarnate::new(&id, &key(n), life, vec![]));
        assert_eq!(mesh.enrol(3, "lyon"), None);
        assert_eq!(mesh.enrol(6, "quito"), None);
        assert_eq!(mesh.write(&Reform::person("ana"), &[11, 12]), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        // The branch that goes: nobody but the council's restrictions survive it.
        assert_eq!(mesh.enrol(4, "porto"), None);
        assert_eq!(mesh.write(&cut(lyon, 0, vec![]), &[11, 12]), None);
        assert_eq!(mesh.write(&cut(porto, 0, vec![]), &[12, 13]), None);
        assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[11, 12]), None);
        let dropped = (mesh.authority.head(), mesh.authority.index());
        let term = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 13]);
        assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(4));
        // The branch that stays, by a sequencer that need not have seen the other.
        let mut new = |entry: &Entry, signers: &[u8]| mesh.write_as(5, 0, entry, signers);
        assert!(new(&enrol(7, "lyon"), &[]).is_some());
        assert!(new(&enrol(7, "lyon"), &[11, 12]).expect("refused").contains("cut"), "the chain holds no cut of lyon");
        assert_eq!(new(&incarnate(3, 1), &[]), None);
        assert_eq!(new(&incarnate(6, 1), &[]), None);
        assert_eq!(new(&enrol(4, "porto"), &[]), None);
        assert_eq!(new(&Reform::person("bo"), &[11, 12]), None);
        // What the former one writes since: proof that quito forked its first life, on both branches, and what no council signed.
        let late = mesh.body_on(dropped.0, dropped.1, &cut(quito, 0, forged(6)), &[]);
        mesh.carry(2, 0, &late);
        let ahead = mesh.body(&cut(key(7).author_id(), 0, forged(7)), &[]);
        mesh.carry(2, 0, &ahead);
        let unsigned = mesh.body(&cut(quito, 1, vec![]), &[11]);
        mesh.carry(2, 0, &unsigned);
        // An entry before its time, on a head that is in the chain: it waits for its place and lies beside nothing.
        let skipped = mesh.body_on(base, index, &cut(quito, 1, vec![]), &[11, 12]);
        mesh.write_as(5, 0, &Reform::person("cleo"), &[11, 12]);
        mesh.carry(5, 0, &skipped);
        for n in [3, 6] {
            mesh.hold(n);
        }
        let held: Vec<Fact> = [(3, 3), (6, 7), (7, 9)]
            .iter()
            .map(|(n, at)| {
                let head = mesh.authority.entries().nth(at - 1).expect("entry").id;
                let body = Held { head, index: *at as u64, suspensions: vec![], trust: None };
                seal(&key(*n), id, Scope::mesh(), 1, None, KIND_HELD, &body)
            })
            .collect();

        let things: Vec<Heard<'_>> =
            mesh.facts.iter().chain(&held).map(Heard::Fact).chain([Heard::Term(&term)]).collect();
        let views = in_random_orders(&mesh, &things, 200, &[2, 3, 4, 5, 6, 7]);
        assert_same(&views);

        let a = &mesh.authority;
        assert!(a.is_cut(&lyon, 0) && a.is_cut(&lyon, 1), "a new life, begun since, does not undo what people cut");
        assert!(a.is_cut(&porto, 0), "nor does an enrolment");
        assert!(a.is_cut(&quito, 0) && !a.is_cut(&quito, 1), "proof is about one life");
        assert!(!a.is_cut(&key(5).author_id(), 0));
        assert!(a.person("ana").is_none());
        let again = mesh.body(&incarnate(3, 2), &[]);
        assert!(mesh.authority.would_accept(&again).is_err(), "an honest sequencer writes no further life of it");
    }

    #[test]
    fn a_cut_beside_the_chain_unseats_no_sequencer_that_the_council_named_since() {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        let both = vec![seat(2, "hq"), seat(5, "hq-2")];
        assert_eq!(mesh.write(&amend(|a| a.coordinators = Some(both)), &[11, 12]), None);
        let cut = Cut { author: key(5).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
        assert_eq!(mesh.write(&Entry::Cut(cut), &[11, 12]), None);
        let term = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(2));
        assert!(!mesh.authority.is_cut(&key(5).author_id(), 0));
        let fact = header(&key(5), 0, Scope::mesh(), 1);
        assert_eq!(mesh.authority.standing(&fact, SOME), Standing::Counts);
        let next = mesh.body(&Reform::term(2, seat(6, "hq-3")), &[11, 12]);
        assert_eq!(mesh.authority.apply_term(&next), TermOutcome::Began(3));
        assert!(mesh.authority.is_cut(&key(5).author_id(), 0));
    }

    /// Amendments and terms on branches of one another, and proof of a fork, whenever it comes.
    #[test]
    fn branches_terms_and_forks_come_to_the_same_in_any_order() {
        for forked in [None, Some(3)] {
            let mut mesh = Reform::found();
            assert_eq!(mesh.enrol(3, "lyon"), None);
            let (base, index) = (mesh.authority.head(), mesh.authority.index());
            assert_eq!(mesh.enrol(4, "porto"), None);
            let council = [13, 14, 15].map(|n| key(n).public().into()).to_vec();
            assert_eq!(mesh.write(&amend(|a| a.council = Some(council)), &[11, 12, 14, 15]), None);
            let gone = Cut { author: key(3).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
            assert_eq!(mesh.write(&Entry::Cut(gone.clone()), &[13, 14]), None);
            let back = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
            let ahead = mesh.body(&Reform::term(1, seat(7, "hq-4")), &[13, 14]);
            // What each term's sequencer writes, where nobody has seen the other.
            for (term, by, signers) in [(&back, 5, [11, 12]), (&ahead, 7, [14, 15])] {
                let mut on = Reform { facts: mesh.facts.clone(), ..Reform::found() };
                on.facts.iter().take(if by == 5 { 1 } else { 4 }).for_each(|f| _ = on.authority.apply(f));
                assert!(matches!(on.authority.apply_term(term), TermOutcome::Began(_)));
                let before = on.facts.len();
                assert_eq!(on.write_as(by, 0, &Reform::person("ana"), &signers), None);
                assert_eq!(
                    on.write_as(by, 0, &Entry::Enrol(Enrol::new(&on.authority.mesh(), &key(8), &node_id("oslo"))), &[]),
                    None
                );
                assert_eq!(
                    on.write_as(by, 0, &Entry::Cut(Cut { author: key(8).author_id(), ..gone.clone() }), &signers),
                    None
                );
                mesh.facts.extend(on.facts.drain(before..));
            }
            let things: Vec<Heard<'_>> = mesh
                .facts
                .iter()
                .map(Heard::Fact)
                .chain([Heard::Term(&back), Heard::Term(&ahead)])
                .chain(forked.map(|seq| Heard::Fork(2, seq)))
                .collect();
            let views = in_random_orders(&mesh, &things, 200, &[2, 3, 4, 5, 7, 8]);
            assert_same(&views);
        }
    }
}
