//! Guardrails and what they judged: back-test, replay, activation. With a node.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{Evaluation, Outcome};
use cauldron_coordinator::input::Input;
use cauldron_coordinator::policy::{BacktestReport, Bundle, Engine, backtest as judge_again, check};
use cauldron_identity::Digest;
use cauldron_identity::authority::{self, Activate};
use clap::Args;
use serde_json::{Value, json};

use super::super::entries::{Base, Pending};
use super::super::look::tree;
use super::super::{Global, can_confirm, confirm};
use super::{Which, compile, load};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{Format, harmless, items, print};
use crate::signer::SignerArgs;

/// Changes that are shown one by one on a terminal.
const SHOWN_MAX: usize = 20;

/// `policy activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    signer: SignerArgs,
    /// Write the entry here for another policy author to sign (`authority sign`, `authority submit`)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// One recorded decision, as far as it can be judged again.
struct Recorded {
    id: String,
    bundle: Digest,
    was: Evaluation,
    input: Option<Value>,
}

/// Everything that the node judged or holds, page by page.
async fn recorded(client: &Client) -> Result<Vec<Recorded>, CliError> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/decisions?limit=500{after}")).await?;
        for item in items(&page) {
            let odd = || CliError::integrity("the node tells of a decision that cannot be read");
            let was = serde_json::from_value(item["evaluation"].clone()).map_err(|e| odd().because(&e))?;
            let bundle = item["bundle"].as_str().and_then(|b| b.parse().ok()).ok_or_else(odd)?;
            let input = item.get("input").filter(|input| !input.is_null()).cloned();
            all.push(Recorded { id: item["id"].as_str().unwrap_or_default().to_owned(), bundle, was, input });
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

/// What `engine` would have said to what can be judged again; and how much cannot.
async fn report(client: &Client, engine: &Engine) -> Result<(BacktestReport, usize, Vec<String>), CliError> {
    let (with, without): (Vec<Recorded>, Vec<Recorded>) =
        recorded(client).await?.into_iter().partition(|r| r.input.is_some());
    let ids = with.iter().map(|r| r.id.clone()).collect();
    let decisions = with.into_iter().filter_map(|r| Some((Input::from_document(r.input?), r.was)));
    Ok((judge_again(engine, decisions), without.len(), ids))
}

fn text(report: &BacktestReport, elsewhere: usize, ids: &[String]) -> String {
    let mut text =
        format!("{} decisions judged again: {} as before, {} otherwise", report.decisions, report.same, report.changed);
    if elsewhere > 0 {
        text.push_str(&format!("; {elsewhere} were judged elsewhere, and their documents are not here"));
    }
    text.push('\n');
    for change in report.changes.iter().take(SHOWN_MAX) {
        let id = usize::try_from(change.at).ok().and_then(|at| ids.get(at)).map_or("?", |id| &id[..id.len().min(12)]);
        let word = |outcome: Outcome| {
            serde_json::to_value(outcome).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let what = match (change.was == change.now, change.obligations) {
            (false, _) => format!("{} becomes {}", word(change.was), word(change.now)),
            (true, true) => format!("{}, with other obligations", word(change.now)),
            (true, false) => format!("{}, by other rules", word(change.now)),
        };
        let rules: Vec<String> = change
            .rules_new
            .iter()
            .map(|r| format!("+ {r}"))
            .chain(change.rules_gone.iter().map(|r| format!("- {r}")))
            .collect();
        text.push_str(&format!("  {id}  {}  {what}\n", change.action_class));
        rules.iter().for_each(|rule| text.push_str(&format!("      {}\n", harmless(rule))));
    }
    if report.changes.len() > SHOWN_MAX {
        text.push_str(&format!("  and {} more; --output json shows them\n", report.changed as usize - SHOWN_MAX));
    }
    text
}

pub(super) async fn backtest(client: &Client, global: &Global, bundle: &Bundle) -> Result<(), CliError> {
    let (report, elsewhere, ids) = report(client, &compile(bundle)?).await?;
    let value =
        json!({ "version": bundle.version(), "digest": bundle.digest(), "elsewhere": elsewhere, "report": report });
    print(global.output, &value, || text(&report, elsewhere, &ids))
}

pub(super) async fn replay(client: &Client, global: &Global) -> Result<(), CliError> {
    let mut engines: BTreeMap<Digest, Engine> = BTreeMap::new();
    let (mut same, mut elsewhere, mut otherwise) = (0u64, 0u64, Vec::new());
    for r in recorded(client).await? {
        let Some(document) = r.input else {
            elsewhere += 1;
            continue;
        };
        let engine = match engines.entry(r.bundle) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let answer = client.get(&format!("/v1/policy/bundles/{}", r.bundle)).await?;
                let packed = answer["bundle"].as_str().and_then(|b| BASE64_STANDARD.decode(b).ok()).unwrap_or_default();
                let odd = || CliError::integrity("an archived bundle cannot be read");
                let bundle = Bundle::unpack(&packed).map_err(|e| odd().because(&e))?;
                place.insert(compile(&bundle)?)
            }
        };
        let input = Input::from_document(document);
        // A coordinator's floor and a broken schema are not policy's to say: they only ever deny.
        let now = engine.evaluate(&input);
        let beside = r.was.outcome == Outcome::Deny
            && r.was.rules.iter().all(|rule| ["floor.", "schema:", "restricted:"].iter().any(|p| rule.starts_with(p)));
        let equal = (now.outcome, &now.obligations, &now.rules) == (r.was.outcome, &r.was.obligations, &r.was.rules);
        if input.digest() == r.was.input_digest && (equal || beside) {
            same += 1;
        } else {
            otherwise.push(json!({ "id": r.id, "was": r.was, "now": now, "input_digest": input.digest() }));
        }
    }
    let value = json!({ "same": same, "elsewhere": elsewhere, "otherwise": otherwise });
    print(global.output, &value, || {
        let mut text = format!("{same} decisions come to the same; {elsewhere} were judged elsewhere\n");
        otherwise.iter().for_each(|o| text.push_str(&tree(o, 0)));
        text
    })?;
    match otherwise.len() {
        0 => Ok(()),
        n => Err(CliError::check(format!("{n} decisions come to something else than is on the record"))
            .hint("the record or the node's documents were changed, or another build judged; `cauldron audit verify` tells about the record")),
    }
}

pub(super) async fn activate(client: &Client, global: &Global, args: &ActivateArgs) -> Result<(), CliError> {
    let bundle = load(&args.which)?;
    let engine = compile(&bundle)?;
    let failed: Vec<String> =
        check(&bundle).into_iter().filter(|case| case.failure.is_some()).map(|case| case.name).collect();
    if !failed.is_empty() {
        return Err(CliError::check(format!("{} of the bundle's own tests do not hold", failed.len()))
            .detail(failed.join(", "))
            .hint("`cauldron policy test` says why"));
    }
    can_confirm(args.yes)?;
    let (report, elsewhere, ids) = report(client, &engine).await?;
    if global.output == Format::Table || !args.yes {
        eprint!("{}", text(&report, elsewhere, &ids));
    }
    let question = format!("Activate policy {} ({})?", harmless(bundle.version()), bundle.digest().short());
    confirm(&question, args.yes)?;
    let brought =
        client.post("/v1/policy/bundles", &json!({ "bundle": BASE64_STANDARD.encode(bundle.packed()) })).await?;
    let id = brought["id"].as_str().and_then(|id| id.parse().ok());
    let fact = id.ok_or_else(|| CliError::integrity("the node does not say where the bundle is"))?;
    let entry = Activate { bundle: fact, digest: bundle.digest(), version: bundle.version().to_owned() };
    let mut pending = Pending::new(&Base::ask(client).await?, &authority::Entry::Activate(entry));
    if args.signer.key.is_some() || args.signer.agent.is_some() {
        pending.sign(&args.signer.open()?)?;
    }
    match &args.out {
        Some(path) => pending.put(global, path),
        None => pending.submit(client, global, "activated").await,
    }
}
