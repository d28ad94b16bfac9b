//! Facts that are seldom asked for, many in one record: compressed together, and given back to the byte.
//!
//! A *pack* holds whole records of one chain. Under the key of each of these facts a *stub* takes the place of its record
//! and names the pack; where in it the fact lies, its position says. A pack is named by its content: none takes the
//! place of another, and one that was changed in any bit is not the one that the stubs name.
//!
//! A record that is written over a stub later counts from then on. Its copy in the pack stays, and nobody reads it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{BodyHash, Digest, FactId, SealedFact, Signature, planted};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use super::record::{FACT_PREFIX, fact_key, key, parse};
use super::{Archive, ChainId, PackBatch};
use crate::limits::{BULK_GROWTH_MAX, PACK_FACTS_MAX, PACK_RAW_LEN_MAX, PACKS_KEPT};

/// Prefix of the keys of packs.
pub const PREFIX: &[u8] = b"p/";

/// The beginning of a hash over a pack's place and content.
type Check = ByteArray<CHECK_LEN>;
const CHECK_LEN: usize = 8;

/// Whole records by position.
type Records = BTreeMap<u64, Vec<u8>>;

/// What lies under the key of a fact that is in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    chain: ChainId,
    seq: u64,
    stub: Stub,
}

/// Which pack. An array, where a whole record is a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Stub {
    #[n(0)]
    first: u64,
    #[n(1)]
    check: Check,
}

/// Many facts of one chain in one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    chain: ChainId,
    /// Position of the first fact.
    first: u64,
    body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Body {
    /// Length of the content, unpacked.
    #[n(0)]
    len: u32,
    /// [`Columns`] as one LZ4 block.
    #[n(1)]
    content: ByteVec,
}

/// The parts of the facts, like beside like: so they shrink most.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
struct Columns {
    /// Headers, without what [`Cuts`] says.
    #[n(0)]
    headers: Vec<ByteVec>,
    #[n(1)]
    cuts: Vec<Cuts>,
    #[n(2)]
    signatures: Vec<Signature>,
    #[n(3)]
    bodies: Vec<ByteVec>,
}

/// Where two hashes were taken out of a header that follow from the rest, which does not compress: first the id of the fact
/// before in the pack, then the hash of the body.
#[derive(Debug, Encode, Decode)]
struct Cuts {
    #[n(0)]
    before: Option<u16>,
    #[n(1)]
    body: Option<u16>,
}

impl Stub {
    fn of(chain: &ChainId, first: u64, value: &[u8]) -> Self {
        let named = [key(PREFIX, chain, Some(first)).as_slice(), value].concat();
        let digest = Digest::of("cauldron/pack/v1", &named);
        let check = digest.as_bytes().first_chunk().filter(|_| !planted::active("pack-named-by-first"));
        Self { first, check: check.copied().unwrap_or_default().into() }
    }
}

/// Reads facts that may lie in packs, and keeps a few packs that were asked last.
#[derive(Debug, Default)]
pub struct Packs {
    read: Mutex<VecDeque<(Vec<u8>, Arc<Records>)>>,
}

impl Packed {
    /// Whether a value under a fact's key says that the fact is in a pack.
    #[must_use]
    pub fn is_stub(value: &[u8]) -> bool {
        matches!(value.first(), Some(0x80..=0x9f))
    }

    /// Reads a stub under a fact's key.
    pub(super) fn read(stored: &[u8], value: &[u8]) -> Result<Self, String> {
        let place = parse(FACT_PREFIX, stored).filter(|(.., rest)| rest.is_empty());
        let (chain, seq, _) = place.ok_or("the key names no position")?;
        Ok(Self { chain, seq, stub: from_cbor(value).map_err(|why| why.to_string())? })
    }

    pub(super) fn key(&self) -> Vec<u8> {
        fact_key(&self.chain, self.seq)
    }

    pub(super) fn value(&self) -> Vec<u8> {
        to_cbor(&self.stub)
    }

    pub(super) fn place(&self) -> (&ChainId, u64) {
        (&self.chain, self.seq)
    }

    /// The key of its pack.
    #[must_use]
    pub fn pack_key(&self) -> Vec<u8> {
        pack_key(&self.chain, self.stub)
    }
}

impl Packs {
    /// The whole record of a fact, from the value under its key: that value, or what the pack holds that it names.
    ///
    /// # Errors
    /// A sentence: the stub or its pack is damaged, or the pack is missing or does not hold the fact.
    pub fn whole(&self, archive: &dyn Archive, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, String> {
        if Packed::is_stub(&value) { self.fact(archive, &Packed::read(key, &value)?) } else { Ok(value) }
    }

    /// The whole record of a fact that is in a pack.
    pub(super) fn fact(&self, archive: &dyn Archive, packed: &Packed) -> Result<Vec<u8>, String> {
        let records = self.records(archive, packed);
        let found = records.and_then(|records| records.get(&packed.seq).cloned().ok_or("does not hold it".into()));
        found.map_err(|why| format!("its pack, which begins at position {}, {why}", packed.stub.first))
    }

    fn records(&self, archive: &dyn Archive, packed: &Packed) -> Result<Arc<Records>, String> {
        let key = packed.pack_key();
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let value = archive.read(&key).map_err(|why| format!("cannot be read: {why}"))?.ok_or("is missing")?;
        let pack = Pack::read(&key, &value).map_err(|why| format!("is damaged: {why}"))?;
        let records = Arc::new(pack.unpack().map_err(|why| format!("is damaged: {why}"))?);
        let mut kept = self.kept();
        kept.truncate(PACKS_KEPT - 1);
        kept.push_front((key, records.clone()));
        Ok(records)
    }

    fn known(&self, key: &[u8]) -> Option<Arc<Records>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(known, _)| known == key)?;
        let found = kept.remove(at)?;
        let records = found.1.clone();
        kept.push_front(found);
        Some(records)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<(Vec<u8>, Arc<Records>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pack {
    /// Packs facts of one chain: position and fact of each, in order.
    #[must_use]
    pub fn of(chain: &ChainId, facts: &[(u64, SealedFact)]) -> Self {
        let raw = to_cbor(&Columns::of(facts));
        let content = lz4_flex::block::compress(&raw).into();
        let len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        let first = facts.first().map_or(0, |(seq, _)| *seq);
        Self { chain: chain.clone(), first, body: Body { len, content } }
    }

    /// Reads a pack and compares it with the hash in its key; it is not unpacked.
    pub(super) fn read(stored: &[u8], value: &[u8]) -> Result<Self, String> {
        let (chain, first, check) = parse(PREFIX, stored).ok_or("the key names no position")?;
        let body: Body = from_cbor(value).map_err(|why| why.to_string())?;
        let pack = Self { chain, first, body };
        if pack.stub().check.as_slice() != check {
            return Err("it is not what its key says".into());
        }
        if pack.raw_len().is_none() {
            return Err("it announces more than it may grow to".into());
        }
        Ok(pack)
    }

    pub(super) fn key(&self) -> Vec<u8> {
        pack_key(&self.chain, self.stub())
    }

    /// The bytes to store.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        to_cbor(&self.body)
    }

    fn stub(&self) -> Stub {
        Stub::of(&self.chain, self.first, &self.value())
    }

    /// How long it is unpacked, if it may be that long.
    fn raw_len(&self) -> Option<usize> {
        let may = self.body.content.len().saturating_mul(BULK_GROWTH_MAX).min(PACK_RAW_LEN_MAX);
        usize::try_from(self.body.len).ok().filter(|len| *len <= may)
    }

    /// The records in it.
    pub(super) fn unpack(&self) -> Result<Records, &'static str> {
        let len = self.raw_len().ok_or("it announces more than it may grow to")?;
        let mut raw = vec![0; len];
        let filled = lz4_flex::block::decompress_into(&self.body.content, &mut raw);
        if filled.ok() != Some(len) {
            return Err("it is not as long as it announces");
        }
        let columns: Columns = from_cbor(&raw).map_err(|_| "what it holds are no facts")?;
        let mut records = Records::new();
        for fact in columns.facts().ok_or("what it holds are no facts")? {
            let header = fact.peek().map_err(|_| "what it holds are no facts")?;
            if ChainId::of(&header) != self.chain {
                return Err("it holds facts of another chain");
            }
            if records.insert(header.seq, to_cbor(&fact)).is_some() {
                return Err("it holds two facts for one position");
            }
        }
        Ok(records)
    }
}

impl Columns {
    fn of(facts: &[(u64, SealedFact)]) -> Self {
        let (mut columns, mut id) = (Self::default(), None::<FactId>);
        for (_, fact) in facts {
            let (mut header, body) = (fact.header.clone(), fact.body().unwrap_or_default());
            let before = id.and_then(|id| cut(&mut header, id.as_bytes()));
            let cuts = Cuts { before, body: cut(&mut header, BodyHash::of_body(body).as_bytes()) };
            columns.headers.push(header.into());
            columns.cuts.push(cuts);
            columns.signatures.push(fact.signature);
            columns.bodies.push(body.to_vec().into());
            id = Some(fact.id());
        }
        columns
    }

    /// None when the columns are not of one length, or too long, or a cut lies outside of its header.
    fn facts(self) -> Option<Vec<SealedFact>> {
        let count = self.headers.len();
        let lens = [self.cuts.len(), self.signatures.len(), self.bodies.len()];
        if count > PACK_FACTS_MAX || lens.iter().any(|len| *len != count) {
            return None;
        }
        let (mut facts, mut id) = (Vec::with_capacity(count), None::<FactId>);
        let parts = self.headers.into_iter().zip(self.cuts).zip(self.signatures).zip(self.bodies);
        for (((header, cuts), signature), body) in parts {
            let (mut header, body) = (Vec::from(header), Vec::from(body));
            if let Some(at) = cuts.body {
                put_back(&mut header, at, BodyHash::of_body(&body).as_bytes())?;
            }
            if let Some(at) = cuts.before {
                put_back(&mut header, at, id?.as_bytes())?;
            }
            let fact = SealedFact::new(header, signature, Some(body));
            id = Some(fact.id());
            facts.push(fact);
        }
        Some(facts)
    }
}

/// Takes `hash` out of `bytes`; says where it was, if it was there.
fn cut(bytes: &mut Vec<u8>, hash: &[u8; 32]) -> Option<u16> {
    let at = bytes.windows(hash.len()).position(|window| window == hash)?;
    let told = u16::try_from(at).ok()?;
    bytes.drain(at..at + hash.len());
    Some(told)
}

/// [`cut`], in reverse; none when `bytes` end before.
fn put_back(bytes: &mut Vec<u8>, at: u16, hash: &[u8; 32]) -> Option<()> {
    let at = usize::from(at);
    (at <= bytes.len()).then(|| drop(bytes.splice(at..at, hash.iter().copied())))
}

/// A pack with this value that begins at `first`, and stubs that name it at `seqs`; whatever the value is.
#[must_use]
pub fn stubbed(chain: &ChainId, first: u64, value: Vec<u8>, seqs: impl IntoIterator<Item = u64>) -> PackBatch {
    let stub = Stub::of(chain, first, &value);
    let stubs = seqs.into_iter().map(|seq| (fact_key(chain, seq), to_cbor(&stub)));
    std::iter::once((pack_key(chain, stub), value)).chain(stubs).collect()
}

fn pack_key(chain: &ChainId, stub: Stub) -> Vec<u8> {
    [key(PREFIX, chain, Some(stub.first)), stub.check.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Draft, FactLog, Record};
    use crate::testing::{MESH, key};
    use cauldron_identity::Scope;

    /// Facts of one chain, each with this body.
    fn facts(count: u64, body: &[u8]) -> (ChainId, Vec<(u64, SealedFact)>) {
        let (mut log, scope) = (FactLog::new(MESH), Scope::mesh());
        let draft = crate::testing::draft(&scope, body);
        let mut fact = |hlc| log.append(&key(1), Draft { hlc, ..draft.clone() }).expect("fits").sealed().clone();
        let facts = (1..=count).map(|seq| (seq, fact(seq << 16))).collect();
        (ChainId { scope, author: key(1).author_id(), incarnation: 0 }, facts)
    }

    #[test]
    fn golden_bytes_of_packs_and_stubs() {
        let (chain, facts) = facts(2, b"hi");
        let batch = stubbed(&chain, 1, Pack::of(&chain, &facts).value(), [1, 2]);
        let hex: Vec<String> =
            batch.iter().map(|(key, value)| format!("{} {}", hex::encode(key), hex::encode(value))).collect();
        expect_test::expect![[r#"
            702f6d65736800aada9eb30ce5e2452c3b01a7cc310f255fb83b3485c9a384aaec44135acb35e70000000000000000000000010d3d733c7f6e5e59 a20019016f0158fecfa400825866ab00010158200701000cff3402646d657368035820aada9eb30ce5e2452c3b01a7cc310f255fb83b3485c9a384aaec44135acb35e704000501071a0001000008646e6f746509800b58200c025869ac68003e8b02065820071a00026b00f08a018282f6186482185618670282584067b6f6f509c45b384fd81a97ab01ffee294a1772d6b3a7d0d15d3ff3bd883e3cb1b999e1ab7545e5282ab9c283e84dc575eb0002de1a558a9dac03f521ce5f02584067707c6bd1994a608bfbce3f76adfaed9b79aa15524e0db84940c2b4ee7388422ab1ff44e7d9d223a5fe49353ac390fb93c545679da95d674649dc7f651bc3000382426869426869
            662f6d65736800aada9eb30ce5e2452c3b01a7cc310f255fb83b3485c9a384aaec44135acb35e7000000000000000000000001 8201480d3d733c7f6e5e59
            662f6d65736800aada9eb30ce5e2452c3b01a7cc310f255fb83b3485c9a384aaec44135acb35e7000000000000000000000002 8201480d3d733c7f6e5e59"#]].assert_eq(&hex.join("\n"));
        for (key, value) in &batch {
            let record = Record::read(key, value).expect("a record");
            assert_eq!((record.key().as_ref(), &record.value()), (Ok(key), value));
        }
        let whole: Vec<Vec<u8>> = facts.iter().map(|(_, fact)| to_cbor(fact)).collect();
        let pack = Pack::read(&batch[0].0, &batch[0].1).expect("a pack");
        assert!(pack.unpack().expect("unpacks").into_values().eq(whole));
    }

    #[test]
    fn a_pack_that_is_a_bomb_or_lies_about_its_length_is_not_unpacked() {
        let (chain, facts) = facts(9, b"body");
        let good = Pack::of(&chain, &facts);
        assert!(good.unpack().is_ok());
        let with = |len: usize, content: Vec<u8>| {
            let body = Body { len: u32::try_from(len).expect("fits"), content: content.into() };
            Pack { body, ..good.clone() }
        };
        let (len, content) = (good.body.len as usize, good.body.content.to_vec());
        for wrong in [0, 1, len - 1, len + 1] {
            assert_eq!(with(wrong, content.clone()).unpack(), Err("it is not as long as it announces"), "{wrong}");
        }
        let zeros = lz4_flex::block::compress(&vec![0; PACK_RAW_LEN_MAX]);
        let random = vec![0xa5; PACK_RAW_LEN_MAX];
        for bomb in
            [with(PACK_RAW_LEN_MAX, zeros), with(content.len() * 8 + 1, content), with(PACK_RAW_LEN_MAX + 1, random)]
        {
            let grows = "it announces more than it may grow to";
            assert_eq!(bomb.unpack(), Err(grows));
            assert_eq!(Pack::read(&bomb.key(), &bomb.value()), Err(grows.to_owned()), "nor is it read");
        }
    }

    #[test]
    fn columns_that_are_no_facts_are_none() {
        let (chain, facts) = facts(PACK_FACTS_MAX as u64 + 1, b"body");
        let columns = |change: &dyn Fn(&mut Columns)| {
            let mut columns = Columns::of(&facts[..3]);
            change(&mut columns);
            columns.facts()
        };
        assert_eq!(columns(&|_| {}).map(|facts| facts.len()), Some(3));
        assert_eq!(columns(&|c| c.cuts[0].before = Some(0)), None, "there is none before the first");
        assert_eq!(columns(&|c| c.cuts[1].body = Some(u16::MAX)), None, "outside of the header");
        assert_eq!(columns(&|c| drop(c.bodies.pop())), None);
        assert_eq!(columns(&|c| c.signatures.truncate(2)), None);
        assert_eq!(Columns::of(&facts).facts(), None, "more than a pack may hold");
        assert_eq!(Pack::of(&chain, &facts).unpack(), Err("what it holds are no facts"));
    }

    #[test]
    fn what_is_cut_out_is_put_back_wherever_it_was() {
        let hash = [7; 32];
        for (before, behind) in [(0, 0), (0, 5), (5, 0), (9, 9)] {
            let whole = [vec![1; before], hash.to_vec(), vec![2; behind]].concat();
            let mut bytes = whole.clone();
            let at = cut(&mut bytes, &hash).expect("there");
            assert_eq!((usize::from(at), bytes.len()), (before, before + behind));
            assert!(cut(&mut bytes, &hash).is_none() && put_back(&mut bytes, at, &hash).is_some());
            assert_eq!(bytes, whole);
        }
    }
}
