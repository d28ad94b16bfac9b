//! Whom a node is to be connected with: a function of who is a member and of what is known of them, the same at every node that
//! knows the same. Nobody has to agree on it; whoever knows more links more.
//!
//! - Within a site everybody is linked to everybody (a large site: a ring with chords).
//! - The first two of a site that can be reached are its gateways, and each links to two hubs, those of its region first.
//!   Gateways that reach nobody outside get help from the next in order.
//! - Hubs are linked to each other.
//! - The sites of a region are a ring with one chord, gateway to gateway; where hubs are dark, it carries what they did.
//! - The ring of the regions joins each with the next, through the first site of each.
//!
//! So each scope's readers are connected while their sites are: those of a site by its mesh and by its gateways' hubs,
//! those of the mesh by all of it.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, planted};

use crate::limits::{GATEWAYS, HUBS_FULL_MAX, SITE_FULL_MAX, SPARES, UPLINKS};

/// Why a link is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tie {
    /// The same site.
    Site,
    /// Two hubs.
    Hubs,
    /// From a gateway to a hub.
    Up,
    /// Two sites of one region, or of neighbouring ones.
    Ring,
}

/// A member as this node knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known<'a> {
    pub(crate) site: Option<&'a str>,
    pub(crate) region: &'a str,
    pub(crate) hub: bool,
    /// It says that it keeps links beyond its site.
    pub(crate) gateway: bool,
    /// Whether it counts as there: a candidate that does not is tried beside the next one.
    pub(crate) there: bool,
    /// It has been a gateway without a link outside for a while.
    pub(crate) stranded: bool,
}

/// What a node knows of all members, itself included.
pub(crate) type All<'a> = BTreeMap<AuthorId, Known<'a>>;

/// Whom `me` is to be connected with, and why. A member that is named twice has the first reason.
pub(crate) fn wanted(all: &All<'_>, me: &AuthorId) -> BTreeMap<AuthorId, Tie> {
    let mut wanted = BTreeMap::new();
    let Some(own) = all.get(me) else { return wanted };
    let mut want = |who: Vec<AuthorId>, tie: Tie| {
        for author in who {
            wanted.entry(author).or_insert(tie);
        }
    };
    if let Some(site) = own.site {
        want(circle(all, members_of(all, site), me, SITE_FULL_MAX), Tie::Site);
    }
    let hubs: Vec<AuthorId> = all.iter().filter(|(_, k)| k.hub).map(|(a, _)| *a).collect();
    if own.hub {
        want(circle(all, hubs.clone(), me, HUBS_FULL_MAX), Tie::Hubs);
    }
    if is_gateway(all, me) {
        want(uplinks(all, me, hubs), Tie::Up);
        want(ring(all, me), Tie::Ring);
    }
    wanted.remove(me);
    wanted
}

/// Whether `me` is to keep links beyond its site.
pub(crate) fn is_gateway(all: &All<'_>, me: &AuthorId) -> bool {
    let Some(site) = all.get(me).and_then(|own| own.site) else { return false };
    let mut places = GATEWAYS;
    // Nobody counts itself as gone.
    for (author, known) in members_of(all, site).iter().filter_map(|a| all.get_key_value(a)) {
        if places == 0 {
            return false;
        }
        if author == me {
            return true;
        }
        let helpless = known.stranded && !planted::active("stranded-gateway-stays");
        if known.there && !helpless {
            places -= 1;
        }
    }
    false
}

/// Gateways that link to `me`, a hub, when they do as everybody else computes it.
pub(crate) fn gateways_below(all: &All<'_>, me: &AuthorId) -> BTreeSet<AuthorId> {
    if !all.get(me).is_some_and(|own| own.hub) {
        return BTreeSet::new();
    }
    let hubs: Vec<AuthorId> = all.iter().filter(|(_, k)| k.hub).map(|(a, _)| *a).collect();
    let gateways = all.iter().filter(|(_, k)| k.gateway && k.site.is_some()).map(|(a, _)| *a);
    gateways.filter(|gateway| uplinks(all, gateway, hubs.clone()).contains(me)).collect()
}

/// Members of a site; the order is the same everywhere, and who stands where in it is a hash's choice.
fn members_of(all: &All<'_>, site: &str) -> Vec<AuthorId> {
    all.iter().filter(|(_, k)| k.site == Some(site)).map(|(a, _)| *a).collect()
}

/// Everybody else, up to `full_max`; of more, those 1, 2, 4, 8, … places on in the circle, or the next who is there: any two are
/// joined over a few.
fn circle(all: &All<'_>, members: Vec<AuthorId>, me: &AuthorId, full_max: usize) -> Vec<AuthorId> {
    if members.len() <= full_max {
        return members;
    }
    let Ok(at) = members.binary_search(me) else { return Vec::new() };
    let steps = std::iter::successors(Some(1), |step| Some(step * 2)).take_while(|step| *step < members.len());
    let from = |step: usize| (step..members.len()).map(|n| members[(at + n) % members.len()]).collect();
    steps.flat_map(|step| first_there(all, from(step), 1)).collect()
}

/// Hubs for a gateway: those of its region before others, else by a draw that spreads gateways over them. One is a coordinator, if
/// there is one: anybody enrolled may call itself a hub.
fn uplinks(all: &All<'_>, me: &AuthorId, mut hubs: Vec<AuthorId>) -> Vec<AuthorId> {
    let region = all.get(me).map_or("", |own| own.region);
    let foreign = |hub: &AuthorId| all.get(hub).is_some_and(|k| k.region != region);
    hubs.sort_by_key(|hub| (foreign(hub), draw(me, hub)));
    let (coordinators, others): (Vec<AuthorId>, Vec<AuthorId>) =
        hubs.iter().partition(|hub| all.get(hub).is_some_and(|k| k.site.is_none()));
    let is_there = |hub: &AuthorId| all.get(hub).is_some_and(|k| k.there);
    let mut chosen = first_there(all, coordinators, 1);
    let first = chosen.iter().copied().find(is_there);
    hubs.retain(|hub| Some(*hub) != first);
    let more = first_there(all, if first.is_some() { hubs } else { others }, UPLINKS - usize::from(first.is_some()));
    chosen.extend(more);
    chosen
}

/// The first `count` that are there, and the first few of those before them that are not: they may come back.
fn first_there(all: &All<'_>, candidates: Vec<AuthorId>, count: usize) -> Vec<AuthorId> {
    let (mut there, mut gone, mut chosen) = (0, 0, Vec::new());
    for candidate in candidates {
        if there == count {
            break;
        }
        if all.get(&candidate).is_some_and(|k| k.there) {
            there += 1;
        } else if gone < SPARES {
            gone += 1;
        } else {
            continue;
        }
        chosen.push(candidate);
    }
    chosen
}

/// Gateways of the next site in the ring, of the one across it, and from the first site of a region of the next region's.
fn ring(all: &All<'_>, me: &AuthorId) -> Vec<AuthorId> {
    let Some(own) = all.get(me) else { return Vec::new() };
    let gateways = all.iter().filter(|(_, k)| k.gateway && k.site.is_some() && k.site != own.site);
    let mut sites: BTreeMap<&str, BTreeMap<&str, Vec<AuthorId>>> = BTreeMap::new();
    for (gateway, known) in gateways {
        let site = known.site.unwrap_or_default();
        sites.entry(known.region).or_default().entry(site).or_default().push(*gateway);
    }
    let site = own.site.unwrap_or_default();
    let none = BTreeMap::new();
    let region = sites.get(own.region).unwrap_or(&none);
    let after: Vec<&Vec<AuthorId>> =
        region.range(site..).chain(region.range(..site)).map(|(_, gateways)| gateways).collect();
    let across = after.len() / 2;
    let mut chosen = from_next(all, me, after.iter().copied());
    chosen.extend(from_next(all, me, after.iter().skip(across.max(1)).copied()));
    let stands = |gateways: &Vec<AuthorId>| gateways.iter().any(|g| all.get(g).is_some_and(|k| k.there));
    let first = region.iter().find(|(_, gateways)| stands(gateways));
    if first.is_none_or(|(first, _)| site < *first) {
        let beyond =
            sites.range(own.region..).chain(sites.range(..own.region)).filter(|(name, _)| **name != own.region);
        chosen.extend(from_next(all, me, beyond.flat_map(|(_, sites)| sites.values())));
    }
    chosen.into_iter().collect()
}

/// One gateway of the first site that has one there, and of the first few before it that have none.
fn from_next<'g>(all: &All<'_>, me: &AuthorId, sites: impl Iterator<Item = &'g Vec<AuthorId>>) -> BTreeSet<AuthorId> {
    let there = |a: &AuthorId| all.get(a).is_some_and(|k| k.there);
    let (mut gone, mut chosen) = (0, BTreeSet::new());
    for gateways in sites {
        if let Some(gateway) = gateways.iter().filter(|g| there(g)).min_by_key(|g| draw(me, g)) {
            chosen.insert(*gateway);
            return chosen;
        }
        if gone < SPARES {
            gone += 1;
            chosen.extend(gateways.iter().min_by_key(|g| draw(me, g)));
        }
    }
    chosen
}

/// A number that is the same everywhere and otherwise as good as drawn: author ids are hashes, and a multiplication mixes two.
fn draw(a: &AuthorId, b: &AuthorId) -> u64 {
    let half = |id: &AuthorId| {
        let bytes = id.as_bytes();
        u64::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    };
    let mixed = (half(a).rotate_left(32) ^ half(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
