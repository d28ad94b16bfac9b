//! One node without its IO: identity, state, governance and the link protocol composed into one state machine.
//!
//! # Contract
//! Call [`NodeCore::handle`] with one [`Input`], then [`NodeCore::poll`] until it answers [`Output::Idle`]. Outputs are
//! ordered and the order is the promise: an [`Output::Persist`] must be durable before any output behind it is carried
//! out, and each gap between two outputs is a place where the process may die. Nothing else changes a node;
//! the accessors that make [`view`] types only read.
//!
//! Time, chance and IO are arguments. The binary and the simulator run this same type.
//!
//! Not here: sockets, files, TLS, X.509 issuing, connectors, HTTP. Routing between the cores is here and nowhere else,
//! or the simulator would test something other than what ships.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod enrol;
pub mod input;
pub mod local;
pub mod view;

mod aftermath;
mod alone;
mod approver;
mod attention;
mod bases;
mod believed;
mod budgets;
mod chance;
mod closing;
mod command;
mod config;
mod core;
mod desk;
mod docs;
mod drive;
mod enforce;
mod execute;
mod flow;
mod frame;
mod fresh;
mod govern;
mod halt;
mod hlc;
mod hold;
mod learn;
mod life;
mod line;
mod names;
mod near;
mod needs;
mod opening;
mod ownership;
mod reconcile;
mod rights;
mod roots;
mod runway;
mod saga;
mod seals;
mod seats;
mod sessions;
mod show;
mod skew;
mod story;
mod terms;
mod truth;
mod verify;
mod versions;
mod work;

#[cfg(test)]
mod authority_tests;
#[cfg(test)]
mod bases_tests;
#[cfg(test)]
mod closing_tests;
#[cfg(test)]
mod flow_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod opening_tests;
#[cfg(test)]
mod people_tests;
#[cfg(test)]
mod review_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod truth_tests;

pub use crate::approver::{Approver, Desk, Party, Said, Seat, Words};
pub use crate::attention::{Attention, Told, how};
pub use crate::believed::authority_told;
pub use crate::budgets::{BudgetAct, WINDOWS_AHEAD_MAX};
pub use crate::closing::ClosedHistory;
pub use crate::config::{Misbehave, NodeConfig, OpenError};
pub use crate::core::NodeCore;
pub use crate::flow::{BACKLOG_FACTS_MAX, Budgets as LinkBudgets};
pub use crate::opening::Opening;
pub use cauldron_mesh_core::lanes::{
    BUDGET_MIN as LINK_BUDGET_MIN, Budget as LinkBudget, Lane as LinkLane, WINDOW_MAX as LINK_WINDOW_MAX,
};
pub use cauldron_mesh_core::{Config as Place, State as PeerState};
pub use govern::{OPEN_MAX, OPEN_PER_AGENT_MAX, OPEN_PER_SITE_MAX};
pub use hlc::AHEAD_MS_MAX;
pub use input::{
    Command, EffectResult, Event, Happened, Input, LinkId, OpenSession, Output, Probe, Record, Refusal, Reply, Seed,
    Ticket, Timer,
};
pub use roots::{ISSUED_SHOWN_MAX, RootStep, RootsNow};
pub use show::{AgentIntent, Welcome, summary_of_entry};
pub use story::{Asked, Turn};
