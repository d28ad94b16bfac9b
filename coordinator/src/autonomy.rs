//! How far an agent may go by itself: what the council granted to exactly this build, for this class, at this site.
//!
//! Nothing here raises a level: that is an entry of the authority chain. The statistical gates of governance §6 will bring what its
//! signers go by (`AutonomyGrant::evidence`), and restrictions that end it.

use cauldron_identity::authority::{Authority, Autonomous, AutonomyOf, Level};
use cauldron_identity::{Clock, Confidence};

use crate::bodies::{Feature, Obligations, Proposal, RiskClass};
use crate::coordinate::votes_min;
use crate::ledger::{Ledger, Recorded};

/// Whose autonomy a proposal is judged by.
#[must_use]
pub fn of(p: &Proposal) -> AutonomyOf {
    AutonomyOf {
        build: p.agent_build,
        model: p.agent_model,
        prompt: p.agent_prompt,
        tools: p.agent_tools,
        action_class: p.action_class.clone(),
        site: p.site.clone(),
    }
}

/// The grant that a proposal's agent holds now; none is L1. What a person wrote or edited is no agent's. While nobody vouches for the
/// clock, or the feature is stopped, no grant raises anything.
#[must_use]
pub fn held<'a>(
    ledger: &Ledger,
    authority: &'a Authority,
    p: &Recorded<Proposal>,
    clock: &Clock,
) -> Option<Autonomous<'a>> {
    let held = authority.autonomy(&of(&p.body), clock.wall_ms)?;
    let raises = held.grant.level > Level::default();
    let void = clock.confidence == Confidence::Unknown
        || p.body.hand.is_some()
        || ledger.stopped(&Feature::Autonomy, &p.header.scope, authority).is_some();
    (!raises || !void).then_some(held)
}

/// How many distinct people code asks for (governance §3), given what is granted and obliged: L2 needs time to object in which nobody
/// did, L4 a budget.
///
/// # Errors
/// A sentence: the agent only observes.
pub fn votes_floor(class: RiskClass, held: Option<&Autonomous<'_>>, obligations: &Obligations) -> Result<u32, String> {
    let asked = votes_min(class);
    let Some(held) = held else { return Ok(asked) };
    let bounded = match held.grant.level {
        Level::L0 => return Err(format!("the agent only observes (L0, entry {}): {}", held.index, held.reason)),
        Level::L1 => false,
        Level::L2 => obligations.veto.is_some(),
        Level::L3 => true,
        Level::L4 => !obligations.reserve.is_empty(),
    };
    Ok(match class {
        RiskClass::R2 if bounded => held.grant.votes_r2.min(asked),
        RiskClass::R3 if bounded => held.grant.votes_r3.min(asked),
        _ => asked,
    })
}
