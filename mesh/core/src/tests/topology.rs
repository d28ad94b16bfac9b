use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::AuthorId;
use proptest::prelude::*;

use crate::topology::{All, Known, Tie, is_gateway, wanted};

/// A mesh as everybody in it knows it.
#[derive(Debug, Clone)]
struct Mesh {
    hubs: usize,
    /// Nodes of each site, and its region.
    sites: Vec<(usize, u8)>,
    /// Of a hundred members, how many are gone.
    gone: u8,
    seed: u8,
}

struct Place {
    id: AuthorId,
    site: Option<String>,
    region: String,
    gone: bool,
}

impl Mesh {
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut add = |site: Option<String>, region: String| {
            let id = AuthorId::of("test", &[&[self.seed], &places.len().to_be_bytes()[..]].concat());
            let gone = id.as_bytes()[7] % 100 < self.gone;
            places.push(Place { id, site, region, gone });
        };
        (0..self.hubs).for_each(|n| add(None, format!("r{}", n % 2)));
        for (n, (nodes, region)) in self.sites.iter().enumerate() {
            (0..*nodes).for_each(|_| add(Some(format!("s{n}")), format!("r{region}")));
        }
        places
    }
}

fn known(place: &Place, gateway: bool) -> Known<'_> {
    let (site, region, hub) = (place.site.as_deref(), &*place.region, place.site.is_none());
    Known { site, region, hub, gateway, there: !place.gone, stranded: false }
}

/// The links that all who are there want, once everybody knows who is a gateway.
fn links(places: &[Place]) -> BTreeMap<AuthorId, BTreeSet<AuthorId>> {
    let mut gateways = BTreeSet::new();
    let mut links: BTreeMap<AuthorId, BTreeSet<AuthorId>> = BTreeMap::new();
    for _ in 0..3 {
        let all: All<'_> = places.iter().map(|p| (p.id, known(p, gateways.contains(&p.id)))).collect();
        let there = || places.iter().filter(|p| !p.gone);
        let next = there().filter(|p| is_gateway(&all, &p.id)).map(|p| p.id).collect();
        links.clear();
        for place in there() {
            for peer in wanted(&all, &place.id).into_keys().filter(|peer| all[peer].there) {
                links.entry(place.id).or_default().insert(peer);
                links.entry(peer).or_default().insert(place.id);
            }
        }
        gateways = next;
    }
    links
}

fn reached(links: &BTreeMap<AuthorId, BTreeSet<AuthorId>>, among: &BTreeSet<AuthorId>) -> BTreeSet<AuthorId> {
    let mut reached: BTreeSet<AuthorId> = among.iter().take(1).copied().collect();
    let mut edge: Vec<AuthorId> = reached.iter().copied().collect();
    while let Some(at) = edge.pop() {
        for next in links.get(&at).into_iter().flatten().filter(|n| among.contains(n)) {
            if reached.insert(*next) {
                edge.push(*next);
            }
        }
    }
    reached
}

fn mesh() -> impl Strategy<Value = Mesh> {
    let sites = prop::collection::vec((1usize..7, 0u8..3), 1..14);
    (1usize..5, sites, 0u8..50, any::<u8>()).prop_map(|(hubs, sites, gone, seed)| Mesh { hubs, sites, gone, seed })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The readers of every scope that are there are connected with each other, over each other, whoever else is gone.
    #[test]
    fn readers_of_a_scope_are_connected(mesh in mesh()) {
        let places = mesh.places();
        let links = links(&places);
        let there = || places.iter().filter(|p| !p.gone);
        let hub = there().any(|p| p.site.is_none());
        let everybody: BTreeSet<AuthorId> = there().map(|p| p.id).collect();
        prop_assert_eq!(&reached(&links, &everybody), &everybody, "the mesh");
        for site in places.iter().filter_map(|p| p.site.as_ref()) {
            let readers = there().filter(|p| p.site.as_ref() == Some(site) || p.site.is_none());
            let readers: BTreeSet<AuthorId> = readers.map(|p| p.id).collect();
            if hub || readers.len() > 1 {
                prop_assert_eq!(&reached(&links, &readers), &readers, "site {}", site);
            }
        }
    }

    /// Where there are two others who read a scope, each reader has a link to two of them.
    #[test]
    fn each_reader_has_two_co_readers(mesh in mesh()) {
        let places = mesh.places();
        let links = links(&places);
        let there = || places.iter().filter(|p| !p.gone);
        for site in places.iter().filter_map(|p| p.site.as_ref()) {
            let readers = there().filter(|p| p.site.as_ref() == Some(site) || p.site.is_none());
            let readers: BTreeSet<AuthorId> = readers.map(|p| p.id).collect();
            let inside = there().filter(|p| p.site.as_ref() == Some(site)).count();
            for reader in &readers {
                let co_readers = links.get(reader).map_or(0, |l| l.intersection(&readers).count());
                // An only hub has a site's gateways, two at most of them; an only node has its hubs.
                let hubs = readers.len() - inside;
                let most = if inside == 0 { hubs - 1 } else { readers.len() - 1 };
                prop_assert!(co_readers >= most.min(2), "{site}: {co_readers} of {most}");
            }
        }
    }

    /// Nobody's links grow with the mesh, but those of hubs.
    #[test]
    fn links_are_bounded(mesh in mesh()) {
        let places = mesh.places();
        let links = links(&places);
        for place in places.iter().filter(|p| p.site.is_some() && !p.gone) {
            let own = places.iter().filter(|p| p.site == place.site).count();
            let outside = links.get(&place.id).map_or(0, BTreeSet::len).saturating_sub(own - 1);
            prop_assert!(outside <= 20, "{outside} links beyond its site of {own}");
        }
    }
}

#[test]
fn a_large_site_is_a_circle_with_chords() {
    let mesh = Mesh { hubs: 1, sites: vec![(200, 0)], gone: 10, seed: 3 };
    let places = mesh.places();
    let links = links(&places);
    let there: BTreeSet<AuthorId> = places.iter().filter(|p| !p.gone).map(|p| p.id).collect();
    assert_eq!(reached(&links, &there), there);
    let most = links.values().map(BTreeSet::len).max().expect("links");
    assert!(most < 32, "{most}");
}

#[test]
fn a_circle_walks_on_over_those_that_are_gone() {
    // A third is gone, in runs longer than the first chords.
    let mesh = Mesh { hubs: 0, sites: vec![(120, 0)], gone: 0, seed: 5 };
    let mut places = mesh.places();
    places.sort_by_key(|p| p.id);
    for (n, place) in places.iter_mut().enumerate() {
        place.gone = n % 24 < 16;
    }
    let links = links(&places);
    let there: BTreeSet<AuthorId> = places.iter().filter(|p| !p.gone).map(|p| p.id).collect();
    assert_eq!(reached(&links, &there), there);
    let fewest = there.iter().map(|id| links.get(id).map_or(0, BTreeSet::len)).min().expect("links");
    assert!(fewest >= 4, "{fewest}");
}

#[test]
fn one_uplink_is_a_coordinator_whoever_calls_itself_a_hub() {
    let mesh = Mesh { hubs: 3, sites: vec![(12, 0), (4, 1)], gone: 0, seed: 9 };
    let mut places = mesh.places();
    for round in 0..3 {
        // Everybody of the first site, which is in the gateways' own region, says that it is a hub.
        let all: All<'_> = places
            .iter()
            .map(|p| (p.id, Known { hub: p.site.as_deref() != Some("s1"), region: "r0", ..known(p, false) }))
            .collect();
        for gateway in places.iter().filter(|p| p.site.as_deref() == Some("s1") && is_gateway(&all, &p.id)) {
            let up: Vec<AuthorId> = wanted(&all, &gateway.id)
                .into_iter()
                .filter(|(_, tie)| *tie == Tie::Up)
                .map(|(peer, _)| peer)
                .collect();
            let there =
                |coordinator: bool| up.iter().filter(|p| all[p].there && all[p].site.is_none() == coordinator).count();
            assert!(there(true) >= usize::from(round < 3), "no coordinator after {round} are gone");
            assert!(there(true) + there(false) >= 2 && up.len() <= 5, "{} uplinks", up.len());
        }
        // One coordinator after the other goes.
        if let Some(next) = places.iter_mut().find(|p| p.site.is_none() && !p.gone && round < 2) {
            next.gone = true;
        }
    }
}
