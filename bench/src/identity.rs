//! Identity: what the authority pays for an SVID or a token, and what a verifier pays to decide one.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use cauldron_identity::jwt::{JwtAuthority, JwtKey, LEEWAY_S, validate_jwt};
use cauldron_identity::x509::{AuthorityCa, Bundles, SvidKey, Validity, Verifier, verify_svid};
use cauldron_identity::{SpiffeId, TrustBundle, TrustBundles, TrustDomain};

use crate::{Bound, Figure, Report};

const ROUNDS: usize = 15;
/// One turn of one piece of work, in processor time.
const TURN: Duration = Duration::from_millis(100);
const NOW_S: u64 = 1_790_000_000;
/// Figures of the issue, per second on one core.
const VALIDATE_MIN: f64 = 5_000.0;
const VALIDATE_KNOWN_MIN: f64 = 100_000.0;
const ISSUE_MIN: f64 = 1_500.0;

/// Measures on the calling thread alone, in its processor time: figures of one core.
///
/// # Errors
/// A debug build, or an operation that fails.
pub fn measure() -> Result<Report, String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: use `cargo xtask bench`".to_owned());
    }
    let world = World::new()?;
    let [signing, verifying, validated, known, issued, jwt_validated, jwt_issued] = per_second([
        &|| world.raw_sign(),
        &|| world.raw_verify(),
        &|| world.verify_svid(),
        &|| world.verify_known(),
        &|| world.issue_svid(),
        &|| world.validate_jwt(),
        &|| world.issue_jwt(),
    ])?;
    let sign = ("raw ECDSA P-256 signing by aws-lc-rs".to_owned(), signing);
    let verify = ("raw ECDSA P-256 verification by aws-lc-rs".to_owned(), verifying);
    let rows = [
        ("X.509-SVID validated, full chain", validated, &verify),
        ("X.509-SVID issued, request checked", issued, &sign),
        ("JWT-SVID validated", jwt_validated, &verify),
        ("JWT-SVID issued", jwt_issued, &sign),
    ];
    let mut figures: Vec<Figure> = rows
        .into_iter()
        .map(|(name, value, yardstick)| Figure {
            name: name.to_owned(),
            value,
            unit: "/s",
            yardstick: Some(yardstick.clone()),
            target: None,
        })
        .collect();
    for (name, value, least) in [
        ("X.509-SVID validated, per core", validated, VALIDATE_MIN),
        ("X.509-SVID validated again, per core", known, VALIDATE_KNOWN_MIN),
        ("X.509-SVID issued, per core", issued, ISSUE_MIN),
    ] {
        let target = Some(Bound::AtLeast(least));
        figures.push(Figure { name: name.to_owned(), value, unit: "/s", yardstick: None, target });
    }
    figures.extend(crate::workload_api::figures()?);
    figures.push(crate::renewal::figure()?);
    Ok(Report { figures })
}

/// How often each piece of work succeeds in a second of this thread's processor time: the median of rounds in which all take
/// turns, so that a busy machine slows each of them alike.
fn per_second<const N: usize>(works: [&dyn Fn() -> Result<(), String>; N]) -> Result<[f64; N], String> {
    let mut rates = [const { Vec::new() }; N];
    for round in 0..=ROUNDS {
        for (work, rates) in works.iter().zip(&mut rates) {
            let (start, mut times) = (processor_time(), 0u32);
            let mut spent = Duration::ZERO;
            while spent < TURN {
                // Reading the clock for each would cost as much as a tenth of the shortest.
                for _ in 0..8 {
                    work()?;
                }
                times += 8;
                spent = processor_time().saturating_sub(start);
            }
            // The first round only warms up.
            if round > 0 {
                rates.push(f64::from(times) / spent.as_secs_f64());
            }
        }
    }
    Ok(rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }))
}

/// Processor time of the calling thread.
pub(crate) fn processor_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// One authority, one workload, and everything that is measured with them.
struct World {
    ca: AuthorityCa,
    jwt: JwtAuthority,
    id: SpiffeId,
    csr: Vec<u8>,
    chain: Vec<cauldron_identity::x509::CertificateDer<'static>>,
    token: String,
    x509: Bundles,
    verifier: Verifier,
    bundles: TrustBundles,
    raw: EcdsaKeyPair,
    signature: Vec<u8>,
}

/// As large as what a certificate's signature covers.
const MESSAGE: [u8; 350] = [7; 350];

impl World {
    fn new() -> Result<Self, String> {
        let domain = TrustDomain::new("bench.example").map_err(said)?;
        let id = SpiffeId::new("spiffe://bench.example/site/lyon/node/lyon").map_err(said)?;
        let validity = Validity { not_before_s: NOW_S - 3_600, not_after_s: NOW_S + 86_400 * 365 };
        let key = SvidKey::generate().map_err(said)?;
        let ca = AuthorityCa::self_signed(domain.clone(), key, validity, [1; 16]).map_err(said)?;
        let jwt = JwtAuthority::new(domain.clone(), JwtKey::generate().map_err(said)?, NOW_S);
        let csr = SvidKey::generate().and_then(|key| key.csr_der()).map_err(said)?;
        let chain = ca.issue(&csr, &id, NOW_S, 3_600, [2; 16]).map_err(said)?;
        let token = jwt.issue(&id, &["reports".to_owned()], NOW_S, 300).map_err(said)?.to_string();
        let mut bundle = TrustBundle::new(domain);
        bundle.set_roots(vec![ca.certificate().clone()]).map_err(said)?;
        bundle.set_jwt_keys(jwt.public_keys());
        let bundles: TrustBundles = [bundle].into_iter().collect();
        let raw = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(said)?;
        let signature = raw.sign(&SystemRandom::new(), &MESSAGE).map_err(said)?.as_ref().to_vec();
        let verifier = Verifier::new(bundles.x509());
        Ok(Self { x509: bundles.x509(), verifier, ca, jwt, id, csr, chain, token, bundles, raw, signature })
    }

    fn raw_sign(&self) -> Result<(), String> {
        black_box(self.raw.sign(&SystemRandom::new(), black_box(&MESSAGE)).map_err(said)?);
        Ok(())
    }

    fn raw_verify(&self) -> Result<(), String> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.raw.public_key().as_ref());
        key.verify(black_box(&MESSAGE), &self.signature).map_err(said)
    }

    fn verify_svid(&self) -> Result<(), String> {
        verify_svid(black_box(&self.chain), &self.x509, NOW_S).map(|svid| drop(black_box(svid))).map_err(said)
    }

    fn verify_known(&self) -> Result<(), String> {
        self.verifier.verify(black_box(&self.chain), NOW_S).map(|svid| drop(black_box(svid))).map_err(said)
    }

    fn issue_svid(&self) -> Result<(), String> {
        let issued = self.ca.issue(black_box(&self.csr), &self.id, NOW_S, 3_600, [3; 16]);
        issued.map(|chain| drop(black_box(chain))).map_err(said)
    }

    fn validate_jwt(&self) -> Result<(), String> {
        let valid = validate_jwt(black_box(&self.token), &["reports"], &self.bundles, NOW_S, LEEWAY_S);
        valid.map(|jwt| drop(black_box(jwt))).map_err(said)
    }

    fn issue_jwt(&self) -> Result<(), String> {
        let audience = ["reports".to_owned()];
        self.jwt.issue(black_box(&self.id), &audience, NOW_S, 300).map(|jwt| drop(black_box(jwt))).map_err(said)
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
