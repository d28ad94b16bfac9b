//! The enrol lane: what a stranger asks of an authority, and what somebody who claims to be one answers.
//!
//! Input: a door, then 0 a request, 1 a request that its author signs for this connection, 2 a reply, 3 an outcome that hq signs
//! for this connection, 4 a part of the authority chain, learned.
#![no_main]

use cauldron_fuzz::cbor::{one_encoding, survives};
use cauldron_fuzz::chunks::door;
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::mesh::{FOUNDED, HQ, NOW, WITHOUT_POLICY, key, key_of};
use cauldron_fuzz::seeds::enrol::EXPORTER;
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::ids::sha256;
use cauldron_node_core::enrol::{Believed, EnrolReply, EnrolRequest, Outcome, Part};
use cauldron_node_core::{Command, Input, NodeCore, Output};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    let (door, rest) = door(input);
    match door % 5 {
        0 => drop(one_encoding::<EnrolRequest>(rest).map(|request| asked(&request))),
        1 => drop(one_encoding::<EnrolRequest>(rest).and_then(signed).map(|request| asked(&request))),
        2 => drop(survives::<EnrolReply>(rest).map(|reply| answered(&reply))),
        3 => drop(survives::<Outcome>(rest).map(|outcome| answered(&EnrolReply::new(outcome, key(HQ), &EXPORTER)))),
        _ => drop(survives::<Part>(rest).map(learned)),
    }
}));

/// The author's word for the request as it is, where its key is one of ours (docs/wire.md, "Hashes, keys and signatures").
fn signed(mut request: EnrolRequest) -> Option<EnrolRequest> {
    let key = key_of(&request.enrol.author)?;
    let mut message = [EXPORTER, sha256(request.csr())].concat();
    message.extend(request.site_csr().map(sha256).into_iter().flatten());
    if let Some(workload) = &request.workload {
        message.extend(b"workload");
        message.extend(sha256(&to_cbor(workload)));
    }
    request.proof = key.sign("cauldron/enrol-request/v1", &message);
    assert_eq!(EnrolRequest::open(&request.to_bytes(), &EXPORTER).as_ref(), Ok(&request));
    Some(request)
}

fn asked(request: &EnrolRequest) {
    let Ok(request) = EnrolRequest::open(&request.to_bytes(), &EXPORTER) else { return };
    let mut core = NodeCore::open(WITHOUT_POLICY.config(HQ), WITHOUT_POLICY.records(), NOW).expect("its own store");
    let welcome = core.welcome(request.have);
    drop(welcome);
    let command = Box::new(Command::Admit { request: Box::new(request), exporter: EXPORTER });
    core.handle(NOW, Input::Command { ticket: 1, command });
    let mut answers = 0;
    loop {
        match core.poll() {
            Output::Reply { .. } => answers += 1,
            Output::Idle { .. } => break,
            _ => {}
        }
    }
    assert_eq!(answers, 1, "one answer for one request");
}

fn answered(reply: &EnrolReply) {
    for believed in [Believed::default(), Believed::new(vec![], Some(FOUNDED.authority.clone()))] {
        let opened = EnrolReply::open(&reply.to_bytes(), &FOUNDED.id, &EXPORTER, &believed);
        if let Ok(Outcome::Granted(grant)) = opened {
            let (charter, ..) = grant.charter_in_effect(&FOUNDED.id, &believed).expect("it was opened with it");
            assert!(charter.coordinators.iter().any(|seat| seat.author == reply.server), "a stranger's grant");
        }
    }
}

fn learned(part: Part) {
    let mut believed = Believed::default();
    for _ in 0..2 {
        let before = believed.have();
        let news = believed.learn(&FOUNDED.id, part.clone());
        assert_eq!(
            news.unwrap_or(false),
            believed.have() != before,
            "news that bring nothing would be asked for for ever"
        );
    }
    let _ = believed.told_with(part.authority);
}
