use super::*;
use crate::testkit::{World, key};
use aws_lc_rs::signature::Ed25519KeyPair;
use cauldron_identity::authority::Assurance;
use cauldron_identity::ids::sha256;
use cauldron_identity::passkey::authenticator::Authenticator;
use cauldron_identity::passkey::{SignInError, sign_in, sign_in_challenge};

fn refused(world: &World, change: impl Fn(&mut VoteStatement)) -> VoteError {
    let mut statement = world.statement("ana", Choice::Approve);
    change(&mut statement);
    statement.sign(&World::person_key("ana")).verify(&world.authority).expect_err("refused")
}

#[test]
fn a_vote_is_its_signers_and_nobody_elses() {
    let world = World::new();
    let good = world.statement("ana", Choice::Approve);
    let vote = good.sign(&World::person_key("ana"));
    let verified = vote.verify(&world.authority).expect("ana's vote");
    assert_eq!((verified.id, verified.revoked), (good.id(), false));
    assert!(verified.groups.contains("security-duty"));
    assert_eq!(good.sign(&key(99)).verify(&world.authority), Err(VoteError::Signature));
    assert_eq!(SignedVote::new(to_cbor(&good), vec![1; 3]).verify(&world.authority), Err(VoteError::Signature));
    assert!(matches!(SignedVote::new(vec![0xff], vec![]).verify(&world.authority), Err(VoteError::Encoding(_))));
    assert_eq!(refused(&world, |s| s.mesh = MeshId::from_bytes([9; 32])), VoteError::Mesh);
    assert_eq!(refused(&world, |s| s.person = "eve".into()), VoteError::Person("eve".into()));
    assert_eq!(refused(&world, |s| s.person = "bo".into()), VoteError::Credential("bo".into()));
    assert_eq!(refused(&world, |s| s.authority_head = Some(FactId::from_bytes([9; 32]))), VoteError::HeadUnknown);
    assert_eq!(refused(&world, |s| s.authority_head = None), VoteError::Person("ana".into()));
}

/// pat, who is enrolled with a passkey alone, says `choice`.
fn by_passkey(world: &World, credential: Digest, choice: Choice) -> VoteStatement {
    VoteStatement { person: "pat".into(), credential, ..world.statement("ana", choice) }
}

#[test]
fn a_passkey_votes_on_the_meshs_pages_and_policy_sees_its_kind() {
    let mut world = World::new();
    let id = world.enrol_passkey("pat", &["security-duty"]);
    let pat = World::passkey("pat");
    let statement = by_passkey(&world, id, Choice::Approve);
    let vote = statement.answered(&pat.assert(&statement.id()));
    let verified = vote.verify(&world.authority).expect("pat's vote");
    assert_eq!((verified.kind, verified.revoked), (CredentialKind::Passkey, false));
    assert_eq!(verified.kind.assurance(), Assurance::Verified);
    assert!(verified.groups.contains("security-duty"));
    assert_eq!(vote.verify(&world.authority), Ok(verified), "the second look comes to the same");

    let refused = |assertion: &Assertion| match statement.answered(assertion).verify(&world.authority) {
        Err(VoteError::Passkey(why)) => why,
        other => panic!("{other:?}"),
    };
    let other = VoteStatement { reason: "else".into(), ..statement.clone() };
    assert!(matches!(refused(&pat.assert(&other.id())), PasskeyError::Challenge { .. }));
    assert_eq!(refused(&World::passkey("eve").assert(&statement.id())), PasskeyError::Signature);
    let seed = Digest::of("passkey", b"pat");
    let page = |rp_id, origin| Authenticator::eddsa(seed.as_bytes(), rp_id, origin).assert(&statement.id());
    assert!(matches!(refused(&page("localhost", "https://localhost:7480")), PasskeyError::Origin { .. }));
    assert!(matches!(refused(&page("acme.test", "http://localhost:7480")), PasskeyError::RpId { .. }));
    let unverified = pat.assert_with(&statement.id(), |d| d.authenticator_data[32] = 0x01);
    assert_eq!(refused(&unverified), PasskeyError::NotVerified);
    let in_ssh_form = statement.sign(&AuthorKey::from_seed(seed.as_bytes())).verify(&world.authority);
    assert!(matches!(in_ssh_form, Err(VoteError::Passkey(PasskeyError::Cbor { .. }))), "{in_ssh_form:?}");
}

#[test]
fn a_passkeys_answer_is_no_signature_of_another_kind() {
    let world = World::new();
    let statement = world.statement("ana", Choice::Approve);
    let vote = statement.answered(&World::passkey("ana").assert(&statement.id()));
    assert_eq!(vote.verify(&world.authority), Err(VoteError::Signature));
}

/// A page that signs people in for whatever nonce it is handed may be handed the id of a vote.
#[test]
fn a_votes_digest_smuggled_into_a_sign_in_challenge() {
    let mut world = World::new();
    let credential = world.enrol_passkey("pat", &["security-duty"]);
    let (mesh, node, pat) = (world.authority.mesh(), world.hq.author_id(), World::passkey("pat"));
    let statement = by_passkey(&world, credential, Choice::Approve);
    let id = pat.passkey().credential_id();

    let signed_in = pat.assert(&sign_in_challenge(&mesh, &node, &statement.id()));
    let person = sign_in(&world.authority, &node, &statement.id(), id, &signed_in).expect("a nonce as any other");
    assert_eq!(person.person, "pat");
    let vote = statement.answered(&signed_in).verify(&world.authority);
    assert!(matches!(vote, Err(VoteError::Passkey(PasskeyError::Challenge { .. }))), "{vote:?}");

    let voted = pat.assert(&statement.id());
    assert!(statement.answered(&voted).verify(&world.authority).is_ok());
    let back = sign_in(&world.authority, &node, &statement.id(), id, &voted);
    assert!(matches!(back, Err(SignInError::Refused(PasskeyError::Challenge { .. }))), "{back:?}");
}

#[test]
fn when_the_pages_move_an_approval_counts_no_more_and_a_no_still_does() {
    let mut world = World::new();
    let id = world.enrol_passkey("pat", &["security-duty"]);
    let pat = World::passkey("pat");
    let vote = |world: &World, choice| {
        let statement = by_passkey(world, id, choice);
        statement.answered(&pat.assert(&statement.id()))
    };
    let votes = [vote(&world, Choice::Approve), vote(&world, Choice::Deny)];
    world.move_pages(&["http://localhost:7481"]);
    for vote in &votes {
        assert!(vote.verify(&world.authority).expect("pat's all the same").revoked);
    }
    let late = vote(&world, Choice::Approve).verify(&world.authority).expect("pat's");
    assert!(late.revoked, "made on a page of before");
    world.move_pages(&["http://localhost:7481", crate::testkit::PAGE]);
    assert!(!votes[0].verify(&world.authority).expect("pat's").revoked);
}

#[test]
fn a_touched_token_votes_and_policy_sees_its_kind() {
    let mut world = World::new();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[77; 32]).expect("a seed");
    // A software authenticator, after OpenSSH's PROTOCOL.u2f.
    let token = |flags: u8, statement: &[u8]| {
        let signed = cauldron_identity::ssh::signed_data(VOTE_DOMAIN, statement);
        let attested = [&[flags][..], &9u32.to_be_bytes()].concat();
        let data = [&sha256(b"ssh:")[..], &attested, &sha256(&signed)].concat();
        [pair.sign(&data).as_ref(), &attested].concat()
    };
    let point = AuthorKey::from_seed(&[77; 32]).public();
    let key = cauldron_identity::SignerKey::Sk { point, application: "ssh:".into() };
    let id = world.enrol("pat", cauldron_identity::authority::Credential::of(key));
    let mut statement = world.statement("ana", Choice::Approve);
    (statement.person, statement.credential) = ("pat".into(), id);
    let bytes = to_cbor(&statement);
    let vote = |flags| SignedVote::new(bytes.clone(), token(flags, &bytes)).verify(&world.authority);
    assert_eq!(vote(0x01).map(|v| v.kind), Ok(CredentialKind::SkSsh));
    assert_eq!(vote(0x00), Err(VoteError::Signature));
    let software =
        SignedVote::new(bytes.clone(), AuthorKey::from_seed(&[77; 32]).sign_ssh(VOTE_DOMAIN, &bytes).to_bytes());
    assert_eq!(software.verify(&world.authority), Err(VoteError::Signature));
}

#[test]
fn a_revoked_person_is_marked() {
    let mut world = World::new();
    let vote = world.statement("ana", Choice::Approve).sign(&World::person_key("ana"));
    world.revoke("ana");
    assert!(vote.verify(&world.authority).expect("still ana's").revoked);
}

#[test]
fn every_bit_of_a_vote_matters() {
    let mut world = World::new();
    let id = world.enrol_passkey("pat", &[]);
    let on_the_page = by_passkey(&world, id, Choice::Approve);
    let answered = on_the_page.answered(&World::passkey("pat").assert(&on_the_page.id()));
    let signed = world.statement("ana", Choice::Approve).sign(&World::person_key("ana"));
    for vote in [signed, answered].map(|vote| to_cbor(&vote)) {
        for bit in 0..vote.len() * 8 {
            let mut flipped = vote.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let counted = from_cbor::<SignedVote>(&flipped).ok().and_then(|v| v.verify(&world.authority).ok());
            assert_eq!(counted, None, "bit {bit}");
        }
    }
}

#[test]
fn what_is_shown_changes_with_everything_that_matters() {
    let world = World::new();
    let (p, e) = (crate::testkit::proposal("198.51.100.7"), world.evaluation());
    let id = FactId::from_bytes([1; 32]);
    let shown = present(&id, &p, &e).digest();
    assert_eq!(shown, present(&id, &p, &e).digest());
    let mut other = p.clone();
    other.evidence[0].text.push('x');
    assert_ne!(shown, present(&id, &other, &e).digest());
    let mut stricter = e.clone();
    stricter.obligations.approvals[0].any_of[0].n += 1;
    assert_ne!(shown, present(&id, &p, &stricter).digest());
    assert!(present(&id, &p, &e).text().contains("security.address.block on lyon/lyon/blocklist/198.51.100.7"));
}
