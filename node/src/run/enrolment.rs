//! The authority's side of the enrol lane: the core decides who is admitted, the certificate authority signs.

use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::x509::AuthorityCa;
use cauldron_identity::{AuthorKey, SealedFact};
use cauldron_mesh::EnrolRequest as Asked;
use cauldron_node_core::enrol::{EnrolReply, EnrolRequest, Grant, Outcome, RefusedBecause};
use cauldron_node_core::{Command, Reply};
use tokio::sync::mpsc;

use crate::run::engine::Handle;

/// Half of what the enrol lane carries in a reply; the rest is room for charter, chain and bundle.
const WELCOME_BYTES_MAX: usize = 128 * 1024;
use crate::{chance, clock};

/// What the lane needs.
pub struct Registrar {
    /// The way to the core.
    pub node: Handle,
    /// The certificate authority.
    pub ca: Arc<AuthorityCa>,
    /// This coordinator's author key, which the charter names.
    pub author: Arc<AuthorKey>,
    /// Lifetime of the SVIDs issued here.
    pub svid_lifetime: Duration,
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
            // The peer may have gone; it asks again with the same key and token.
            let _ = asked.reply.send(reply);
        }
    }

    async fn answer(&self, asked: &Asked) -> Outcome {
        let request = match EnrolRequest::open(&asked.bytes, &asked.exporter) {
            Ok(request) => request,
            Err(e) => return refused("request", crate::run::chain(&e)),
        };
        let (csr, joins) = (request.csr().to_vec(), request.token.is_some());
        let command = Command::Admit { request: Box::new(request), exporter: asked.exporter };
        let spiffe_id = match self.node.command(command).await {
            Ok(Reply::Admitted { spiffe_id }) => spiffe_id,
            Ok(other) => return refused("unexpected", format!("the core answered {other:?}")),
            Err(refusal) => return refused(refusal.code, refusal.reason),
        };
        let (now_ms, lifetime_s) = (clock::wall_ms(), self.svid_lifetime.as_secs());
        let issued = self.ca.issue(&csr, &spiffe_id, now_ms / 1000, lifetime_s, chance::bytes());
        let Ok(welcome) = self.node.read(cauldron_node_core::NodeCore::welcome).await else {
            return refused("stopping", "the coordinator is stopping; ask again when it runs".into());
        };
        match issued {
            Ok(chain) => {
                tracing::info!(%spiffe_id, "SVID issued");
                Outcome::Granted(Grant {
                    charter: welcome.charter,
                    chain: chain.into_iter().map(|c| c.to_vec().into()).collect(),
                    bundle: vec![self.ca.certificate().to_vec().into()],
                    // An author that renews has the chain by sync; a newcomer gets its beginning, the rest by sync too. Where
                    // the charter is no longer the founding one, either needs it to know whom to believe.
                    authority: if joins || welcome.amended { first(welcome.authority) } else { Vec::new() },
                    terms: welcome.terms,
                    time_ms: now_ms,
                })
            }
            Err(e) => refused("certificate", crate::run::chain(&e)),
        }
    }
}

/// The beginning of the authority chain that fits into a reply.
fn first(authority: Vec<SealedFact>) -> Vec<SealedFact> {
    let mut bytes = 0;
    let fits = |fact: &SealedFact| {
        bytes += fact.wire_len();
        bytes <= WELCOME_BYTES_MAX
    };
    authority.into_iter().take_while(fits).collect()
}

fn refused(code: &str, reason: String) -> Outcome {
    Outcome::Refused(RefusedBecause { code: code.to_owned(), reason })
}
