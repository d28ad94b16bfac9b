//! A member's key in the wrong hands: it says whom it lost, and did not.

use std::collections::BTreeMap;

use cauldron_identity::codec::to_cbor;
use cauldron_mesh_core::{Sighting, Statement};

use super::World;
use crate::network::Place;
use crate::reached;

/// The kind of frame that carries presence, and the key of its statements (`docs/wire.md`).
const PRESENCE_FRAME: u8 = 10;
const STATEMENTS: u8 = 2;

impl World {
    /// Somebody with this machine's key tells one of its peers that it lost another, since an announcement that was made or since one
    /// that never was.
    pub(crate) fn rumour(&mut self, place: Place) {
        let links: Vec<_> = self.machines[place].links.keys().copied().collect();
        let Some(link) = self.rng.pick(&links).copied() else { return };
        let victim = self.rng.index(self.machines.len());
        let now = self.queue.now();
        let seen = self.machines[place].core.as_ref().and_then(|core| core.announced(&self.machines[victim].author));
        let n = if self.rng.percent(50) { seen.unwrap_or(0) } else { u64::MAX };
        let m = &mut self.machines[place];
        let (observer, key, as_of_ms) = (m.author, m.key(), m.clock.wall(now));
        let subject = self.machines[victim].author;
        let sighting = Sighting { observer, subject, n, as_of_ms };
        let sealed = Statement::Sighting(sighting).seal(&key, &self.founding.mesh);
        let mut bytes = vec![PRESENCE_FRAME];
        bytes.extend(to_cbor(&BTreeMap::from([(STATEMENTS, vec![sealed])])));
        reached!(self, "presence.rumour");
        self.note(place, "rumour", &n.to_be_bytes(), || format!("of place {victim}"));
        self.slip(place, link, bytes);
    }
}
