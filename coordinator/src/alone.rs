//! What a site may do past its lease: the isolation grant, as owner and acting coordinator both read it.

use std::collections::BTreeSet;

use cauldron_identity::authority::Authority;
use cauldron_identity::isolation::IsolationGrant;
use cauldron_identity::{AuthorId, Role};

use crate::bodies::{Amount, RiskClass};
use crate::lease::{LeaseAge, age_ms_max};
use crate::planted;

/// How many of the site's own people class R2 needs past the lease (governance §4).
pub const LOCAL_PEOPLE_MIN: usize = 2;

/// How long a lease may be for `class` under a grant, milliseconds; 0 where it gives nothing.
#[must_use]
pub fn horizon_ms(grant: &IsolationGrant, class: RiskClass) -> u64 {
    age_ms_max(class, &grant.horizon)
}

/// The grant under which a site goes on in `class` with a lease that is too old for it.
///
/// # Errors
/// A sentence: why it does not, and what would let it.
pub fn grant_for<'a>(
    authority: &'a Authority,
    site: &str,
    class: RiskClass,
    lease: LeaseAge,
) -> Result<&'a IsolationGrant, String> {
    let max_s = age_ms_max(class, &authority.charter().class_ages) / 1_000;
    let Some(age_ms) = lease.ms() else {
        let why = "there is no lease since this machine booted, so nothing tells how long the site has been cut off";
        return Err(format!(
            "{why}: no isolation grant covers that; a coordinator must grant a lease, or somebody breaks the glass"
        ));
    };
    let past = format!("the lease is {} s old, class {class:?} allows {max_s} s", age_ms / 1_000);
    let grant = authority.isolation_grant(site);
    let grant = grant.ok_or_else(|| {
        format!("{past}, and this site has no isolation grant: it acts again once a coordinator can be reached")
    })?;
    match horizon_ms(grant, class) {
        0 if class == RiskClass::R3 => {
            Err(format!("{past}, and no isolation grant covers R3: wait for a coordinator, or break the glass"))
        }
        0 => Err(format!("{past}, and the site's isolation grant does not name this class: wait for a coordinator")),
        horizon_ms if age_ms > horizon_ms && !planted::active("horizon-ignored") => Err(format!(
            "{past}, and the site's isolation grant ended with a lease {} s old: wait for a coordinator",
            horizon_ms / 1_000
        )),
        _ => Ok(grant),
    }
}

/// Whether an author may decide past the lease: whom the grant names, and a mesh coordinator, whose permit may still be under way.
#[must_use]
pub fn may_decide(grant: &IsolationGrant, author: &AuthorId, authority: &Authority) -> bool {
    let member = authority.member(author);
    member
        .is_some_and(|m| matches!(m.role, Role::Coordinator { .. }) || grant.acting.contains(&m.spiffe_id.to_string()))
}

/// Whether an author decides in a site's scope past the lease because the site's grant names it.
#[must_use]
pub fn acts(authority: &Authority, author: &AuthorId, site: &str) -> bool {
    authority
        .isolation_grant(site)
        .is_some_and(|grant| authority.member(author).is_some_and(|m| grant.acting.contains(&m.spiffe_id.to_string())))
}

/// Whether a person is one of the site's own by their groups.
#[must_use]
pub fn is_local<'a>(grant: &IsolationGrant, mut groups: impl Iterator<Item = &'a String>) -> bool {
    groups.any(|group| grant.groups.contains(group))
}

/// What else a class needs past the lease: local people, and escrow that the grant names.
///
/// # Errors
/// A sentence that says what is missing.
pub fn meets(
    grant: &IsolationGrant,
    class: RiskClass,
    reserve: &[Amount],
    approved_by: &BTreeSet<String>,
    authority: &Authority,
) -> Result<(), String> {
    if class == RiskClass::R0 {
        return Ok(());
    }
    let named = |name: &str| grant.escrow.iter().any(|b| b.as_str() == name);
    let unbound = planted::active("isolation-without-escrow");
    if let Some(foreign) = reserve.iter().find(|need| !named(&need.budget) && !unbound) {
        return Err(format!("it draws on {}, which the site's isolation grant does not name", foreign.budget));
    }
    if class < RiskClass::R2 {
        return Ok(());
    }
    let own = |id: &&String| authority.person(id).is_some_and(|p| is_local(grant, p.groups.iter()));
    let local = approved_by.iter().filter(own).count();
    if local < LOCAL_PEOPLE_MIN - usize::from(planted::active("one-local-person")) {
        let groups = grant.groups.join(", ");
        return Err(format!(
            "past the lease class {class:?} needs {LOCAL_PEOPLE_MIN} of the site's own people ({groups}); {local} approved"
        ));
    }
    if reserve.is_empty() && !unbound {
        let named: Vec<&str> = grant.escrow.iter().map(cauldron_identity::budget::Budget::as_str).collect();
        let named = if named.is_empty() { "the grant names none".to_owned() } else { named.join(", ") };
        return Err(format!(
            "past the lease class {class:?} draws on escrow, and policy reserves no budget of the grant's ({named})"
        ));
    }
    Ok(())
}
