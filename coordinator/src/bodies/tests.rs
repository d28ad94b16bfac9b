use super::*;
use crate::testkit::{NOW, World, proposal};
use crate::vote::SignedVote;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::sha256;
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

#[test]
fn fields_of_later_versions_do_not_stop_a_reader() {
    let ended =
        Ended { started: cauldron_identity::FactId::from_bytes([1; 32]), effect_ref: "x".into(), ended_ms: NOW };
    let mut bytes = to_cbor(&ended);
    bytes[0] += 1;
    bytes.extend_from_slice(&[0x18, 0x63, 0x01]); // 99: 1
    assert_eq!(from_cbor::<Ended>(&bytes), Ok(ended));
}

#[test]
fn wire_v1_is_pinned() {
    let digest = |bytes: &[u8]| sha256(bytes)[..6].iter().map(|b| format!("{b:02x}")).collect::<String>();
    let rego = "package cauldron.guardrail\nstep_up contains {\"rule\":\"r\",\"why\":\"w\",\"approvals\":[{\"group\":\"security-duty\",\"n\":1}]}";
    let mut world = World::with_policy(rego);
    world.permitted("198.51.100.7");
    let kinds: Vec<_> =
        world.facts.iter().map(|f| format!("{} {}", f.header().kind, digest(f.body().expect("present")))).collect();
    let pinned = ["proposal 81a1121ea655", "decision 286259360e7a", "vote 7f0a0fc53ed2", "permit 1f64d775ef4a"];
    assert_eq!(kinds, pinned);
}
