//! Links between sites that carry little, or cost something.

use cauldron_node_core::{LINK_WINDOW_MAX, LinkBudget, LinkBudgets};

use super::Weather;
use crate::queue::Ms;

/// What a link between two sites carries, each way.
#[derive(Debug, Clone, Copy)]
pub struct Thin {
    /// Bytes in a second.
    pub bytes_per_s: u64,
    /// What the nodes' configuration says that it may carry.
    pub budget: Option<LinkBudget>,
}

/// What the wires hold of a thin link: so little that nodes have to choose what goes first.
const WINDOW: usize = 512;
/// The budget of a metered link, and its period.
const BUDGET: u64 = 200_000;
const PERIOD_MS: Ms = 60_000;

impl Thin {
    /// Three worlds in eight, by what was drawn already: the others stay as they are.
    pub(super) fn of(turbulence_ms: Ms) -> Option<Self> {
        match turbulence_ms % 8 {
            0 | 4 => Some(Self { bytes_per_s: 3_000 + turbulence_ms % 13_000, budget: None }),
            1 => Some(Self::metered(BUDGET)),
            _ => None,
        }
    }

    /// A link that may carry so many bytes in a minute.
    pub(super) fn metered(bytes: u64) -> Self {
        Self { bytes_per_s: 50_000, budget: Some(LinkBudget { bytes, per_ms: PERIOD_MS }) }
    }
}

impl Weather {
    /// What nodes are told of their links.
    pub(crate) fn links(&self) -> (LinkBudgets, usize) {
        let beyond_the_site = self.thin.and_then(|thin| thin.budget);
        let window = if self.thin.is_some() { WINDOW } else { LINK_WINDOW_MAX };
        (LinkBudgets { beyond_the_site, ..LinkBudgets::default() }, window)
    }
}
