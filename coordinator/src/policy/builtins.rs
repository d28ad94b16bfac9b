//! The interpreter as guardrails get it: strict, timed, without builtins that are impure and without calls that one
//! line could use to fill the memory.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::Value;
use regorus::unstable::{BUILTINS, Expr, Ref, Source, Span};
use regorus::utils::limits::ExecutionTimerConfig;

/// How long one evaluation may take. Ours take well under a millisecond; the rest is room for a busy edge box, because
/// a timeout denies for good.
pub const EVALUATION_MS_MAX: u64 = 1_000;
/// What one call of a builtin may make: elements of a list, characters of a text, bits of a number. A document that
/// policy judges is smaller; together with the timer this bounds what an evaluation can hold.
pub const MADE_MAX: usize = 1 << 20;

const TICKS_PER_CLOCK_READ: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// Builtins that read a clock, chance, the machine or the network, with their arity.
const IMPURE: [(&str, u8); 6] = [
    ("http.send", 1),
    ("net.lookup_ip_addr", 1),
    ("opa.runtime", 0),
    ("rand.intn", 2),
    ("time.now_ns", 0),
    ("uuid.rfc4122", 1),
];

/// What a call would make at most, of its arguments; None when they are of no kind that makes much.
type Estimate = fn(&[Value]) -> Option<usize>;

/// Builtins whose result can be much larger than what they are given, with their arity.
const BOUNDED: [(&str, u8, Estimate); 9] = [
    ("array.concat", 2, |args| Some(len(args.first()?)?.saturating_add(len(args.get(1)?)?))),
    ("bits.lsh", 2, |args| usize::try_from(args.get(1)?.as_u64().ok()?).ok()),
    ("concat", 2, |args| {
        Some(text_len(args.get(1)?).saturating_add(len(args.first()?)?.saturating_mul(len(args.get(1)?)?)))
    }),
    ("numbers.range", 2, |args| distance(args)),
    ("numbers.range_step", 3, |args| distance(args)),
    ("regex.replace", 3, |args| replaced(args.first()?, args.get(2)?)),
    ("replace", 3, |args| replaced(args.first()?, args.get(2)?)),
    ("sprintf", 2, |args| Some(text_len(args.get(1)?).saturating_add(widths(args.first()?.as_string().ok()?)))),
    ("strings.replace_n", 2, |args| replaced(args.get(1)?, args.first()?)),
];

/// Names of the builtins that a guardrail cannot call, because they read a clock, chance, the machine or the network.
pub fn masked() -> impl Iterator<Item = &'static str> {
    IMPURE.iter().map(|(name, _)| *name)
}

/// Names of the builtins that refuse to make more than [`MADE_MAX`] in one call.
pub fn bounded() -> impl Iterator<Item = &'static str> {
    BOUNDED.iter().map(|(name, ..)| *name)
}

/// The interpreter that judges.
pub(super) fn pure_engine() -> regorus::Engine {
    let mut engine = conformant_engine();
    for (name, arity) in IMPURE {
        let masked = move |_: Vec<Value>| Err(std::io::Error::other(format!("{name} is not pure")).into());
        assert!(engine.add_extension(name.into(), arity, Box::new(masked)).is_ok(), "{name} masked twice");
    }
    engine
}

/// The interpreter that judges, but for the masks over impure builtins: for tests that show which Rego it speaks.
#[doc(hidden)]
#[must_use]
pub fn conformant_engine() -> regorus::Engine {
    let mut engine = regorus::Engine::new();
    engine.set_strict_builtin_errors(true);
    limit_time(&mut engine, EVALUATION_MS_MAX);
    for (name, arity, estimate) in BOUNDED {
        let bounded = move |args: Vec<Value>| {
            if estimate(&args).is_some_and(|made| made > MADE_MAX) {
                return Err(std::io::Error::other(format!("{name} would make more than {MADE_MAX} elements")).into());
            }
            Ok(call(name, &args).map_err(std::io::Error::other)?)
        };
        assert!(engine.add_extension(name.into(), arity, Box::new(bounded)).is_ok(), "{name} bounded twice");
    }
    engine
}

/// Gives each evaluation `ms` of real time.
pub(super) fn limit_time(engine: &mut regorus::Engine, ms: u64) {
    let limit = Duration::from_millis(ms);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: TICKS_PER_CLOCK_READ });
}

/// The interpreter's own builtin. It wants the expressions of the call only for its messages.
fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let (builtin, _) = BUILTINS.get(name).ok_or_else(|| format!("{name} is no builtin"))?;
    let source = Source::from_contents("(builtin)".to_owned(), name.to_owned()).map_err(|e| e.to_string())?;
    let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
    let placeholder = || Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 });
    let params: Vec<Ref<Expr>> = args.iter().map(|_| placeholder()).collect();
    builtin(&span, &params, args, true).map_err(|e| e.to_string())
}

fn len(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(items) => Some(items.len()),
        Value::Set(items) => Some(items.len()),
        Value::Object(items) => Some(items.len()),
        _ => None,
    }
}

/// Characters of everything in `value`, roughly as printed. Shared parts count each time.
fn text_len(value: &Value) -> usize {
    const SCALAR_LEN: usize = 24;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_len).sum(),
        Value::Set(items) => items.iter().map(text_len).sum(),
        Value::Object(items) => items.iter().map(|(key, item)| text_len(key) + text_len(item)).sum(),
        _ => SCALAR_LEN,
    }
}

/// Elements between two numbers; what is no small integer counts as too many.
fn distance(args: &[Value]) -> Option<usize> {
    let (from, to) = (args.first()?, args.get(1)?);
    if !matches!((from, to), (Value::Number(_), Value::Number(_))) {
        return None;
    }
    let Ok(from) = from.as_i64() else { return fraction(from) };
    let Ok(to) = to.as_i64() else { return fraction(to) };
    usize::try_from(from.abs_diff(to)).ok()
}

/// The builtin refuses a fraction by itself.
fn fraction(value: &Value) -> Option<usize> {
    match value {
        Value::Number(n) if !n.is_integer() => None,
        _ => Some(usize::MAX),
    }
}

/// Each character of `text`, and its end, may become `new`.
fn replaced(text: &Value, new: &Value) -> Option<usize> {
    let text = len(text)?;
    Some(text.saturating_add(text.saturating_add(1).saturating_mul(text_len(new))))
}

/// The text of a format, and the sum of the widths in it.
fn widths(format: &str) -> usize {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.fold(format.len(), |sum, digits| sum.saturating_add(digits.parse().unwrap_or(usize::MAX)))
}
