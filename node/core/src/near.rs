//! Who is there and whom to be connected with: routing to and from the mesh's own core.

use std::collections::BTreeMap;

use cauldron_identity::AuthorId;
use cauldron_mesh_core as mesh;

use crate::core::NodeCore;
use crate::frame::Frame;
use crate::input::{LinkId, Output};

impl NodeCore {
    /// Feeds the mesh core and carries out what it asks.
    pub(crate) fn near(&mut self, input: mesh::Input<'_>) {
        self.near.handle(&self.key, &self.now, input);
        while let Some(output) = self.near.poll() {
            match output {
                mesh::Output::Send { link, bytes } => self.send(link, &Frame::Presence(bytes)),
                mesh::Output::Dial { spiffe_id, addresses, .. } => {
                    self.outputs.push_back(Output::Dial { spiffe_id, addresses });
                }
                mesh::Output::Close { link, why: mesh::Why::Surplus } => {
                    self.outputs.push_back(Output::Release { link });
                }
                mesh::Output::Close { link, why: mesh::Why::Bad(detail) } => {
                    *self.refused.entry("presence".into()).or_default() += 1;
                    self.close(link, detail);
                }
            }
        }
    }

    /// A peer that may be talked to is there, or is not any more.
    pub(crate) fn near_link(&mut self, link: LinkId, peer: Option<AuthorId>) {
        self.near(match peer {
            Some(peer) => mesh::Input::LinkUp { link, peer },
            None => mesh::Input::LinkDown { link },
        });
    }

    pub(crate) fn dial_failed(&mut self, name: &cauldron_identity::SpiffeId) {
        if let Some(peer) = self.authority.author_of(name).map(|(author, _)| *author) {
            self.near(mesh::Input::DialFailed { peer });
        }
    }

    /// After the authority chain or a restriction changed who is a member.
    pub(crate) fn tend_members(&mut self) {
        let at = (self.authority.index(), self.authority.revision());
        if self.near_at.replace(at) == Some(at) {
            return;
        }
        let member = |(author, member): (&AuthorId, &cauldron_identity::authority::Member)| {
            let site = member.role.site().map(str::to_owned);
            let counts = *author == self.me || self.shut_out(author).is_none();
            let (spiffe_id, key) = (member.spiffe_id.clone(), member.key);
            (*author, mesh::Member { spiffe_id, key, site, counts })
        };
        let members: BTreeMap<AuthorId, mesh::Member> = self.authority.members().map(member).collect();
        self.near(mesh::Input::Members(members));
    }

    /// How a member stands, as seen from here.
    pub(crate) fn presence_of(&self, author: &AuthorId, now: &cauldron_identity::Clock) -> mesh::Presence {
        let presence = self.near.presence(author, now);
        let linked = self.links.values().any(|p| p.author == *author && !p.shared.is_empty());
        if !linked || presence.state == mesh::State::Quarantined {
            return presence;
        }
        // A link that is up may have been dead for a moment: what counts is when something came over it.
        let as_of_ms = self.last_seen_ms.get(author).copied().or(presence.as_of_ms);
        mesh::Presence { state: mesh::State::Alive, as_of_ms, observer: Some(self.me) }
    }

    /// How a member stands, as seen from here.
    #[must_use]
    pub fn peer(&self, author: &AuthorId, now: cauldron_identity::Clock) -> Option<mesh::State> {
        self.authority.member(author).map(|_| self.presence_of(author, &now).state)
    }

    /// The number of what a member said of itself last, as far as this node knows.
    #[must_use]
    pub fn announced(&self, author: &AuthorId) -> Option<u64> {
        self.near.announced(author).map(|announce| announce.n)
    }

    /// Whom this node is to be connected with.
    #[must_use]
    pub fn links_wanted(&self) -> Vec<AuthorId> {
        self.near.wanted().copied().collect()
    }

    pub(crate) fn tend_near(&mut self) {
        self.tend_members();
        if self.near.wake_ms() <= self.now.boottime_ms {
            self.near(mesh::Input::Tick);
        }
    }
}
