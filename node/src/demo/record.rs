//! The last checks of the story: what porto holds, and whether the record can be verified.

use cauldron_coordinator::policy::Bundle;

use super::checks::Check;
use super::look::{self, Needles, address, text};
use super::once::Once;
use super::process::{Failure, Node};
use crate::output::items;

/// More facts than the story makes.
const FACTS_MAX: usize = 10_000;
const SITE: &str = "site/lyon";
/// What must follow what in the story of an action that was carried out.
const ORDER: [&str; 6] = ["proposal", "decision", "vote", "permit", "started", "done"];

impl Once<'_> {
    /// What is lyon's own: addresses under attack, and the ids of every fact in its scopes.
    async fn private_to_lyon(&self) -> Result<Needles, Failure> {
        let lyon = &self.world.lyon;
        let mut needles = Needles::default();
        // Everybody holds the policy, and its own tests mention addresses too: those would prove nothing.
        let mut public = Needles::default();
        let proposals = lyon.get("/v1/proposals").await?;
        items(&proposals).iter().for_each(|p| public.add(address(p), address(p)));
        let public = public.found_in(Bundle::default_bundle().packed());
        for address in items(&proposals).iter().map(address).filter(|a| !public.contains(*a)) {
            needles.add(address, format!("the address {address}"));
        }
        let facts = lyon.get(&format!("/v1/audit?limit={FACTS_MAX}")).await?;
        for fact in items(&facts).iter().filter(|f| text(f, "/scope").starts_with(SITE)) {
            let (id, name) = (text(fact, "/id"), format!("the id of a {}", text(fact, "/kind")));
            needles.add(id, name.clone());
            needles.add(hex::decode(id).unwrap_or_default(), name);
        }
        Ok(needles)
    }

    pub(super) async fn no_foreign_scope_byte(&self) -> Result<String, Failure> {
        let (lyon, porto) = (&self.world.lyon, &self.world.porto);
        if self.sabotaged(Check::NoForeignScopeByte) {
            let copied = std::fs::copy(lyon.dir.store(), porto.dir.root().join("store.bak"));
            copied.map_err(|e| Failure::new(format!("cannot copy lyon's store: {e}")))?;
        }
        let needles = self.private_to_lyon().await?;
        // A search that finds nothing where everything is would prove nothing at porto.
        let control = search(lyon, &needles)?;
        if control.is_empty() {
            return Err(lyon.failure("lyon's own directory holds nothing of lyon's scope: the search finds nothing"));
        }
        let found = search(porto, &needles)?;
        if !found.is_empty() {
            let shown: Vec<String> = found.iter().take(4).cloned().collect();
            return Err(porto.failure(format!(
                "porto's directory holds {} things of lyon's: {}",
                found.len(),
                shown.join("; ")
            )));
        }
        let sync = porto.get("/v1/sync").await?;
        let scopes: Vec<&str> = sync["scopes"].as_array().into_iter().flatten().map(|s| text(s, "/scope")).collect();
        if scopes.iter().any(|scope| scope.starts_with(SITE)) {
            return Err(porto.failure(format!("porto replicates {}", scopes.join(", "))));
        }
        let sites = porto.get("/v1/sites").await?;
        let line = items(&sites).iter().find(|s| text(s, "/site") == "lyon").and_then(|s| s.get("line"));
        let line = line.ok_or_else(|| porto.failure("porto does not see lyon's line on the board"))?;
        let controls = control.len();
        Ok(format!(
            "none of {controls} things that lyon's directory holds is in porto's; porto sees the board's line {line}"
        ))
    }

    pub(super) async fn story_verifies(&self) -> Result<String, Failure> {
        let world = self.world;
        if self.sabotaged(Check::StoryVerifies) {
            self.flip_bytes().await?;
        }
        let mut told = Vec::new();
        for node in [&world.hq, &world.lyon] {
            let record = node.get("/v1/audit/verify").await?;
            let bad: Vec<String> = record["checks"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|c| c["ok"] != true)
                .map(|c| format!("{}: {}", text(c, "/name"), text(c, "/detail")))
                .collect();
            if record["ok"] != true {
                return Err(node.failure(format!("the record at {} does not verify: {}", node.name, bad.join("; "))));
            }
            let chains = record["checks"].as_array().into_iter().flatten().find(|c| text(c, "/name") == "chains");
            told.push(format!("{}: {}", node.name, chains.map_or("", |c| text(c, "/detail"))));
        }
        let part = self.parts()?.approved;
        let kinds = look::kinds(&world.hq, &part.id).await?;
        let mut rest = kinds.iter();
        if let Some(missing) = ORDER.iter().find(|kind| !rest.any(|k| k == *kind)) {
            return Err(world.hq.failure(format!("`{missing}` is missing or out of order in {}", kinds.join(", "))));
        }
        Ok(format!("{}; the story of {}: {}", told.join("; "), part.address, kinds.join(", ")))
    }

    /// Damages every copy of an address in lyon's store, as a failing disk would, and starts lyon on it.
    async fn flip_bytes(&self) -> Result<(), Failure> {
        let lyon = &self.world.lyon;
        let path = lyon.dir.store();
        lyon.stop().await;
        let failed = |e: std::io::Error| Failure::new(format!("cannot damage {}: {e}", path.display()));
        let mut bytes = std::fs::read(&path).map_err(failed)?;
        let address = self.parts()?.approved.address.into_bytes();
        let places: Vec<usize> =
            bytes.windows(address.len()).enumerate().filter(|(_, w)| *w == address).map(|(at, _)| at).collect();
        for at in places {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
        }
        std::fs::write(&path, bytes).map_err(failed)?;
        lyon.start(None)?;
        let up = lyon.until(super::world::START_MAX, "lyon to start on its store", "/v1/live", |_| Some(())).await;
        match up {
            // It refuses to start: that is for the check to find.
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// What of `needles` lies in the files of `node`, and where.
fn search(node: &Node, needles: &Needles) -> Result<std::collections::BTreeSet<String>, Failure> {
    let mut found = std::collections::BTreeSet::new();
    for path in look::files_below(node.dir.root())? {
        let bytes = std::fs::read(&path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        found.extend(needles.found_in(&bytes).into_iter().map(|what| format!("{what} in {name}")));
        if look::names_scope(&bytes, SITE) {
            found.insert(format!("the scope {SITE} in {name}"));
        }
    }
    Ok(found)
}
