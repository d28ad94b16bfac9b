//! A small mesh for tests: authors with keys, sites and the reader rule of the house.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, AuthorKey, MeshId, PublicKey, Realm, Scope};

use crate::log::{Access, Draft};

pub(crate) const MESH: MeshId = MeshId::from_bytes([7; 32]);

/// Who is enrolled, and at which site; no site means a coordinator.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members(pub BTreeMap<AuthorId, (PublicKey, Option<String>)>);

impl Members {
    pub fn enrol(&mut self, key: &AuthorKey, site: Option<&str>) {
        self.0.insert(key.author_id(), (key.public(), site.map(str::to_owned)));
    }

    pub fn may_read(&self, author: &AuthorId, scope: &Scope) -> bool {
        self.0.get(author).is_some_and(|(_, at)| match scope.realm() {
            Realm::Mesh => true,
            Realm::Site(site) => at.as_ref().is_none_or(|at| at == site),
        })
    }

    pub fn shared(&self, a: &AuthorId, b: &AuthorId) -> BTreeSet<Scope> {
        scopes().into_iter().filter(|scope| self.may_read(a, scope) && self.may_read(b, scope)).collect()
    }
}

impl Access for Members {
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey> {
        self.0.get(author).map(|(key, _)| *key)
    }
    fn may_write(&self, author: &AuthorId, scope: &Scope, kind: &str) -> bool {
        self.may_read(author, scope) && kind != "forbidden"
    }
}

pub(crate) fn scopes() -> Vec<Scope> {
    let texts = [
        "mesh",
        "mesh#authority",
        "mesh#restrict",
        "site/lyon",
        "site/lyon#restrict",
        "site/porto",
        "site/porto#restrict",
    ];
    let mut all: Vec<Scope> = texts.iter().map(|t| t.parse().expect("a scope")).collect();
    all.sort();
    all
}

/// `cargo xtask planted` runs these tests with one bug each, and wants them to fail.
pub(crate) fn wake() {
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("CAULDRON_PLANTED") {
        assert!(cauldron_identity::planted::activate_everywhere(&name), "{name} is no bug of ranges");
    }
}

pub(crate) fn key(seed: u8) -> AuthorKey {
    AuthorKey::from_seed(&[seed; 32])
}

pub(crate) fn draft(scope: &Scope, body: &[u8]) -> Draft {
    Draft {
        scope: scope.clone(),
        incarnation: 0,
        kind: "note".into(),
        deps: vec![],
        body: body.to_vec(),
        hlc: 0,
        traceparent: None,
    }
}
