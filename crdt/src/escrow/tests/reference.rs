//! The meaning of escrow facts once more, by recursion over the whole set and without any state: what the fold must agree
//! with.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A set of facts and mints.
#[derive(Debug, Default)]
pub(super) struct Reference {
    pub chains: BTreeMap<Life, Vec<(Place, Option<Body>)>>,
    /// In the order of authority.
    pub mints: Vec<(FactId, Mint)>,
    memo: BTreeMap<(Life, u64), Said>,
}

/// A verdict without its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Counts,
    Void,
    Waits,
}

type Kind = (Budget, Window);

/// What an account has done before a place.
#[derive(Debug, Default)]
struct Before {
    held: u64,
    reserved: BTreeMap<FactId, (u64, u64)>,
    settled: BTreeMap<FactId, u64>,
    taken: BTreeSet<FactId>,
}

impl Reference {
    fn fact(&self, life: &Life, seq: u64) -> Option<&(Place, Option<Body>)> {
        self.chains.get(life)?.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    /// The account of a fact; none when it is void for its place in the chain alone.
    fn kind(&self, life: &Life, seq: u64) -> Option<Kind> {
        let (_, body) = self.fact(life, seq)?;
        match body.as_ref()? {
            Body::Debit(b) => Some((b.budget.clone(), b.window)),
            Body::Credit(b) => Some((b.budget.clone(), b.window)),
            Body::Refuse(b) => Some((b.budget.clone(), b.window)),
            Body::Reserve(b) => {
                let same = |fact: &(Place, Option<Body>)| matches!(&fact.1, Some(Body::Reserve(o)) if o.budget == b.budget && o.purpose == b.purpose);
                let first = self.chains[life].iter().position(same)? as u64 + 1;
                (first == seq).then(|| (b.budget.clone(), b.window))
            }
            Body::Settle(b) => {
                let at = self.chains[life].iter().position(|(place, _)| place.id == b.reserve)? as u64 + 1;
                let reserve = matches!(self.fact(life, at)?.1, Some(Body::Reserve(_)));
                if at < seq && reserve { self.kind(life, at) } else { None }
            }
        }
    }

    pub fn verdict(&mut self, life: Life, seq: u64) -> Said {
        if let Some(said) = self.memo.get(&(life, seq)) {
            return *said;
        }
        let said = self.judge(life, seq);
        self.memo.insert((life, seq), said);
        said
    }

    fn judge(&mut self, life: Life, seq: u64) -> Said {
        let Some(kind) = self.kind(&life, seq) else { return Said::Void };
        let Some(before) = self.before(life, &kind, seq) else { return Said::Waits };
        let body = self.fact(&life, seq).and_then(|(_, body)| body.clone()).expect("has an account");
        let ok = |ok: bool| if ok { Said::Counts } else { Said::Void };
        match body {
            Body::Debit(b) => ok(b.amount > 0 && b.to != life && b.amount <= before.held),
            Body::Reserve(b) => ok(b.amount > 0),
            Body::Settle(b) => ok(before.reserved.contains_key(&b.reserve) && !before.settled.contains_key(&b.reserve)),
            Body::Refuse(b) => match self.counted(b.debit) {
                Err(said) => said,
                Ok(Body::Debit(d)) => {
                    ok(d.to == life && (d.budget, d.window) == kind && !before.taken.contains(&b.debit.id))
                }
                Ok(_) => Said::Void,
            },
            Body::Credit(b) => match self.grant(life, &b.source) {
                Err(said) => said,
                Ok((of, _)) => ok(of == kind && !before.taken.contains(&b.source.id())),
            },
        }
    }

    /// Budget, window and amount of a source that is in favour of `life`.
    fn grant(&mut self, life: Life, source: &Source) -> Result<(Kind, u64), Said> {
        match source {
            Source::Mint(entry) => {
                let (_, mint) = self.mints.iter().find(|(id, _)| id == entry).ok_or(Said::Waits)?;
                let of = |m: &Mint| (m.budget.clone(), m.window);
                let first = self.mints.iter().find(|(_, other)| of(other) == of(mint)).map(|(id, _)| id);
                if first == Some(entry) && mint.holder == life { Ok((of(mint), mint.amount)) } else { Err(Said::Void) }
            }
            Source::Debit(place) => match self.counted(*place)? {
                Body::Debit(d) if d.to == life => Ok(((d.budget, d.window), d.amount)),
                _ => Err(Said::Void),
            },
            Source::Refuse(place) => match self.counted(*place)? {
                Body::Refuse(r) if r.debit.life == life => match self.counted(r.debit)? {
                    Body::Debit(d) => Ok(((d.budget, d.window), d.amount)),
                    _ => Err(Said::Void),
                },
                _ => Err(Said::Void),
            },
        }
    }

    fn counted(&mut self, place: Place) -> Result<Body, Said> {
        if place.seq == 0 {
            return Err(Said::Void);
        }
        let (at, body) = self.fact(&place.life, place.seq).ok_or(Said::Waits)?.clone();
        if at.id != place.id {
            return Err(Said::Void);
        }
        match (self.verdict(place.life, place.seq), body) {
            (Said::Counts, Some(body)) => Ok(body),
            (Said::Waits, _) => Err(Said::Waits),
            _ => Err(Said::Void),
        }
    }

    /// What the account has done before `seq`; none when something of that waits.
    fn before(&mut self, life: Life, kind: &Kind, seq: u64) -> Option<Before> {
        let mut before = Before::default();
        for earlier in 1..seq {
            if self.kind(&life, earlier).as_ref() != Some(kind) {
                continue;
            }
            match self.verdict(life, earlier) {
                Said::Waits => return None,
                Said::Void => continue,
                Said::Counts => {}
            }
            let (place, body) = self.fact(&life, earlier).cloned()?;
            match body? {
                Body::Debit(b) => before.held -= b.amount,
                Body::Credit(b) => {
                    before.held += self.grant(life, &b.source).expect("counts").1;
                    before.taken.insert(b.source.id());
                }
                Body::Refuse(b) => _ = before.taken.insert(b.debit.id),
                Body::Reserve(b) => {
                    let covered = b.amount.min(before.held);
                    before.held -= covered;
                    before.reserved.insert(place.id, (b.amount, covered));
                }
                Body::Settle(b) => {
                    let (_, covered) = before.reserved[&b.reserve];
                    before.held += covered - b.spent.min(covered);
                    before.settled.insert(b.reserve, b.spent);
                }
            }
        }
        Some(before)
    }

    /// The sums of one account: all that was judged, and what is on its way to it.
    pub fn share(&mut self, life: Life, budget: &Budget, window: Window) -> Share {
        let kind = (budget.clone(), window);
        let len = self.chains.get(&life).map_or(0, Vec::len) as u64;
        let judged = (1..=len)
            .find(|seq| self.kind(&life, *seq).as_ref() == Some(&kind) && self.verdict(life, *seq) == Said::Waits)
            .unwrap_or(len + 1);
        let before = self.before(life, &kind, judged).expect("judged");
        let mut share = Share { held: before.held, ..Share::default() };
        for (id, (amount, covered)) in &before.reserved {
            let spent = before.settled.get(id);
            share.overdrawn = share.overdrawn.saturating_add(spent.unwrap_or(amount).saturating_sub(*covered));
            match spent {
                Some(spent) => share.spent += spent.min(covered),
                None => share.reserved += covered,
            }
        }
        share.minted = self.grants_of_mints(life, &kind);
        share.in_flight = self.on_its_way(life, &kind, share.minted);
        share
    }

    fn grants_of_mints(&self, life: Life, kind: &Kind) -> u64 {
        let first = self.mints.iter().find(|(_, mint)| (&mint.budget, mint.window) == (&kind.0, kind.1));
        first.filter(|(_, mint)| mint.holder == life).map_or(0, |(_, mint)| mint.amount)
    }

    fn on_its_way(&mut self, life: Life, kind: &Kind, minted: u64) -> u64 {
        let places: Vec<(Place, Body)> =
            self.chains.values().flatten().filter_map(|(place, body)| Some((*place, body.clone()?))).collect();
        let mut counting: Vec<(Place, Body)> = Vec::new();
        for (place, body) in places {
            if self.verdict(place.life, place.seq) == Said::Counts {
                counting.push((place, body));
            }
        }
        let taken = |id: FactId| {
            counting.iter().any(|(_, body)| match body {
                Body::Credit(b) => b.source.id() == id,
                Body::Refuse(b) => b.debit.id == id,
                _ => false,
            })
        };
        let debit_at = |at: &Place| {
            counting.iter().find_map(|(place, body)| match body {
                Body::Debit(d) if place == at => Some(d),
                _ => None,
            })
        };
        let mint = self.mints.iter().find(|(_, mint)| (&mint.budget, mint.window) == (&kind.0, kind.1));
        let mut sum = if mint.is_some_and(|(id, _)| taken(*id)) { 0 } else { minted };
        for (_, body) in counting.iter().filter(|(place, _)| !taken(place.id)) {
            let grant = match body {
                Body::Debit(d) if d.to == life => Some(d),
                Body::Refuse(r) if r.debit.life == life => debit_at(&r.debit),
                _ => None,
            };
            sum += grant.filter(|d| (&d.budget, d.window) == (&kind.0, kind.1)).map_or(0, |d| d.amount);
        }
        sum
    }
}
