//! Certificates, requests, tokens and bundles of our own authority.

use cauldron_identity::x509::{CertificateDer, SiteCa, certificates_to_pem};

use super::{Seed, seed};
use crate::chunks::{join, through};
use crate::mesh::{LYON, spiffe_id};
use crate::pki::{NOW_S, PKI, svid_key, to_be_signed};

pub(super) fn seeds() -> Vec<Seed> {
    let csr = svid_key(0x33).csr_der().expect("it signs");
    let leaf = PKI.ca.issue(&csr, &spiffe_id(LYON), NOW_S, 3_600, [3; 16]).expect("an SVID");
    let site_key = svid_key(0x44);
    let request = site_key.csr_der().expect("it signs");
    let intermediate = PKI.ca.issue_site(&request, "lyon", NOW_S, 3_600, [4; 16]).expect("an intermediate");
    let site = SiteCa::new(site_key, intermediate.clone()).expect("its own key");
    let below = site.issue(&csr, &spiffe_id(LYON), NOW_S, 3_600, [5; 16]).expect("an SVID");
    let root = PKI.ca.certificate();
    let inside = |der: &CertificateDer<'_>| to_be_signed(der.as_ref()).expect("a certificate").to_vec();
    let flat = |chain: &[CertificateDer<'_>]| chain.iter().flat_map(|one| one.to_vec()).collect::<Vec<u8>>();
    let mut all = vec![
        seed("x509", "leaf", through(0, flat(&leaf))),
        seed("x509", "below-site", through(0, flat(&below))),
        seed("x509", "leaf-inside", through(1, inside(&leaf[0]))),
        seed("x509", "intermediate-inside", through(1, inside(&intermediate))),
        seed("x509", "root-inside", through(1, inside(root))),
        seed("x509", "request", through(2, &csr)),
        seed("x509", "request-inside", through(3, to_be_signed(&csr).expect("a request"))),
        seed("x509", "root", through(4, root.as_ref())),
        seed("x509", "pem", through(5, certificates_to_pem(&below))),
        seed("jwks", "ours", PKI.bundle.to_jwks()),
    ];
    all.extend(tokens());
    all
}

fn tokens() -> Vec<Seed> {
    let agent = format!("{}/agent/web", spiffe_id(LYON));
    let id = cauldron_identity::SpiffeId::new(&agent).expect("an id");
    let token = PKI.jwt.issue(&id, &["db".into(), "web".into()], NOW_S, 300).expect("a token");
    let kid = PKI.jwt.public_keys().next().expect("a key").kid().to_owned();
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#);
    let end = NOW_S + 300;
    let claims = [
        format!(r#"{{"sub":"{agent}","aud":["db"],"exp":{end},"iat":{NOW_S}}}"#),
        format!(r#"{{"sub":"{agent}","aud":"db","exp":{end}.5,"nbf":{NOW_S},"x":{{"y":[1,null]}}}}"#),
    ];
    let signed = |(n, claims): (usize, &String)| {
        seed("jwt", format!("claims-{n}"), through(1, join([header.as_bytes(), claims.as_bytes()])))
    };
    let mut all: Vec<Seed> = claims.iter().enumerate().map(signed).collect();
    all.push(seed("jwt", "token", through(0, token.as_bytes())));
    all
}
