//! The issuer's side of the enrol lane: the core decides who is admitted, the certificate authority signs. A node with its
//! site's intermediate answers for its site, and admits nobody.

use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::authority::Issuance;
use cauldron_identity::jwt::LIFETIME_S_DEFAULT;
use cauldron_identity::x509::CertificateDer;
use cauldron_identity::{AuthorKey, Role, SpiffeId, TrustBundle};
use cauldron_mesh::{EnrolRequest as Asked, SvidSource};
use cauldron_node_core::enrol::{EnrolReply, EnrolRequest, Grant, Outcome, Part, RefusedBecause};
use cauldron_node_core::{Command, Reply, Welcome};
use tokio::sync::mpsc;

use crate::run::engine::Handle;
use crate::run::fault::Fault;
use crate::run::federation::{Published, Token};
use crate::run::issued;
use crate::run::root_keeper::RootKeeper;
use crate::run::site::SiteHolder;
use crate::{chance, clock};

/// What the lane needs.
pub struct Registrar {
    /// The way to the core.
    pub node: Handle,
    /// What signs here.
    pub issuer: Issuer,
    /// This node's author key: one that the charter names, or one of the site.
    pub author: Arc<AuthorKey>,
    /// What a test wants to go wrong.
    pub fault: Fault,
}

/// What signs SVIDs on this node.
pub enum Issuer {
    /// The mesh's authority.
    Authority {
        /// The root.
        ca: Arc<RootKeeper>,
        /// The roots to hand on.
        source: Arc<SvidSource>,
        /// Lifetime of the SVIDs issued here.
        svid_lifetime: Duration,
        /// Nodes that get the intermediate of their site, beside site coordinators.
        site_issuers: Vec<SpiffeId>,
        /// What signs JWT-SVIDs.
        published: Option<Arc<Published>>,
    },
    /// A site's intermediate.
    Site {
        /// Its place.
        holder: Arc<SiteHolder>,
        /// The roots to hand on.
        source: Arc<SvidSource>,
    },
}

/// What an issuer gives: chain, roots, and the site's intermediate where it was asked for and is due.
struct Issued {
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    site: Option<CertificateDer<'static>>,
    /// Their lines in the log of everything issued.
    lines: Vec<Issuance>,
}

impl Issuer {
    fn issue(
        &self,
        id: &SpiffeId,
        csr: &[u8],
        site_csr: Option<&[u8]>,
        wanted_s: Option<u64>,
        now_s: u64,
    ) -> Result<Issued, String> {
        let at_most = |longest: Duration| wanted_s.unwrap_or(u64::MAX).min(longest.as_secs());
        match self {
            Self::Authority { ca, source, svid_lifetime, site_issuers, .. } => {
                let ca = ca.ca()?;
                let lifetime_s = svid_lifetime.as_secs();
                let chain =
                    ca.issue(csr, id, now_s, at_most(*svid_lifetime), chance::bytes()).map_err(|e| e.to_string())?;
                let mut roots = roots(source, id);
                // This node's own identity may come from elsewhere; a joining author's first one comes from here.
                if !roots.contains(ca.certificate()) {
                    roots = vec![ca.certificate().clone()];
                }
                let mut lines: Vec<Issuance> = issued::svid(&chain, id, ca.key_digest()).into_iter().collect();
                let site = match (site_csr, Role::of(id)) {
                    (Some(site_csr), Ok(role)) if holds_intermediate(id, &role, site_issuers) => {
                        let site = role.site().unwrap_or_default();
                        let issued = ca.issue_site(site_csr, site, now_s, lifetime_s, chance::bytes());
                        let issued = issued.map_err(|e| e.to_string())?;
                        tracing::info!(site, holder = %id, "site intermediate issued");
                        let name = format!("spiffe://{}/site/{site}", id.trust_domain());
                        lines.push(issued::site(&issued, name, ca.key_digest()));
                        Some(issued)
                    }
                    (Some(_), _) => {
                        tracing::warn!(%id, "asks for its site's intermediate, which authority.site_issuers does not grant it");
                        None
                    }
                    (None, _) => None,
                };
                Ok(Issued { chain, roots, site, lines })
            }
            Self::Site { holder, source } => {
                let ca = holder.ca().ok_or("this node has no site intermediate to sign with now")?;
                let lifetime_s = at_most(holder.svid_lifetime());
                let chain = ca.issue(csr, id, now_s, lifetime_s, chance::bytes()).map_err(|e| e.to_string())?;
                let lines = issued::by_site(&chain, id).into_iter().collect();
                Ok(Issued { chain, roots: roots(source, id), site: None, lines })
            }
        }
    }
}

/// The roots that this node goes by.
fn roots(source: &SvidSource, id: &SpiffeId) -> Vec<CertificateDer<'static>> {
    source.bundles().get(id.trust_domain()).map(|bundle| bundle.roots().to_vec()).unwrap_or_default()
}

impl Issuer {
    /// The trust domain's JWT keys, where they are.
    fn jwt_bundle(&self) -> Option<Vec<u8>> {
        let Self::Authority { published: Some(published), .. } = self else { return None };
        let bundle = published.bundle().borrow().clone();
        let mut keys = TrustBundle::new(bundle.trust_domain().clone());
        keys.set_jwt_keys(bundle.jwt_keys());
        Some(keys.to_jwks().into_bytes())
    }

    fn token(&self, id: &SpiffeId, audience: &[String], wanted_s: Option<u64>) -> Result<Token, String> {
        let Self::Authority { published: Some(published), .. } = self else {
            return Err("JWT-SVIDs are signed by the mesh's authority alone; it is asked at a coordinator".into());
        };
        let lifetime_s = wanted_s.unwrap_or(LIFETIME_S_DEFAULT).min(LIFETIME_S_DEFAULT);
        published.issue_jwt(id, audience, Duration::from_secs(lifetime_s)).map_err(|e| e.to_string())
    }
}

/// A site's coordinator holds its intermediate; another node of the site only where the authority's configuration says so.
fn holds_intermediate(id: &SpiffeId, role: &Role, named: &[SpiffeId]) -> bool {
    matches!(role, Role::SiteCoordinator { .. }) || (role.site().is_some() && named.contains(id))
}

impl Registrar {
    /// Answers requests until the mesh is gone. The lane itself bounds how many there are.
    pub async fn run(self, mut requests: mpsc::Receiver<Asked>) {
        while let Some(asked) = requests.recv().await {
            let outcome = self.answer(&asked).await;
            if let Outcome::Refused(why) = &outcome {
                tracing::warn!(remote = %asked.remote, code = why.code, reason = why.reason, "enrolment refused");
            }
            let reply = EnrolReply::new(outcome, &self.author, &asked.exporter).to_bytes();
            self.fault.reached("enrol.reply");
            // The peer may have gone; it asks again with the same key and token.
            let _ = asked.reply.send(reply);
        }
    }

    async fn answer(&self, asked: &Asked) -> Outcome {
        let request = match EnrolRequest::open(&asked.bytes, &asked.exporter) {
            Ok(request) => request,
            Err(e) => return refused("request", crate::run::chain(&e)),
        };
        let (csr, joins, have) = (request.csr().to_vec(), request.token.is_some(), request.have);
        let site_csr = request.site_csr().map(<[u8]>::to_vec);
        let wanted_s = request.workload.as_ref().and_then(|w| w.lifetime_s);
        let audience = request.workload.as_ref().map(|w| w.audience.clone()).unwrap_or_default();
        let command = Command::Admit { request: Box::new(request), exporter: asked.exporter };
        let spiffe_id = match self.node.command(command).await {
            Ok(Reply::Admitted { spiffe_id }) => spiffe_id,
            Ok(other) => return refused("unexpected", format!("the core answered {other:?}")),
            Err(refusal) => return refused(refusal.code, refusal.reason),
        };
        let Ok(welcome) = self.node.read(move |core| core.welcome(have)).await else {
            return refused("stopping", "the coordinator is stopping; ask again when it runs".into());
        };
        // Whoever cannot see yet whom the charter names would not believe a grant: it is shown first.
        if welcome.amended && welcome.more {
            let Welcome { charter, authority, terms, .. } = welcome;
            return Outcome::Part(Box::new(Part { charter, authority, terms }));
        }
        let now_ms = clock::wall_ms();
        let (token, issued) = if audience.is_empty() {
            (None, self.issuer.issue(&spiffe_id, &csr, site_csr.as_deref(), wanted_s, now_ms / 1000))
        } else {
            match self.issuer.token(&spiffe_id, &audience, wanted_s) {
                Ok(Token { text, issuance }) => {
                    let lines = vec![issuance];
                    (Some(text.to_string()), Ok(Issued { chain: Vec::new(), roots: Vec::new(), site: None, lines }))
                }
                Err(why) => return refused("token", why),
            }
        };
        match issued {
            Ok(Issued { chain, roots, site, lines }) => {
                if let Err(why) = issued::tell(&self.node, lines).await {
                    return refused("issued_log", why);
                }
                tracing::info!(%spiffe_id, "SVID issued");
                let der = |c: CertificateDer<'static>| c.to_vec().into();
                Outcome::Granted(Box::new(Grant {
                    charter: welcome.charter,
                    chain: chain.into_iter().map(der).collect(),
                    bundle: roots.into_iter().map(der).collect(),
                    site: site.map(der),
                    jwt_bundle: self.issuer.jwt_bundle().map(Into::into),
                    token,
                    // An author that renews has the chain by sync; a newcomer gets its beginning, the rest by sync too. Where
                    // the charter is no longer the founding one, either needs all of it to know whom to believe.
                    authority: if joins || welcome.amended { welcome.authority } else { Vec::new() },
                    terms: welcome.terms,
                    time_ms: now_ms,
                }))
            }
            Err(why) => refused("certificate", why),
        }
    }
}

fn refused(code: &str, reason: String) -> Outcome {
    Outcome::Refused(RefusedBecause { code: code.to_owned(), reason })
}
