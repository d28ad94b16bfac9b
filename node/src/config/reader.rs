//! Reads typed values out of a TOML text and collects every mistake on the way.
//!
//! A getter never fails: it notes the problem and answers `None`, so that one read finds all of them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, did_you_mean, place};
use super::schema::{KEYS, NAMED, children, is_section};

/// A parsed text, and what is wrong with it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    table: DeTable<'t>,
    problems: RefCell<Vec<Problem>>,
    /// What `*` stands for in the names that are asked for, while a named table is read.
    star: RefCell<String>,
    /// Syntax errors may hide keys, so nothing is called missing then.
    broken: bool,
}

impl<'t> Reader<'t> {
    /// Parses `text`; syntax errors and unknown keys are the first problems.
    pub(super) fn new(text: &'t str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let reader = Self {
            text,
            table: table.into_inner(),
            problems: RefCell::default(),
            star: RefCell::default(),
            broken: !errors.is_empty(),
        };
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            reader.at(&span, format!("this is not TOML: {}", error.message()), "see https://toml.io for the syntax");
        }
        reader.unknown_keys("", &reader.table);
        reader
    }

    /// Every problem found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Whether syntax errors may have hidden keys.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    fn unknown_keys(&self, section: &str, table: &DeTable<'t>) {
        for (key, value) in table {
            let local = if section == NAMED { "*" } else { key.get_ref().as_ref() };
            let name = if section.is_empty() { local.to_owned() } else { format!("{section}.{local}") };
            match value.get_ref() {
                DeValue::Table(inner) if is_section(&name) => self.unknown_keys(&name, inner),
                _ if is_section(&name) => {
                    self.at(
                        &value.span(),
                        format!("{name} must be a table"),
                        &format!("write [{name}] and its keys below"),
                    );
                }
                _ if KEYS.iter().any(|k| k.name == name) => {}
                // Behind a broken header keys stand in a section that is not theirs.
                _ if self.broken && KEYS.iter().any(|k| k.name.rsplit('.').next() == Some(local)) => {}
                _ => {
                    self.at(&key.span(), format!("{name} is no key of this configuration"), &suggestion(section, local))
                }
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Spanned<DeValue<'t>>> {
        debug_assert!(KEYS.iter().any(|k| k.name == name), "{name} is not in the schema");
        let star = self.star.borrow();
        let mut parts = name.split('.').map(|part| if part == "*" { star.as_str() } else { part });
        let mut value = get(&self.table, parts.next()?)?;
        for part in parts {
            value = get(value.get_ref().as_table()?, part)?;
        }
        Some(value)
    }

    /// Whether the key is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Reads each table below [`NAMED`]; inside `read`, `*` in a name stands for that table's.
    pub(super) fn named<T>(&self, mut read: impl FnMut(&str) -> Option<T>) -> Vec<T> {
        let mut table = &self.table;
        for part in NAMED.split('.') {
            match get(table, part).and_then(|value| value.get_ref().as_table()) {
                Some(inner) => table = inner,
                None => return Vec::new(),
            }
        }
        let mut found = Vec::new();
        for (key, value) in table {
            if value.get_ref().as_table().is_some() {
                let name = key.get_ref().as_ref();
                self.star.replace(name.to_owned());
                found.extend(read(name));
            }
        }
        found
    }

    /// A schema name with what `*` stands for, as it stands in the file.
    fn spelled(&self, name: &str) -> String {
        name.replace('*', &format!("\"{}\"", self.star.borrow()))
    }

    /// Whether the section is given, even empty.
    pub(super) fn has_section(&self, name: &str) -> bool {
        let mut table = &self.table;
        name.split('.').all(|part| match get(table, part).and_then(|v| v.get_ref().as_table()) {
            Some(inner) => {
                table = inner;
                true
            }
            None => false,
        })
    }

    fn at(&self, span: &Range<usize>, message: String, hint: &str) {
        let place = Some(place(self.text, span.start));
        self.note(Problem { offset: span.start, place, message, hint: hint.to_owned() });
    }

    /// A key that two rules look at is still one mistake.
    fn note(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Notes a problem with `name`: at its value when it is given, otherwise at the section that lacks it, if there is one.
    pub(super) fn problem(&self, name: &str, what: &str, hint: &str) {
        match self.find(name) {
            Some(value) => {
                let shown = self.shown(&value.span());
                self.at(&value.span(), format!("{} = {shown}  {what}", self.spelled(name)), hint);
            }
            None if self.broken => {}
            None => match self.section_of(name) {
                Some(section) => self.at(&section, format!("{} {what}", self.spelled(name)), hint),
                None => self.note(Problem {
                    offset: usize::MAX,
                    place: None,
                    message: format!("{} {what}", self.spelled(name)),
                    hint: hint.to_owned(),
                }),
            },
        }
    }

    /// Where the innermost section begins that is given and would hold `name`.
    fn section_of(&self, name: &str) -> Option<Range<usize>> {
        let (section, _) = name.rsplit_once('.')?;
        let (mut table, mut found, star) = (&self.table, None, self.star.borrow());
        for part in section.split('.').map(|part| if part == "*" { star.as_str() } else { part }) {
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref().as_ref() == part) else { break };
            let Some(inner) = value.get_ref().as_table() else { break };
            (table, found) = (inner, Some(key.span()));
        }
        found
    }

    /// The value as it stands in the file, on one line.
    fn shown(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // A PIN in the wrong place must not get into a log, too.
        let line = match line.split_once("pin-") {
            Some((before, _)) => format!("{before}…"),
            None => line,
        };
        if line.chars().count() <= 60 { line } else { line.chars().take(59).chain(['…']).collect() }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = self.find(name)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.problem(name, &format!("is {}, not a text", kind(value.get_ref())), "put it in double quotes");
        }
        text
    }

    /// A text that `parse` understands; its error is the problem, `hint` says what to write.
    pub(super) fn parsed<T, E: ToString>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<T> {
        let text = self.text(name)?;
        parse(text).map_err(|e| self.problem(name, &e.to_string(), hint)).ok()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.find(name)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.problem(name, &format!("is {}", kind(value.get_ref())), "write true or false, without quotes");
        }
        flag
    }

    /// Whether the key is given but is neither true nor false: then what it was meant to be is unknown.
    pub(super) fn flag_is_bad(&self, name: &str) -> bool {
        self.find(name).is_some_and(|v| v.get_ref().as_bool().is_none())
    }

    /// Whether the key is given as anything but an empty list: what is wrong with it is said elsewhere.
    pub(super) fn list_has_items(&self, name: &str) -> bool {
        self.find(name).is_some_and(|v| v.get_ref().as_array().is_none_or(|a| !a.is_empty()))
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, name: &str, range: Range<u64>) -> Option<u64> {
        let value = self.find(name)?;
        let number = value.get_ref().as_integer().and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        let good = number.filter(|n| range.contains(n));
        if good.is_none() {
            let last = range.end.saturating_sub(1);
            let hint = format!("write a whole number from {} to {last}, without quotes", range.start);
            self.problem(name, &format!("must be a number between {} and {last}", range.start), &hint);
        }
        good
    }

    /// A list of texts, each understood by `parse`; those that are not are problems of their own.
    pub(super) fn list<T, E: ToString>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<Vec<T>> {
        let value = self.find(name)?;
        let Some(items) = value.get_ref().as_array() else {
            self.problem(name, &format!("is {}, not a list", kind(value.get_ref())), "put it in brackets: [\"…\"]");
            return None;
        };
        Some(self.texts(name, items, parse, hint))
    }

    /// One text, or a list of at least one, each understood by `parse`.
    pub(super) fn one_or_more<T, E: ToString>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<Vec<T>> {
        let Some(items) = self.find(name)?.get_ref().as_array() else {
            return self.parsed(name, parse, hint).map(|one| vec![one]);
        };
        if items.is_empty() {
            self.problem(name, "is empty", hint);
        }
        Some(self.texts(name, items, parse, hint))
    }

    /// The members of a list of texts that `parse` understands.
    fn texts<T, E: ToString>(
        &self,
        place: &str,
        items: &[Spanned<DeValue<'_>>],
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Vec<T> {
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match read_text(item, &parse) {
                Ok(value) => out.push(value),
                Err(why) => {
                    let shown = self.shown(&item.span());
                    self.at(&item.span(), format!("{place}[{i}] = {shown}  {why}"), hint);
                }
            }
        }
        out
    }

    /// The tables of `[[name]]`, each read by `read`; keys other than `known` are problems.
    pub(super) fn tables<T>(&self, name: &str, known: &[&str], read: impl Fn(&Item<'_, 't>) -> Option<T>) -> Vec<T> {
        let Some(value) = self.find(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.problem(
                name,
                &format!("is {}", kind(value.get_ref())),
                &format!("write [[{name}]] above each of its tables"),
            );
            return Vec::new();
        };
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let place = format!("{name}[{i}]");
            let Some(table) = item.get_ref().as_table() else {
                self.at(
                    &item.span(),
                    format!("{place} is {}", kind(item.get_ref())),
                    &format!("write [[{name}]] above it"),
                );
                continue;
            };
            for (key, _) in table.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
                let local = key.get_ref().as_ref();
                let hint = match did_you_mean(local, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("[[{name}]] has {}", known.join(", ")),
                };
                self.at(&key.span(), format!("{place}.{local} is no key of this configuration"), &hint);
            }
            out.extend(read(&Item { reader: self, table, span: item.span(), place }));
        }
        out
    }

    /// A duration within bounds, such as `10m` or `1h 30m`.
    pub(super) fn duration(&self, name: &str, min: Duration, max: Duration) -> Option<Duration> {
        let show = humantime::format_duration;
        let hint = format!("write a duration from {} to {}, such as \"10m\"", show(min), show(max));
        self.parsed(
            name,
            |text| match humantime::parse_duration(text) {
                Ok(d) if d < min || d > max => Err(format!("must be between {} and {}", show(min), show(max))),
                Ok(d) => Ok(d),
                Err(_) => Err("is no duration".to_owned()),
            },
            &hint,
        )
    }

    /// A path; a relative one counts from the folder of the configuration file.
    pub(super) fn path(&self, name: &str, base: &Path) -> Option<PathBuf> {
        self.parsed(name, |text| a_path(text, base), PATH_HINT)
    }

    /// A socket address with a usable port.
    pub(super) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.parsed(name, socket_address, ADDRESS_HINT)
    }

    /// One `address:port`, or several.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<SocketAddr>> {
        self.one_or_more(name, socket_address, ADDRESS_HINT)
    }
}

const ADDRESS_HINT: &str = "write an IP address and a port, such as \"0.0.0.0:7443\" or \"[::]:7443\"";

/// One table of a list.
pub(super) struct Item<'r, 't> {
    reader: &'r Reader<'t>,
    table: &'r DeTable<'t>,
    span: Range<usize>,
    place: String,
}

impl Item<'_, '_> {
    /// Whether the key is given.
    pub(super) fn has(&self, key: &str) -> bool {
        get(self.table, key).is_some()
    }

    /// Notes a problem with the table as a whole.
    pub(super) fn problem(&self, what: &str, hint: &str) {
        self.reader.at(&self.span, format!("{} {what}", self.place), hint);
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T, E: ToString>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<T> {
        let value = get(self.table, key)?;
        read_text(value, parse).map_err(|why| self.wrong(key, value, &why, hint)).ok()
    }

    /// The same for a text that must not get into a log.
    pub(super) fn parsed_unseen<T, E: ToString>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<T> {
        let value = get(self.table, key)?;
        let note = |why| self.reader.at(&value.span(), format!("{}.{key} {why}", self.place), hint);
        read_text(value, parse).map_err(note).ok()
    }

    /// A whole number from 0 to 2³² − 2; the largest means "nobody" to the kernel.
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        let value = get(self.table, key)?;
        let number = value.get_ref().as_integer().and_then(|i| u32::from_str_radix(i.as_str(), i.radix()).ok());
        let good = number.filter(|n| *n < u32::MAX);
        if good.is_none() {
            self.wrong(key, value, "is no user or group id", "write its number, without quotes; `id` prints it");
        }
        good
    }

    /// A path; a relative one counts from the folder of the configuration file.
    pub(super) fn path(&self, key: &str, base: &Path) -> Option<PathBuf> {
        self.parsed(key, |text| a_path(text, base), PATH_HINT)
    }

    /// A list of texts, each understood by `parse`.
    pub(super) fn list<T, E: ToString>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<Vec<T>> {
        let value = get(self.table, key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, &format!("is {}, not a list", kind(value.get_ref())), "put it in brackets: [\"…\"]");
            return None;
        };
        Some(self.reader.texts(&format!("{}.{key}", self.place), items, parse, hint))
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, why: &str, hint: &str) {
        let shown = self.reader.shown(&value.span());
        self.reader.at(&value.span(), format!("{}.{key} = {shown}  {why}", self.place), hint);
    }
}

fn read_text<T, E: ToString>(value: &Spanned<DeValue<'_>>, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, String> {
    match value.get_ref().as_str() {
        Some(text) => parse(text).map_err(|e| e.to_string()),
        None => Err(format!("is {}, not a text", kind(value.get_ref()))),
    }
}

const PATH_HINT: &str = "write a path; a relative one counts from the folder of this file";

fn a_path(text: &str, base: &Path) -> Result<PathBuf, &'static str> {
    match text {
        "" => Err("is empty"),
        _ if text.contains('\0') => Err("contains a zero byte"),
        _ => Ok(base.join(text)),
    }
}

fn get<'v, 't>(table: &'v DeTable<'t>, name: &str) -> Option<&'v Spanned<DeValue<'t>>> {
    table.iter().find(|(key, _)| key.get_ref().as_ref() == name).map(|(_, value)| value)
}

fn suggestion(section: &str, local: &str) -> String {
    let here = children(section);
    if let Some(name) = did_you_mean(local, here.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    let leaf = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    // The right name in the wrong section, or at the top.
    if let Some(key) = KEYS.iter().find(|k| leaf(k.name) == local) {
        return format!("did you mean `{}`?", key.name);
    }
    let place = if section.is_empty() { "the top level".to_owned() } else { format!("[{section}]") };
    format!("{place} has {}", here.join(", "))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Tells a wrong port from a wrong address, which the standard parser does not.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) => Err("the port must be between 1 and 65535".into()),
        Err(_) => Err(port_problem(text).unwrap_or("is no address with a port").into()),
    }
}

/// Why the part behind the last colon is no port, if it looks like one.
pub(super) fn port_problem(text: &str) -> Option<&'static str> {
    let (_, port) = text.rsplit_once(':')?;
    let looks = !port.is_empty() && port.strip_prefix('-').unwrap_or(port).bytes().all(|b| b.is_ascii_digit());
    let good = port.parse::<u16>().is_ok_and(|p| p > 0);
    (looks && !good).then_some("the port must be between 1 and 65535")
}
