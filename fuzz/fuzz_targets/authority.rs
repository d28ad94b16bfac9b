//! The authority chain: entries, terms and acknowledgements of a hostile sequencer, member and council.
//!
//! Input: messages, each a deed (fuzz/src/insider.rs), or behind a byte from 0x80 up the body of a term as a peer sends it.
//! The same facts and terms in another order must come to the same.
#![no_main]

use cauldron_fuzz::cbor::one_encoding;
use cauldron_fuzz::chunks::chunks;
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::insider::Deed;
use cauldron_fuzz::mesh::{FOUNDED, Mesh, scopes};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::Authority;
use cauldron_identity::authority::EntryBody;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    let mut mesh = Mesh::founded();
    let mut terms: Vec<EntryBody> = Vec::new();
    for message in chunks(input) {
        match message.split_first() {
            Some((0x80.., body)) => {
                if let Some(body) = one_encoding::<EntryBody>(body) {
                    let _ = mesh.authority.would_accept(&body);
                    mesh.authority.apply_term(&body);
                    terms.push(body);
                }
            }
            _ => {
                if let Some(Deed::Term(body)) = mesh.insider(message) {
                    terms.push(body);
                }
            }
        }
    }
    let told = told(&mesh.authority);
    let mut other = Authority::new(mesh.id, FOUNDED.authority.founding().clone()).expect("its seats have roles");
    other.apply_terms(&terms);
    for fact in mesh.facts.iter().rev() {
        other.apply(fact);
    }
    other.apply_terms(&terms);
    assert_eq!(told, self::told(&other), "another order, another authority");
}));

/// All that others ask of it.
fn told(authority: &Authority) -> String {
    let mut lines = vec![
        format!("{:?} {} {:?}", authority.head(), authority.index(), authority.policy()),
        format!("{:?} {:?}", authority.charter(), authority.next_charter()),
        format!("{} {:?} {:?}", authority.term(), authority.sequencer(), authority.frozen()),
        format!("{:?} {:?}", authority.people(), authority.root_keys_ever()),
    ];
    lines.extend(authority.entries().map(|entry| format!("{} {:?}", entry.id, entry.refused)));
    for (author, member) in authority.members() {
        let (cut, suspended) = (authority.is_cut(author, member.incarnation), authority.is_suspended(author));
        let reads: Vec<_> = scopes().iter().map(|scope| authority.may_read(author, scope)).collect();
        lines.push(format!("{author} {member:?} {cut} {suspended} {reads:?} {}", authority.holds(author)));
    }
    lines.join("\n")
}
