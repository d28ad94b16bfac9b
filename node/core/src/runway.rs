//! What runs out when, of what the core knows: leases, join tokens; and what does not.

use cauldron_coordinator::bodies::RiskClass;
use cauldron_coordinator::lease::age_ms_max;
use cauldron_identity::Clock;

use crate::core::NodeCore;
use crate::view::RunwayView;

/// Join tokens listed one by one; more are summed up.
const TOKENS_MAX: usize = 16;

impl NodeCore {
    /// Leases by class, open join tokens, policy and enrolment.
    #[must_use]
    pub fn runway(&self, now: Clock) -> Vec<RunwayView> {
        let mut all = self.lease_runway(now);
        all.extend(self.token_runway(now));
        let policy = self.authority.policy().map(|p| p.activate.version);
        all.push(match policy {
            Some(version) => {
                RunwayView::never(format!("policy {version}"), "nothing: it holds until another is activated")
            }
            None => RunwayView::never("policy", "there is none: everything is denied"),
        });
        all.push(RunwayView::never("enrolment", "nothing: it holds until the author is cut, and renews certificates"));
        all
    }

    /// A mesh coordinator needs no lease.
    fn lease_runway(&self, now: Clock) -> Vec<RunwayView> {
        if self.role.is_mesh_coordinator() {
            return Vec::new();
        }
        let ages = &self.authority.charter().class_ages;
        let age_ms = self.lease.age(&now).ms();
        let line = |(name, class): (&str, RiskClass)| {
            let (what, stops) = (
                format!("lease for {name}"),
                format!("actions of class {name}; recording, proposing and what restricts go on"),
            );
            let limit_ms = age_ms_max(class, ages);
            match age_ms {
                // R0 has no end at all.
                _ if limit_ms == u64::MAX => {
                    RunwayView::never(what, format!("nothing: class {name} needs no fresh lease"))
                }
                Some(age_ms) => {
                    let left_ms = limit_ms.saturating_sub(age_ms);
                    let mut line = RunwayView::until(what, now.wall_ms.saturating_add(left_ms), now.wall_ms, stops);
                    // Asked for every ten seconds while a coordinator is connected.
                    line.in_ms = Some(left_ms);
                    line
                }
                None => {
                    let mut line = RunwayView::until(what, now.wall_ms, now.wall_ms, stops);
                    line.expires = None;
                    line
                }
            }
        };
        [("R0", RiskClass::R0), ("R1", RiskClass::R1), ("R2", RiskClass::R2), ("R3", RiskClass::R3)].map(line).into()
    }

    /// Join tokens minted here that are still good.
    fn token_runway(&self, now: Clock) -> Vec<RunwayView> {
        let mut open: Vec<_> = self.tokens.values().filter(|t| t.expires_ms >= now.wall_ms).collect();
        open.sort_by_key(|t| t.expires_ms);
        let rest = open.len().saturating_sub(TOKENS_MAX);
        let line = |t: &&crate::local::Token| {
            let stops = match t.redeemed_by {
                None => "nobody can join with it any more",
                Some(_) => "the node that redeemed it can no longer repeat that; renewal by author key goes on",
            };
            RunwayView::until(format!("join token of {}", t.spiffe_id), t.expires_ms, now.wall_ms, stops)
        };
        let mut lines: Vec<_> = open.iter().take(TOKENS_MAX).map(line).collect();
        if let Some(last) = open.last().filter(|_| rest > 0) {
            let what = format!("{rest} more join tokens");
            lines.push(RunwayView::until(what, last.expires_ms, now.wall_ms, "nobody can join with them any more"));
        }
        lines
    }
}
