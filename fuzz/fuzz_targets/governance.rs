//! Bodies of governance, in the ledger that every judge reads: proposals, decisions, votes, permits, starts, outcomes and
//! restrictions of compromised members; packed policies.
//!
//! Input: messages, each a deed (fuzz/src/insider.rs). Any order of the facts gives the same ledger.
#![no_main]

use cauldron_coordinator::action::{Action, Catalogue};
use cauldron_coordinator::bodies::KIND_BUNDLE;
use cauldron_coordinator::coordinate::{Limits, Sitting, step};
use cauldron_coordinator::lease::LeaseAge;
use cauldron_coordinator::ledger::Ledger;
use cauldron_coordinator::owner::{Bench, Me, NO_HANDS, Probe, judge, resume};
use cauldron_coordinator::policy::Bundle;
use cauldron_fuzz::chunks::chunks;
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::insider::Deed;
use cauldron_fuzz::mesh::{ENGINE, HQ, LYON, Mesh, NOW, key, spiffe_id};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::Fact;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: { ready(); std::sync::LazyLock::force(&ENGINE) }, |input: &[u8]| hostile(input, MACHINE, |input| {
    let mut mesh = Mesh::founded();
    let mut ledger = Ledger::new();
    let mut facts: Vec<Fact> = Vec::new();
    for message in chunks(input) {
        if let Some(Deed::Fact(fact)) = mesh.insider(message) {
            ledger.insert(&fact);
            if fact.header().kind == KIND_BUNDLE {
                bundle(fact.sealed().body().unwrap_or_default());
            }
            facts.push(*fact);
        }
    }
    let mut other = Ledger::new();
    facts.iter().chain(&facts).rev().for_each(|fact| drop(other.insert(fact)));
    assert_eq!(ledger, other, "another order, another ledger");
    for (author, ends) in ledger.suspensions(&mesh.authority) {
        mesh.authority.suspend(author, &ends);
    }
    for proposal in ledger.proposals() {
        let _ = (Action::of_proposal(Catalogue::built_in(), &proposal.body), ledger.status(&proposal.id, &mesh.authority, NOW.wall_ms));
        let _ = ledger.open(&mesh.authority, NOW.wall_ms);
    }
    for (who, lease) in [(HQ, LeaseAge::Ms(0)), (LYON, LeaseAge::Ms(4_000_000))] {
        let me = key(who).author_id();
        let sitting = Sitting { me: &me, lease, budgets: &[] };
        let _ = step(&ledger, &mesh.authority, Some(&ENGINE), &NOW, &sitting, &Limits::default());
    }
    judged(&ledger, &mesh);
}));

fn judged(ledger: &Ledger, mesh: &Mesh) {
    let id = spiffe_id(LYON);
    let me =
        Me { author: key(LYON).author_id(), incarnation: 0, spiffe_id: &id, resource_version: None, hands: &NO_HANDS };
    let authority = &mesh.authority;
    let bench =
        Bench { ledger, authority, engine: Some(&ENGINE), clock: &NOW, lease: LeaseAge::Ms(1_000), budgets: &[], me };
    ledger.permits().for_each(|permit| drop(judge(&permit.id, &bench)));
    ledger.starts().for_each(|start| drop(resume(&start.id, &bench, Probe::Absent)));
}

fn bundle(packed: &[u8]) {
    let Ok(bundle) = Bundle::unpack(packed) else { return };
    assert_eq!(bundle.packed(), packed, "two encodings of one bundle");
    assert!(bundle.classes().keys().all(|class| bundle.class_version(class).is_some()), "a class without a version");
}
