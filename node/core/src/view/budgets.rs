//! Budgets as the API shows them. Amounts are whole numbers in the budget's minor unit.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Seen, Time};

/// `/v1/budgets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BudgetsView {
    /// Every budget and window of which something was minted.
    pub items: Vec<BudgetView>,
    /// What this node has set aside and not settled.
    pub reservations: Vec<ReservationView>,
    /// Who says so: by the facts that have reached this node.
    #[serde(flatten)]
    pub seen: Seen,
}

/// One budget in one window: `held + reserved + spent + in_flight + lost` is `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BudgetView {
    /// Its name.
    pub budget: String,
    /// The window's number; 0 for a budget without windows.
    pub window: u64,
    /// How long each window is; 0 without time.
    pub window_ms: u64,
    /// When the window begins; none without time.
    pub begins: Option<Time>,
    /// When it ends.
    pub ends: Option<Time>,
    /// Whether it is open by this node's clock; none while that is not believed.
    pub open: Option<bool>,
    /// What was minted.
    pub limit: u64,
    /// What may be granted or reserved.
    pub held: u64,
    /// What is set aside and not settled.
    pub reserved: u64,
    /// What was spent.
    pub spent: u64,
    /// What is on its way: minted, granted or refused, and not yet credited.
    pub in_flight: u64,
    /// What lives that are over held, or had on its way to them.
    pub lost: u64,
    /// Of held, reserved and in flight: what lies with lives of which nothing can be expected now. They are over or suspended,
    /// or neither connected to this node nor, where it is no coordinator, to one that is. Seen from a coordinator it is whole.
    pub stranded: u64,
    /// What was reserved or spent beyond rights, beside the sum: somebody lied, or forked its chain.
    pub overdrawn: u64,
    /// Who has how much of it.
    pub shares: Vec<ShareView>,
}

/// What one life has of a budget in one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShareView {
    /// The author.
    pub author: String,
    /// Its SPIFFE ID.
    pub of: Option<String>,
    /// Which life of it.
    pub incarnation: u32,
    /// Whether that life is over: cut, followed by another, or forked.
    pub ended: bool,
    /// What it may grant or reserve.
    pub held: u64,
    /// What it has set aside.
    pub reserved: u64,
    /// What it has spent.
    pub spent: u64,
    /// What is on its way to it.
    pub in_flight: u64,
    /// What it held or had on its way when it ended.
    pub lost: u64,
    /// Of what it holds, has reserved and has on its way: all, where nothing can be expected of it now.
    pub stranded: u64,
    /// What it reserved or spent beyond its rights.
    pub overdrawn: u64,
}

/// A reservation of this node that is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReservationView {
    /// The signed fact, to settle it by.
    pub id: String,
    /// Of which budget.
    pub budget: String,
    /// For which window.
    pub window: u64,
    /// How much.
    pub amount: u64,
    /// Hash of what it is for.
    pub purpose: String,
}
