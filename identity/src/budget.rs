//! What the authority chain says of budgets: how rights to spend come into being. What becomes of them is escrow's
//! (`crdt/src/escrow`).

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::ids::AuthorId;
use crate::scope::is_name;

/// Length of a budget's name, bytes: a DNS label, as every other name of the house.
pub const BUDGET_NAME_LEN_MAX: usize = 63;
/// The shortest window, milliseconds: clocks of nodes agree no better.
pub const WINDOW_MS_MIN: u64 = 1_000;

/// The number of a window of time, as the budget's window length counts them; 0 for a budget that has none. Rights of one
/// window are worth nothing in another. Which window is now is never read here: it is an argument.
pub type Window = u64;

/// The window of length `window_ms` that is open at `wall_ms`, both in milliseconds, since the Unix epoch: so a length of
/// a day gives days in UTC. 0 for a budget without windows.
#[must_use]
pub fn window_at(window_ms: u64, wall_ms: u64) -> Window {
    // From 1 on, for 0 is the one that never ends.
    wall_ms.checked_div(window_ms).map_or(0, |window| window.saturating_add(1))
}

/// When a window begins and ends, milliseconds since the Unix epoch; nothing for one without time.
#[must_use]
pub fn window_span(window_ms: u64, window: Window) -> Option<(u64, u64)> {
    let begins = window.checked_sub(1)?.checked_mul(window_ms)?;
    Some((begins, begins.checked_add(window_ms)?))
}

/// The name of a budget: one DNS label in lower case. A clone costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget(Arc<str>);

/// A text that names no budget.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("{0:?} is no name of a budget: use 1 to {BUDGET_NAME_LEN_MAX} of a-z, 0-9 and '-', not at either end")]
pub struct BudgetError(String);

impl Budget {
    /// Reads a name.
    ///
    /// # Errors
    /// [`BudgetError`].
    pub fn new(name: &str) -> Result<Self, BudgetError> {
        let fits = is_name(name) && name.len() <= BUDGET_NAME_LEN_MAX;
        if fits { Ok(Self(name.into())) } else { Err(BudgetError(name.chars().take(80).collect())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for Budget {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Budget {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.str()?).map_err(minicbor::decode::Error::message)
    }
}

/// One life of an author. Rights belong to a life: whoever is restored from a backup begins with none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Life {
    /// Who.
    #[n(0)]
    pub author: AuthorId,
    /// In which incarnation.
    #[n(1)]
    pub incarnation: u32,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.author.short(), self.incarnation)
    }
}

/// Rights that come into being: the one mint of a (budget, window). No fact of its holder, which takes it by a credit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Mint {
    /// Of which budget.
    #[n(0)]
    pub budget: Budget,
    /// For which window, as [`window_at`] counts them.
    #[n(1)]
    pub window: Window,
    /// How much, from 1, in the budget's minor unit.
    #[n(2)]
    pub amount: u64,
    /// Who holds it first.
    #[n(3)]
    pub holder: Life,
    /// How long each window of this budget is, milliseconds, from [`WINDOW_MS_MIN`]; 0 for one without time, whose only
    /// window is 0. The first mint of a budget says so for all that follow.
    #[n(4)]
    pub window_ms: u64,
}

impl Mint {
    /// Whether amount, window and length go together.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn fits(&self) -> Result<(), String> {
        if self.amount == 0 {
            return Err("a mint of nothing changes nothing: mint 1 or more".into());
        }
        match (self.window_ms, self.window) {
            (0, 0) => Ok(()),
            (0, window) => Err(format!("a budget without windows has window 0 alone, not {window}")),
            (1..WINDOW_MS_MIN, _) => Err(format!("a window lasts {WINDOW_MS_MIN} ms or more, not {}", self.window_ms)),
            (_, 0) => Err("windows of time count from 1; 0 is that of a budget without windows".into()),
            (..) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_each_other_without_gap_and_none_is_0() {
        let day_ms = 86_400_000;
        assert_eq!((window_at(day_ms, 0), window_at(day_ms, day_ms - 1), window_at(day_ms, day_ms)), (1, 1, 2));
        assert_eq!((window_at(0, u64::MAX), window_at(1, u64::MAX)), (0, u64::MAX));
        assert_eq!(window_span(day_ms, 2), Some((day_ms, 2 * day_ms)));
        assert_eq!((window_span(0, 0), window_span(day_ms, u64::MAX)), (None, None));
        let (begins, ends) = window_span(day_ms, 20_000).expect("a day");
        assert_eq!((window_at(day_ms, begins), window_at(day_ms, ends - 1)), (20_000, 20_000));
    }
}
