//! The rotation of the authority's root key, and what each machine's shell makes of it: which roots it goes by, and under
//! which its own certificate stands. Certificates themselves are not here; a root is its key.

use std::collections::BTreeSet;

use cauldron_identity::Digest;
use cauldron_identity::authority::{Amend, Entry, Root, RootState, Trust};
use cauldron_node_core::{Command, RootStep, Ticket};

use super::{Asked, HQ, Happening, World};
use crate::invariants;
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;

/// How often a shell looks at what its core knows of roots, milliseconds.
const LOOK_EVERY_MS: Ms = 2_000;

/// What a shell keeps beside the core.
#[derive(Debug, Clone, Default)]
pub struct Shell {
    /// Keys of the roots that it accepts certificates under.
    pub trusts: BTreeSet<Digest>,
    /// The root that its own certificate stands under.
    pub under: Option<Digest>,
    /// What it told its core last, and in which process.
    told: Option<(u64, Trust)>,
}

impl World {
    /// A machine enters: the join reply brings hq's roots and a certificate.
    pub(crate) fn given_roots(&mut self, place: Place) {
        let trusts = if place == HQ { BTreeSet::from([self.signs]) } else { self.machines[HQ].shell.trusts.clone() };
        let m = &mut self.machines[place];
        if m.shell.under.is_none() {
            m.shell = Shell { trusts, under: Some(self.signs), told: None };
            self.queue.after(LOOK_EVERY_MS, Happening::Roots { place });
        }
    }

    /// One look of a machine's shell.
    pub(crate) fn look_at_roots(&mut self, place: Place) {
        self.queue.after(LOOK_EVERY_MS, Happening::Roots { place });
        let hq_is_near = place == HQ || (self.machines[HQ].is_up() && self.network.is_open(HQ, place));
        // Half-life comes when it comes.
        let due = self.rng.percent(5);
        let (signs, m) = (self.signs, &mut self.machines[place]);
        let Some(core) = m.core.as_ref().filter(|_| !m.frozen) else { return };
        let now = core.roots();
        let known: BTreeSet<Digest> = match &now.published {
            Some(roots) => roots.iter().map(|root| root.key).collect(),
            None => m.shell.trusts.clone(),
        };
        let wanted: BTreeSet<Digest> = known.into_iter().filter(|key| now.named.contains(key)).collect();
        let dropped: Vec<Digest> = m.shell.trusts.difference(&wanted).copied().collect();
        m.shell.trusts = wanted;
        let tainted = now
            .published
            .iter()
            .flatten()
            .any(|root| root.state == RootState::Tainted && Some(root.key) == m.shell.under);
        if place == HQ || (hq_is_near && (due || tainted)) {
            m.shell.under = Some(signs);
        }
        let trust =
            Trust { roots: m.shell.trusts.iter().copied().collect(), under: m.shell.under.into_iter().collect() };
        let told = (m.process, trust.clone());
        if m.shell.told.as_ref() != Some(&told) {
            m.shell.told = Some(told);
            self.ask(place, Command::Trust(trust), Asked::Other);
        }
        for key in dropped {
            if let Err(violation) = invariants::at_each_drop_of_a_root(self, place, key) {
                return self.break_off(violation);
            }
        }
        let active = now.published.iter().flatten().find(|root| root.state == RootState::Active);
        if place == HQ && active.is_none_or(|root| root.key != signs) {
            self.ask(HQ, Command::Root(RootStep::Present(root(signs))), Asked::Other);
        }
    }

    /// The next step of a rotation, as an operator would take it.
    pub(crate) fn rotate(&mut self) {
        let Some(core) = self.machines[HQ].core.as_ref() else { return };
        let clock = self.machines[HQ].clock.clone().read(self.queue.now());
        let (view, roots) = (core.authority_view(clock).roots, core.roots_announced());
        let keys = core.authority().next_charter().root_keys.clone();
        let find = |state: RootState| roots.iter().find(|root| root.state == state).map(|root| root.key);
        let named = |key: &Digest| keys.contains(key);
        let amend = |keys: Vec<Digest>| Entry::Amend(Box::new(Amend { root_keys: Some(keys), ..Amend::default() }));
        match (find(RootState::Tainted), find(RootState::Old), find(RootState::Prepared)) {
            (Some(tainted), ..) => {
                let lived = view.iter().any(|root| root.key == tainted.to_string() && !root.under.is_empty());
                if !lived && named(&tainted) {
                    let left = keys.iter().copied().filter(|key| *key != tainted).collect();
                    self.council_entry(&amend(left));
                }
            }
            (None, Some(old), _) => {
                self.ask(HQ, Command::Root(RootStep::Taint { key: old }), Asked::Other);
            }
            (None, None, Some(next)) if named(&next) => {
                self.activate_root(next);
            }
            (None, None, Some(next)) => {
                let more = keys.iter().copied().chain([next]).collect();
                self.council_entry(&amend(more));
            }
            (None, None, None) => {
                let next = Digest::from_bytes(self.rng.bytes());
                self.ask(HQ, Command::Root(RootStep::Prepare(root(next))), Asked::Other);
            }
        }
    }

    /// hq is asked to sign with `key`.
    pub fn activate_root(&mut self, key: Digest) -> Ticket {
        self.ask(HQ, Command::Root(RootStep::Activate { key, force: false }), Asked::Activation { key })
    }

    /// hq's core answered; its shell signs with another key from here on.
    pub(crate) fn activated(&mut self, key: Digest) {
        self.signs = key;
        reached!(self, "root.activated");
        if let Err(violation) = invariants::at_each_activation(self, key) {
            self.break_off(violation);
        }
    }
}

fn root(key: Digest) -> Root {
    Root { key, certificate: key.as_bytes().to_vec().into(), state: RootState::Active, not_after_s: u64::MAX / 1_000 }
}
