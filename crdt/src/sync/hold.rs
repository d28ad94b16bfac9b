//! Facts that wait for documents: who lacks very many fetches the documents in one piece first, and can work with them
//! while the facts come.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{Lane, Scope};

use super::{LinkId, Sync, SyncOutput};
use crate::limits::{HOLD_AGAIN_MS, HOLD_MS_MAX, HOLD_OWN_MS_MAX};
use crate::log::FactLog;

/// Scopes of which no data is asked for, each until a time.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// So many missing facts are very many; without it nothing is ever held back.
    far: Option<u64>,
    until_ms: BTreeMap<Scope, u64>,
    /// Not again before.
    again_ms: BTreeMap<Scope, u64>,
}

impl Holds {
    pub fn new(far: u64) -> Self {
        Self { far: Some(far), ..Self::default() }
    }

    pub fn holds(&self, scope: &Scope) -> bool {
        scope.lane() == Lane::Data && self.until_ms.contains_key(scope)
    }

    /// Goes on with what is held back, but never longer than both times together.
    pub fn prolong(&mut self, now_ms: u64, scope: &Scope) {
        let begun_ms = self.again_ms.get(scope).map_or(now_ms, |at| at.saturating_sub(HOLD_AGAIN_MS));
        if let Some(until) = self.until_ms.get_mut(scope) {
            *until = (now_ms + HOLD_OWN_MS_MAX).min(begun_ms + HOLD_MS_MAX + HOLD_OWN_MS_MAX);
        }
    }

    pub fn release(&mut self, scope: &Scope, tried: bool) {
        self.until_ms.remove(scope);
        if !tried {
            self.again_ms.remove(scope);
        }
    }

    pub fn wake_ms(&self) -> Option<u64> {
        self.until_ms.values().copied().min()
    }
}

impl Sync {
    /// Looks once at what each link that has announced everything has in advance.
    pub(super) fn hold_far(&mut self, now_ms: u64, log: &FactLog, looked_at: &BTreeSet<LinkId>) {
        let Some(far) = self.holds.far else { return };
        self.holds.until_ms.retain(|_, until| *until > now_ms);
        for link in looked_at {
            let Some(l) = self.links.get_mut(link) else { continue };
            if l.measured || !l.is_open(log) {
                continue;
            }
            let mut missing: BTreeMap<&Scope, u64> = BTreeMap::new();
            for chain in l.wanted.iter().filter(|chain| chain.scope.lane() == Lane::Data) {
                *missing.entry(&chain.scope).or_default() += l.remote_seq(chain).saturating_sub(log.held(chain));
            }
            let far: Vec<Scope> =
                missing.into_iter().filter(|(_, facts)| *facts >= far).map(|(scope, _)| scope.clone()).collect();
            // Whoever comes while another has its turn may have it later.
            l.measured = true;
            for scope in far {
                if self.holds.again_ms.get(&scope).is_some_and(|at| *at > now_ms) {
                    l.measured = false;
                    continue;
                }
                self.holds.until_ms.insert(scope.clone(), now_ms + HOLD_MS_MAX);
                self.holds.again_ms.insert(scope.clone(), now_ms + HOLD_AGAIN_MS);
                self.outputs.push_back(SyncOutput::Far { link: *link, scope });
            }
        }
    }
}
