//! Documents: what they say, who said it, saying something, and judging a file.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use cauldron_crdt::doc::check::{self, Found};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::segment;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{As, Field, Format, field, harmless, items, plain, print, rows, say};
use crate::scratch::{self, INPUT_LEN_MAX, Task};

const DOCS: &[Field] = &[
    field("DOCUMENT", "/doc", As::Text),
    field("SCOPE", "/scope", As::Text),
    field("STATE", "/state", As::Text),
    field("EPOCH", "/epoch", As::Text),
    field("CHANGES", "/changes", As::Text),
    field("WAITING", "/waiting", As::Text),
    field("LEFT OUT", "/left_out", As::Text),
    field("TO COME", "/to_come", As::Text),
    field("DIGEST", "/digest", As::Short),
];
const STEPS: &[Field] = &[
    field("WHEN", "/at", As::Time),
    field("BY", "/by", As::Text),
    field("DID", "/did", As::Brief),
    field("LEFT OUT", "/left_out", As::Text),
    field("FACT", "/fact", As::Short),
];
const BLAME: &[Field] = &[
    field("ROW", "/row", As::Text),
    field("FIELD", "/field", As::Text),
    field("VALUE", "/value", As::Brief),
    field("SHOWN", "/shown", As::Text),
    field("BY", "/by", As::Text),
    field("WHEN", "/at", As::Time),
    field("FACT", "/fact", As::Short),
];
const FILES: &[Field] =
    &[field("FILE", "/file", As::Text), field("TAKEN", "/taken", As::Text), field("WHAT", "/what", As::Text)];

/// How often a write is tried again when somebody else wrote meanwhile.
const TRIES: usize = 5;

/// `doc …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The documents that a node holds
    List,
    /// What a document says
    Show(Named),
    /// Set fields of a row of a table
    Set(SetArgs),
    /// Write the text or title of notes
    Write(WriteArgs),
    /// What each change did, by whom and when, and what is left out and why
    History {
        #[command(flatten)]
        named: Named,
        /// How many of the newest changes; 0 for all
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
        limit: usize,
        /// Of this epoch; without it, of the one in use and those behind it that are at hand
        #[arg(long, value_name = "NUMBER")]
        epoch: Option<u32>,
    },
    /// Who set what a document shows, when, and by which signed fact
    Blame(Named),
    /// Judge files: would a document take this change, does this saved document load? Needs no node
    Check(CheckArgs),
}

/// Which document.
#[derive(Debug, Args)]
pub struct Named {
    /// `board/<name>`, `catalogue/<name>`, `config/<name>` or `notes/<name>`
    #[arg(value_name = "DOCUMENT")]
    doc: String,
    /// Whose document: `mesh` or `site/<name>`
    #[arg(long, value_name = "SCOPE", default_value = "mesh")]
    scope: String,
}

/// `doc set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    named: Named,
    /// The row
    #[arg(value_name = "ROW")]
    row: String,
    /// Values: whole numbers, true, false, or text; quote text that looks like a number: 'port="443"'
    #[arg(value_name = "FIELD=VALUE", required_unless_present = "remove")]
    fields: Vec<String>,
    /// Remove a field; may be repeated
    #[arg(long, value_name = "FIELD")]
    remove: Vec<String>,
}

/// `doc write`.
#[derive(Debug, Args)]
pub struct WriteArgs {
    #[command(flatten)]
    named: Named,
    /// Make the text what this file holds, `-` for standard input; what is the same stays its writers'
    #[arg(value_name = "FILE", required_unless_present_any = ["append", "title"])]
    file: Option<PathBuf>,
    /// Add this at the end
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    append: Option<String>,
    /// Give a title
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

/// `doc check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A change chunk, a saved Automerge document, a sealed fact or its body
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Load the chunk on standard input, with little memory and time
    #[arg(long, hide = true)]
    alone: bool,
    /// Unpack it into its changes instead
    #[arg(long, hide = true, requires = "alone")]
    unpack: bool,
}

pub(super) async fn run(client: &Client, format: Format, command: &Command) -> Result<(), CliError> {
    let now = Timestamp::now();
    match command {
        Command::List => {
            let docs = client.get("/v1/docs").await?;
            print(format, &docs, || rows(items(&docs), DOCS, "no document yet", now))
        }
        Command::Show(named) => {
            let doc = client.get(&path(named, "", "")?).await?;
            print(format, &doc, || content(&doc))
        }
        Command::Set(args) => set(client, format, args).await,
        Command::Write(args) => write(client, format, args).await,
        Command::History { named, limit, epoch } => {
            let of = epoch.map_or_else(String::new, |epoch| format!("&epoch={epoch}"));
            let steps = client.get(&path(named, "/history", &format!("&limit={limit}{of}"))?).await?;
            let some = |field: &str| steps[field].as_u64().filter(|n| *n > 0);
            let mut note = String::new();
            if let Some(n) = some("to_come") {
                note += &format!("({n} more changes are in it; the facts that carry them are still to come)\n");
            }
            if let Some(n) = some("epochs_to_come") {
                note += &format!("({n} epochs came before; their facts are still to come)\n");
            }
            let earlier = steps["earlier"].as_array().filter(|_| epoch.is_none()).map_or(&[][..], Vec::as_slice);
            if let (Some(first), Some(last)) = (earlier.first(), earlier.last()) {
                let changes: u64 = earlier.iter().filter_map(|epoch| epoch["changes"].as_u64()).sum();
                let (first, last) = (&first["epoch"], &last["epoch"]);
                note += &format!(
                    "({changes} earlier changes, epochs {first} to {last}: --epoch NUMBER shows one of them)\n"
                );
            }
            let empty = if note.is_empty() { "no change yet" } else { "" };
            print(format, &steps, || rows(items(&steps), STEPS, empty, now) + &note)
        }
        Command::Blame(named) => {
            let blame = client.get(&path(named, "/blame", "")?).await?;
            print(format, &blame, || rows(items(&blame), BLAME, "it says nothing yet", now))
        }
        Command::Check(_) => Err(CliError::usage("doc check reads files and asks no node")),
    }
}

/// The API's path of a document, below it `tail`, with the query.
fn path(named: &Named, tail: &str, query: &str) -> Result<String, CliError> {
    let doc: cauldron_crdt::doc::DocId = named.doc.parse().map_err(|e| CliError::usage(format!("{e}")))?;
    let text = doc.to_string();
    let (kind, name) = text.split_once('/').unwrap_or((&text, ""));
    Ok(format!("/v1/docs/{}/{}{tail}?scope={}{query}", segment(kind), segment(name), segment(&named.scope)))
}

fn post_path(named: &Named) -> Result<String, CliError> {
    Ok(path(named, "", "")?.split('?').next().unwrap_or_default().to_owned())
}

/// A document for people.
fn content(doc: &Value) -> String {
    let mut out = String::new();
    if let Some(rows) = doc.pointer("/content/rows").and_then(Value::as_object) {
        for (row, fields) in rows {
            out += &format!("{}\n", harmless(row));
            for (key, value) in fields.as_object().into_iter().flatten() {
                out += &format!("  {} = {}\n", harmless(key), plain(value));
            }
        }
    } else {
        let text = |pointer| doc.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if !text("/content/title").is_empty() {
            out += &format!("{}\n\n", harmless(text("/content/title")));
        }
        for line in text("/content/text").split('\n') {
            out += &format!("{}\n", harmless(line));
        }
    }
    if doc["state"] == "building" {
        out += "(being built from its facts: this is older than what is here)\n";
    }
    out
}

async fn set(client: &Client, format: Format, args: &SetArgs) -> Result<(), CliError> {
    let mut fields = Map::new();
    for pair in &args.fields {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            CliError::usage(format!("{pair:?} is no FIELD=VALUE")).hint("write it as one word, such as port=443")
        })?;
        // What JSON does not take for a number, a flag or a quoted text is a text as it stands.
        let value = serde_json::from_str::<Value>(value).ok().filter(|v| v.is_i64() || v.is_boolean() || v.is_string());
        let text = pair.split_once('=').map(|(_, text)| text.to_owned()).unwrap_or_default();
        fields.insert(key.to_owned(), value.unwrap_or(Value::String(text)));
    }
    fields.extend(args.remove.iter().map(|key| (key.clone(), Value::Null)));
    let body = json!({ "scope": args.named.scope, "row": args.row, "fields": fields });
    let answer = client.post(&post_path(&args.named)?, &body).await?;
    print(format, &answer, || said(&answer))
}

fn said(answer: &Value) -> String {
    match answer["id"].as_str() {
        Some(id) => format!("recorded {}\n", harmless(&id.chars().take(12).collect::<String>())),
        None => "it says so already\n".to_owned(),
    }
}

async fn write(client: &Client, format: Format, args: &WriteArgs) -> Result<(), CliError> {
    let target = args.file.as_deref().map(read_text).transpose()?;
    let post = post_path(&args.named)?;
    let mut answer = json!({ "id": null, "level": "local" });
    if let Some(title) = &args.title {
        answer = client.post(&post, &json!({ "scope": args.named.scope, "title": title })).await?;
    }
    if target.is_some() || args.append.is_some() {
        answer = write_text(client, args, &post, target.as_deref()).await?;
    }
    print(format, &answer, || said(&answer))
}

/// Writes what differs from the text as it is, and reads it again when somebody else was quicker.
async fn write_text(client: &Client, args: &WriteArgs, post: &str, target: Option<&str>) -> Result<Value, CliError> {
    let get = path(&args.named, "", "")?;
    let mut tries = 0;
    loop {
        tries += 1;
        let doc = match client.get(&get).await {
            Ok(doc) => doc,
            Err(error) if error.code() == Some("not_found") => json!({}),
            Err(error) => return Err(error),
        };
        let text = doc.pointer("/content/text").and_then(Value::as_str).unwrap_or_default();
        let wanted = match (target, &args.append) {
            (Some(target), _) => target.to_owned(),
            (None, more) => format!("{text}{}", more.as_deref().unwrap_or_default()),
        };
        let (at, remove, insert) = difference(text, &wanted);
        if remove == 0 && insert.is_empty() {
            return Ok(json!({ "id": null, "level": "local" }));
        }
        let part = json!({ "at": at, "remove": remove, "insert": insert });
        let body = json!({ "scope": args.named.scope, "if_digest": doc["digest"], "text": part });
        match client.post(post, &body).await {
            Err(error) if error.code() == Some("changed_meanwhile") && tries < TRIES => {}
            answer => return answer,
        }
    }
}

/// Where two texts differ: position, how many characters go, and what comes; in Unicode scalar values.
fn difference(old: &str, new: &str) -> (usize, usize, String) {
    let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (old.get(same..).unwrap_or_default(), new.get(same..).unwrap_or_default());
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (same, old.len() - end, new.iter().take(new.len() - end).collect())
}

fn read_text(file: &Path) -> Result<String, CliError> {
    let bytes = if file.as_os_str() == "-" { read_bounded(std::io::stdin()) } else { read_file(file) };
    let bytes = bytes.map_err(|e| CliError::config(format!("cannot read {}", file.display())).because(&e))?;
    String::from_utf8(bytes).map_err(|e| CliError::config(format!("{} is not UTF-8", file.display())).because(&e))
}

fn read_file(file: &Path) -> std::io::Result<Vec<u8>> {
    read_bounded(std::fs::File::open(file)?)
}

fn read_bounded(input: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(INPUT_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_LEN_MAX {
        return Err(std::io::Error::other(format!("it is longer than {INPUT_LEN_MAX} bytes")));
    }
    Ok(bytes)
}

/// `doc check`.
pub(super) fn check(format: Format, args: &CheckArgs) -> Result<(), CliError> {
    if args.alone {
        return alone(if args.unpack { Task::Unpack } else { Task::Load });
    }
    let mut found = Vec::new();
    for file in &args.files {
        let bytes =
            read_file(file).map_err(|e| CliError::config(format!("cannot read {}", file.display())).because(&e))?;
        let (taken, what) = judge(&bytes);
        found.push(json!({ "file": file.display().to_string(), "taken": taken, "what": what }));
    }
    let value = json!({ "items": found });
    print(format, &value, || rows(&found, FILES, "", Timestamp::now()))?;
    let refused = found.iter().filter(|f| f["taken"] != true).count();
    if refused == 0 {
        return Ok(());
    }
    Err(CliError::check(format!("{refused} of {} files would not be taken", found.len())))
}

fn judge(bytes: &[u8]) -> (bool, String) {
    match check::check(bytes) {
        Found::Change { actor, seq, ops, deps, doc } => {
            let of = doc.map(|doc| format!(" of {}", harmless(&doc))).unwrap_or_default();
            (true, format!("change {seq}{of} by {actor}: {ops} operations, follows {deps} changes"))
        }
        Found::Refused(why) => (false, why.to_string()),
        Found::Chunk => load_alone(bytes),
        Found::Unknown => (false, "neither an Automerge chunk nor a fact".to_owned()),
    }
}

/// Has a process of its own load a chunk.
fn load_alone(bytes: &[u8]) -> (bool, String) {
    let ended = match Task::Load.start(bytes) {
        Ok(ended) => ended,
        Err(error) => return (false, format!("it could not be tried: {error}")),
    };
    let said = harmless(String::from_utf8_lossy(&ended.answer).trim());
    match ended.status {
        None => (false, format!("loading it takes longer than {} s", scratch::LOAD_MAX.as_secs())),
        Some(status) if said.is_empty() => (false, format!("loading it ended the process ({status})")),
        Some(status) => (status.success(), said),
    }
}

/// The process of its own: bounds itself, loads or unpacks, says what it found.
fn alone(task: Task) -> Result<(), CliError> {
    task.bound().map_err(|e| CliError::config("cannot bound this process").because(&e))?;
    let bytes =
        read_bounded(std::io::stdin()).map_err(|e| CliError::config("cannot read standard input").because(&e))?;
    let answer = match task {
        Task::Load => check::load(&bytes)
            .map(|l| format!("a document of {} changes, {} keys at its root\n", l.changes, l.keys).into_bytes()),
        Task::Unpack => scratch::unpacked(&bytes),
    };
    match answer {
        Ok(answer) => std::io::stdout()
            .write_all(&answer)
            .map_err(|e| CliError::config("cannot write to standard output").because(&e)),
        Err(why) => {
            say(&format!("{why}\n"))?;
            Err(CliError::check("it does not load"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_garbled_message_is_refused_or_taken_within_a_second() {
        use cauldron_crdt::doc::{DocKey, Documents, Edit};
        let key = DocKey { scope: cauldron_identity::Scope::mesh(), doc: "notes/a".parse().expect("a document") };
        let mut docs = Documents::new();
        docs.set_author(&cauldron_identity::AuthorId::from_bytes([1; 32]), 0);
        let edit = Edit::Text { at: 0, remove: 0, insert: "all quiet".into() };
        let body = docs.edit(&key, &edit).expect("fits").remove(0);
        assert!(judge(&body).0, "{:?}", judge(&body));
        let mut taken = 0;
        for at in 0..body.len() {
            for bit in [0x01, 0x10, 0x80] {
                let mut garbled = body.clone();
                garbled[at] ^= bit;
                // What only Automerge can read goes to a process of its own, which a unit test has not.
                let begun = Instant::now();
                taken += usize::from(check::check(&garbled) != Found::Chunk && judge(&garbled).0);
                assert!(begun.elapsed() < Duration::from_secs(1), "byte {at}: {:?}", begun.elapsed());
            }
        }
        // A byte of the document's name or of what is around the change may change and leave a sound change.
        assert!(taken < body.len(), "{taken} of {}", 3 * body.len());
    }

    #[test]
    fn only_what_differs_is_written() {
        let cases = [
            ("", "abc", (0, 0, "abc")),
            ("abc", "abc", (3, 0, "")),
            ("abc", "", (0, 3, "")),
            ("one two", "one 2 two", (4, 0, "2 ")),
            ("ééé", "éxé", (1, 1, "x")),
            ("aaa", "aa", (2, 1, "")),
        ];
        for (old, new, (at, remove, insert)) in cases {
            assert_eq!(difference(old, new), (at, remove, insert.to_owned()), "{old:?} {new:?}");
        }
    }
}
