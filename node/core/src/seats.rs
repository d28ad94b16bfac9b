//! Which coordinators an action of class R3 waits for, as this node sees them.

use std::collections::BTreeSet;

use cauldron_coordinator::ledger::{State, Status};
use cauldron_identity::{Clock, SpiffeId};

use crate::core::NodeCore;
use crate::view::Time;

impl NodeCore {
    /// What the ledger cannot say of them: that people alone are not enough, and which of them is out of reach.
    pub(crate) fn why_coordinators(&self, status: &Status) -> Vec<String> {
        let Some(lacks) = self.ledger.awaits_coordinators(status, &self.authority) else { return Vec::new() };
        let mut why = Vec::new();
        if matches!(status.state, State::PendingApproval | State::VetoWindow) {
            let (needed, seats, whom) = (lacks.needed, lacks.seats, lacks.waits_for());
            why.push(format!(
                "class R3 takes {needed} of the charter's {seats} coordinators, too; waits for {whom} to judge it"
            ));
        }
        why.extend(lacks.absent.iter().filter_map(|name| self.out_of_reach(name)));
        why
    }

    /// That what people may have approved already waits for coordinators, and for which.
    pub(crate) fn reason_of_coordinators(&self, now: Clock) -> Option<String> {
        let open = self.open_here(now);
        let lacking: Vec<_> = open.iter().filter_map(|s| self.ledger.awaits_coordinators(s, &self.authority)).collect();
        let absent: BTreeSet<&String> = lacking.iter().flat_map(|lacks| &lacks.absent).collect();
        let names: Vec<&str> = absent.into_iter().map(String::as_str).collect();
        let (n, names) = (lacking.len(), names.join(", "));
        (n > 0).then(|| format!("actions of class R3 that wait for the word of coordinators: {n} ({names}); `cauldron why ID` says what to do"))
    }

    /// That a coordinator is not connected, where this node would know: a site may never talk to it.
    fn out_of_reach(&self, name: &str) -> Option<String> {
        let (author, _) = self.authority.author_of(&SpiffeId::new(name).ok()?)?;
        let is_up = self.links.values().any(|peer| peer.author == *author && !peer.shared.is_empty());
        let heard = self.last_seen_ms.get(author);
        if is_up || *author == self.me || !(heard.is_some() || self.coordinates()) {
            return None;
        }
        let last = heard.map_or_else(|| "never heard".to_owned(), |ms| format!("last heard {}", Time(*ms)));
        Some(format!("{name} is not connected to this node ({last}): start it, or mend the link to it"))
    }
}
