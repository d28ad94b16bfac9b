//! Past the lease: what the site's isolation grant lets its owner do, and what only broken glass does.

use std::collections::BTreeSet;

use cauldron_identity::authority::Standing;
use cauldron_identity::isolation::IsolationGrant;
use cauldron_identity::{Confidence, FactId};

use super::verdict::{Code, Judged, Stop, refuse, void, wait};
use super::{Bench, Recorded};
use crate::alone::{acts, grant_for, may_decide, meets};
use crate::bodies::{BrokenGlass, Obligations, Permit, Proposal, RiskClass};
use crate::json::rfc3339;
use crate::ledger::{Ballot, entitled};
use crate::planted;

/// By what right a permit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// A lease that is young enough for the class.
    Lease,
    /// The lease is too old, and the site's grant goes on.
    Grant(&'a IsolationGrant),
    /// A token, whatever the lease.
    Glass,
}

impl<'a> Bench<'a> {
    /// Lease, grant, or neither.
    pub(super) fn check_lease(
        &self,
        permit: &Recorded<Permit>,
        p: &Recorded<Proposal>,
        class: RiskClass,
    ) -> Judged<Way<'a>> {
        if permit.body.break_glass.is_some() {
            return Ok(Way::Glass);
        }
        let ages = &self.authority.charter().class_ages;
        if self.lease.covers(class, ages) || planted::active("lease-ignored") {
            // Whom the grant alone names decides only for those who cannot ask.
            return if entitled(self.authority, &permit.header.author, &p.header.scope) {
                Ok(Way::Lease)
            } else {
                refuse(Code::Signer, "its signer decides only while this node is isolated, and the lease here is fresh")
            };
        }
        let site = p.header.scope.site_name().unwrap_or_default();
        let grant = match grant_for(self.authority, site, class, self.lease) {
            Ok(grant) => grant,
            Err(_) if planted::active("isolation-without-grant") => return Ok(Way::Lease),
            Err(why) => return refuse(Code::Isolated, &why),
        };
        if !may_decide(grant, &permit.header.author, self.authority) {
            return refuse(
                Code::Isolated,
                "the site's isolation grant does not name its signer: one of its acting coordinators must permit it",
            );
        }
        Ok(Way::Grant(grant))
    }

    /// What the site's own people set aside holds again with a fresh lease.
    pub(super) fn check_lifted(&self, way: Way<'a>, p: &Recorded<Proposal>) -> Judged<()> {
        let Way::Lease = way else { return Ok(()) };
        self.stops(&self.ledger.denials(p, self.authority))
    }

    /// What the grant asks for beside the votes that policy does.
    pub(super) fn check_grant(
        &self,
        grant: &IsolationGrant,
        class: RiskClass,
        obligations: &Obligations,
        permit: &Permit,
        ballot: &Ballot<'_>,
        now_ms: u64,
    ) -> Judged<()> {
        if let Some(window) = &obligations.veto
            && ballot.silence_is_no_yes(window).is_none()
        {
            return refuse(
                Code::Silence,
                "silence allows only under a fresh lease: those who might object may not hear of it",
            );
        }
        let approved_by: BTreeSet<String> = ballot.voters(now_ms, Some(&permit.votes)).into_keys().collect();
        let reserve = [obligations.reserve.as_slice(), permit.budgets.as_slice()].concat();
        meets(grant, class, &reserve, &approved_by, self.authority).or_else(|why| refuse(Code::Isolated, &why))
    }

    /// Whether the owner's own permit rests on a token that is good, and was bound to it first.
    pub(super) fn check_glass(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>, used: &FactId) -> Judged<()> {
        if permit.header.author != self.me.author || permit.header.incarnation != self.me.incarnation {
            return refuse(Code::Signer, "with broken glass the owner itself permits, in its present life");
        }
        let used =
            self.ledger.broken_glass(used).ok_or_else(|| wait("the use of the token is not in the ledger yet"))?;
        self.check_token(used, p)?;
        let first = self.ledger.bound_by(&used.body.digest(), &self.me.author);
        if let Some(first) = first.filter(|first| first.id != permit.id && !planted::active("break-glass-twice")) {
            return void(Code::Glass, &used_already(first));
        }
        Ok(())
    }

    /// Whether a token is good for a proposal at this owner. Whether it was used is another question.
    pub(super) fn check_token(&self, used: &Recorded<BrokenGlass>, p: &Recorded<Proposal>) -> Judged<()> {
        if used.body.proposal != p.id
            || used.body.lineage != p.body.lineage(p.id)
            || used.header.scope != p.header.scope
            || !used.body.is_signed(&self.authority.mesh())
        {
            return refuse(Code::Glass, "the token signed another proposal, or another reason");
        }
        if self.authority.standing(&used.header, used.id) != Standing::Counts {
            return refuse(Code::Glass, "the node that carries the use of the token is cut, suspended or not enrolled");
        }
        let token = used.body.digest();
        let held = self.authority.break_glass(&self.me.author, self.me.incarnation);
        let Some(held) = held.filter(|held| held.digests.contains(&token)) else {
            let why = match self.authority.break_glass_ever(&token).next() {
                Some(b) if b.holder.author != self.me.author => {
                    let holder = self.authority.member(&b.holder.author);
                    let holder = holder.map_or_else(|| b.holder.to_string(), |m| m.spiffe_id.to_string());
                    format!("this token is good for what {holder} owns, not here")
                }
                Some(_) => "the council took this token back, or this node began a new life since".to_owned(),
                None => "the council issued no such token".to_owned(),
            };
            return refuse(Code::Glass, &why);
        };
        if self.clock.confidence == Confidence::Unknown {
            return refuse(
                Code::Glass,
                "nobody vouches for the clock here, and tokens end by time: `cauldron clock reset`",
            );
        }
        if self.clock.wall_ms > held.expires_ms {
            return refuse(Code::Glass, &format!("this token was good until {}", rfc3339(held.expires_ms)));
        }
        Ok(())
    }

    /// [`Bench::check_token`] for whoever asks before a permit is written.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn is_token_good(&self, used: &Recorded<BrokenGlass>, p: &Recorded<Proposal>) -> Result<(), String> {
        self.check_token(used, p).map_err(|stop| match stop {
            Stop::Wait(why) | Stop::Refuse(_, why) | Stop::Void(_, why) => why,
        })
    }

    /// A permit's signer, as far as it does not depend on the class.
    pub(super) fn may_permit(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>) -> bool {
        let (author, scope) = (&permit.header.author, &p.header.scope);
        let named = || scope.site_name().is_some_and(|site| acts(self.authority, author, site));
        permit.header.scope == *scope && (entitled(self.authority, author, scope) || named())
    }
}

/// A second use is refused by name.
pub(crate) fn used_already(first: &Recorded<Permit>) -> String {
    format!("this token was used for {}, by permit {}", first.body.proposal.short(), first.id.short())
}
