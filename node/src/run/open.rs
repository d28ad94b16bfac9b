//! From a data directory to a core that can run: the store, the SVID, the charter, the clock.

use std::sync::Arc;

use cauldron_coordinator::owner::Hands;
use cauldron_identity::authority::{EntryBody, Issuance};
use cauldron_identity::{AuthorKey, MeshId, SealedFact, SignedCharter};
use cauldron_mesh::SvidSource;
use cauldron_node_core::{NodeConfig, NodeCore, Place, Seed};
use cauldron_store::{RedbStore, Store};

use super::archive::read_store;
use super::fault::Fault;
use super::root_keeper::RootKeeper;
use super::site::SiteHolder;
use super::{CLOCK_NOTE, external, issued, svid};
use crate::clock::{Mark, SystemClock};
use crate::config::{Config, Source};
use crate::error::{CliError, Kind};
use crate::{chance, clock, founding};

/// What a node starts with beside its store.
pub(super) struct Start {
    pub(super) identity: svid::Identity,
    pub(super) charter: SignedCharter,
    pub(super) bootstrap: Vec<SealedFact>,
    pub(super) terms: Vec<EntryBody>,
    /// What was issued on the way.
    pub(super) issued: Vec<Issuance>,
}

pub(super) fn open_store(config: &Config) -> Result<RedbStore, CliError> {
    let path = config.node.dir.store();
    RedbStore::open(&path, config.store.cache_bytes).map_err(|e| {
        let kind = if matches!(e, cauldron_store::StoreError::Locked { .. }) { Kind::Config } else { Kind::Integrity };
        CliError::new(kind, "the store cannot be opened").because(&e)
    })
}

/// Gets an SVID and the charter: from disk, from the authority on this machine, or by joining.
pub(super) async fn enter(
    config: &Config,
    mesh: MeshId,
    author: &AuthorKey,
    ca: Option<&RootKeeper>,
    holder: Option<&SiteHolder>,
) -> Result<Start, CliError> {
    let dir = &config.node.dir;
    let on_disk = svid::read(dir, &config.identity.spiffe_id).unwrap_or_else(|why| {
        tracing::warn!(%why, "the SVID on disk is of no use; getting a new one");
        None
    });
    let embedded = config.identity.source == Source::Embedded;
    let mut issued = Vec::new();
    let (identity, welcome) = match (on_disk, ca, &config.authority) {
        (on_disk, ..) if !embedded => {
            // The author key is admitted as ever; the SVID that comes along is not this node's.
            let welcome = match dir.charter().try_exists().unwrap_or(true) {
                true => None,
                false => {
                    let (_, welcome) = svid::join(config, mesh, author, None).await?;
                    let _ = std::fs::remove_file(dir.svid());
                    Some(welcome)
                }
            };
            (external::enter(config, on_disk).await, welcome)
        }
        // The authority's own SVID is issued afresh: it costs nothing and cannot have expired.
        (on_disk, Some(keeper), Some(settings)) => {
            let ca = keeper.ca().map_err(CliError::integrity)?;
            let known = on_disk.map(|identity| identity.bundles).unwrap_or_default();
            let id = &config.identity.spiffe_id;
            let identity = svid::issue_own(&ca, id, settings.svid_lifetime, &known)?;
            svid::write(dir, &identity)?;
            issued.extend(issued::svid(&identity.chain, id, ca.key_digest()));
            (identity, None)
        }
        // Valid or not: what expired is renewed by the author key, or by the site's intermediate right here.
        (Some(identity), ..) => {
            let now_s = clock::wall_ms() / 1000;
            let valid = cauldron_identity::x509::verify_svid(&identity.chain, &identity.bundles, now_s).is_ok();
            let in_the_dark = holder
                .filter(|_| !valid)
                .map(|holder| holder.issue_own(&config.identity.spiffe_id, identity.bundles.clone()));
            let in_the_dark = in_the_dark.and_then(Result::ok);
            issued.extend(in_the_dark.as_ref().and_then(|own| issued::by_site(&own.chain, &config.identity.spiffe_id)));
            (in_the_dark.unwrap_or(identity), None)
        }
        (None, ..) => {
            let (identity, welcome) = svid::join(config, mesh, author, holder).await?;
            (identity, Some(welcome))
        }
    };
    let (charter, _) = founding::read_charter(dir, &mesh)?;
    let founded = founding::read_founding(dir)?.map(|f| f.facts).unwrap_or_default();
    let (bootstrap, terms) = match welcome {
        Some(welcome) => (welcome.authority, welcome.terms),
        None => (founded, founding::read_terms(dir)?),
    };
    Ok(Start { identity, charter, bootstrap, terms, issued })
}

/// The core, the clock and the TLS identity, ready to run.
pub(super) struct Opened {
    pub(super) core: NodeCore,
    pub(super) clock: SystemClock,
    pub(super) source: Arc<SvidSource>,
    pub(super) issued: Vec<Issuance>,
}

pub(super) fn open_node(
    config: &Config,
    mesh: MeshId,
    author: &AuthorKey,
    start: Start,
    store: &Arc<dyn Store>,
    fault: &Fault,
    (used_before, hands): (bool, Hands),
) -> Result<Opened, CliError> {
    let opening = read_store(store, mesh)?;
    let noted = opening.note(CLOCK_NOTE);
    let stored: Option<Mark> = noted.and_then(|value| cauldron_identity::codec::from_cbor(value).ok());
    let mark = match stored {
        Some(mark) => Some(mark),
        None => founding::read_clock(&config.node.dir)?,
    };
    let clock = SystemClock::start(mark.as_ref());
    let settings = NodeConfig {
        key: AuthorKey::from_seed(author.seed()),
        spiffe_id: config.identity.spiffe_id.clone(),
        charter: start.charter,
        mesh,
        boot_id: clock.boot_id().to_owned(),
        bootstrap: start.bootstrap,
        terms: start.terms,
        used_before,
        seed: Seed(chance::bytes()),
        place: Place { region: config.mesh.region.clone(), hub: config.mesh.hub },
        far_facts: cauldron_crdt::limits::FAR_FACTS,
        epoch_changes: fault.epoch_changes.unwrap_or(cauldron_crdt::limits::EPOCH_CHANGES),
        budgets: config.link.budgets.clone(),
        window_max: cauldron_node_core::LINK_WINDOW_MAX,
        hands,
        misbehave: fault.misbehave,
    };
    let core = NodeCore::open_with(settings, opening, clock.now()).map_err(|e| unusable(&e))?;
    let identity = start.identity;
    let source = SvidSource::new(identity.chain, &identity.key, identity.bundles, clock::certificate_clock())
        .map_err(|e| CliError::integrity("the SVID cannot be used for TLS").because(&e))?;
    if let Err(problem) = source.own_status() {
        tracing::warn!(%problem, "no peer accepts this node's SVID now; it is renewed by the author key as soon as an authority answers");
    }
    Ok(Opened { core, clock, source, issued: start.issued })
}

/// The store does not let this node start.
pub(super) fn unusable(why: &cauldron_node_core::OpenError) -> CliError {
    CliError::integrity("this node cannot start on its store").because(why).hint(
        "keep the data directory as it is; restore it from a backup, or give the box a new identity with a new token",
    )
}
