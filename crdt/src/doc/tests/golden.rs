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
            "cdbd2e16a2cf9906c7f3bd93520b910662fe19d126603b36400920f96a36f332",
            "9aa907d8c7a72e27b42d2bb7815892baf31ae4aa447371de70dd8368317d8f17",
            "905f927169a05295c9a9d2f7a5de5b83769c1eae4bca52a0a8368bb0b546731d",
            "f6e64594cb6c9a9bd1fadbc44ee2cceccedcec7ce19462f346e09b3e19380430",
        ]
    );
}
