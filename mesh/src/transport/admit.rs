//! Admission over any TLS session: who the peer is, the two frames, the place in the registry.

use std::sync::Arc;

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::CertificateDer;
use libp2p::PeerId;
use tokio::sync::watch;

use super::guard::Grounds;
use super::{EstablishError, Shared};
use crate::admission::{self, AdmissionError, DATA_EXPORTER_LABEL, EXPORTER_LABEL, Hello, Lane, Side};
use crate::peer_id::{data_peer_id_of, peer_id_of};
use crate::registry::{Lease, PeerInfo, Wire};
use crate::tls::{self, Report};

/// A finished TLS handshake that frames can go over.
pub(super) trait Session: Send {
    /// What the two sides agreed to speak.
    fn alpn(&self) -> Option<Vec<u8>>;
    /// The peer's certificates, leaf first.
    fn peer_chain(&self) -> Option<Vec<CertificateDer<'static>>>;
    /// RFC 8446 §7.5 with an empty context.
    fn exporter(&self, label: &[u8]) -> Option<[u8; 32]>;
    /// The peer's frame; one that is cut off comes as it is, and proves nothing.
    fn read(&mut self, lane: Lane<'_>) -> impl Future<Output = Result<Vec<u8>, EstablishError>> + Send;
    fn write(&mut self, frame: &[u8]) -> impl Future<Output = Result<(), EstablishError>> + Send;
    fn wire(&self) -> Arc<dyn Wire>;
}

/// A peer that was let in.
pub(super) struct Admitted {
    pub(super) peer: PeerId,
    pub(super) grounds: Grounds,
    pub(super) lease: Lease,
}

/// The mesh lane. `wanted` is whom a dialler asked for, where it knows that before the handshake.
pub(super) async fn to_mesh(
    shared: &Arc<Shared>,
    session: &mut impl Session,
    side: Side,
    report: &Report,
    changes: watch::Receiver<u64>,
    wanted: Option<PeerId>,
) -> Result<Admitted, EstablishError> {
    let version = session.alpn().and_then(|name| shared.terms.version_of(&name)).ok_or(EstablishError::Alpn)?;
    let chain = session.peer_chain().filter(|chain| !chain.is_empty()).ok_or(EstablishError::NoCertificate)?;
    let svid = report.svid().ok_or(EstablishError::NoCertificate)?;
    let id = svid.spiffe_id.clone();
    let peer = peer_id_of(&id);
    // The planted bug: whoever a relay leads to is taken for the peer that was asked for.
    let anybody = cauldron_identity::planted::active("circuit-to-anybody");
    if wanted.is_some_and(|wanted| wanted != peer) && !anybody {
        return Err(EstablishError::SomebodyElse(id));
    }
    let denied = |source| EstablishError::Admission { id: id.clone(), source };
    let exporter = session.exporter(EXPORTER_LABEL).ok_or_else(|| denied(AdmissionError::Proof))?;
    let mesh = &shared.mesh_id;
    let our_lane = Lane::Mesh(version, shared.source.spiffe_id());
    let own = admission::seal(our_lane, &shared.author, &shared.process, mesh, side, &exporter);
    let lane = Lane::Mesh(version, &id);
    let opened = |frame: Vec<u8>| admission::open(lane, &frame, mesh, side.other(), &exporter).map_err(denied);

    // The dialer's frame first; the listener answers only a dialer that it has let in.
    if side == Side::Dialer {
        session.write(&own).await?;
    }
    let hello = opened(session.read(lane).await?)?;
    if peer == shared.local_peer {
        return Err(met_ourselves(shared, &id, &hello));
    }
    let info = PeerInfo {
        spiffe_id: id.clone(),
        author: hello.author,
        svid_not_after_s: Some(svid.not_after_s),
        version: version.number(),
        process: hello.process,
    };
    let lease = shared.registry.admit(peer, info, session.wire()).await?;
    if side == Side::Listener {
        session.write(&own).await?;
    }
    Ok(Admitted { peer, grounds: Grounds::Svid { chain, not_after_s: svid.not_after_s, changes }, lease })
}

/// Whom we meet under our own name: this process, a copy of it, or somebody with another author key.
fn met_ourselves(shared: &Shared, id: &SpiffeId, hello: &Hello) -> EstablishError {
    if hello.author != shared.author.public() {
        return EstablishError::OurName(id.clone());
    }
    match hello.process {
        Some(process) if process.nonce != shared.process.nonce => EstablishError::OurCopy(id.clone()),
        _ => EstablishError::Ourselves,
    }
}

/// The data lane: both sides prove an enrolled author key over the TLS exporter; nothing that expires is asked for.
pub(super) async fn to_data(
    shared: &Arc<Shared>,
    session: &mut impl Session,
    side: Side,
    changes: watch::Receiver<u64>,
) -> Result<Admitted, EstablishError> {
    if session.alpn().as_deref() != Some(tls::ALPN_DATA) {
        return Err(EstablishError::Alpn);
    }
    if shared.enrolled.is_none() {
        return Err(EstablishError::DataLaneClosed);
    }
    let denied = EstablishError::DataProof;
    let exporter = session.exporter(DATA_EXPORTER_LABEL).ok_or_else(|| denied(AdmissionError::Proof))?;
    let own = admission::seal(Lane::Data, &shared.author, &shared.process, &shared.mesh_id, side, &exporter);
    // The dialer proves itself first: a stranger who dials learns no author key.
    if side == Side::Dialer {
        session.write(&own).await?;
    }
    let frame = session.read(Lane::Data).await?;
    let hello = admission::open(Lane::Data, &frame, &shared.mesh_id, side.other(), &exporter).map_err(denied)?;
    let Hello { author, process } = hello;
    if author == shared.author.public() {
        return Err(EstablishError::Ourselves);
    }
    let unknown = || EstablishError::NotEnrolled(author.author_id().short());
    let spiffe_id = shared.name_of(&author).ok_or_else(unknown)?;
    let peer = data_peer_id_of(&spiffe_id);
    let info = PeerInfo { spiffe_id, author, svid_not_after_s: None, version: 1, process };
    let lease = shared.registry.admit(peer, info, session.wire()).await?;
    if side == Side::Listener {
        session.write(&own).await?;
    }
    Ok(Admitted { peer, grounds: Grounds::Author { author, changes }, lease })
}
