//! SCOPE, byte by byte: every frame is searched for anything of a scope that its receiver may not read.

use std::collections::BTreeMap;
use std::fmt;

use cauldron_coordinator::bodies::{KIND_RESTRICTION, Restriction, Target};
use cauldron_identity::authority::{ChainEnd, Cut, Entry, EntryBody, Incarnate, KIND_ENTRY};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{FactId, SealedFact};

use super::{Holds, Violation};
use crate::facts::Known;
use crate::network::Place;
use crate::world::World;

/// Bodies shorter than this say too little to be told apart.
const BODY_LEN_MIN: usize = 48;

/// Bytes that only the readers of a site may see, found by their first four.
pub struct Secrets {
    seen: Box<[u64; 1024]>,
    by_prefix: BTreeMap<[u8; 4], Vec<Secret>>,
}

#[derive(Debug)]
struct Secret {
    site: String,
    /// Where in `bytes` the four indexed bytes stand.
    at: usize,
    bytes: Vec<u8>,
    id: FactId,
    what: &'static str,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { seen: Box::new([0; 1024]), by_prefix: BTreeMap::new() }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.by_prefix.len())
    }
}

fn slot(four: [u8; 4]) -> (usize, u64) {
    let hash = u32::from_be_bytes(four).wrapping_mul(0x9e37_79b1) >> 16;
    (hash as usize / 64, 1 << (hash % 64))
}

fn four(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

impl Secrets {
    fn add(&mut self, secret: Secret) {
        let Some(four) = four(&secret.bytes, secret.at) else { return };
        let (word, bit) = slot(four);
        self.seen[word] |= bit;
        self.by_prefix.entry(four).or_default().push(secret);
    }

    fn find(&self, frame: &[u8], may_read: impl Fn(&str) -> bool, public: impl Fn(&FactId) -> bool) -> Option<&Secret> {
        for (i, window) in frame.windows(4).enumerate() {
            let Ok(four) = <[u8; 4]>::try_from(window) else { continue };
            let (word, bit) = slot(four);
            if self.seen[word] & bit == 0 {
                continue;
            }
            let found = self.by_prefix.get(&four).into_iter().flatten().find(|secret| {
                let start = i.checked_sub(secret.at);
                let there = start.and_then(|s| frame.get(s..s + secret.bytes.len()));
                there == Some(secret.bytes.as_slice())
                    && !may_read(&secret.site)
                    && !(secret.what == "id" && public(&secret.id))
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Remembers what of a new fact is nobody else's business.
pub(super) fn learn(world: &mut World, fact: &Known) {
    if fact.kind() == KIND_ENTRY {
        return learn_ends(world, fact);
    }
    if let Some(Target::Author(_, ends)) = suspension(fact) {
        return publish(world, &ends);
    }
    let Some(site) = fact.header.scope.site_name().map(str::to_owned) else { return };
    if world.watch.secrets.by_prefix.get(&fact.id.as_bytes()[..4]).is_some_and(|s| s.iter().any(|s| s.id == fact.id)) {
        return;
    }
    let id = fact.id;
    let secret = |at, bytes, what| Secret { site: site.clone(), at, bytes, id, what };
    world.watch.secrets.add(secret(0, id.as_bytes().to_vec(), "id"));
    if let Some(body) = fact.sealed.body().filter(|b| b.len() >= BODY_LEN_MIN) {
        world.watch.secrets.add(secret(body.len() / 2, body.to_vec(), "body"));
    }
    // A scope as a CBOR text of its own, as headers and heads carry it. A SPIFFE ID of the site contains the same letters
    // inside a longer text, and is public.
    let name = fact.header.scope.to_string();
    let text = [&[0x60 + u8::try_from(name.len()).unwrap_or(0)], name.as_bytes()].concat();
    if name.len() < 24
        && !world.watch.secrets.by_prefix.get(&text[..4]).is_some_and(|s| s.iter().any(|s| s.bytes == text))
    {
        world.watch.secrets.add(secret(0, text, "scope"));
    }
}

fn suspension(fact: &Known) -> Option<Target> {
    let restriction = (fact.kind() == KIND_RESTRICTION).then(|| fact.body::<Restriction>()).flatten()?;
    let public = fact.header.scope.site_name().is_none();
    restriction.order().ok().map(|order| order.target).filter(|_| public)
}

/// These ends of chains are public: something that every node reads names them (decision 0013).
pub(crate) fn publish(world: &mut World, ends: &[ChainEnd]) {
    world.watch.public_ids.extend(ends.iter().filter_map(|end| end.id));
}

/// An `Incarnate` or `Cut` entry names the ends of chains; the authority chain is public, so these ids are.
fn learn_ends(world: &mut World, fact: &Known) {
    let entry = fact.body::<EntryBody>().and_then(|b| from_cbor::<Entry>(b.entry_bytes()).ok());
    let ends = match entry {
        Some(Entry::Incarnate(Incarnate { ends, .. }) | Entry::Cut(Cut { ends, .. })) => ends,
        _ => return,
    };
    publish(world, &ends);
}

/// The facts of a frame that carries a packed range; none of any other.
pub(crate) fn packed(bytes: &[u8]) -> Vec<SealedFact> {
    const SYNC: u8 = 0;
    match bytes {
        [SYNC, frame @ ..] => cauldron_crdt::sync::unpacked(frame).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// SCOPE: no byte of a scope reaches a node that its reader rule does not name.
pub(super) fn scope(world: &World, from: Place, to: Place, bytes: &[u8]) -> Holds {
    if world.coordinates(to) {
        return Ok(());
    }
    let (sender, receiver) = (&world.machines[from], &world.machines[to]);
    let may_read = |site: &str| receiver.site.as_deref() == Some(site);
    let names_ends = !world.watch.public_ids.is_empty();
    let public = |id: &FactId| world.watch.public_ids.contains(id);
    // What travels packed is searched unpacked.
    let unpacked: Vec<u8> = packed(bytes).iter().flat_map(to_cbor).collect();
    let found = world.watch.secrets.find(bytes, may_read, public);
    match found.or_else(|| world.watch.secrets.find(&unpacked, may_read, public)) {
        // Entries that name chain ends carry the scope's name too; site names are public (architecture §3).
        Some(secret) if secret.what == "scope" && names_ends => Ok(()),
        Some(secret) => {
            let text = format!(
                "{} sent {} the {} of {}, a fact of site {}",
                sender.name,
                receiver.name,
                secret.what,
                secret.id.short(),
                secret.site
            );
            Err(Violation::new("SCOPE", text))
        }
        None => Ok(()),
    }
}
