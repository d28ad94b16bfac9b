//! What must come out the same to the byte at every node and in every build, by its hash.

use super::*;

fn hash(bytes: &[u8]) -> String {
    Digest::of("golden", bytes).to_string()
}

#[test]
fn changes_seals_and_beginnings_are_pinned() {
    let mut a = Node::with_epoch(1, 3);
    let key = doc("config/main");
    let change = a.edit(&key, &put("proxy", "port", "443")).remove(0);
    a.edit(&key, &put("proxy", "host", "gw.example"));
    a.edit(&key, &put("mail", "host", "mail.example"));
    let note = doc("notes/shift");
    let text = |at, insert: &str| Edit::Text { at, remove: 0, insert: insert.into() };
    a.edit(&note, &Edit::Title("Handover".into()));
    a.edit(&note, &text(0, "quiet"));
    a.edit(&note, &text(0, "all "));
    let seals = a.seal();
    assert_eq!(seals.len(), 2);
    let again = cauldron_identity::codec::to_cbor(&DocChange { again: Some(7), ..DocChange::default() });
    let bodies = [change.body(), seals[0].body(), seals[1].body(), Some(again.as_slice())];
    assert_eq!(
        bodies.map(|body| hash(body.expect("has one"))),
        [
            "605b6d9aa6ce8a55ff3eb88e2b263ac408facc1f1d75cf12ddad998ce5808912",
            "f76cf22ccc1f06aea271d1403233f511f7de24dd232f45763e1853d97a7831c3",
            "0fcf7124c5a2e88137a3eb351fa4f399a65f0b624c6205a7250db84c3ea59a2c",
            "f6e64594cb6c9a9bd1fadbc44ee2cceccedcec7ce19462f346e09b3e19380430",
        ]
    );
}
