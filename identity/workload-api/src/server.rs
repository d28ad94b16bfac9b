//! The server: both profiles that a Workload API must have, for callers that the kernel vouches for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use cauldron_identity::TrustDomain;
use futures::Stream;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status as Refusal};
use zeroize::Zeroizing;

use crate::SECURITY_HEADER;
use crate::caller::CallerError;
use crate::entry::Entry;
use crate::listener::Door;
use crate::looks::Looks;
use crate::proto::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use crate::proto::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};
use crate::seats::{Guest, Held};
use crate::served::{JwtAuthority, JwtRefused, Served};

/// Calls at once on one connection. A client library holds up to three streams and asks for tokens beside them.
const STREAMS_PER_CONNECTION_MAX: u32 = 16;
/// A request is a few audiences, or one JWT-SVID, which proxies limit to 8 KiB.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Metadata of a call: the security header and what gRPC adds.
const HEADERS_BYTES_MAX: u32 = 8 * 1024;
/// A peer that does not answer a ping has hung; its seat goes to another.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// How long a caller waits for somebody to sign its token.
const JWT_WAIT_MAX: Duration = Duration::from_secs(15);
/// Names of a token's audience: more is no use that we know of, and each makes the token longer.
const AUDIENCES_MAX: usize = 16;
/// Bytes of them together: half of the 8 KiB that proxies let a token have, so that it fits with the rest and its signature.
const AUDIENCE_BYTES_MAX: usize = 4 * 1024;

/// The Workload API of one node.
pub struct Server {
    listener: UnixListener,
    api: Api,
}

/// What the server says about itself.
#[derive(Debug, Clone)]
pub struct Status {
    held: Arc<Held>,
    served: watch::Receiver<Arc<Served>>,
}

impl Status {
    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.held.connections()
    }

    /// What is handed out now.
    #[must_use]
    pub fn served(&self) -> Arc<Served> {
        self.served.borrow().clone()
    }
}

impl Server {
    /// Serves what `served` holds. `clock` is the wall clock in Unix seconds; without `jwt` the JWT profile has neither
    /// tokens nor validation.
    #[must_use]
    pub fn new(
        listener: UnixListener,
        served: watch::Receiver<Arc<Served>>,
        clock: Arc<dyn Fn() -> u64 + Send + Sync>,
        jwt: Option<Arc<dyn JwtAuthority>>,
    ) -> Self {
        let api =
            Api { served, clock, jwt, looks: Arc::default(), held: Arc::default(), stop: watch::channel(false).1 };
        Self { listener, api }
    }

    /// For the node's own status.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { held: self.api.held.clone(), served: self.api.served.clone() }
    }

    /// Serves until `stop` turns true; open streams end with `Unavailable`, on which clients connect again.
    ///
    /// # Errors
    /// When the transport fails for good.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), tonic::transport::Error> {
        let Self { listener, mut api } = self;
        api.stop = stop.clone();
        let door = Door::new(listener, api.held.clone(), api.served.clone());
        let service = SpiffeWorkloadApiServer::new(api).max_decoding_message_size(REQUEST_BYTES_MAX);
        let incoming =
            futures::stream::unfold(door, |door| async move { Some((Ok::<_, Infallible>(door.accept().await), door)) });
        tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async move {
                // An error means that the sender is gone: the process is stopping too.
                let _ = stop.wait_for(|stop| *stop).await;
            })
            .await
    }
}

#[derive(Clone)]
struct Api {
    served: watch::Receiver<Arc<Served>>,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    jwt: Option<Arc<dyn JwtAuthority>>,
    looks: Arc<Looks>,
    held: Arc<Held>,
    stop: watch::Receiver<bool>,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Refusal>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Replies<X509svidResponse>;
    type FetchX509BundlesStream = Replies<X509BundlesResponse>;
    type FetchJWTBundlesStream = Replies<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        r: Request<X509svidRequest>,
    ) -> Result<Response<Replies<X509svidResponse>>, Refusal> {
        self.stream(&r, x509_svids).await
    }

    async fn fetch_x509_bundles(
        &self,
        r: Request<X509BundlesRequest>,
    ) -> Result<Response<Replies<X509BundlesResponse>>, Refusal> {
        self.stream(&r, |served, _, _| {
            Ok(X509BundlesResponse { crl: Vec::new(), bundles: by_id(&served.x509_bundles) })
        })
        .await
    }

    async fn fetch_jwtsvid(&self, r: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Refusal> {
        let caller = caller(&r)?;
        let served = self.served.borrow().clone();
        let entries = self.entries(&caller, &served).await?;
        let asked = r.into_inner();
        let audience = audience(&asked.audience)?;
        let wanted: Vec<&Entry> = match asked.spiffe_id.as_str() {
            "" => entries,
            id => entries.into_iter().filter(|e| e.spiffe_id.to_string() == id).collect(),
        };
        if wanted.is_empty() {
            return Err(denied());
        }
        let jwt = self.jwt.as_ref().ok_or_else(|| Refusal::unavailable("no JWT-SVIDs are issued here"))?;
        let mut svids = Vec::with_capacity(wanted.len());
        for entry in wanted {
            let issued = tokio::time::timeout(JWT_WAIT_MAX, jwt.issue(&entry.spiffe_id, audience)).await;
            let svid = match issued {
                Ok(Ok(svid)) => svid,
                Ok(Err(JwtRefused::Denied(why))) => return Err(Refusal::permission_denied(why)),
                Ok(Err(JwtRefused::TooMany(why))) => return Err(Refusal::resource_exhausted(why)),
                Ok(Err(JwtRefused::Unavailable(why))) => return Err(Refusal::unavailable(why)),
                Err(_) => return Err(Refusal::unavailable("the authority did not sign in time")),
            };
            svids.push(Jwtsvid { spiffe_id: entry.spiffe_id.to_string(), svid, hint: entry.hint.clone() });
        }
        Ok(Response::new(JwtsvidResponse { svids }))
    }

    async fn fetch_jwt_bundles(
        &self,
        r: Request<JwtBundlesRequest>,
    ) -> Result<Response<Replies<JwtBundlesResponse>>, Refusal> {
        self.stream(&r, |served, _, _| Ok(JwtBundlesResponse { bundles: by_id(&served.jwt_bundles) })).await
    }

    async fn validate_jwtsvid(
        &self,
        r: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Refusal> {
        let caller = caller(&r)?;
        let served = self.served.borrow().clone();
        self.entries(&caller, &served).await?;
        let ValidateJwtsvidRequest { audience, svid } = r.into_inner();
        if audience.is_empty() || svid.is_empty() {
            return Err(Refusal::invalid_argument("both an audience and a JWT-SVID must be given"));
        }
        let jwt = self.jwt.as_ref().ok_or_else(|| Refusal::unavailable("no JWT-SVIDs are validated here"))?;
        let (id, claims) = jwt.validate(&svid, &audience).map_err(Refusal::invalid_argument)?;
        Ok(Response::new(ValidateJwtsvidResponse { spiffe_id: id.to_string(), claims: Some(structure(&claims)) }))
    }
}

impl Api {
    /// The present state at once, and then every one that differs from the last, until the caller has no identity any more.
    async fn stream<R, T, F>(&self, request: &Request<R>, reply: F) -> Result<Response<Replies<T>>, Refusal>
    where
        T: prost::Message + 'static,
        F: Fn(&Served, &[&Entry], u64) -> Result<T, Refusal> + Send + Sync + 'static,
    {
        let caller = caller(request)?;
        let (api, mut served, stop) = (self.clone(), self.served.clone(), self.stop.clone());
        let now = served.borrow_and_update().clone();
        let first = api.reply(&caller, &now, &reply).await?;
        let sent = fingerprint(&first);
        let rest = futures::stream::unfold(Some((api, caller, served, stop, reply, sent)), |state| async move {
            let (api, caller, mut served, mut stop, reply, mut sent) = state?;
            loop {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return Some((Err(stopping()), None)),
                    changed = served.changed() => if changed.is_err() { return Some((Err(stopping()), None)) },
                }
                let now = served.borrow_and_update().clone();
                match api.reply(&caller, &now, &reply).await {
                    Ok(next) if fingerprint(&next) == sent => {}
                    Ok(next) => {
                        sent = fingerprint(&next);
                        return Some((Ok(next), Some((api, caller, served, stop, reply, sent))));
                    }
                    Err(refusal) => return Some((Err(refusal), None)),
                }
            }
        });
        let first = futures::stream::once(async move { Ok(first) });
        Ok(Response::new(Box::pin(futures::StreamExt::chain(first, rest))))
    }

    async fn reply<T, F>(&self, guest: &Arc<Guest>, served: &Served, reply: &F) -> Result<T, Refusal>
    where
        F: Fn(&Served, &[&Entry], u64) -> Result<T, Refusal>,
    {
        let entries = self.entries(guest, served).await?;
        reply(served, &entries, (self.clock)())
    }

    /// The entries that fit the caller; a caller without one learns nothing else.
    async fn entries<'s>(&self, guest: &Arc<Guest>, served: &'s Served) -> Result<Vec<&'s Entry>, Refusal> {
        let caller = &guest.caller;
        let (uid, gid) = (caller.uid(), caller.gid());
        let candidates: Vec<&Entry> =
            served.entries.iter().filter(|e| e.selectors.fits_credentials(uid, gid)).collect();
        let mut attested = caller.credentials();
        if candidates.iter().any(|e| e.selectors.needs_process()) {
            let digest = candidates.iter().any(|e| e.selectors.sha256.is_some());
            match self.looks.attest(guest, digest).await {
                Some(Ok(found)) => attested = found,
                Some(Err(why @ CallerError::Slow)) => {
                    tracing::warn!(uid, pid = caller.pid(), %why, "a caller cannot be attested");
                    return Err(Refusal::unavailable(format!("{why}; ask again")));
                }
                Some(Err(why)) => tracing::warn!(uid, pid = caller.pid(), %why, "a caller cannot be attested"),
                None => return Err(stopping()),
            }
        }
        let entries: Vec<&Entry> = candidates.into_iter().filter(|e| e.selectors.fits(&attested)).collect();
        if entries.is_empty() {
            tracing::info!(uid, gid, pid = caller.pid(), path = ?attested.path, "no identity is registered for a caller");
            return Err(denied());
        }
        Ok(entries)
    }
}

/// The caller, if the call carries the security header.
fn caller<R>(request: &Request<R>) -> Result<Arc<Guest>, Refusal> {
    if request.metadata().get(SECURITY_HEADER).is_none_or(|value| value != "true") {
        return Err(Refusal::invalid_argument(format!("the metadata `{SECURITY_HEADER}: true` is missing")));
    }
    let caller = request.extensions().get::<Arc<Guest>>();
    caller.cloned().ok_or_else(|| Refusal::internal("the connection has no caller"))
}

fn x509_svids(served: &Served, entries: &[&Entry], now_s: u64) -> Result<X509svidResponse, Refusal> {
    let issued = entries.iter().filter_map(|entry| {
        let svid = served.svids.get(&entry.spiffe_id).filter(|svid| svid.not_after_s > now_s)?;
        Some(X509svid {
            spiffe_id: entry.spiffe_id.to_string(),
            x509_svid: svid.chain_der.clone(),
            x509_svid_key: svid.key_pkcs8.to_vec(),
            bundle: served.x509_bundles.get(entry.spiffe_id.trust_domain()).cloned().unwrap_or_default(),
            hint: entry.hint.clone(),
        })
    });
    let svids: Vec<X509svid> = issued.collect();
    if svids.is_empty() {
        return Err(Refusal::unavailable(
            "the identity is registered, and no valid SVID is here yet: the authority has not answered",
        ));
    }
    let own: Vec<&TrustDomain> = entries.iter().map(|e| e.spiffe_id.trust_domain()).collect();
    let mut federated_bundles = by_id(&served.x509_bundles);
    federated_bundles.retain(|id, _| !own.iter().any(|domain| domain.id_string() == *id));
    Ok(X509svidResponse { svids, crl: Vec::new(), federated_bundles })
}

fn by_id(bundles: &BTreeMap<TrustDomain, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    bundles.iter().map(|(domain, bundle)| (domain.id_string(), bundle.clone())).collect()
}

fn audience(audience: &[String]) -> Result<&[String], Refusal> {
    match audience {
        [] => Err(Refusal::invalid_argument("at least one audience must be given")),
        many if many.len() > AUDIENCES_MAX => {
            Err(Refusal::invalid_argument(format!("at most {AUDIENCES_MAX} audiences may be given")))
        }
        long if long.iter().map(String::len).sum::<usize>() > AUDIENCE_BYTES_MAX => Err(Refusal::invalid_argument(
            format!("audiences of {AUDIENCE_BYTES_MAX} bytes together may be given at most"),
        )),
        some if some.iter().any(String::is_empty) => Err(Refusal::invalid_argument("an audience is empty")),
        some => Ok(some),
    }
}

/// Replies that are the same are not sent twice. The encoded reply has keys in it, and is wiped.
fn fingerprint<T: prost::Message>(reply: &T) -> [u8; 32] {
    let bytes = Zeroizing::new(reply.encode_to_vec());
    let mut out = [0; 32];
    out.iter_mut().zip(digest(&SHA256, &bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}

fn denied() -> Refusal {
    Refusal::new(Code::PermissionDenied, "no identity issued")
}

fn stopping() -> Refusal {
    Refusal::unavailable("the node is stopping")
}

/// JSON as protobuf's own JSON; numbers become doubles there.
fn structure(claims: &serde_json::Value) -> prost_types::Struct {
    match value(claims).kind {
        Some(prost_types::value::Kind::StructValue(structure)) => structure,
        _ => prost_types::Struct::default(),
    }
}

fn value(json: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    use serde_json::Value;
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(value).collect() }),
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(name, field)| (name.clone(), value(field))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
