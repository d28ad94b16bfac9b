//! Commands that look: status, peers, sites, why, proposals.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::segment;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{As, Field, Format, field, harmless, items, millis, plain, print, record, relative, rows};

const SELF: &[Field] = &[
    field("node", "/spiffe_id", As::Text),
    field("state", "/state", As::Text),
    field("reasons", "/reasons", As::Text),
    field("site", "/site", As::Text),
    field("mesh", "/mesh", As::Short),
    field("author", "/author", As::Short),
    field("incarnation", "/incarnation", As::Text),
    field("policy", "/policy", As::Text),
    field("SVID ends", "/svid/not_after", As::Time),
    field("lease age", "/lease/age_ms", As::Millis),
    field("isolation", "/isolation/state", As::Text),
    field("glass broken", "/break_glass", As::Text),
    field("listens on", "/listen", As::Text),
    field("seen", "/as_of", As::Time),
];
const RUNWAY: &[Field] =
    &[field("WHAT", "/what", As::Text), field("ENDS", "/expires", As::Time), field("THEN", "/stops", As::Text)];
const FEDERATION: &[Field] = &[
    field("TRUST DOMAIN", "/trust_domain", As::Text),
    field("SEQUENCE", "/sequence", As::Text),
    field("AGE", "/age_ms", As::Millis),
    field("NEXT", "/next", As::Time),
    field("LAST ERROR", "/last_error", As::Brief),
];
const WEBHOOKS: &[Field] = &[
    field("WEBHOOK", "/name", As::Text),
    field("STATE", "/state", As::Text),
    field("WAITING", "/queued", As::Text),
    field("TOLD", "/delivered", As::Text),
    field("LAST", "/last_success", As::Time),
    field("LAST ERROR", "/last_error", As::Brief),
];
const ATTENTION: &[Field] = &[
    field("LOOK AT", "/short", As::Text),
    field("BECAUSE", "/what", As::Text),
    field("OPERATION", "/operation", As::Text),
    field("HOW", "/how", As::Text),
];
const ISOLATION: &[Field] = &[
    field("CLASS", "/class", As::Text),
    field("UNDER", "/under", As::Text),
    field("UNTIL", "/until", As::Time),
    field("SAYS", "/says", As::Brief),
];
const PEERS: &[Field] = &[
    field("PEER", "/spiffe_id", As::Text),
    field("STATE", "/state", As::Text),
    field("ADDRESS", "/address", As::Text),
    field("PATH", "/path", As::Text),
    field("RTT", "/rtt_ms", As::Millis),
    field("LOSS", "/loss_ppm", As::Percent),
    field("SYNC", "/sync", As::Text),
    field("SVID ENDS", "/svid_not_after", As::Time),
    field("SEEN", "/as_of", As::Time),
    field("LAST ERROR", "/last_error", As::Brief),
];
/// What `peers --wide` shows beyond that.
const PEERS_WIDE: &[Field] = &[
    field("BY", "/observer", As::Text),
    field("CONNECTED", "/connected_ms", As::Millis),
    field("CLOCK", "/clock", As::Text),
    field("VERSION", "/version", As::Text),
    field("CAN", "/features", As::Brief),
    field("BYTES IN", "/bytes_in", As::Text),
    field("BYTES OUT", "/bytes_out", As::Text),
    field("QUEUED", "/queued_bytes", As::Text),
];
const SITES: &[Field] = &[
    field("SITE", "/site", As::Text),
    field("LINE", "/line", As::Brief),
    field("STOPS", "/stops", As::Brief),
    field("STATE", "/isolation/state", As::Text),
    field("SINCE", "/isolation/since", As::Time),
    field("BY", "/observer", As::Text),
    field("AS OF", "/as_of", As::Time),
];
const PROPOSALS: &[Field] = &[
    field("ID", "/short", As::Text),
    field("STATE", "/state", As::Text),
    field("OPERATION", "/operation", As::Text),
    field("TARGET", "/target", As::Text),
    field("CLASS", "/class", As::Text),
    field("SURE", "/confidence_ppm", As::Percent),
    field("OPENED", "/opened", As::Time),
    field("GLASS", "/break_glass", As::Text),
    field("WHY", "/why", As::Brief),
];

const RESTRICTIONS: &[Field] = &[
    field("ID", "/id", As::Short),
    field("KIND", "/kind", As::Text),
    field("TARGET", "/target", As::Text),
    field("BY", "/by", As::Text),
    field("ISSUED", "/issued", As::Time),
    field("REACH", "/reach", As::Brief),
    field("WHY", "/reason", As::Brief),
];

/// A name of something.
#[derive(Debug, Args)]
pub struct Named {
    /// Id (or its first characters) of a proposal or permit, or a peer's SPIFFE ID
    #[arg(value_name = "ID")]
    id: String,
}

/// `restrictions [ID]`.
#[derive(Debug, Args)]
pub struct RestrictionsArgs {
    /// Id of one restriction, or its first characters
    #[arg(value_name = "ID")]
    id: Option<String>,
}

/// `peers [--wide]`.
#[derive(Debug, Args)]
pub struct PeersArgs {
    /// Show clocks, versions and traffic, too
    #[arg(long)]
    wide: bool,
}

/// `proposals [ID]`.
#[derive(Debug, Args)]
pub struct ProposalsArgs {
    /// Id of one proposal, or its first characters
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Only those in this state, such as PENDING_APPROVAL
    #[arg(long, value_name = "STATE", conflicts_with = "id")]
    state: Option<String>,
}

pub(super) async fn status(client: &Client, format: Format) -> Result<(), CliError> {
    let own = client.get("/v1/self").await?;
    let peers = client.get("/v1/peers").await?;
    let count = |state: &str| items(&peers).iter().filter(|p| p["state"] == state).count();
    let summary = json!({
        "alive": count("alive"), "suspect": count("suspect"), "unreachable": count("unreachable"),
        "departed": count("departed"), "quarantined": count("quarantined"),
    });
    let partitions = client.get("/v1/partitions").await?;
    let mut whole = own.clone();
    if let Some(map) = whole.as_object_mut() {
        map.insert("peers".into(), summary.clone());
        map.insert("partitions".into(), partitions.clone());
    }
    print(format, &whole, || {
        let now = Timestamp::now();
        let part = |name: &str, fields| {
            let all = own.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            if all.is_empty() { String::new() } else { format!("\n{}", rows(all, fields, "", now)) }
        };
        let classes = own.pointer("/isolation/classes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let classes =
            if classes.is_empty() { String::new() } else { format!("\n{}", rows(classes, ISOLATION, "", now)) };
        let parts = [
            classes,
            part("attention", ATTENTION),
            part("runway", RUNWAY),
            part("federation", FEDERATION),
            part("notify", WEBHOOKS),
        ]
        .concat();
        let reach = reachable(&partitions, now);
        format!("{}peers        {}\nmesh         {reach}\n{parts}", record(&own, SELF, now), plain(&summary))
    })
}

/// Who cannot be reached, in a line: "partitioned: lyon cut off, last seen 3 min ago; porto without 1 of 4".
fn reachable(partitions: &Value, now: Timestamp) -> String {
    let state = plain(&partitions["state"]);
    let torn = |part: &Value| {
        let site = part["site"].as_str().map_or_else(|| "the coordinators".to_owned(), harmless);
        let missing = part["missing"].as_array().map_or(0, Vec::len);
        match part["state"].as_str() {
            Some("cut_off") => {
                let seen = part["as_of"].as_str().and_then(|time| time.parse().ok());
                let seen = seen.map_or_else(|| "never".to_owned(), |time| relative(time, now));
                Some(format!("{site} cut off, last seen {seen}"))
            }
            Some("partial") => Some(format!("{site} without {missing} of {}", plain(&part["members"]))),
            _ => None,
        }
    };
    let torn: Vec<String> = items(partitions).iter().filter_map(torn).collect();
    if torn.is_empty() { state } else { format!("{state}: {}", torn.join("; ")) }
}

pub(super) async fn peers(client: &Client, format: Format, args: &PeersArgs) -> Result<(), CliError> {
    let peers = client.get("/v1/peers").await?;
    print(format, &peers, || {
        let told = |peer: &Value| {
            let mut shown = peer.clone();
            if let Some(map) = shown.as_object_mut() {
                map.insert("sync".into(), sync_of(peer).into());
                map.insert("clock".into(), clock_of(peer).into());
            }
            shown
        };
        let shown: Vec<Value> = items(&peers).iter().map(told).collect();
        let fields = [PEERS, if args.wide { PEERS_WIDE } else { &[] }].concat();
        rows(&shown, &fields, "no other member is enrolled", Timestamp::now())
    })
}

/// How far a peer has come: "level", "12 behind since 3 min", "12 behind since 3 min, stalled".
fn sync_of(peer: &Value) -> Option<String> {
    let behind = peer["behind"].as_u64()?;
    let since = peer["oldest_unsynced_ms"].as_u64().map(|ms| format!(" since {}", millis(ms))).unwrap_or_default();
    let level = if behind == 0 { "level".to_owned() } else { format!("{behind} behind{since}") };
    let stalled = if peer["stalled"] == true { ", stalled" } else { "" };
    Some(format!("{level}{stalled}"))
}

/// How far a peer's clock is from ours: "40 ms ahead, +-3 ms".
fn clock_of(peer: &Value) -> Option<String> {
    let (ahead, error) = (peer["skew"]["ahead_ms"].as_i64()?, peer["skew"]["error_ms"].as_u64()?);
    let way = if ahead < 0 { "behind" } else { "ahead" };
    Some(format!("{} {way}, +-{}", millis(ahead.unsigned_abs()), millis(error)))
}

pub(super) async fn sites(client: &Client, format: Format) -> Result<(), CliError> {
    let sites = client.get("/v1/sites").await?;
    print(format, &sites, || rows(items(&sites), SITES, "no site has written to the board yet", Timestamp::now()))
}

pub(super) async fn why(client: &Client, format: Format, args: &Named) -> Result<(), CliError> {
    let answer = client.get(&format!("/v1/why/{}", segment(&args.id))).await?;
    print(format, &answer, || {
        let sentences = answer.get("sentences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match sentences {
            [] => "it waits for nothing\n".to_owned(),
            all => all.iter().map(|s| format!("{}\n", plain(s))).collect(),
        }
    })
}

pub(super) async fn proposals(client: &Client, format: Format, args: &ProposalsArgs) -> Result<(), CliError> {
    if let Some(id) = &args.id {
        let one = client.get(&format!("/v1/proposals/{}", segment(id))).await?;
        return print(format, &one, || tree(&one, 0));
    }
    let path = match &args.state {
        Some(state) => format!("/v1/proposals?state={}", segment(state)),
        None => "/v1/proposals".to_owned(),
    };
    let all = client.get(&path).await?;
    print(format, &all, || rows(items(&all), PROPOSALS, "no proposal", Timestamp::now()))
}

/// Every field of an answer, one per line, nested ones indented.
pub(super) fn tree(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth);
    let nested = |v: &Value| match v {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => items.iter().any(|i| i.is_object() || i.is_array()),
        _ => false,
    };
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, v)| match nested(v) {
                true => format!("{pad}{}:\n{}", harmless(key), tree(v, depth + 1)),
                false => format!("{pad}{}: {}\n", harmless(key), plain(v)),
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|v| match nested(v) {
                true => format!("{pad}-\n{}", tree(v, depth + 1)),
                false => format!("{pad}- {}\n", plain(v)),
            })
            .collect(),
        other => format!("{pad}{}\n", plain(other)),
    }
}

/// How far restrictions have got: "PARTIAL 4 of 5, latest by …; lyon last heard …".
pub(super) async fn restrictions(client: &Client, format: Format, args: &RestrictionsArgs) -> Result<(), CliError> {
    if let Some(id) = &args.id {
        let one = client.get(&format!("/v1/restrictions/{}", segment(id))).await?;
        return print(format, &one, || format!("{}\n{}", reach(&one, Timestamp::now()), tree(&one, 0)));
    }
    let all = client.get("/v1/restrictions").await?;
    print(format, &all, || {
        let now = Timestamp::now();
        let told = |r: &Value| {
            let mut shown = r.clone();
            if let Some(map) = shown.as_object_mut() {
                map.insert("reach".into(), reach(r, now).into());
            }
            shown
        };
        let shown: Vec<Value> = items(&all).iter().map(told).collect();
        rows(&shown, RESTRICTIONS, "nothing is restricted", now)
    })
}

/// One restriction's reach in a line. Nothing is called stopped that is not known to be.
pub(super) fn reach(restriction: &Value, now: Timestamp) -> String {
    let text = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_str).map(harmless);
    if let Some(entry) = restriction.pointer("/lifted/entry").and_then(Value::as_u64) {
        return format!("lifted by entry {entry}");
    }
    let count = |name: &str| restriction.get(name).and_then(Value::as_u64);
    let state = text(restriction, "/state").unwrap_or_else(|| "UNKNOWN".into());
    let (by, of) = match (count("enforced_by"), count("of")) {
        (Some(by), Some(of)) => (by, of),
        _ => return format!("{state}: nodes do not say whether they enforce it"),
    };
    let until = |v: &Value| {
        let at = text(v, "/latest_by")?;
        let over = at.parse::<Timestamp>().is_ok_and(|at| at <= now);
        Some(if over { format!("its authority ended by itself by {at}") } else { format!("latest by {at}") })
    };
    let head = match until(restriction) {
        Some(until) => format!("{state} {by} of {of}, {until}"),
        None => format!("{state} {by} of {of}"),
    };
    let waiting = restriction["waiting"].as_array().into_iter().flatten().map(|w| {
        let name = text(w, "/spiffe_id").unwrap_or_else(|| "?".into());
        let seen = text(w, "/seen/as_of").and_then(|t| t.parse::<Timestamp>().ok());
        let heard = seen.map_or_else(|| "never heard".to_owned(), |at| format!("last heard {}", relative(at, now)));
        let bound = until(w).unwrap_or_else(|| "and nobody knows until when it may act".into());
        format!("{name} {heard}, {bound}")
    });
    [head].into_iter().chain(waiting).collect::<Vec<_>>().join("; ")
}
