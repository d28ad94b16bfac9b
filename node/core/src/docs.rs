//! Documents as this node lives them: taking changes in, cutting, healing, writing, showing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cauldron_crdt::ChainId;
use cauldron_crdt::doc::{
    Applied, Blame, Did, DocId, DocKey, Done, Edit, Field, KIND as KIND_CHANGE, Step, Unfit, View, Work,
};
use cauldron_identity::{Authority, Clock, Fact, Scope};

use crate::core::NodeCore;
use crate::input::{Event, Output, Refusal, Reply};
use crate::view::{BlameView, DidView, DocStepView, DocSummary, DocView, SiteView, Time};

/// Documents in which something is said again after one input.
const REISSUES_MAX: usize = 64;

/// Whether a change in this fact counts: it lies before every cut of its author that the authority chain names, and below
/// every fork of its chain.
pub(crate) fn counts(authority: &Authority, log: &cauldron_crdt::FactLog, fact: &Fact) -> bool {
    let header = fact.header();
    let forked = log.fork_seq(&ChainId::of(header)).is_some_and(|seq| header.seq >= seq);
    !forked && !authority.is_beyond_end(header, fact.id())
}

/// Whether a fact that vouches for a base does: it counts, in a life that was begun, and no other stands in its place.
pub(crate) fn vouches(authority: &Authority, log: &cauldron_crdt::FactLog, fact: &Fact) -> bool {
    let header = fact.header();
    let begun = authority.member(&header.author).is_some_and(|m| header.incarnation <= m.incarnation);
    let known = log.id_at(&ChainId::of(header), header.seq);
    begun && known.is_none_or(|id| id == fact.id()) && counts(authority, log, fact)
}

impl NodeCore {
    /// Takes a change in. At the start only its place is noted: documents are built when all facts are here.
    pub(crate) fn fold_change(&mut self, fact: &Arc<Fact>) {
        let counts = counts(&self.authority, &self.log, fact);
        let applied = if self.opened {
            self.docs.apply(fact, counts)
        } else {
            self.docs.feed(fact, counts).err().unwrap_or(Applied::Waiting)
        };
        match applied {
            Applied::Refused(
                why @ (Unfit::Cut | Unfit::RefusedDep | Unfit::Withdrawn | Unfit::Late | Unfit::SaidAgain),
            ) => {
                *self.refused.entry(why.code().to_owned()).or_default() += 1;
            }
            Applied::Refused(why) => self.count_refusal(why.code(), format!("a change of a document: {why}")),
            Applied::Yes | Applied::Waiting => {}
        }
    }

    /// After every input: what was cut leaves, what hung on it is said again, what is long is built elsewhere, and
    /// watchers hear of it.
    pub(crate) fn tend_documents(&mut self) {
        if std::mem::take(&mut self.recount) {
            let (authority, log) = (&self.authority, &self.log);
            self.docs.recount(&|fact| counts(authority, log, fact));
            self.docs.recheck(&|fact| vouches(authority, log, fact));
        }
        // Before its own past is confirmed, a node does not know what it has said already.
        if self.may_write().is_ok() {
            // What is more comes after the next input.
            'all: for _ in 0..REISSUES_MAX {
                let Some((key, bodies)) = self.docs.reissue() else { break };
                for body in bodies {
                    if let Err(why) = self.append(key.scope.clone(), KIND_CHANGE, vec![], body, None) {
                        self.count_refusal(why.code, why.reason);
                        break 'all;
                    }
                }
            }
        }
        self.tend_epochs();
        while let Some(changed) = self.docs.changed() {
            if self.opened {
                let (scope, doc) = (changed.key.scope.to_string(), changed.key.doc.to_string());
                self.tell(Event::Document { scope, doc, what: changed.what });
            }
        }
    }

    /// Sends away what takes too long for the loop.
    pub(crate) fn send_work(&mut self) {
        while let Some(work) = self.docs.work() {
            self.outputs.push_back(Output::Work(Box::new(work)));
        }
    }

    pub(crate) fn worked(&mut self, work: Work) {
        let key = work.key().clone();
        match self.docs.finish(work) {
            Done::Built => {}
            Done::Saved(bytes) => self.base_saved(&key, bytes),
            Done::Loaded(result) => self.base_done(&key, result),
        }
        (self.recount, self.dirty) = (true, true);
    }

    /// Somebody on this machine writes to a document.
    pub(crate) fn edit(&mut self, key: &DocKey, edit: &Edit, if_digest: Option<&str>) -> Result<Reply, Refusal> {
        if !self.readable().contains(&key.scope) || !self.authority.may_write(&self.me, &key.scope, KIND_CHANGE) {
            let sentence = format!("this node may not write to documents of {}; ask one that reads it", key.scope);
            return Err(Refusal::new("not_a_writer", sentence));
        }
        if key.doc.kind() == cauldron_crdt::doc::Kind::Board {
            let sentence = "nodes write their sites' boards themselves; use a document of another kind";
            return Err(Refusal::new("boards_write_themselves", sentence));
        }
        let now = || self.docs.status(key).and_then(|status| status.digest).map(|digest| digest.to_string());
        if if_digest.is_some() && if_digest != now().as_deref() {
            let sentence = format!("{} was changed meanwhile; read it again", key.doc);
            return Err(Refusal::new("changed_meanwhile", sentence));
        }
        self.gets_away(&key.scope)?;
        match self.write_document(key, edit)? {
            Some(fact) => Ok(Reply::Recorded(fact)),
            None => Ok(Reply::Ok),
        }
    }

    /// Writes to a document in this node's name; gives the last fact of it, none when the document says so already.
    pub(crate) fn write_document(
        &mut self,
        key: &DocKey,
        edit: &Edit,
    ) -> Result<Option<cauldron_identity::FactId>, Refusal> {
        self.may_write()?;
        let refuse = |why: Unfit| Refusal::new(why.code(), format!("{} cannot be written so: {why}", key.doc));
        let bodies = self.docs.edit(key, edit).map_err(refuse)?;
        let mut last = None;
        for body in bodies {
            last = Some(self.append(key.scope.clone(), KIND_CHANGE, vec![], body, None)?.id());
        }
        Ok(last)
    }

    /// The names of the documents that this node holds.
    #[must_use]
    pub fn documents(&self) -> Vec<DocKey> {
        self.docs.keys().cloned().collect()
    }

    /// Documents in which something that this node wrote was taken out because of others, and is not said again yet.
    #[must_use]
    pub fn documents_owed(&self) -> Vec<DocKey> {
        self.docs.owed()
    }

    /// The documents that this node holds.
    #[must_use]
    pub fn docs_view(&self) -> Vec<DocSummary> {
        self.docs.keys().filter_map(|key| self.doc_summary(key)).collect()
    }

    fn doc_summary(&self, key: &DocKey) -> Option<DocSummary> {
        let status = self.docs.status(key)?;
        Some(DocSummary {
            scope: key.scope.to_string(),
            doc: key.doc.to_string(),
            state: match (status.building, status.missing, status.epochs_missing) {
                (true, ..) => "building",
                (false, 0, 0) => "current",
                _ => "back-filling",
            },
            epoch: status.epoch,
            changes: status.changes,
            waiting: status.waiting,
            left_out: status.refused,
            to_come: status.missing,
            epochs_to_come: status.epochs_missing,
            digest: status.digest.map(|digest| digest.to_string()),
        })
    }

    /// How many changes of a document are here without the signed facts that carried them.
    #[must_use]
    pub fn doc_to_come(&self, key: &DocKey) -> u64 {
        self.docs.size(key).map_or(0, |(_, missing)| missing)
    }

    /// How many epochs before the one in use are not proven by facts here.
    #[must_use]
    pub fn doc_epochs_to_come(&self, key: &DocKey) -> u32 {
        self.docs.status(key).map_or(0, |status| status.epochs_missing)
    }

    /// Whether this node holds anything of a document.
    #[must_use]
    pub fn holds_document(&self, key: &DocKey) -> bool {
        self.docs.status(key).is_some()
    }

    /// One document with its content; none when this node holds nothing of it.
    #[must_use]
    pub fn doc_view(&self, now: Clock, key: &DocKey) -> Option<DocView> {
        let content = match self.docs.view(key)?.as_ref() {
            View::Table(rows) => {
                let fields =
                    |fields: &BTreeMap<String, Field>| fields.iter().map(|(k, v)| (k.clone(), json(v))).collect();
                serde_json::json!({ "rows": rows.iter().map(|(row, f)| (row.clone(), fields(f))).collect::<BTreeMap<String, BTreeMap<String, serde_json::Value>>>() })
            }
            View::Note { title, text } => serde_json::json!({ "title": title, "text": text }),
        };
        Some(DocView { summary: self.doc_summary(key)?, content, seen: self.seen_here(now) })
    }

    /// Every change of a document, of one epoch or of all that are not closed: those in it, in an order in which they apply,
    /// then those that are left out. None while it is being built.
    #[must_use]
    pub fn doc_history(&self, key: &DocKey, epoch: Option<u32>) -> Option<Vec<DocStepView>> {
        self.docs.history(key, epoch).map(|steps| self.doc_steps(&steps))
    }

    pub(crate) fn step_view(&self, step: &Step) -> DocStepView {
        let header = step.fact.header();
        DocStepView {
            fact: step.fact.id().to_string(),
            at: Time(header.wall_ms()),
            author: header.author.to_string(),
            by: self.name_of_author(&step.fact),
            incarnation: header.incarnation,
            seq: header.seq,
            left_out: step.left_out.map(|why| why.to_string()),
            did: step.did.iter().map(did_view).collect(),
        }
    }

    /// Who set what a document shows, when, by which fact. None while it is being built.
    #[must_use]
    pub fn doc_blame(&self, key: &DocKey) -> Option<Vec<BlameView>> {
        let blame = self.docs.blame(key)?;
        let mut shown: Option<(String, String)> = None;
        let text = key.doc.kind().is_table();
        let view = |b: Blame| {
            let place = (b.row.clone(), b.field.clone());
            // Of values set at the same time the first is shown; pieces of a text are all shown.
            let lost = b.conflict && shown.as_ref() == Some(&place) && (text || b.row != "text");
            shown = Some(place);
            BlameView {
                row: b.row,
                field: b.field,
                value: json(&b.value),
                shown: !lost,
                fact: b.fact.as_ref().map(|fact| fact.id().to_string()),
                at: b.fact.as_ref().map(|fact| Time(fact.header().wall_ms())),
                author: b.author.map(|author| author.to_string()),
                by: b.author.and_then(|author| self.authority.member(&author)).map(|m| m.spiffe_id.to_string()),
            }
        };
        Some(blame.into_iter().map(view).collect())
    }

    fn name_of_author(&self, fact: &Fact) -> Option<String> {
        self.authority.member(&fact.header().author).map(|m| m.spiffe_id.to_string())
    }

    /// The sites' public lines, from the board.
    #[must_use]
    pub fn sites_view(&self, now: Clock) -> Vec<SiteView> {
        let key = DocKey { scope: Scope::mesh(), doc: DocId::sites() };
        let view = self.docs.view(&key);
        let none = BTreeMap::new();
        let rows = view.as_ref().and_then(|view| view.rows()).cloned().unwrap_or_default();
        // A site that has written nothing yet may be cut off all the same.
        let sites: BTreeSet<String> =
            self.authority.members().filter_map(|(_, m)| m.role.site().map(str::to_owned)).collect();
        let silent: Vec<String> = sites.into_iter().filter(|site| !rows.contains_key(site)).collect();
        // Who wrote each line last, by the authors' clocks.
        let mut newest: BTreeMap<String, Arc<Fact>> = BTreeMap::new();
        for blame in self.docs.blame(&key).unwrap_or_default() {
            let Some(fact) = blame.fact else { continue };
            let slot = newest.entry(blame.row).or_insert_with(|| fact.clone());
            if slot.header().hlc < fact.header().hlc {
                *slot = fact;
            }
        }
        let stops = self.stops(now);
        let line = |(site, fields): (&String, &BTreeMap<String, Field>)| {
            let seen = newest.get(site).and_then(|fact| {
                let source = if fact.header().author == self.me { "direct" } else { "peer" };
                Some(self.seen(now, fact.header().wall_ms(), self.name_of_author(fact)?, source))
            });
            let line = fields.iter().map(|(k, v)| (k.clone(), text(v))).collect();
            let isolation = self.isolation_of_site(site, now);
            SiteView { site: site.clone(), line, stops: stops.get(site).cloned(), seen, isolation }
        };
        rows.iter().chain(silent.iter().map(|site| (site, &none))).map(line).collect()
    }
}

fn did_view(did: &Did) -> DidView {
    let (mut view, what) = (DidView::default(), did);
    match what {
        Did::Set { row, field, value } => {
            (view.row, view.field, view.set) = (Some(row.clone()), Some(field.clone()), Some(json(value)));
        }
        Did::Removed { row, field } => {
            (view.row, view.field, view.removed) = (Some(row.clone()), Some(field.clone()), true);
        }
        Did::Titled(title) => (view.field, view.set) = (Some("title".into()), Some(title.clone().into())),
        Did::Wrote { inserted, deleted } => {
            (view.field, view.inserted) = (Some("text".into()), Some(inserted.clone()));
            view.deleted = *deleted as u64;
        }
    }
    view
}

fn json(field: &Field) -> serde_json::Value {
    match field {
        Field::Int(n) => (*n).into(),
        Field::Flag(flag) => (*flag).into(),
        Field::Text(_) | Field::Timestamp(_) => text(field).into(),
    }
}

fn text(field: &Field) -> String {
    match field {
        Field::Text(text) => text.clone(),
        Field::Int(n) => n.to_string(),
        Field::Timestamp(ms) => Time(u64::try_from(*ms).unwrap_or(0)).to_string(),
        Field::Flag(flag) => flag.to_string(),
    }
}
