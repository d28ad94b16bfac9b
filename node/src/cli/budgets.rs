//! Budgets: what is left of them and who holds it, and moving their rights.

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{duration, segment};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{As, Field, Format, field, harmless, items, print, rows};

const BUDGETS: &[Field] = &[
    field("BUDGET", "/budget", As::Text),
    field("WINDOW", "/window", As::Text),
    field("OPEN", "/open", As::Text),
    field("ENDS", "/ends", As::Time),
    field("LIMIT", "/limit", As::Text),
    field("HELD", "/held", As::Text),
    field("RESERVED", "/reserved", As::Text),
    field("SPENT", "/spent", As::Text),
    field("IN FLIGHT", "/in_flight", As::Text),
    field("LOST", "/lost", As::Text),
    field("STRANDED", "/stranded", As::Text),
];
const SHARES: &[Field] = &[
    field("BUDGET", "/budget", As::Text),
    field("WINDOW", "/window", As::Text),
    field("WHO", "/of", As::Text),
    field("LIFE", "/incarnation", As::Text),
    field("OVER", "/ended", As::Text),
    field("HELD", "/held", As::Text),
    field("RESERVED", "/reserved", As::Text),
    field("SPENT", "/spent", As::Text),
    field("IN FLIGHT", "/in_flight", As::Text),
    field("LOST", "/lost", As::Text),
    field("STRANDED", "/stranded", As::Text),
    field("OVERDRAWN", "/overdrawn", As::Text),
];
const RESERVATIONS: &[Field] = &[
    field("RESERVATION", "/id", As::Short),
    field("BUDGET", "/budget", As::Text),
    field("WINDOW", "/window", As::Text),
    field("AMOUNT", "/amount", As::Text),
    field("PURPOSE", "/purpose", As::Short),
];

/// `budgets …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Limit, and what is held, reserved, spent, on its way, lost and out of reach
    List {
        /// Who has how much of it, and what this node has reserved
        #[arg(long)]
        shares: bool,
        /// Windows that are over too
        #[arg(long)]
        all: bool,
    },
    /// Bring the rights of one window into being: once, and never again (sequencer only)
    Mint(MintArgs),
    /// Hand rights that this node holds to another
    Grant(GrantArgs),
    /// Set rights of the open window aside for something, before it is started
    Reserve(ReserveArgs),
    /// End a reservation: what was not spent is held again
    Settle(SettleArgs),
}

/// `budgets mint`.
#[derive(Debug, Args)]
pub struct MintArgs {
    /// The budget's name
    #[arg(value_name = "BUDGET")]
    budget: String,
    /// How much, a whole number in its minor unit
    #[arg(value_name = "AMOUNT")]
    amount: u64,
    /// How long its windows are, such as 1day; `none` for a limit without time [needed for a new budget]
    #[arg(long, value_name = "DURATION", value_parser = every)]
    every: Option<Every>,
    /// The window's number [default: the open one]
    #[arg(long, value_name = "N")]
    window: Option<u64>,
    /// Who holds it first: SPIFFE ID or author id [default: the sequencer]
    #[arg(long, value_name = "MEMBER")]
    holder: Option<String>,
}

/// How long windows are; none without time.
#[derive(Debug, Clone, Copy)]
struct Every(Option<Duration>);

fn every(text: &str) -> Result<Every, String> {
    match text {
        "none" => Ok(Every(None)),
        _ => match duration(text)? {
            // It would be a budget without time, for good.
            short if short.as_millis() == 0 => {
                Err("a window lasts a millisecond or more; a limit without time is `none`".into())
            }
            every => Ok(Every(Some(every))),
        },
    }
}

/// `budgets grant`.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The budget's name
    #[arg(value_name = "BUDGET")]
    budget: String,
    /// How much
    #[arg(value_name = "AMOUNT")]
    amount: u64,
    /// To whom: SPIFFE ID or author id
    #[arg(long, value_name = "MEMBER")]
    to: String,
    /// The window's number [default: the open one]
    #[arg(long, value_name = "N")]
    window: Option<u64>,
}

/// `budgets reserve`.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// The budget's name
    #[arg(value_name = "BUDGET")]
    budget: String,
    /// How much
    #[arg(value_name = "AMOUNT")]
    amount: u64,
    /// What for; the same again is answered with the same reservation
    #[arg(long = "for", value_name = "TEXT")]
    purpose: String,
}

/// `budgets settle`.
#[derive(Debug, Args)]
pub struct SettleArgs {
    /// The reservation: its id, or the first characters of it
    #[arg(value_name = "RESERVATION")]
    reservation: String,
    /// How much of it was spent; 0 when nothing happened
    #[arg(long, value_name = "AMOUNT")]
    spent: u64,
}

pub(super) async fn run(client: &Client, format: Format, command: &Command) -> Result<(), CliError> {
    let (path, body) = match command {
        Command::List { shares, all } => {
            let budgets = client.get(&format!("/v1/budgets?all={all}")).await?;
            return print(format, &budgets, || table(&budgets, *shares));
        }
        Command::Mint(args) => {
            let window_ms = args.every.map(|Every(every)| every.map_or(0, |d| d.as_millis()));
            let body = json!({
                "amount": args.amount, "window": args.window, "holder": args.holder,
                "window_ms": window_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            });
            (format!("/v1/budgets/{}/mint", segment(&args.budget)), body)
        }
        Command::Grant(args) => {
            let body = json!({ "amount": args.amount, "to": args.to, "window": args.window });
            (format!("/v1/budgets/{}/grant", segment(&args.budget)), body)
        }
        Command::Reserve(args) => {
            let body = json!({ "amount": args.amount, "purpose": args.purpose });
            (format!("/v1/budgets/{}/reserve", segment(&args.budget)), body)
        }
        Command::Settle(args) => {
            let path = format!("/v1/budgets/reservations/{}/settle", segment(&args.reservation));
            (path, json!({ "spent": args.spent }))
        }
    };
    let answer = client.post(&path, &body).await?;
    print(format, &answer, || said(&answer))
}

fn said(answer: &Value) -> String {
    let id: String = answer["id"].as_str().unwrap_or_default().chars().take(12).collect();
    let before = if answer["already"] == true { "was recorded before" } else { "recorded" };
    format!("{before} {}\n", harmless(&id))
}

fn table(budgets: &Value, shares: bool) -> String {
    let now = Timestamp::now();
    let mut out = rows(items(budgets), BUDGETS, "nothing was minted yet", now);
    if !shares {
        return out;
    }
    let mut all: Vec<Value> = Vec::new();
    for budget in items(budgets) {
        for share in budget["shares"].as_array().into_iter().flatten() {
            let mut share = share.clone();
            (share["budget"], share["window"]) = (budget["budget"].clone(), budget["window"].clone());
            all.push(share);
        }
    }
    out += &format!("\n{}", rows(&all, SHARES, "nobody has anything", now));
    let reserved = budgets["reservations"].as_array().cloned().unwrap_or_default();
    out += &format!("\n{}", rows(&reserved, RESERVATIONS, "this node has reserved nothing", now));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_the_sums_and_on_request_who_has_what() {
        let share = json!({
            "author": "ab", "of": "spiffe://acme.example/site/lyon/node/lyon", "incarnation": 1, "ended": false,
            "held": 7, "reserved": 3, "spent": 0, "in_flight": 0, "lost": 0, "stranded": 10, "overdrawn": 0,
        });
        let item = json!({
            "budget": "blocks", "window": 0, "window_ms": 0, "begins": null, "ends": null, "open": true, "limit": 12,
            "held": 7, "reserved": 3, "spent": 0, "in_flight": 2, "lost": 0, "stranded": 10, "overdrawn": 0,
            "shares": [share],
        });
        let reservation =
            json!({ "id": "0123456789abcdef", "budget": "blocks", "window": 0, "amount": 3, "purpose": "ff" });
        let budgets = json!({ "items": [item], "reservations": [reservation] });
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let brief = words(&table(&budgets, false));
        assert!(brief.contains("blocks 0 yes - 12 7 3 0 2 0 10") && !brief.contains("lyon"), "{brief}");
        let whole = words(&table(&budgets, true));
        assert!(whole.contains("blocks 0 spiffe://acme.example/site/lyon/node/lyon 1 no 7 3 0 0 0 10 0"), "{whole}");
        assert!(whole.contains("blocks 0 3 ff"), "{whole}");
        assert!(table(&json!({ "items": [] }), false).contains("nothing was minted"));
        assert_eq!(every("1day").map(|Every(every)| every), Ok(Some(Duration::from_secs(86_400))));
        assert!(every("none").is_ok_and(|Every(every)| every.is_none()) && every("soon").is_err());
    }
}
