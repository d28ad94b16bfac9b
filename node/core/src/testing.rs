//! A small mesh for tests of cores.

use cauldron_coordinator::testkit::World;
use cauldron_identity::charter::{Charter, ClassAges, Seat};
use cauldron_identity::{AuthorKey, Clock, Confidence, Digest, SignedCharter, SpiffeId};

use crate::{Misbehave, NodeConfig, NodeCore, Seed};

pub(crate) const NOW: Clock =
    Clock { wall_ms: 1_800_000_000_000, boottime_ms: 1_000, confidence: Confidence::Confirmed };

pub(crate) fn key(n: u8) -> AuthorKey {
    AuthorKey::from_seed(&[n; 32])
}

/// A charter with one coordinator, whose council is key 2, and whose recovery key is 3.
pub(crate) fn charter(sequencer: Seat) -> SignedCharter {
    let charter = Charter {
        v: cauldron_identity::fact::VERSION,
        trust_domain: "acme.test".into(),
        root_keys: vec![Digest::of("root", b"")],
        council: vec![key(2).public().into()],
        threshold: 1,
        recovery: vec![key(3).public().into()],
        coordinators: vec![sequencer.clone()],
        sequencer,
        policy_authors: vec![key(2).public().into()],
        rp_id: "localhost".into(),
        vote_origins: vec![],
        class_ages: ClassAges::default(),
        retention_floor_days: 1,
        created_ms: 0,
    };
    SignedCharter::sign(&charter, &[&key(2)])
}

/// What a node is told that has never run.
pub(crate) fn config(key: AuthorKey, spiffe_id: &str, charter: &SignedCharter) -> NodeConfig {
    NodeConfig {
        key,
        spiffe_id: SpiffeId::new(spiffe_id).expect("an id"),
        charter: charter.clone(),
        mesh: charter.mesh_id(),
        used_before: false,
        boot_id: "boot".into(),
        bootstrap: vec![],
        terms: vec![],
        seed: Seed([0; 32]),
        place: cauldron_mesh_core::Config::default(),
        far_facts: cauldron_crdt::limits::FAR_FACTS,
        epoch_changes: cauldron_crdt::limits::EPOCH_CHANGES,
        budgets: crate::flow::Budgets::default(),
        window_max: cauldron_mesh_core::lanes::WINDOW_MAX,
        hands: cauldron_coordinator::owner::Hands::new(),
        misbehave: Misbehave::default(),
    }
}

/// Lyon's node, that holds what a world of coordinators has come to; in its present life.
pub(crate) fn lyon(world: &World) -> NodeCore {
    let seat = Seat { author: key(2).public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() };
    let config = config(key(3), &world.me().to_string(), &charter(seat));
    let mut core = NodeCore::open(config, std::collections::BTreeMap::new(), world.clock).expect("it opens");
    (core.authority, core.ledger) = (world.authority.clone(), world.ledger.clone());
    core.incarnation = core.authority.member(&core.me).map_or(0, |m| m.incarnation);
    core.docket.refresh(&core.ledger, &core.authority, world.clock.wall_ms);
    core
}
