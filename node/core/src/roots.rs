//! The roots of the mesh's certificate authority: what the sequencer says of them, who goes by which, and what was issued.
//!
//! The charter names the keys that may be trusted, and the council alone changes that. Which of them signs, which comes next
//! and which is on its way out the sequencer says in a fact; each author says in its `held` facts which it accepts and under
//! which it lives. So a key signs only once everybody has said to trust it, and is taken away once nobody lives under it.

use std::collections::{BTreeMap, VecDeque};

use cauldron_coordinator::planted;
use cauldron_identity::authority::{
    Amend, EntryBody, ISSUED_MAX, Issuance, Issued, KIND_ISSUED, KIND_ROOTS, ROOTS_MAX, Root, RootState, Roots,
    Standing, Trust,
};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{
    AuthorId, Clock, Digest, Fact, FactId, Header, Realm, Role, Scope, SealedFact, SignedCharter, SpiffeId,
};

use crate::core::NodeCore;
use crate::input::{Refusal, Reply};
use crate::view::{IssuanceView, RootView, Time};

/// Issuances that may wait while this node cannot write; more than an authority signs in the minute that takes.
const UNWRITTEN_MAX: usize = 4_096;
/// Issuances in one answer.
pub const ISSUED_SHOWN_MAX: usize = 1_000;

/// A step of a root's life, asked for on the machine that holds its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootStep {
    /// This is what signs here: at start, and after its certificate was made anew.
    Present(Root),
    /// Announce the next root. Nobody trusts it before the charter names its key.
    Prepare(Root),
    /// Sign with it from here on.
    Activate {
        /// Its key.
        key: Digest,
        /// Although not everybody has said to trust it.
        force: bool,
    },
    /// It signs no more, and whoever lives under it renews now.
    Taint {
        /// Its key.
        key: Digest,
    },
}

/// What the shell needs to know of the roots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootsNow {
    /// What the sequencer published, of the keys that the charter names; none before it did.
    pub published: Option<Vec<Root>>,
    /// Keys that the charter names, in effect or as its newest entry leaves it: the council's signatures are enough to trust a
    /// key, and it is trusted until its end is in effect.
    pub named: Vec<Digest>,
    /// Keys that the charter named once and names no more.
    pub retired: Vec<Digest>,
    /// Whether this node is the sequencer.
    pub sequencer: bool,
}

/// What this node knows about roots beside the authority chain.
#[derive(Debug, Default)]
pub(crate) struct RootsKnown {
    /// The newest statement of each author that made one, and when it made the first.
    said: BTreeMap<AuthorId, Said>,
    /// What each author said last of the roots it goes by.
    trust: BTreeMap<AuthorId, ((u32, u64), Trust)>,
    /// What the shell of this node said last.
    pub(crate) own: Option<Trust>,
    /// Mesh coordinators that issued something, and when last by their clock, milliseconds since the Unix epoch.
    issuers: BTreeMap<AuthorId, u64>,
    unwritten: VecDeque<Issuance>,
}

#[derive(Debug)]
struct Said {
    header: Header,
    id: FactId,
    roots: Roots,
    first_ms: u64,
}

impl RootsKnown {
    pub(crate) fn heard_trust(&mut self, fact: &Fact, trust: Trust) {
        let at = (fact.header().incarnation, fact.header().seq);
        let slot = self.trust.entry(fact.header().author).or_insert_with(|| (at, trust.clone()));
        if slot.0 < at {
            *slot = (at, trust);
        }
    }

    /// Takes in a statement about roots.
    pub(crate) fn heard_roots(&mut self, fact: &Fact) {
        let Ok(roots) = fact.decode_body::<Roots>() else { return };
        if roots.roots.len() > ROOTS_MAX {
            return;
        }
        let (header, id) = (fact.header().clone(), fact.id());
        let ms = header.wall_ms();
        let author = header.author;
        let said = Said { header, id, roots, first_ms: ms };
        let Some(known) = self.said.get_mut(&author) else {
            self.said.insert(author, said);
            return;
        };
        let first_ms = known.first_ms.min(ms);
        if (known.header.incarnation, known.header.seq) < (said.header.incarnation, said.header.seq) {
            *known = said;
        }
        known.first_ms = first_ms;
    }

    fn trusts(&self, author: &AuthorId, key: &Digest) -> bool {
        self.trust.get(author).is_some_and(|(_, trust)| trust.roots.contains(key))
    }
}

impl NodeCore {
    /// Takes in a list of what was issued.
    pub(crate) fn heard_issued(&mut self, fact: &Fact) {
        let author = fact.header().author;
        let coordinates = self.authority.member(&author).is_some_and(|m| m.role.is_mesh_coordinator());
        if coordinates {
            let last_ms = self.roots.issuers.entry(author).or_default();
            *last_ms = fact.header().wall_ms().max(*last_ms);
        }
    }

    /// What the present sequencer says of the roots, where that counts.
    fn said_of_roots(&self) -> Option<&Said> {
        let said = self.roots.said.get(&self.authority.sequencer().author.author_id())?;
        (self.authority.standing(&said.header, said.id) == Standing::Counts).then_some(said)
    }

    /// What the shell goes by.
    #[must_use]
    pub fn roots(&self) -> RootsNow {
        let mut named = self.authority.charter().root_keys.clone();
        let next = self.authority.next_charter().root_keys.iter();
        named.extend(next.filter(|key| !self.authority.charter().root_keys.contains(*key)));
        let published = self.said_of_roots().map(|said| {
            let roots = said.roots.roots.iter();
            roots.filter(|root| named.contains(&root.key)).cloned().collect()
        });
        let mut retired = self.authority.root_keys_ever();
        retired.retain(|key| !named.contains(key));
        RootsNow { published, named, retired, sequencer: self.is_sequencer() }
    }

    /// Every root that the sequencer announced, named by the charter or not.
    #[must_use]
    pub fn roots_announced(&self) -> Vec<Root> {
        self.said_of_roots().map(|said| said.roots.roots.clone()).unwrap_or_default()
    }

    /// Whether another root may be prepared here now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_prepare_root(&self) -> Result<(), Refusal> {
        self.only_sequencer("has the mesh's certificate authority")?;
        self.room_for_root(&self.said_of_roots().map(|said| said.roots.clone()).unwrap_or_default(), None)
    }

    /// Whether this node goes by other roots than it has said.
    pub(crate) fn trust_is_news(&self) -> bool {
        let said = self.roots.trust.get(&self.me).map(|(_, trust)| trust);
        self.roots.own.is_some() && self.roots.own.as_ref() != said
    }

    pub(crate) fn root_step(&mut self, step: RootStep) -> Result<Reply, Refusal> {
        self.only_sequencer("has the mesh's certificate authority")?;
        let present = self.said_of_roots();
        let (before, id) = (present.map(|said| said.roots.clone()).unwrap_or_default(), present.map(|said| said.id));
        let mut roots = before.clone();
        match step {
            RootStep::Present(root) => present_root(&mut roots, root),
            RootStep::Prepare(root) => self.prepare(&mut roots, root)?,
            RootStep::Activate { key, force } => self.activate(&mut roots, &key, force)?,
            RootStep::Taint { key } => taint(&mut roots, &key)?,
        }
        // What the charter names no more is of use to nobody; what it does not name yet is only announced.
        let named = &self.authority.charter().root_keys;
        roots.roots.retain(|root| root.state <= RootState::Active || named.contains(&root.key));
        match id {
            Some(id) if roots == before => Ok(Reply::Already(id)),
            _ => self
                .append(Scope::mesh(), KIND_ROOTS, vec![], to_cbor(&roots), None)
                .map(|fact| Reply::Recorded(fact.id())),
        }
    }

    fn prepare(&self, roots: &mut Roots, root: Root) -> Result<(), Refusal> {
        // A list without the root that signs now would have everybody cease to trust it.
        if !roots.roots.iter().any(|known| known.state == RootState::Active) {
            let sentence = "this node has not announced yet which root it signs with; try again in a moment";
            return Err(Refusal::new("root_not_announced", sentence));
        }
        self.room_for_root(roots, Some(&root.key))?;
        if roots.get(&root.key).is_some_and(|known| known.state != RootState::Prepared) {
            let sentence = format!("root {} is in use already; name another key", root.key.short());
            return Err(Refusal::new("root_known", sentence));
        }
        roots.roots.retain(|r| r.state != RootState::Prepared);
        roots.roots.push(Root { state: RootState::Prepared, ..root });
        Ok(())
    }

    /// One root is prepared at a time, and one that the charter names is not dropped for another.
    fn room_for_root(&self, roots: &Roots, key: Option<&Digest>) -> Result<(), Refusal> {
        let named = &self.authority.next_charter().root_keys;
        let next = roots.roots.iter().find(|r| r.state == RootState::Prepared && named.contains(&r.key));
        if let Some(next) = next.filter(|next| Some(&next.key) != key) {
            let sentence = format!(
                "root {} is prepared and the charter names it; activate it, or revoke it first",
                next.key.short()
            );
            return Err(Refusal::new("root_prepared", sentence));
        }
        if roots.roots.iter().filter(|r| r.state != RootState::Prepared).count() >= ROOTS_MAX {
            return Err(Refusal::new("too_many_roots", "revoke a root that nobody lives under first"));
        }
        Ok(())
    }

    fn activate(&self, roots: &mut Roots, key: &Digest, force: bool) -> Result<(), Refusal> {
        match roots.get(key).map(|root| root.state) {
            None => return Err(unknown(key)),
            Some(RootState::Active) => return Ok(()),
            Some(RootState::Tainted) => {
                return Err(Refusal::new("root_tainted", "a tainted root does not sign again; prepare another"));
            }
            Some(RootState::Prepared | RootState::Old) => {}
        }
        if !self.authority.charter().root_keys.contains(key) {
            let sentence = format!(
                "the charter does not name root {} yet; have the council sign the amendment that `authority prepare` wrote, \
                 and hand it in with `authority submit`",
                key.short()
            );
            return Err(Refusal::new("root_not_named", sentence));
        }
        let missing = self.not_trusting(key);
        if !missing.is_empty() && !force && !planted::active("activate-unheard") {
            let names: Vec<&str> = missing.iter().map(String::as_str).take(8).collect();
            let more = missing.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let sentence = format!(
                "these have not said that they trust root {}: {}{more}; wait for them, cut what is gone for good, or add \
                 --force and they refuse what it signs until they hear of it",
                key.short(),
                names.join(", ")
            );
            return Err(Refusal::new("root_not_trusted_yet", sentence));
        }
        for root in &mut roots.roots {
            match root.state {
                _ if root.key == *key => root.state = RootState::Active,
                RootState::Active => root.state = RootState::Old,
                _ => {}
            }
        }
        Ok(())
    }

    /// Who must trust a root before it may sign and has not said so.
    fn not_trusting(&self, key: &Digest) -> Vec<String> {
        let (_, waiting) = self.waiting(self.now, &Realm::Mesh, None, |author| self.roots.trusts(author, key));
        let mut missing: Vec<String> = waiting.into_iter().map(|w| w.spiffe_id).collect();
        if !self.roots.own.as_ref().is_some_and(|own| own.roots.contains(key)) {
            missing.push(self.spiffe_id.to_string());
        }
        missing
    }

    /// An amendment may not take away the root that signs: nobody would be anybody any more.
    pub(crate) fn keeps_its_root(&self, amend: &Amend) -> Result<(), Refusal> {
        let active = self.said_of_roots().and_then(|said| said.roots.active());
        match (active, &amend.root_keys) {
            (Some(active), Some(keys)) if !keys.contains(&active.key) => {
                let sentence = format!(
                    "root {} signs now and this amendment would take it away; activate another first, or have the council name \
                     a new term with new root keys if the key is lost",
                    active.key.short()
                );
                Err(Refusal::new("root_in_use", sentence))
            }
            _ => Ok(()),
        }
    }

    /// Takes what was issued into the log of everything issued. It waits while this node cannot write; what finds no room is
    /// refused, and nobody gets it.
    pub(crate) fn issued(&mut self, issued: Vec<Issuance>) -> Result<Reply, Refusal> {
        if self.roots.unwritten.len() + issued.len() > UNWRITTEN_MAX {
            let sentence = "more was issued than can be written down before this node may write; ask again then";
            return Err(Refusal::new("issued_log_full", sentence));
        }
        self.roots.unwritten.extend(issued);
        self.write_issued();
        Ok(Reply::Ok)
    }

    pub(crate) fn write_issued(&mut self) {
        while let Some(first) = self.roots.unwritten.front() {
            if self.may_write().is_err() {
                return;
            }
            let scope = self.scope_of_issuance(&first.spiffe_id);
            let next = |i: &Issuance| self.scope_of_issuance(&i.spiffe_id) == scope;
            let count = self.roots.unwritten.iter().take(ISSUED_MAX).take_while(|i| next(i)).count();
            let issued: Vec<Issuance> = self.roots.unwritten.iter().take(count).cloned().collect();
            if let Err(why) = self.append(scope, KIND_ISSUED, vec![], to_cbor(&Issued { issued }), None) {
                return self.count_refusal(why.code, why.reason);
            }
            self.roots.unwritten.drain(..count);
        }
    }

    /// The narrowest scope that contains whom it was issued to.
    fn scope_of_issuance(&self, spiffe_id: &str) -> Scope {
        let role = SpiffeId::new(spiffe_id).ok().and_then(|id| Role::of(&id).ok());
        let site = role.as_ref().and_then(Role::site).or(self.role.site());
        site.and_then(|site| Scope::site(site).ok()).unwrap_or_else(Scope::mesh)
    }

    /// Every root that the charter names or the sequencer announced, with who goes by it.
    pub(crate) fn roots_view(&self, now: Clock) -> Vec<RootView> {
        let named = &self.authority.charter().root_keys;
        let mut said = self.roots_announced();
        said.retain(|root| root.state <= RootState::Active || named.contains(&root.key));
        let silent = named.iter().filter(|key| said.iter().all(|root| root.key != **key));
        let view = |key: &Digest, root: Option<&Root>| {
            let (of, waiting) = self.waiting(now, &Realm::Mesh, None, |author| self.roots.trusts(author, key));
            let members = self.authority.members();
            let lives = |author: &AuthorId, life: u32| {
                let said = self.roots.trust.get(author);
                said.is_some_and(|(_, trust)| trust.under.contains(key)) && !self.authority.is_cut(author, life)
            };
            let under = members.filter(|(author, m)| lives(author, m.incarnation));
            let own = self.roots.own.as_ref().is_some_and(|own| own.roots.contains(key));
            RootView {
                key: key.to_string(),
                state: root.map(|root| root.state),
                named: named.contains(key),
                not_after: root.map(|root| Time(root.not_after_s.saturating_mul(1_000))),
                of,
                trusted_by: of - waiting.len() - usize::from(!own && of > waiting.len()),
                waiting,
                under: under.map(|(_, m)| m.spiffe_id.to_string()).collect(),
            }
        };
        let known = said.iter().map(|root| view(&root.key, Some(root)));
        known.chain(silent.map(|key| view(key, None))).collect()
    }

    /// The founding charter, the whole authority chain in its own order and the council's terms: what a new sequencer starts
    /// with.
    #[must_use]
    pub fn whole_chain(&self) -> (SignedCharter, Vec<SealedFact>, Vec<EntryBody>) {
        let facts = self.authority.entries().filter_map(|applied| self.log.get(&applied.id));
        let terms = self.authority.terms().map(|(_, body)| body.clone());
        (self.charter.clone(), facts.map(|fact| fact.sealed().clone()).collect(), terms.collect())
    }

    /// What is wrong with who issues in this mesh.
    pub(crate) fn authority_problems(&self) -> Vec<String> {
        let sequencer = self.authority.sequencer();
        let Some(said) = self.said_of_roots() else { return vec![] };
        let since_ms = said.first_ms;
        let others = self
            .roots
            .issuers
            .iter()
            .filter(|(author, last_ms)| **author != sequencer.author.author_id() && **last_ms > since_ms);
        let tell = |(author, last_ms): (&AuthorId, &u64)| {
            format!(
                "two authorities were active at once: {} has been the authority since {}, and {} issued as one until {}; stop \
                 that machine; what it signed ends by itself, and at once when its root key is revoked",
                sequencer.spiffe_id,
                Time(since_ms),
                self.name_of(author),
                Time(*last_ms)
            )
        };
        others.map(tell).collect()
    }

    /// What was issued, newest first, to one identity or to all: as far as this node may read.
    #[must_use]
    pub fn issued_view(&self, to: Option<&str>, limit: usize) -> Vec<IssuanceView> {
        // Only what is shown is read.
        let mut rows: Vec<_> = self.log.rows().filter(|row| row.kind.is_none_or(|kind| kind == KIND_ISSUED)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.hlc, row.id)));
        let facts = rows.iter().filter_map(|row| self.log.at(row.chain, row.seq));
        let facts = facts.filter(|fact| fact.header().kind == KIND_ISSUED);
        let lines = facts.flat_map(|fact| {
            let issued = fact.decode_body::<Issued>().map(|body| body.issued).unwrap_or_default();
            issued.into_iter().rev().map(move |issuance| (fact.clone(), issuance))
        });
        let asked = lines.filter(|(_, issuance)| to.is_none_or(|to| issuance.spiffe_id == to));
        let view = |(fact, issuance): (std::sync::Arc<Fact>, Issuance)| IssuanceView {
            fact: fact.id().to_string(),
            issued: Time(fact.header().wall_ms()),
            by: self.name_of(&fact.header().author),
            kind: issuance.kind,
            spiffe_id: issuance.spiffe_id,
            digest: issuance.digest.to_string(),
            not_after: Time(issuance.not_after_s.saturating_mul(1_000)),
            signed_by: issuance.signed_by.to_string(),
        };
        asked.take(limit.min(ISSUED_SHOWN_MAX)).map(view).collect()
    }
}

/// The root that this machine signs with: a new certificate of the same key takes the place of the one before.
fn present_root(roots: &mut Roots, root: Root) {
    for known in &mut roots.roots {
        if known.state == RootState::Active && known.key != root.key {
            known.state = RootState::Old;
        }
    }
    let root = Root { state: RootState::Active, ..root };
    match roots.roots.iter_mut().find(|known| known.key == root.key) {
        Some(known) => *known = root,
        None => roots.roots.push(root),
    }
}

fn taint(roots: &mut Roots, key: &Digest) -> Result<(), Refusal> {
    let Some(root) = roots.roots.iter_mut().find(|root| root.key == *key) else { return Err(unknown(key)) };
    if root.state == RootState::Active {
        return Err(Refusal::new("root_in_use", "this root signs now; activate another first"));
    }
    root.state = RootState::Tainted;
    Ok(())
}

fn unknown(key: &Digest) -> Refusal {
    Refusal::new("unknown_root", format!("no root {} is published; `authority show` lists them", key.short()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(n: u8, state: RootState) -> Root {
        Root { key: Digest::from_bytes([n; 32]), certificate: vec![n].into(), state, not_after_s: 9 }
    }

    #[test]
    fn what_signs_here_is_the_only_active_root_and_a_new_certificate_takes_the_place_of_the_old_one() {
        let mut roots = Roots::default();
        present_root(&mut roots, root(1, RootState::Prepared));
        assert_eq!(roots.roots, [root(1, RootState::Active)]);
        let anew = Root { certificate: vec![7].into(), not_after_s: 99, ..root(1, RootState::Active) };
        present_root(&mut roots, anew.clone());
        assert_eq!(roots.roots, std::slice::from_ref(&anew));
        present_root(&mut roots, root(2, RootState::Active));
        assert_eq!(roots.roots, [Root { state: RootState::Old, ..anew.clone() }, root(2, RootState::Active)]);
        // A kill before the file was written: the machine says what it signs with.
        present_root(&mut roots, anew.clone());
        assert_eq!(roots.roots, [anew, root(2, RootState::Old)]);
    }

    #[test]
    fn the_root_that_signs_is_not_tainted_and_no_other_is_skipped() {
        let mut roots = Roots { roots: vec![root(1, RootState::Old), root(2, RootState::Active)] };
        assert_eq!(taint(&mut roots, &Digest::from_bytes([2; 32])).expect_err("it signs").code, "root_in_use");
        assert_eq!(taint(&mut roots, &Digest::from_bytes([3; 32])).expect_err("unknown").code, "unknown_root");
        taint(&mut roots, &Digest::from_bytes([1; 32])).expect("it signs no more");
        assert_eq!(roots.roots[0].state, RootState::Tainted);
    }
}
