//! Documents: what they say, who said it, and saying something.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Query, State};
use cauldron_crdt::doc::{DocKey, Edit, Field};
use cauldron_identity::Scope;
use cauldron_node_core::view::{BlameView, DocStepView, DocSummary, DocView};
use cauldron_node_core::{Command, NodeCore, Reply};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::read::{Answer, Items, ask};
use super::{Context, Problem};

/// Changes shown at once, unless asked otherwise.
const STEPS: usize = 50;

/// Which scope a document is of.
#[derive(Debug, Deserialize, IntoParams)]
pub struct InScope {
    /// `mesh` or `site/<name>`; `mesh` when absent.
    scope: Option<String>,
}

/// Which part of a history.
#[derive(Debug, Deserialize, IntoParams)]
pub struct HistoryQuery {
    /// `mesh` or `site/<name>`; `mesh` when absent.
    scope: Option<String>,
    /// How many of the newest changes, 50 when absent; 0 for all.
    limit: Option<usize>,
    /// Of which epoch; when absent, of all that are not closed.
    epoch: Option<u32>,
}

fn key(kind: &str, name: &str, scope: Option<&str>) -> Result<DocKey, Problem> {
    let scope: Scope = scope.unwrap_or("mesh").parse().map_err(|e| Problem::bad_request("scope", format!("{e}")))?;
    let doc = format!("{kind}/{name}").parse().map_err(|e| Problem::bad_request("document", format!("{e}")))?;
    Ok(DocKey { scope, doc })
}

fn missing(key: &DocKey) -> Problem {
    Problem::not_found(format!("this node holds nothing of {} in {}", key.doc, key.scope))
        .hint("`cauldron doc list` names what it holds; `--scope site/<name>` looks elsewhere than in the mesh")
}

fn building(key: &DocKey) -> Problem {
    Problem::unavailable("building", format!("{} is being built from its facts", key.doc)).hint("ask again in a moment")
}

/// How long an edit waits for a document that cannot be written to, and how often it is tried.
const BUSY_MAX: Duration = Duration::from_secs(5);
const BUSY_AGAIN: Duration = Duration::from_millis(50);

/// The changes of a document.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    /// Oldest first, then those that are left out.
    items: Vec<DocStepView>,
    /// Changes in the document whose signed facts are still to come, and that are not listed.
    to_come: u64,
    /// Epochs before the one in use whose facts are still to come.
    epochs_to_come: u32,
    /// Epochs that ended a while ago and are read one by one.
    earlier: Vec<EarlierEpoch>,
}

/// An epoch that ended a while ago.
#[derive(Debug, Serialize, ToSchema)]
pub struct EarlierEpoch {
    /// Its number.
    epoch: u32,
    /// How many changes it holds.
    changes: u64,
}

/// What is read of a document that is held and not being built.
async fn built<T: Send + 'static>(
    context: &Context,
    key: DocKey,
    read: impl FnOnce(&NodeCore, &DocKey) -> Option<T> + Send + 'static,
) -> Result<T, Problem> {
    let of = key.clone();
    let found = ask(context, move |core| core.holds_document(&of).then(|| read(core, &of))).await?;
    found.ok_or_else(|| missing(&key))?.ok_or_else(|| building(&key))
}

/// The documents that this node holds.
#[utoipa::path(get, path = "/v1/docs", responses((status = 200, body = Items<DocSummary>)))]
pub async fn list(State(context): State<Context>) -> Answer<Items<DocSummary>> {
    Ok(Json(Items { items: ask(&context, |core| core.docs_view()).await? }))
}

/// One document with its content.
#[utoipa::path(get, path = "/v1/docs/{kind}/{name}", params(InScope), responses((status = 200, body = DocView), (status = 404, body = Problem)))]
pub async fn show(
    State(context): State<Context>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<InScope>,
) -> Answer<DocView> {
    let (now, key) = (context.clock.now(), key(&kind, &name, query.scope.as_deref())?);
    let of = key.clone();
    ask(&context, move |core| core.doc_view(now, &of)).await?.map(Json).ok_or_else(|| missing(&key))
}

/// What each change of a document did, by whom and when: oldest first, then those that are left out and why.
#[utoipa::path(get, path = "/v1/docs/{kind}/{name}/history", params(HistoryQuery), responses((status = 200, body = History), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn history(
    State(context): State<Context>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<HistoryQuery>,
) -> Answer<History> {
    let key = key(&kind, &name, query.scope.as_deref())?;
    let (of, epoch) = (key.clone(), query.epoch);
    let read = move |core: &NodeCore, key: &DocKey| {
        let closed = epoch.and_then(|epoch| core.doc_closed_history(key, epoch));
        let to_come = (core.doc_to_come(key), core.doc_epochs_to_come(key));
        Some((core.doc_history(key, epoch)?, closed, core.doc_closed_epochs(key), core.doc_epoch(key)?, to_come))
    };
    let (mut items, closed, earlier, in_use, (to_come, epochs_to_come)) = built(&context, key, read).await?;
    if let Some(epoch) = epoch.filter(|epoch| *epoch > in_use) {
        let text = format!("{} is in epoch {in_use}, there is no {epoch} yet", of.doc);
        return Err(Problem::bad_request("epoch", text));
    }
    if let Some(closed) = closed {
        let steps = tokio::task::spawn_blocking(move || closed.run()).await.ok().flatten();
        let steps = steps.ok_or_else(|| building(&of))?;
        items = ask(&context, move |core| core.doc_steps(&steps)).await?;
    }
    let earlier = earlier.into_iter().map(|(epoch, changes)| EarlierEpoch { epoch, changes }).collect();
    let limit = query.limit.unwrap_or(STEPS);
    if limit > 0 && items.len() > limit {
        items.drain(..items.len() - limit);
    }
    Ok(Json(History { items, to_come, epochs_to_come, earlier }))
}

/// Who set what a document shows.
#[utoipa::path(get, path = "/v1/docs/{kind}/{name}/blame", params(InScope), responses((status = 200, body = Items<BlameView>), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn blame(
    State(context): State<Context>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<InScope>,
) -> Answer<Items<BlameView>> {
    let key = key(&kind, &name, query.scope.as_deref())?;
    Ok(Json(Items { items: built(&context, key, NodeCore::doc_blame).await? }))
}

/// What to write. Exactly one of `row`, `title` and `text`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// `mesh` or `site/<name>`; `mesh` when absent.
    scope: Option<String>,
    /// Write only if the document still has this digest.
    if_digest: Option<String>,
    /// The row of a table.
    row: Option<String>,
    /// Its fields: text, whole number, true or false; null removes one.
    fields: Option<BTreeMap<String, Value>>,
    /// The title of notes.
    title: Option<String>,
    /// A part of the text of notes.
    text: Option<TextRequest>,
}

/// A part of a text that is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TextRequest {
    /// Position of the first character that goes, from 0, in Unicode scalar values.
    at: usize,
    /// How many characters go.
    remove: usize,
    /// What comes in their place.
    insert: String,
}

/// What became of an edit.
#[derive(Debug, Serialize, ToSchema)]
pub struct Edited {
    /// The signed fact; none when the document said so already.
    pub id: Option<String>,
    /// The durability level reached.
    pub level: &'static str,
}

/// Writes to a document in this node's name.
#[utoipa::path(post, path = "/v1/docs/{kind}/{name}", request_body = EditRequest, responses((status = 200, body = Edited), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn edit(
    State(context): State<Context>,
    Path((kind, name)): Path<(String, String)>,
    Json(request): Json<EditRequest>,
) -> Answer<Edited> {
    let key = key(&kind, &name, request.scope.as_deref())?;
    let if_digest = request.if_digest.clone();
    let edit = edit_of(request)?;
    let until = Instant::now() + BUSY_MAX;
    let reply = loop {
        let command = Command::Edit { key: key.clone(), edit: edit.clone(), if_digest: if_digest.clone() };
        match context.node.command(command).await {
            // It is being built, or folded to its next epoch: that takes a second.
            Err(why) if why.code == "not-writable" && Instant::now() < until => tokio::time::sleep(BUSY_AGAIN).await,
            reply => break reply?,
        }
    };
    match reply {
        Reply::Recorded(id) => Ok(Json(Edited { id: Some(id.to_string()), level: "local" })),
        _ => Ok(Json(Edited { id: None, level: "local" })),
    }
}

fn edit_of(request: EditRequest) -> Result<Edit, Problem> {
    match (request.row, request.fields, request.title, request.text) {
        (Some(row), Some(fields), None, None) => {
            let field = |(key, value): (String, Value)| Ok((key.clone(), field_of(&key, value)?));
            Ok(Edit::Row { row, fields: fields.into_iter().map(field).collect::<Result<_, Problem>>()? })
        }
        (None, None, Some(title), None) => Ok(Edit::Title(title)),
        (None, None, None, Some(text)) => Ok(Edit::Text { at: text.at, remove: text.remove, insert: text.insert }),
        _ => Err(Problem::bad_request("edit", "an edit is a row with fields, or a title, or a text")),
    }
}

fn field_of(key: &str, value: Value) -> Result<Option<Field>, Problem> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(Field::Flag(flag))),
        Value::String(text) => Ok(Some(Field::Text(text))),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Ok(Some(Field::Int(number))),
            None => Err(Problem::bad_request("field", format!("{key} = {number} is no whole number of 64 bits"))),
        },
        _ => Err(Problem::bad_request("field", format!("{key} is neither text, number, true, false nor null"))),
    }
}
