//! What is on disk, checked while the node is stopped.

use std::ops::ControlFlow;
use std::sync::Arc;

use cauldron_crdt::limits::HOT_BYTES_MAX;
use cauldron_crdt::{Access, FactLog, Record, Restoring};
use cauldron_identity::authority::{KIND_ENTRY, KIND_HELD};
use cauldron_identity::{AuthorId, Authority, MeshId, PublicKey, Scope};
use cauldron_store::{CACHE_BYTES_DEFAULT, Health, RedbStore, Store, record};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Global;
use super::audit::CHECKS;
use crate::error::{CliError, Kind};
use crate::founding::read_charter;
use crate::output::{print, rows};
use crate::paths::DataDir;
use crate::run::archive::{StoreArchive, kind_of};

/// `store …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read everything and check pages, records, chains and signatures; the node must be stopped
    Verify,
}

/// The authority's rules as the log asks for them.
struct Rules<'a>(&'a Authority);

impl Access for Rules<'_> {
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey> {
        self.0.member(author).map(|m| m.key)
    }

    fn may_write(&self, author: &AuthorId, scope: &Scope, kind: &str) -> bool {
        self.0.may_write(author, scope, kind)
    }
}

pub(super) fn run(global: &Global, command: &Command) -> Result<(), CliError> {
    let Command::Verify = command;
    let dir = global.data_dir();
    let path = dir.store();
    if !path.exists() {
        return Err(CliError::config(format!("there is no store in {}", dir.root().display()))
            .hint("name the node's data directory with --node DIR"));
    }
    let store = RedbStore::open(&path, CACHE_BYTES_DEFAULT).map_err(|e| {
        let kind = match e {
            cauldron_store::StoreError::Corrupt { .. } => Kind::Integrity,
            _ => Kind::Config,
        };
        CliError::new(kind, format!("cannot open {}", path.display())).because(&e).hint(e.hint())
    })?;
    let store: Arc<dyn Store> = Arc::new(store);
    let checks = [pages(store.as_ref()), chains(&store, &dir)];
    let ok = checks.iter().all(|c| c["ok"] == true);
    let value = json!({ "ok": ok, "checks": checks });
    print(global.output, &value, || rows(&checks, CHECKS, "", Timestamp::now()))?;
    if ok {
        Ok(())
    } else {
        Err(CliError::integrity("the store does not verify").hint("keep it as evidence; facts come again from peers"))
    }
}

fn check(name: &str, result: Result<String, String>) -> Value {
    let ok = result.is_ok();
    json!({ "name": name, "ok": ok, "detail": result.unwrap_or_else(|e| e) })
}

fn pages(store: &dyn Store) -> Value {
    check(
        "pages",
        match store.check() {
            Ok(Health::Sound) => Ok("every page is sound".into()),
            Ok(Health::Repaired) => Ok("the engine's own bookkeeping was rebuilt; no record was lost".into()),
            Ok(Health::Suspect) => Err("a commit failed".into()),
            Err(e) => Err(e.to_string()),
        },
    )
}

fn chains(store: &Arc<dyn Store>, dir: &DataDir) -> Value {
    check("chains", verify_chains(store, dir).map_err(|e| e.to_string().replace('\n', " ")))
}

/// Every record's checksum, every fact's id, body and link, and every signature under the authority that the facts themselves
/// build on the pinned charter.
fn verify_chains(store: &Arc<dyn Store>, dir: &DataDir) -> Result<String, CliError> {
    let damaged = |what: String| CliError::integrity(what);
    let Some(binding) = dir.binding()? else { return Err(CliError::config("the data directory is bound to no node")) };
    let (_, charter) = read_charter(dir, &binding.mesh)?;
    let (log, Beside { local, packs, packed }) = read_log(store, binding.mesh)?;
    let mut authority = Authority::new(binding.mesh, charter).map_err(damaged)?;
    log.of_kind(KIND_ENTRY).chain(log.of_kind(KIND_HELD)).for_each(|fact| {
        authority.apply(&fact);
    });
    log.check(&Rules(&authority))
        .map_err(|e| damaged("a signature or writer rule does not hold".into()).because(&e))?;
    let signed = match log.unproven() {
        0 => "each signed and linked".to_owned(),
        some => format!("all linked, {some} signed by way of a later one, the rest each"),
    };
    let packs = if packs > 0 { format!("; {packed} of them in {packs} packs") } else { String::new() };
    Ok(format!("{} facts in {} scopes, {signed}{packs}; {local} local records", log.len(), log.scopes().len()))
}

/// What a store holds beside whole facts.
#[derive(Default)]
struct Beside {
    local: usize,
    packs: usize,
    /// Facts that lie in packs.
    packed: usize,
}

/// The log by its records, whatever index there is, and what else was found.
fn read_log(store: &Arc<dyn Store>, mesh: MeshId) -> Result<(FactLog, Beside), CliError> {
    let archive = Arc::new(StoreArchive(store.clone()));
    let (mut restoring, mut beside, mut broken) =
        (Restoring::over(mesh, archive, HOT_BYTES_MAX), Beside::default(), None);
    let scanned = store.scan(b"", &mut |key, value| {
        let taken =
            record::unwrap(key, kind_of(key), value).map_err(|e| CliError::integrity(e.to_string())).and_then(|body| {
                if Record::PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
                    let record = Record::read(key, body).map_err(|e| CliError::integrity(e.to_string()))?;
                    beside.packs += usize::from(matches!(record, Record::Pack(_)));
                    beside.packed += usize::from(matches!(record, Record::Packed(_)));
                    restoring.take(record).map_err(|e| CliError::integrity("a chain is broken").because(&e))?;
                } else if !Record::is_index(key) {
                    beside.local += 1;
                }
                Ok(())
            });
        match taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                broken = Some(why);
                ControlFlow::Break(())
            }
        }
    });
    scanned.map_err(|e| CliError::integrity("the store cannot be read").because(&e).hint(e.hint()))?;
    broken.map_or(Ok(()), Err)?;
    let log = restoring.done().map_err(|e| CliError::integrity("a chain is broken").because(&e))?;
    Ok((log, beside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::founding::{self, found};
    use cauldron_identity::SealedFact;
    use cauldron_store::{MemStore, WriteBatch};

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn founded() -> (tempfile::TempDir, DataDir, Arc<dyn Store>) {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path().join("hq"));
        found(&dir, &super::super::start::request_for_tests()).unwrap_or_else(|e| panic!("{e}"));
        let store = MemStore::default();
        let mut batch = WriteBatch::new();
        for fact in founding::read_founding(&dir).expect("readable").expect("there").facts {
            let fact = Record::Fact(fact);
            let key = fact.key().expect("a fact");
            batch.put(key.clone(), record::wrap(&key, key[0], &fact.value()));
        }
        store.commit(batch).expect("committed");
        (temporary, dir, Arc::new(store))
    }

    #[test]
    fn a_founders_store_verifies() {
        let (_temporary, dir, store) = founded();
        assert_eq!(pages(store.as_ref())["ok"], true);
        let told = verify_chains(&store, &dir).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(told, "3 facts in 2 scopes, each signed and linked; 0 local records");
    }

    #[test]
    fn facts_in_packs_verify_and_a_pack_that_is_gone_is_found() {
        let (_temporary, dir, store) = founded();
        let mesh = dir.binding().unwrap_or_else(|e| panic!("{e}")).expect("bound").mesh;
        let (log, _) = read_log(&store, mesh).unwrap_or_else(|e| panic!("{e}"));
        let mut pack = Vec::new();
        for chain in log.chains() {
            let seqs: Vec<u64> = (1..=log.held(chain)).collect();
            for batch in log.pack(chain, &seqs) {
                pack.push(batch[0].0.clone());
                let mut writes = WriteBatch::new();
                batch.into_iter().for_each(|(key, value)| {
                    writes.put(key.clone(), record::wrap(&key, key[0], &value));
                });
                store.commit(writes).expect("committed");
            }
        }
        let told = verify_chains(&store, &dir).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(told, "3 facts in 2 scopes, each signed and linked; 3 of them in 2 packs; 0 local records");
        let mut gone = WriteBatch::new();
        gone.delete(pack.remove(0));
        store.commit(gone).expect("committed");
        let why = verify_chains(&store, &dir).expect_err("found").to_string();
        assert!(why.contains("position 1 is damaged: its pack") && why.contains("is missing"), "{why}");
    }

    #[test]
    fn a_flipped_bit_a_lost_fact_and_a_forged_signature_are_found() {
        let (_temporary, dir, store) = founded();
        let mut all = Records::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            all.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        store.scan(b"", &mut visit).expect("scanned");
        let rewrite = |change: &dyn Fn(&mut Records)| {
            let mut records = all.clone();
            change(&mut records);
            let store = MemStore::default();
            let mut batch = WriteBatch::new();
            records.into_iter().for_each(|(key, value)| {
                batch.put(key, value);
            });
            store.commit(batch).expect("committed");
            verify_chains(&(Arc::new(store) as Arc<dyn Store>), &dir).expect_err("found").to_string()
        };
        let flipped = rewrite(&|records| records[0].1.iter_mut().last().into_iter().for_each(|b| *b ^= 1));
        assert!(flipped.contains("the checksum does not match"), "{flipped}");
        // The first entry of the authority chain; without it the second hangs in the air.
        let first = all.iter().position(|(key, _)| key.starts_with(b"f/mesh#authority")).expect("there");
        let lost = rewrite(&|records| drop(records.remove(first)));
        assert!(lost.contains("a chain is broken"), "{lost}");
        let forged = rewrite(&|records| {
            let (key, value) = &mut records[first];
            let body = record::unwrap(key, key[0], value).expect("intact").to_vec();
            let Record::Fact(fact) = Record::read(key, &body).expect("a fact") else { panic!("a fact") };
            let forged = SealedFact::new(
                fact.header.clone(),
                cauldron_identity::Signature::from_bytes([7; 64]),
                fact.body().map(<[u8]>::to_vec),
            );
            *value = record::wrap(key, key[0], &Record::Fact(forged).value());
        });
        assert!(forged.contains("signature"), "{forged}");
    }
}
