//! A walk over a change's bytes before Automerge sees them.
//!
//! Automerge's columns are run-length encoded: 64 bytes became a million operations and 386 MB. `catch_unwind` does not
//! catch running out of memory, so the runs are added up first, and what the board's profile never uses is refused.
//! Format: <https://automerge.org/automerge-binary-format-spec/>, "Change Chunks" and "Column Metadata".

use super::Unfit;
use crate::limits::{CHANGE_DEPS_MAX, CHANGE_LEN_MAX, CHANGE_OPS_MAX, DOC_ACTORS_MAX};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Of the chunk kinds (document, change, deflated change, bundle) only this one: the others carry many changes, or
/// inflate (292 KB became 300 MB).
const PLAIN_CHANGE: u8 = 1;
const HASH_LEN: usize = 32;
/// Ours are the first 16 bytes of a hash.
pub(super) const ACTOR_LEN: usize = 16;
/// Keys are site and field names.
pub(super) const KEY_LEN_MAX: u64 = 64;
/// Values that one operation may replace, on average over a change: one per concurrent writer of a field.
const PREDS_MAX: u64 = 2 * CHANGE_OPS_MAX;
/// The columns of a change: obj, key, insert, action, value, pred. All others (marks, unknown, deflated) are refused.
const COLUMNS: [u64; 11] = [0x01, 0x02, 0x11, 0x13, 0x15, 0x34, 0x42, 0x56, 0x57, 0x70, 0x71];
const PRED_COUNTER: u64 = 0x73;
const ACTION: u64 = 0x42;

/// Refuses what is not one plain change chunk of bounded length, or would unpack to more than the bounds.
pub(super) fn prescan(bytes: &[u8]) -> Result<(), Unfit> {
    if bytes.len() > CHANGE_LEN_MAX {
        return Err(Unfit::TooLarge);
    }
    let mut input = Reader(bytes);
    if input.take(4)? != MAGIC {
        return Err(Unfit::Malformed);
    }
    input.take(4)?;
    if input.take(1)? != [PLAIN_CHANGE] {
        return Err(Unfit::Chunk);
    }
    if input.unsigned()? != input.0.len() as u64 {
        return Err(Unfit::Malformed);
    }
    body(input)
}

fn body(mut input: Reader<'_>) -> Result<(), Unfit> {
    let deps = input.count(CHANGE_DEPS_MAX)?;
    input.take(deps.saturating_mul(HASH_LEN))?;
    actor(&mut input)?;
    input.unsigned()?; // seq
    input.unsigned()?; // start_op
    input.signed()?; // time
    if input.unsigned()? != 0 {
        return Err(Unfit::Profile); // a message
    }
    for _ in 0..input.count(DOC_ACTORS_MAX)? {
        actor(&mut input)?;
    }
    let mut columns = Vec::new();
    for _ in 0..input.count(COLUMNS.len() + 1)? {
        columns.push((input.unsigned()?, input.unsigned()?));
    }
    for (spec, len) in columns {
        let data = input.take(usize::try_from(len).map_err(|_| Unfit::Malformed)?)?;
        column(spec, Reader(data))?;
    }
    // Extra bytes: an author footer, or room for what we do not know.
    if input.0.is_empty() { Ok(()) } else { Err(Unfit::Profile) }
}

fn actor(input: &mut Reader<'_>) -> Result<(), Unfit> {
    if input.unsigned()? != ACTOR_LEN as u64 {
        return Err(Unfit::Actor);
    }
    input.take(ACTOR_LEN).map(|_| ())
}

fn column(spec: u64, mut data: Reader<'_>) -> Result<(), Unfit> {
    if spec != PRED_COUNTER && !COLUMNS.contains(&spec) {
        return Err(Unfit::Profile);
    }
    let rows_max = if spec & 7 <= 1 || spec == PRED_COUNTER { PREDS_MAX } else { CHANGE_OPS_MAX };
    let (mut rows, mut grouped) = (0u64, 0u64);
    // The raw values are bounded by their own length.
    while spec & 7 != 7 && !data.0.is_empty() {
        let (run, values) = run(spec, &mut data)?;
        rows = rows.saturating_add(run);
        if spec & 7 == 0 {
            grouped = grouped.saturating_add(values);
        }
        if rows > rows_max || grouped > PREDS_MAX {
            return Err(Unfit::TooManyOps);
        }
    }
    if spec == ACTION && rows == 0 { Err(Unfit::Malformed) } else { Ok(()) }
}

/// Reads one run: its length in rows, and the sum of its values over all rows.
fn run(spec: u64, data: &mut Reader<'_>) -> Result<(u64, u64), Unfit> {
    if spec & 7 == 4 {
        return Ok((data.unsigned()?, 0)); // booleans: lengths in turn of false and true
    }
    match data.signed()? {
        0 => Ok((data.unsigned()?, 0)),
        count if count > 0 => {
            let value = value(spec, data)?;
            Ok((count.unsigned_abs(), value.saturating_mul(count.unsigned_abs())))
        }
        count => {
            let rows = count.unsigned_abs();
            if rows > PREDS_MAX {
                return Err(Unfit::TooManyOps);
            }
            let mut sum = 0u64;
            for _ in 0..rows {
                sum = sum.saturating_add(value(spec, data)?);
            }
            Ok((rows, sum))
        }
    }
}

fn value(spec: u64, data: &mut Reader<'_>) -> Result<u64, Unfit> {
    match spec & 7 {
        3 => data.signed().map(|_| 0), // deltas
        5 => {
            let len = data.unsigned()?;
            if len > KEY_LEN_MAX {
                return Err(Unfit::Profile);
            }
            data.take(usize::try_from(len).map_err(|_| Unfit::Malformed)?).map(|_| 0)
        }
        _ => data.unsigned(),
    }
}

/// Bytes still to be read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Result<&'b [u8], Unfit> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Unfit::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn count(&mut self, max: usize) -> Result<usize, Unfit> {
        usize::try_from(self.unsigned()?).ok().filter(|count| *count <= max).ok_or(Unfit::TooLarge)
    }

    /// Unsigned LEB128 of at most 64 bits.
    fn unsigned(&mut self) -> Result<u64, Unfit> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(Unfit::Malformed);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unfit::Malformed)
    }

    /// Signed LEB128 of at most 64 bits.
    fn signed(&mut self) -> Result<i64, Unfit> {
        let mut value = 0i64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let negative = byte & 0x40 != 0;
                return Ok(if negative && shift + 7 < 64 { value | (-1i64 << (shift + 7)) } else { value });
            }
        }
        Err(Unfit::Malformed)
    }

    fn byte(&mut self) -> Result<u8, Unfit> {
        match self.take(1)? {
            [byte] => Ok(*byte),
            _ => Err(Unfit::Malformed),
        }
    }
}
