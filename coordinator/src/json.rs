//! Canonical JSON for arguments, and the one form of time that people and policies read.
//!
//! A digest needs one encoding per value: keys sorted bytewise, no spaces, integers only (a subset of RFC 8785). Money
//! is integer minor units and shares are parts per million, so floats have no place here.

use serde_json::Value;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("the arguments are not JSON: {0}")]
    Syntax(String),
    /// A number with a fraction or exponent.
    #[error("{0} is not an integer; use minor units or parts per million")]
    Float(String),
    /// Valid JSON, but not in the one canonical encoding.
    #[error("the arguments are not in canonical form (sorted keys, no spaces, integers)")]
    NotCanonical,
}

/// The canonical encoding of `value`.
///
/// # Errors
/// [`JsonError::Float`].
pub fn canonical(value: &Value) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

/// Reads canonical JSON, refusing every other encoding of the same value (duplicate keys included).
///
/// # Errors
/// [`JsonError`].
pub fn from_canonical(bytes: &[u8]) -> Result<Value, JsonError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| JsonError::Syntax(e.to_string()))?;
    if canonical(&value)? == bytes { Ok(value) } else { Err(JsonError::NotCanonical) }
}

/// Applies a JSON merge patch (RFC 7396): members replace, `null` removes, objects merge.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, change) in patch {
        if change.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let failed = |e: serde_json::Error| JsonError::Syntax(e.to_string());
    match value {
        Value::Object(map) => {
            let mut sorted: Vec<(&String, &Value)> = map.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (n, (key, item)) in sorted.into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key).map_err(failed)?;
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Number(n) if !n.is_u64() && !n.is_i64() => return Err(JsonError::Float(n.to_string())),
        other => serde_json::to_writer(out, other).map_err(failed)?,
    }
    Ok(())
}

/// `unix_ms` as RFC 3339 in UTC, to the second: `2026-11-22T10:00:00Z`.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", clock / 3600, clock / 60 % 60, clock % 60)
}

/// Proleptic Gregorian date of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396, appendix A, but for those with a float.
    #[test]
    fn merge_patches_are_those_of_rfc_7396() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut patched = target.clone();
            merge_patch(&mut patched, &patch);
            assert_eq!(patched, result, "{target} with {patch}");
        }
    }

    #[test]
    fn one_value_has_one_encoding() {
        let value = json!({"b": [1, {"z": null, "a": "x"}], "a": -3});
        let bytes = canonical(&value).expect("integers only");
        assert_eq!(String::from_utf8_lossy(&bytes), r#"{"a":-3,"b":[1,{"a":"x","z":null}]}"#);
        assert_eq!(canonical(&from_canonical(&bytes).expect("canonical")).expect("again"), bytes);
        for other in [r#"{"b":1,"a":2}"#, r#"{"a": 1}"#, r#"{"a":1,"a":1}"#, "{\"a\":1}\n", r#"{"a":"A"}"#] {
            let twice = from_canonical(other.as_bytes());
            assert!(twice == Err(JsonError::NotCanonical) || other == r#"{"a":"A"}"#, "{other}: {twice:?}");
        }
        assert_eq!(from_canonical(br#"{"a":"\u0041"}"#), Err(JsonError::NotCanonical));
        assert_eq!(from_canonical(b"1.5"), Err(JsonError::Float("1.5".into())));
        assert!(matches!(from_canonical(b"{"), Err(JsonError::Syntax(_))));
        assert!(matches!(from_canonical(&[b'['; 100_000]), Err(JsonError::Syntax(_))), "depth is bounded");
    }

    #[test]
    fn times_match_known_dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_341_600_999, "2026-11-22T10:00:00Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }
}
