//! Requests and replies of the enrol lane.

use cauldron_identity::authority::Enrol;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Scope, SealedFact};
use cauldron_node_core::enrol::{
    EnrolReply, EnrolRequest, Grant, Have, Outcome, Part, RefusedBecause, TokenId, TokenProof, Workload,
};

use super::{Seed, seed};
use crate::chunks::through;
use crate::mesh::{FOUNDED, HQ, LYON, Mesh, STRANGER, key, spiffe_id};
use crate::pki::{NOW_S, PKI, svid_key};

/// What TLS exports of the one connection that there is.
pub const EXPORTER: [u8; 32] = [7; 32];

pub(super) fn seeds() -> Vec<Seed> {
    let (mesh, csr) = (FOUNDED.id, svid_key(0x33).csr_der().expect("it signs"));
    let enrol = |who| Enrol::new(&mesh, key(who), &spiffe_id(who));
    let token = TokenProof::new(TokenId([1; 16]), &[6; 32], &key(STRANGER).public(), &csr, &EXPORTER);
    let joins = EnrolRequest::new(mesh, Some(token), enrol(STRANGER), csr.clone(), key(STRANGER), &EXPORTER);
    let head = FOUNDED.authority.head().expect("it has entries");
    let have = Have { head, index: FOUNDED.authority.index(), term: 0 };
    let renews = EnrolRequest::new(mesh, None, enrol(LYON), csr.clone(), key(LYON), &EXPORTER)
        .with_site(csr.clone(), key(LYON), &EXPORTER)
        .with_chain(Some(have));
    let agent = format!("{}/agent/web", spiffe_id(LYON));
    let workload = Workload { spiffe_id: agent, lifetime_s: Some(60), audience: vec!["db".into()] };
    let serves = EnrolRequest::for_workload(mesh, enrol(LYON), csr, workload, key(LYON), &EXPORTER);

    let refused = Outcome::Refused(RefusedBecause { code: "token".into(), reason: "it is used up".into() });
    let part = Part { charter: FOUNDED.charter.clone(), authority: chain(), terms: vec![] };
    let outcomes = [Outcome::Granted(Box::new(grant())), refused, Outcome::Part(Box::new(part.clone()))];
    let mut all = vec![seed("enrol", "part", through(4, to_cbor(&part)))];
    for (n, request) in [joins, renews, serves].iter().enumerate() {
        all.push(seed("enrol", format!("request-{n}"), through(0, request.to_bytes())));
        all.push(seed("enrol", format!("signed-{n}"), through(1, request.to_bytes())));
    }
    for (n, outcome) in outcomes.into_iter().enumerate() {
        all.push(seed("enrol", format!("outcome-{n}"), through(3, to_cbor(&outcome))));
        all.push(seed(
            "enrol",
            format!("reply-{n}"),
            through(2, EnrolReply::new(outcome, key(HQ), &EXPORTER).to_bytes()),
        ));
    }
    all
}

fn chain() -> Vec<SealedFact> {
    let mesh = Mesh::founded();
    let entries = mesh.facts.iter().filter(|fact| fact.header().scope == Scope::authority());
    entries.map(|fact| fact.sealed().clone()).collect()
}

fn grant() -> Grant {
    let csr = svid_key(0x33).csr_der().expect("it signs");
    let chain_of = PKI.ca.issue(&csr, &spiffe_id(LYON), NOW_S, 3_600, [3; 16]).expect("an SVID");
    Grant {
        charter: FOUNDED.charter.clone(),
        chain: chain_of.iter().map(|one| one.to_vec().into()).collect(),
        bundle: vec![PKI.ca.certificate().to_vec().into()],
        authority: chain(),
        time_ms: NOW_S * 1_000,
        site: None,
        jwt_bundle: Some(PKI.bundle.to_jwks().into_bytes().into()),
        token: None,
        terms: vec![],
    }
}
