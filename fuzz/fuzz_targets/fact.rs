//! Facts, headers and evidence as they come from a peer; and a log that takes headers which a member signed over anything.
//!
//! Input: a door, then 0 an envelope, 1 a header, 2 evidence, 3 messages, each a header for the log.
#![no_main]

use cauldron_crdt::{Evidence, FactLog, Inserted, Record};
use cauldron_fuzz::cbor::one_encoding;
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::{DECODER, MACHINE};
use cauldron_fuzz::insider::with_header;
use cauldron_fuzz::mesh::{FOUNDED, LYON, Writers, key, scopes};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::{Header, SealedFact};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ready(), |input: &[u8]| {
    let (door, rest) = door(input);
    let memory = if door % 4 == 3 { MACHINE } else { DECODER };
    hostile(input, memory, |_| match door % 4 {
        0 => drop(one_encoding::<SealedFact>(rest).map(|sealed| envelope(&sealed))),
        1 => drop(one_encoding::<Header>(rest)),
        2 => drop(one_encoding::<Evidence>(rest).map(|evidence| proof(&evidence))),
        _ => log(rest),
    });
});

fn envelope(sealed: &SealedFact) {
    let record = Record::Fact(sealed.clone());
    let Ok(header) = sealed.peek() else {
        assert!(record.key().is_err(), "a place in the store for what is no fact");
        return;
    };
    let _ = sealed.check_body(&header);
    let place = record.key().expect("a header that can be read has a place");
    assert_eq!(Record::read(&place, &record.value()), Ok(record));
    let _ = sealed.clone().reopen();
    let _ = sealed.clone().open(&key(LYON).public());
}

fn proof(evidence: &Evidence) {
    let _ = (evidence.header(), evidence.seq());
    if let Ok(header) = evidence.verify(FOUNDED.id, &Writers(&FOUNDED.authority)) {
        let record = Record::Evidence(evidence.clone());
        let place = record.key().expect("what verifies has a place");
        assert_eq!(Record::read(&place, &record.value()), Ok(record));
        assert_eq!(header.seq, evidence.seq());
    }
}

fn log(messages: &[u8]) {
    let access = Writers(&FOUNDED.authority);
    let mut log = FOUNDED.log();
    let mut records: Vec<Record> = FOUNDED.facts.iter().map(|fact| Record::Fact(fact.sealed().clone())).collect();
    for header in chunks(messages) {
        // The body that belongs to the seeds' headers: its hash is in them, which no mutation finds.
        let sealed = with_header(key(LYON), header, Some(b"body".to_vec()));
        match log.insert(sealed.clone(), &access) {
            Ok(Inserted::New(_)) => records.push(Record::Fact(sealed)),
            Ok(Inserted::Fork(evidence)) => records.push(Record::Evidence(*evidence)),
            Ok(Inserted::Duplicate | Inserted::Mended(_)) | Err(_) => {}
        }
    }
    let again =
        FactLog::restore(FOUNDED.id, records, Some(&access)).expect("what the log took, it takes from its store");
    for scope in scopes() {
        assert_eq!(log.state_hash(&scope), again.state_hash(&scope), "the store brings back another log");
    }
}
