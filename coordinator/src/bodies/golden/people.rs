//! What people sign.

use super::*;

/// What people say.
pub(super) fn people(golden: &mut Golden) {
    let mesh = MESH;
    let (person, credential) = (|| "ana".to_owned(), World::credential("ana"));
    let (authority_head, nonce) = (Some(id(1)), d(2));
    for choice in [Choice::Approve, Choice::Abstain, Choice::Withdraw, Choice::Deny, Choice::Object, Choice::Comment] {
        let statement = crate::vote::VoteStatement {
            mesh,
            person: person(),
            credential,
            lineage: id(3),
            proposal: id(4),
            terms: d(5),
            presentation: d(6),
            served_by: key(2).author_id(),
            authority_head,
            choice,
            reason: "because".into(),
            dwell_ms: 12_000,
            issued_ms: NOW,
            expires_ms: NOW + 1,
            nonce,
        };
        golden.value("statement of vote", &statement);
        golden.body(KIND_VOTE, &statement.sign(&World::person_key("ana")));
        golden.body(KIND_VOTE, &statement.answered(&World::passkey("ana").assert(&statement.id())));
    }
    let deputy = DeputyStatement {
        mesh,
        person: person(),
        credential,
        authority_head,
        to: "bo".into(),
        groups: texts(&["hr"]),
        classes: texts(&["security.address.block/blocklist"]),
        from_ms: NOW,
        until_ms: NOW + 1,
        takes_back: Some(d(3)),
        nonce,
    };
    golden.said(KIND_DEPUTY, &deputy);
    let (used, issued_ms) = (id(3), NOW);
    let note = "right".to_owned();
    golden.said(
        KIND_REVIEW,
        &ReviewStatement { mesh, person: person(), credential, authority_head, used, note, issued_ms, nonce },
    );
    let (restriction, reason) = (id(3), "over".to_owned());
    golden.said(
        KIND_SITE_LIFT,
        &SiteLiftStatement {
            mesh,
            person: person(),
            credential,
            authority_head,
            restriction,
            reason,
            issued_ms,
            nonce,
        },
    );
    let (happened, reason) = (true, "looked".to_owned());
    golden.said(
        KIND_RECONCILED,
        &WordStatement {
            mesh,
            person: person(),
            credential,
            authority_head,
            started: id(3),
            happened,
            reason,
            issued_ms,
            nonce,
        },
    );
    golden.body(KIND_ABORTED, &Aborted { proposal: id(1), reason: "denied".into(), at_ms: NOW });
    golden.body(KIND_BREAK_GLASS, &BrokenGlass::new(&key(60), &mesh, (id(1), id(2)), "now", NOW));
}
