//! Stores that somebody has written to with other hands than the node's.

use cauldron_crdt::Record;
use cauldron_crdt::log::Packed;
use cauldron_identity::SealedFact;
use cauldron_identity::codec::{from_cbor, to_cbor};

use crate::facts::FACT_PREFIX;
use crate::rng::Rng;

/// Records of a store, in the order of their keys.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// The last position of a key.
const SEQ_LEN: usize = 8;

/// TAMPER: a store in which one fact was changed, cut short, exchanged or taken out from the middle of its chain. The node
/// must not open it. What these bytes are wrapped in has a checksum besides, which is the store's own; the last fact of a chain may
/// be gone without a trace here, and is known to peers: that is INCARNATE's.
pub(crate) fn tampered(rng: &mut Rng, mut records: Records) -> Option<(&'static str, Records)> {
    let is_fact = |key: &[u8]| key.starts_with(FACT_PREFIX);
    let chain = |key: &[u8]| key.get(..key.len().saturating_sub(SEQ_LEN)).map(<[u8]>::to_vec);
    let follows = |at: usize| {
        let next = records.get(at + 1).map(|(key, _)| key);
        next.is_some_and(|next| is_fact(next) && chain(next) == chain(&records[at].0))
    };
    let facts: Vec<usize> = (0..records.len()).filter(|at| is_fact(&records[*at].0)).collect();
    let inner: Vec<usize> = facts.iter().copied().filter(|at| follows(*at)).collect();
    let at = *rng.pick(&inner)?;
    let what = match rng.below(4) {
        0 => {
            records.remove(at);
            "taken out"
        }
        1 => {
            let other = *rng.pick(&facts)?;
            // Two facts of one pack have one stub.
            if records[other].1 == records[at].1 {
                return None;
            }
            let value = std::mem::take(&mut records[at].1);
            records[at].1 = std::mem::replace(&mut records[other].1, value);
            "exchanged for another"
        }
        2 => {
            let value = &mut records[at].1;
            value.truncate(rng.index(value.len()));
            "cut short"
        }
        _ if Packed::is_stub(&records[at].1) => {
            let Ok(Record::Packed(packed)) = Record::read(&records[at].0, &records[at].1) else { return None };
            let pack = records.iter_mut().find(|(key, _)| *key == packed.pack_key())?;
            let byte = rng.index(pack.1.len());
            pack.1[byte] ^= 1 << rng.below(8);
            "changed by one bit in its pack"
        }
        _ => {
            let sealed: SealedFact = from_cbor(&records[at].1).ok()?;
            let mut parts = [sealed.header.clone(), sealed.body()?.to_vec()];
            let part = usize::from(rng.percent(50) && !parts[1].is_empty());
            let byte = rng.index(parts[part].len());
            parts[part][byte] ^= 1 << rng.below(8);
            let [header, body] = parts;
            records[at].1 = to_cbor(&SealedFact::new(header, sealed.signature, Some(body)));
            "changed by one bit"
        }
    };
    Some((what, records))
}
