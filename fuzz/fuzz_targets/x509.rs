//! X.509-SVIDs, certificate requests and roots, in DER and PEM.
//!
//! Input: a door, then 0 a chain, one certificate behind the other, 1 what is signed of a certificate, which the root signs, 2 a
//! certificate request, 3 what is signed of one, 4 a root certificate, 5 PEM.
#![no_main]

use cauldron_fuzz::chunks::door;
use cauldron_fuzz::hostile::Memory;
use cauldron_fuzz::mesh::{LYON, spiffe_id};
use cauldron_fuzz::pki::{NOW_S, PKI};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::x509::{self, AuthorityCa, Bundle, CertificateDer};
use libfuzzer_sys::fuzz_target;

/// A chain is read by three parsers, and a certificate of ours is made for a request.
const MEMORY: Memory = Memory { base: 512 * 1024, per_byte: 256 };

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MEMORY, |input| {
    let (door, rest) = door(input);
    match door % 6 {
        0 => drop(x509::certificates_from_der(rest).map(|chain| judged(&chain))),
        1 => judged(&[CertificateDer::from(PKI.signed_der(rest))]),
        2 => asked(rest),
        3 => asked(&PKI.signed_der(rest)),
        4 => root(rest),
        _ => drop(x509::certificates_from_pem(&String::from_utf8_lossy(rest)).map(|chain| {
            let again = x509::certificates_from_pem(&x509::certificates_to_pem(&chain));
            assert_eq!(again.ok(), Some(chain), "PEM that says something else");
        })),
    }
}));

fn judged(chain: &[CertificateDer<'_>]) {
    let _ = x509::inspect_svid(chain, NOW_S);
    if let Ok(verified) = x509::verify_svid(chain, &PKI.roots, NOW_S) {
        assert_eq!(verified.spiffe_id.trust_domain(), PKI.bundle.trust_domain(), "another trust domain's");
        assert!(!verified.spiffe_id.path().is_empty(), "nobody's");
        assert!((verified.not_before_s..=verified.not_after_s).contains(&NOW_S), "out of time");
    }
    let bundle = PKI.bundle.x509().expect("it has a root");
    let _ = x509::root_of(chain, bundle);
    chain.iter().for_each(|one| drop((x509::validity_of(one), x509::spki_der(one), x509::key_digest(one))));
}

/// Whatever a request says: what is signed for it is an SVID for whom we said.
fn asked(request: &[u8]) {
    let issue = |ca: &AuthorityCa| ca.issue(request, &spiffe_id(LYON), NOW_S, 3_600, [7; 16]);
    if let Ok(chain) = issue(&PKI.ca) {
        let verified = x509::verify_svid(&chain, &PKI.roots, NOW_S).expect("what we sign is an SVID");
        assert_eq!(verified.spiffe_id, spiffe_id(LYON));
    }
    let _ = PKI.ca.issue_site(request, "lyon", NOW_S, 3_600, [7; 16]);
}

fn root(der: &[u8]) {
    let root = CertificateDer::from(der.to_vec());
    if let Ok(bundle) = Bundle::new(PKI.bundle.trust_domain().clone(), vec![root]) {
        assert_eq!(bundle.roots().len(), 1);
    }
}
