//! What this node shows of its peers: how they stand, how far they have come, who cannot be reached. Each value is an
//! observation with its time and its observer; what is not known is not shown.

use std::collections::BTreeMap;

use cauldron_crdt::sync::Lag;
use cauldron_identity::authority::Member;
use cauldron_identity::{AuthorId, Clock};
use cauldron_mesh_core::{Presence, State};

use crate::core::{NodeCore, Peer};
use crate::view::{LagView, MissingView, PartView, PartitionsView, PeerView, Seen, SkewView, Time};

impl NodeCore {
    fn others(&self) -> impl Iterator<Item = (&AuthorId, &Member)> {
        self.authority.members().filter(|(author, _)| **author != self.me)
    }

    fn link_of(&self, author: &AuthorId) -> Option<&Peer> {
        self.links.values().find(|p| p.author == *author && !p.shared.is_empty())
    }

    fn seen_by(&self, now: Clock, presence: &Presence) -> Option<Seen> {
        let (ms, observer) = presence.as_of_ms.zip(presence.observer)?;
        let source = if observer == self.me { "direct" } else { "peer" };
        Some(self.seen(now, ms, self.name_of(&observer), source))
    }

    /// Every enrolled member but this node.
    #[must_use]
    pub fn peers_view(&self, now: Clock) -> Vec<PeerView> {
        self.others().map(|(author, member)| self.peer_view(now, author, member)).collect()
    }

    /// The member of this SPIFFE ID, or of one that ends so.
    pub(crate) fn peer_called(&self, now: Clock, name: &str) -> Option<PeerView> {
        let called = |(_, member): &(&AuthorId, &Member)| {
            let id = member.spiffe_id.to_string();
            id == name || id.ends_with(&format!("/{name}"))
        };
        self.others().find(called).map(|(author, member)| self.peer_view(now, author, member))
    }

    /// How many others are there, as seen from here.
    #[must_use]
    pub fn alive(&self, now: Clock) -> usize {
        self.others().filter(|(author, _)| self.presence_of(author, &now).state == State::Alive).count()
    }

    fn peer_view(&self, now: Clock, author: &AuthorId, member: &Member) -> PeerView {
        let link = self.link_of(author);
        let presence = self.presence_of(author, &now);
        let lags = self.sync.lags(now.boottime_ms, &self.log, author).map(|(_, lags)| lags);
        let oldest_ms = lags.iter().flatten().filter_map(|lag| lag.oldest_ms).min();
        let stalled = |lags: &Vec<Lag>| lags.iter().any(|lag| lag.stalled == Some(true));
        PeerView {
            spiffe_id: member.spiffe_id.to_string(),
            author: author.to_string(),
            site: member.role.site().map(str::to_owned),
            state: presence.state.name(),
            standing: self.standing_word(author),
            connected_ms: link.map(|peer| now.boottime_ms.saturating_sub(peer.since_ms)),
            behind: lags.as_ref().map(|lags| lags.iter().map(|lag| lag.behind).sum()),
            oldest_unsynced_ms: oldest_ms.map(|ms| now.wall_ms.saturating_sub(ms)),
            stalled: lags.as_ref().filter(|_| link.is_some()).map(stalled),
            skew: link.and_then(|peer| self.skew_view(now, peer)),
            seen: self.seen_by(now, &presence),
        }
    }

    fn skew_view(&self, now: Clock, peer: &Peer) -> Option<SkewView> {
        let told = peer.skew.told?;
        let seen = self.seen(now, told.as_of_ms, self.spiffe_id.to_string(), "direct");
        Some(SkewView { ahead_ms: told.ahead_ms, error_ms: told.error_ms, seen })
    }

    /// How each peer stands with each scope it shares with this node, as it says or last said itself.
    #[must_use]
    pub fn lags_view(&self, now: Clock) -> Vec<LagView> {
        let of_peer = |(author, member): (&AuthorId, &Member)| {
            let (linked, lags) = self.sync.lags(now.boottime_ms, &self.log, author).unwrap_or_default();
            let spiffe_id = member.spiffe_id.to_string();
            let view = move |lag: Lag| {
                let told_ms = now.wall_ms.saturating_sub(now.boottime_ms.saturating_sub(lag.told_ms));
                LagView {
                    spiffe_id: spiffe_id.clone(),
                    scope: lag.scope.to_string(),
                    linked,
                    behind: lag.behind,
                    ahead: lag.ahead,
                    oldest_unsynced_ms: lag.oldest_ms.map(|ms| now.wall_ms.saturating_sub(ms)),
                    stalled: lag.stalled,
                    seen: self.seen(now, told_ms, spiffe_id.clone(), "direct"),
                }
            };
            lags.into_iter().map(view)
        };
        self.others().flat_map(of_peer).collect()
    }

    /// Who can be reached from here and who cannot.
    #[must_use]
    pub fn partitions_view(&self, now: Clock) -> PartitionsView {
        let mut sites: BTreeMap<Option<&str>, Vec<(&AuthorId, &Member)>> = BTreeMap::new();
        for (author, member) in self.others() {
            sites.entry(member.role.site()).or_default().push((author, member));
        }
        let items: Vec<PartView> = sites.into_iter().map(|(site, members)| self.part(now, site, &members)).collect();
        let alone = !items.is_empty() && items.iter().all(|part| part.linked == 0);
        let torn = items.iter().any(|part| matches!(part.state, "partial" | "cut_off"));
        let state = if alone {
            "alone"
        } else if torn {
            "partitioned"
        } else {
            "whole"
        };
        PartitionsView { state, items, seen: self.seen_here(now) }
    }

    fn part(&self, now: Clock, site: Option<&str>, members: &[(&AuthorId, &Member)]) -> PartView {
        let (mut alive, mut linked, mut unknown, mut missing) = (0, 0, 0, Vec::new());
        let mut latest: Option<Presence> = None;
        for (author, member) in members {
            let presence = self.presence_of(author, &now);
            linked += u64::from(self.link_of(author).is_some());
            match (presence.state, presence.as_of_ms) {
                (State::Quarantined | State::Departed, _) => {}
                (State::Alive, _) => alive += 1,
                (State::Suspect | State::Unreachable, Some(ms)) => missing.push(MissingView {
                    spiffe_id: member.spiffe_id.to_string(),
                    state: presence.state.name(),
                    since: Time(ms),
                }),
                (State::Suspect | State::Unreachable, None) => unknown += 1,
            }
            if presence.as_of_ms > latest.as_ref().and_then(|l| l.as_of_ms) {
                latest = Some(presence);
            }
        }
        // Of a foreign site only gateways are heard of, and whoever is none any more is not: while one is there, the site can be
        // reached, and what became of the others is its own to know.
        if alive > 0 && site.is_some() && self.role.site().is_some() && site != self.role.site() {
            unknown += missing.len() as u64;
            missing.clear();
        }
        let state = match (alive, missing.len()) {
            (0, 0) if unknown > 0 => "unknown",
            (0, 0) => "gone",
            (_, 0) => "reachable",
            (0, _) => "cut_off",
            _ => "partial",
        };
        PartView {
            site: site.map(str::to_owned),
            state,
            members: members.len() as u64,
            alive,
            linked,
            missing,
            unknown,
            seen: latest.and_then(|presence| self.seen_by(now, &presence)),
        }
    }
}
