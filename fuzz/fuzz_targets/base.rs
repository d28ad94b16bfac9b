//! Documents in one piece, as a hostile peer may send them.
//!
//! Input: one base. Its chunk is either Automerge's own of an honest history, or an array of changes, so that mutation gets behind
//! the process of its own that unpacks chunks where the product runs.
//!
//! Whatever comes: what is taken is what its authors signed, can be read, and gives way to their facts.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cauldron_crdt::Access;
use cauldron_crdt::doc::{Documents, Done};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::mesh::{LYON, PORTO, key};
use cauldron_fuzz::seeds::document::{Written, document, unpack, written};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::{AuthorId, PublicKey, Scope};
use libfuzzer_sys::fuzz_target;

struct Members(BTreeMap<AuthorId, PublicKey>);

impl Access for Members {
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey> {
        self.0.get(author).copied()
    }

    fn may_write(&self, _: &AuthorId, _: &Scope, _: &str) -> bool {
        true
    }
}

static MEMBERS: LazyLock<Members> =
    LazyLock::new(|| Members([LYON, PORTO].into_iter().map(|n| (key(n).author_id(), key(n).public())).collect()));
static WRITTEN: LazyLock<Vec<Written>> = LazyLock::new(|| (0..3).map(written).collect());

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    for (n, honest) in (0..3).zip(&*WRITTEN) {
        let (mut docs, name) = (Documents::new(), document(n));
        if docs.load(&name, input, &*MEMBERS, &|_| true).is_err() {
            continue;
        }
        let work = docs.work().expect("it is to be unpacked").run(&unpack);
        if docs.finish(work) != Done::Loaded(Ok(())) {
            assert!(docs.status(&name).is_none(), "a base that is refused leaves nothing");
            continue;
        }
        let status = docs.status(&name).expect("it was taken");
        assert!(status.missing == status.changes && status.changes <= honest.facts.len() as u64);
        assert!(docs.view(&name).is_some() && docs.blame(&name).is_some());
        // The authors signed these facts and no others.
        honest.facts.iter().for_each(|fact| _ = docs.apply(fact, true));
        let status = docs.status(&name).expect("still there");
        assert_eq!((status.missing, status.digest), (0, honest.digest), "the facts count");
    }
}));
