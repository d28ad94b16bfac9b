use super::*;
use crate::bodies::Reversibility;
use crate::testkit::proposal;
use serde_json::json;

fn args(text: &str) -> Result<Action, ActionError> {
    Action::parse(Catalogue::built_in(), "security.address.block/blocklist", text.as_bytes())
}

#[test]
fn arguments_are_typed_and_have_one_form() {
    let action = args(r#"{"address":"198.51.100.7","reason":"brute force","ttl_s":3600}"#).expect("valid");
    assert_eq!((action.object(), action.risk(), action.is_read()), ("198.51.100.7", RiskClass::R1, false));
    assert_eq!(action.bytes(), br#"{"address":"198.51.100.7","reason":"brute force","ttl_s":3600}"#);
    assert_eq!(action.intent_key(1_795_341_600_000), "198.51.100.7/2026-11-22T10:00:00Z");
    for (text, field) in [
        (r#"{"address":"::ffff:198.51.100.7","reason":"r","ttl_s":1}"#, "address"),
        (r#"{"address":"2001:DB8::1","reason":"r","ttl_s":1}"#, "address"),
        (r#"{"address":"fe80::1%eth0","reason":"r","ttl_s":1}"#, "address"),
        (r#"{"reason":"r","ttl_s":1}"#, "(all)"),
        (r#"{"address":"198.51.100.7","reason":"r","ttl_s":0}"#, "ttl_s"),
        (r#"{"address":"198.51.100.7","reason":"r","ttl_s":86401}"#, "ttl_s"),
        (r#"{"address":"198.51.100.7","reason":"r","ttl_s":"1"}"#, "ttl_s"),
        (r#"{"address":"198.51.100.7","reason":" ","ttl_s":1}"#, "reason"),
        (r#"{"address":"198.51.100.7","force":true,"reason":"r","ttl_s":1}"#, "(all)"),
        ("[]", "(all)"),
    ] {
        let refused = args(text);
        assert!(matches!(&refused, Err(ActionError::Argument { field: f, .. }) if f == field), "{text}: {refused:?}");
    }
    assert!(matches!(args(r#"{"ttl_s":1,"reason":"r","address":"198.51.100.7"}"#), Err(ActionError::Json(_))));
    assert!(matches!(
        Action::parse(Catalogue::built_in(), "erp.invoice.pay/erp", b"{}"),
        Err(ActionError::Operation(_))
    ));
}

#[test]
fn what_takes_an_action_back_follows_from_its_schema() {
    let block = args(r#"{"address":"198.51.100.7","reason":"brute force","ttl_s":3600}"#).expect("valid");
    let undo = block.undo(Catalogue::built_in()).expect("fits").expect("there is one");
    assert_eq!((undo.operation(), undo.args()), ("security.address.unblock", &json!({ "address": "198.51.100.7" })));
    assert_eq!(undo.undo(Catalogue::built_in()), Ok(None));
}

#[test]
fn an_operation_alone_names_an_action_where_one_connector_does_it() {
    let args = json!({ "path": "a.conf", "text": "x" });
    let action = Action::new(Catalogue::built_in(), "devops.file.write", None, &args).expect("one connector");
    assert_eq!(
        (action.action_class().as_str(), action.intent_with("v1").as_str()),
        ("devops.file.write/folder", "a.conf/v1")
    );
    let schema = include_bytes!("../../../deploy/schemas/devops.file.write.json");
    let text = String::from_utf8_lossy(schema).replace("\"folder\"", "\"etc\"");
    let two = Catalogue::built_in().with([("etc.json", text.as_bytes())]).expect("another class");
    let refused = Action::new(&two, "devops.file.write", None, &args).expect_err("which?");
    assert!(refused.to_string().contains("etc, folder"), "{refused}");
    assert!(Action::new(&two, "devops.file.write", Some("etc"), &args).is_ok());
}

#[test]
fn a_proposals_fields_must_agree() {
    let good = proposal("198.51.100.7");
    let of = |p: &Proposal| Action::of_proposal(Catalogue::built_in(), p);
    assert!(of(&good).is_ok(), "{:?}", of(&good));
    type Change = fn(&mut Proposal);
    let cases: [(&str, Change); 14] = [
        ("module", |p| p.module = "erp".into()),
        ("operation", |p| p.operation = "security.address.unblock".into()),
        ("site", |p| p.site = "porto".into()),
        ("resource", |p| p.resource = "lyon/lyon/blocklist/198.51.100.8".into()),
        ("resource", |p| p.resource = "lyon/lyon/other/198.51.100.7".into()),
        ("args_digest", |p| p.args_digest = Proposal::digest_of_args(b"{}")),
        ("intent_key", |p| p.intent_key = "198.51.100.70/x".into()),
        ("intent_key", |p| p.intent_key = "198.51.100.7/".into()),
        ("confidence_ppm", |p| p.confidence_ppm = 1_000_001),
        ("expires_ms", |p| p.expires_ms = p.created_ms),
        ("expires_ms", |p| p.expires_ms = p.created_ms + PROPOSAL_AGE_MS_MAX + 1),
        ("rationale", |p| p.rationale = "x".repeat(TEXT_LEN_MAX + 1)),
        ("evidence", |p| p.evidence = vec![p.evidence[0].clone(); LIST_MAX + 1]),
        ("dry_run", |p| p.dry_run = Some("x".repeat(DIFF_LEN_MAX + 1))),
    ];
    for (name, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let refused = of(&bad);
        assert!(matches!(&refused, Err(ActionError::Field { field, .. }) if *field == name), "{name}: {refused:?}");
    }
    let unknown = Proposal { action_class: "security.address.block/nft".into(), ..good };
    assert!(matches!(of(&unknown), Err(ActionError::Operation(_))));
}

#[test]
fn a_version_and_a_way_back_cannot_be_claimed_away() {
    let args = canonical(&json!({ "path": "a.conf", "reason": "old" })).expect("canonical");
    let delete = Proposal {
        module: "devops".into(),
        operation: "devops.file.delete".into(),
        action_class: "devops.file.delete/folder".into(),
        resource: "lyon/lyon/folder/a.conf".into(),
        intent_key: "a.conf/v1".into(),
        expected_version: Some("v1".into()),
        args_digest: Proposal::digest_of_args(&args),
        args,
        reversibility: Reversibility::Irreversible,
        ..proposal("198.51.100.7")
    };
    let of = |p: &Proposal| Action::of_proposal(Catalogue::built_in(), p).map(|a| a.risk());
    assert_eq!(of(&delete), Ok(RiskClass::R3));
    let refused = |p: Proposal| match of(&p) {
        Err(ActionError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Proposal { reversibility: Reversibility::Reversible, ..delete.clone() }), "reversibility");
    assert_eq!(refused(Proposal { expected_version: None, ..delete.clone() }), "expected_version");
    assert_eq!(refused(Proposal { expected_version: Some("v2".into()), ..delete }), "intent_key");
}
