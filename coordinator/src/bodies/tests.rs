use super::*;
use crate::testkit::{World, proposal};
use crate::vote::SignedVote;
use cauldron_identity::codec::{from_cbor, to_cbor};
use minicbor::{Decode, Encode};

#[track_caller]
fn same<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> T {
    let value: T = from_cbor(bytes).expect("strict CBOR");
    assert_eq!(to_cbor(&value), bytes);
    value
}

#[test]
fn every_kind_round_trips_and_has_a_json_view() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let started = world.start(&permit);
    world.done(&started);
    world.failed(&started, true);
    world.restrict(2, "mesh#restrict", Target::All);
    for fact in world.facts.clone() {
        let bytes = fact.body().expect("present");
        let json = match fact.header().kind.as_str() {
            KIND_PROPOSAL => serde_json::to_value(same::<Proposal>(bytes)),
            KIND_DECISION => serde_json::to_value(same::<Decision>(bytes)),
            KIND_VOTE => serde_json::to_value(same::<SignedVote>(bytes).statement().expect("readable")),
            KIND_PERMIT => serde_json::to_value(same::<Permit>(bytes)),
            KIND_STARTED => serde_json::to_value(same::<Started>(bytes)),
            KIND_DONE => serde_json::to_value(same::<Done>(bytes)),
            KIND_FAILED => serde_json::to_value(same::<Failed>(bytes)),
            KIND_RESTRICTION => serde_json::to_value(same::<Restriction>(bytes).order().expect("readable")),
            other => panic!("{other}"),
        };
        assert!(json.expect("a view").is_object());
    }
    let view = serde_json::to_value(proposal("198.51.100.7")).expect("a view");
    assert_eq!((view["args"]["ttl_s"].as_u64(), view["risk"].as_str()), (Some(3600), Some("R1")));
}
