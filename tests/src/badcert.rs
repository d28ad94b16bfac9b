//! Certificates that no lane may take, each wrong in one way.
//!
//! The authority is given: with the mesh's own, the certificates are what a thief of its key could make; no check but the one
//! that each case is named after stands in its way.

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::{AuthorityCa, CertificateDer, SvidKey, Validity};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// One bad certificate.
#[derive(Debug)]
pub struct Bad {
    /// What is wrong with it.
    pub name: &'static str,
    /// What is presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: SvidKey,
    /// Part of the sentence with which the good side's own record must explain the refusal.
    pub says: &'static str,
}

type Change = fn(&mut CertificateParams);

/// The matrix, for a workload `id` of `ca`'s trust domain, as of `now_s`.
///
/// # Panics
/// When a certificate cannot be made.
#[must_use]
pub fn certificates(ca: &AuthorityCa, id: &SpiffeId, now_s: u64) -> Vec<Bad> {
    let maker = Maker { ca, id: id.to_string(), now_s };
    let mut all = maker.leaves();
    all.extend(maker.issuers());
    all
}

struct Maker<'a> {
    ca: &'a AuthorityCa,
    id: String,
    now_s: u64,
}

impl Maker<'_> {
    /// Wrong in the leaf itself, under the right root.
    fn leaves(&self) -> Vec<Bad> {
        const NAMES: &str = "no usable SPIFFE ID";
        let cases: [(&'static str, &'static str, Change); 10] = [
            ("two URI SANs", "multiple URI SAN", |p| {
                p.subject_alt_names.push(uri("spiffe://elsewhere.test/site/x/node/x"));
            }),
            ("no URI SAN", NAMES, |p| p.subject_alt_names.clear()),
            ("https URI", NAMES, |p| p.subject_alt_names = vec![uri("https://acme.example/node")]),
            ("DNS name only", NAMES, |p| {
                p.subject_alt_names = vec![SanType::DnsName("node.acme.example".try_into().expect("ascii"))];
            }),
            ("CA as leaf", "is a certificate authority's", |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
            ("key usage keyCertSign", "wrong key usage", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
            ("no key usage", "wrong key usage", |p| p.key_usages.clear()),
            ("EKU serverAuth only", "lacks serverAuth or clientAuth", |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            ("EKU clientAuth only", "lacks serverAuth or clientAuth", |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            ("EKU codeSigning", "lacks serverAuth or clientAuth", |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
        ];
        let root = self.root();
        let made = cases.into_iter().map(|(name, says, change)| {
            let mut params = self.params(&self.id);
            change(&mut params);
            let (leaf, key) = signed(&params, &root);
            Bad { name, chain: vec![leaf], key, says }
        });
        made.collect()
    }

    /// Wrong in time, or in who signed.
    fn issuers(&self) -> Vec<Bad> {
        let domain = self.ca.trust_domain().clone();
        let (impostor, stranger) = (self.authority(domain), self.authority("evil.test".try_into().expect("a name")));
        let own = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let self_signed = self.params(&self.id).self_signed(&own).expect("signed").der().clone();
        let own = SvidKey::from_pkcs8_der(&own.serialize_der()).expect("a key");
        let not_ours = "does not lead to a root of";
        let mut all = vec![
            Bad { name: "self-signed", chain: vec![self_signed], key: own, says: not_ours },
            svid("other CA, same name", &impostor, &self.id, self.now_s, not_ours),
            svid("other trust domain", &stranger, "spiffe://evil.test/x", self.now_s, "belongs to trust domain"),
            svid("expired", self.ca, &self.id, self.now_s - 3_600, "expired at"),
            svid("not yet valid", self.ca, &self.id, self.now_s + 3_600, "is valid from"),
        ];
        // The intermediate of another site, good by itself.
        let (site, site_key) = self.intermediate("/site/elsewhere", 0, &self.root());
        let issuer = Issuer::from_ca_cert_der(&site, &site_key).expect("an issuer");
        let (leaf, key) = signed(&self.params(&self.id), &issuer);
        all.push(Bad { name: "path escape", chain: vec![leaf, site], key, says: "may sign below" });

        let mut chain = Vec::new();
        let (mut top, mut top_key) = self.intermediate("", 9, &self.root());
        chain.push(top.clone());
        for _ in 0..3 {
            let (next, next_key) = {
                let issuer = Issuer::from_ca_cert_der(&top, &top_key).expect("an issuer");
                self.intermediate("", 9, &issuer)
            };
            (top, top_key) = (next, next_key);
            chain.insert(0, top.clone());
        }
        let issuer = Issuer::from_ca_cert_der(&top, &top_key).expect("an issuer");
        let (leaf, key) = signed(&self.params(&self.id), &issuer);
        chain.insert(0, leaf);
        all.push(Bad { name: "chain too long", chain, key, says: "has 5 certificates" });
        all
    }

    fn root(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.ca.key_pem().expect("held")).expect("a key");
        Issuer::from_ca_cert_der(self.ca.certificate(), key).expect("an issuer")
    }

    fn intermediate<S: rcgen::SigningKey>(
        &self,
        path: &str,
        below: u8,
        issuer: &Issuer<'_, S>,
    ) -> (CertificateDer<'static>, KeyPair) {
        let mut params = self.params(&format!("spiffe://{}{path}", self.ca.trust_domain()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages.clear();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        // Names tell issuers apart when a path is built.
        params.distinguished_name.push(rcgen::DnType::CommonName, hex(&key.public_key_raw()[1..9]));
        (params.signed_by(&key, issuer).expect("signed").der().clone(), key)
    }

    fn params(&self, name: &str) -> CertificateParams {
        let at = |s: u64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(s);
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (at(self.now_s - 60), at(self.now_s + 3_600));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![uri(name)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    fn authority(&self, domain: cauldron_identity::TrustDomain) -> AuthorityCa {
        let validity = Validity { not_before_s: self.now_s - 86_400, not_after_s: self.now_s + 86_400 };
        AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [3; 16]).expect("a root")
    }
}

fn svid(name: &'static str, ca: &AuthorityCa, id: &str, at_s: u64, says: &'static str) -> Bad {
    let key = SvidKey::generate().expect("a key");
    let id = SpiffeId::new(id).expect("a SPIFFE ID");
    let chain = ca.issue(&key.csr_der().expect("a request"), &id, at_s, 600, [6; 16]).expect("an SVID");
    Bad { name, chain, key, says }
}

fn signed<S: rcgen::SigningKey>(
    params: &CertificateParams,
    issuer: &Issuer<'_, S>,
) -> (CertificateDer<'static>, SvidKey) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let leaf = params.signed_by(&key, issuer).expect("signed").der().clone();
    (leaf, SvidKey::from_pkcs8_der(&key.serialize_der()).expect("a key"))
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ascii"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
