//! What commands print: a table for people, or the API's own JSON, also as YAML. Never a colour, never a control character
//! from outside.

use std::io::Write;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::CliError;

/// Characters of a sentence in a table.
const BRIEF_MAX: usize = 72;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// What the API answered.
    Json,
    /// The same as YAML.
    Yaml,
}

/// How a cell is written in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// As it is.
    Text,
    /// A sentence, cut where a table would become too wide to read; JSON has it whole.
    Brief,
    /// The first 12 characters of a hash.
    Short,
    /// An RFC 3339 time as "in 43 min" or "5 s ago".
    Time,
    /// Milliseconds as "1.2 s".
    Millis,
    /// Parts per million as per cent.
    Percent,
}

/// One column, or one line of a record.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    title: &'static str,
    /// JSON pointer (RFC 6901).
    pointer: &'static str,
    form: As,
}

/// A field that shows the value at `pointer`.
#[must_use]
pub const fn field(title: &'static str, pointer: &'static str, form: As) -> Field {
    Field { title, pointer, form }
}

/// Prints `value` as it is in JSON or YAML, or what `table` makes of it.
///
/// # Errors
/// [`CliError`] when standard output is gone for another reason than a closed pipe.
pub fn print(format: Format, value: &Value, table: impl FnOnce() -> String) -> Result<(), CliError> {
    let text = match format {
        Format::Table => table(),
        Format::Json => format!("{value:#}\n"),
        Format::Yaml => serde_yaml_ng::to_string(value)
            .map_err(|e| CliError::integrity("cannot write the answer as YAML").because(&e))?,
    };
    say(&text)
}

/// Writes text to standard output. A reader that closed its end (`| head`) is no error.
///
/// # Errors
/// As [`print()`].
pub fn say(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::config("cannot write to standard output").because(&e))
        }
        _ => Ok(()),
    }
}

/// A list: one row per item, `empty` when there is none. `now` dates the relative times.
#[must_use]
pub fn rows(items: &[Value], fields: &[Field], empty: &str, now: Timestamp) -> String {
    if items.is_empty() {
        return format!("{empty}\n");
    }
    let head = fields.iter().map(|f| f.title.to_owned()).collect();
    let body = items.iter().map(|item| fields.iter().map(|f| cell(item, *f, now)).collect());
    aligned(std::iter::once(head).chain(body).collect())
}

/// One thing: a line per field; what is absent shows as `-`.
#[must_use]
pub fn record(value: &Value, fields: &[Field], now: Timestamp) -> String {
    aligned(fields.iter().map(|f| vec![f.title.to_owned(), cell(value, *f, now)]).collect())
}

/// The items of a list answer.
#[must_use]
pub fn items(value: &Value) -> &[Value] {
    value.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn aligned(table: Vec<Vec<String>>) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| table.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &table {
        let line = row.iter().zip(&widths).fold(String::new(), |line, (cell, w)| format!("{line}{cell:<w$}  ", w = *w));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn cell(item: &Value, field: Field, now: Timestamp) -> String {
    let Some(value) = item.pointer(field.pointer).filter(|v| !v.is_null()) else { return "-".into() };
    match (field.form, value) {
        (As::Brief, value) => brief(&plain(value)),
        (As::Short, Value::String(hash)) => harmless(hash).chars().take(12).collect(),
        (As::Time, Value::String(time)) => time.parse().map_or_else(|_| harmless(time), |t| relative(t, now)),
        (As::Millis, Value::Number(ms)) => ms.as_u64().map_or_else(|| ms.to_string(), millis),
        (As::Percent, Value::Number(ppm)) => {
            ppm.as_u64().map_or_else(|| ppm.to_string(), |p| format!("{}.{} %", p / 10_000, p / 1_000 % 10))
        }
        _ => plain(value),
    }
}

fn brief(text: &str) -> String {
    if text.chars().count() <= BRIEF_MAX {
        text.to_owned()
    } else {
        text.chars().take(BRIEF_MAX - 1).chain(['…']).collect()
    }
}

/// A value on one line: lists with commas, objects as `key=value`.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(b) => if *b { "yes" } else { "no" }.into(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => harmless(text),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) if map.is_empty() => "-".into(),
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{}={}", harmless(k), plain(v))).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Text from logs and peers may hold escapes that a terminal would obey, or letters that turn the reading direction
/// ("Trojan Source", CVE-2021-42574): all of them become visible.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let deceptive = c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if deceptive { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// `in 43 min`, `5 s ago`, `now`.
#[must_use]
pub fn relative(then: Timestamp, now: Timestamp) -> String {
    let ms = then.as_millisecond().saturating_sub(now.as_millisecond());
    let span = rough(ms.unsigned_abs() / 1_000);
    match (ms, span) {
        (-999..=999, _) => "now".into(),
        (1.., span) => format!("in {span}"),
        (_, span) => format!("{span} ago"),
    }
}

/// Two digits of a duration are what a person keeps.
fn rough(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds / 60),
        6_000..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds for people.
#[must_use]
pub fn millis(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=99_999 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => rough(ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    const PEERS: &[Field] = &[
        field("PEER", "/spiffe_id", As::Text),
        field("STATE", "/state", As::Text),
        field("AUTHOR", "/author", As::Short),
        field("RTT", "/rtt_ms", As::Millis),
        field("SVID ENDS", "/svid/not_after", As::Time),
        field("SURE", "/confidence_ppm", As::Percent),
    ];

    fn now() -> Timestamp {
        "2026-11-24T10:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_table_is_aligned_and_says_what_it_does_not_know() {
        let peers = [
            json!({ "spiffe_id": "spiffe://acme.test/coordinator/hq", "state": "alive", "author": "ab".repeat(32), "rtt_ms": 1240,
                    "svid": { "not_after": "2026-11-24T10:43:10Z" }, "confidence_ppm": 565_513 }),
            json!({ "spiffe_id": "spiffe://acme.test/site/porto/node/porto\u{1b}[2J", "state": "unreachable", "author": null,
                    "svid": { "not_after": "2026-11-24T09:59:55Z" } }),
        ];
        expect![[r#"
            PEER                                               STATE        AUTHOR        RTT    SVID ENDS  SURE
            spiffe://acme.test/coordinator/hq                  alive        abababababab  1.2 s  in 43 min  56.5 %
            spiffe://acme.test/site/porto/node/porto\u{1b}[2J  unreachable  -             -      5 s ago    -
        "#]]
        .assert_eq(&rows(&peers, PEERS, "no peers", now()));
        assert_eq!(rows(&[], PEERS, "no peers", now()), "no peers\n");
        expect![[r#"
            PEER       x
            STATE      -
            AUTHOR     -
            RTT        -
            SVID ENDS  soon
            SURE       -
        "#]]
        .assert_eq(&record(&json!({ "spiffe_id": "x", "svid": { "not_after": "soon" } }), PEERS, now()));
    }

    #[test]
    fn durations_are_what_a_person_keeps() {
        let at = |s: i64| Timestamp::from_millisecond(now().as_millisecond() + s * 1_000).expect("in range");
        let told: Vec<String> = [0, 1, -59, 99, 100, -7_200, 86_400, 259_200].map(|s| relative(at(s), now())).into();
        assert_eq!(told, ["now", "in 1 s", "59 s ago", "in 99 s", "in 1 min", "2 h ago", "in 24 h", "in 3 d"]);
        assert_eq!([0, 999, 1_000, 99_999, 100_000].map(millis), ["0 ms", "999 ms", "1.0 s", "99.9 s", "1 min"]);
    }

    #[test]
    fn long_sentences_are_cut_in_tables_only() {
        let item = json!({ "why": "x".repeat(100) });
        let told = rows(std::slice::from_ref(&item), &[field("WHY", "/why", As::Brief)], "", now());
        assert_eq!(told, format!("WHY\n{}…\n", "x".repeat(71)));
    }

    #[test]
    fn one_value_is_one_line() {
        assert_eq!(plain(&json!({ "a": [1, true, null], "b\n": "x\u{202e}y" })), "a=1, yes, - b\\u{a}=x\\u{202e}y");
        assert_eq!((plain(&json!([])), plain(&json!({}))), ("-".into(), "-".into()));
    }
}
