//! `[link]`: what links may carry.

use std::str::FromStr;

use bytesize::ByteSize;
use cauldron_identity::SpiffeId;
use cauldron_identity::scope::is_name;
use cauldron_node_core::{LINK_BUDGET_MIN, LinkBudget, LinkBudgets};

use super::reader::{Item, Reader};

const HOUR_MS: u64 = 3_600_000;
const BUDGET_HINT: &str = "write bytes per hour or day, such as \"2 GB/day\" or \"100 MiB/hour\", or \"unlimited\"";
const NEED_HINT: &str = "name one member by `spiffe_id`, or all of a site by `site`, and give a `budget`";

/// `[link]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// What the core goes by.
    pub budgets: LinkBudgets,
}

pub(super) fn read(r: &Reader<'_>) -> Link {
    let beyond_the_site = r.parsed("link.budget", budget, BUDGET_HINT).flatten();
    let mut budgets = LinkBudgets { beyond_the_site, ..LinkBudgets::default() };
    for (whom, budget, item) in r.tables("link.peer", &["spiffe_id", "site", "budget"], |item| peer(item)) {
        let twice = match whom {
            Whom::Member(name) => budgets.members.insert(name, budget).is_some(),
            Whom::Site(site) => budgets.sites.insert(site, budget).is_some(),
        };
        if twice {
            r.problem("link.peer", &format!("gives {item} two budgets"), "leave one of the tables out");
        }
    }
    Link { budgets }
}

enum Whom {
    Member(SpiffeId),
    Site(String),
}

fn peer(item: &Item<'_, '_>) -> Option<(Whom, Option<LinkBudget>, String)> {
    let id = |t: &str| SpiffeId::new(t).map_err(|e| e.to_string());
    let member = item.parsed("spiffe_id", id, "write the SPIFFE ID of a member");
    let site = |t: &str| if is_name(t) { Ok(t.to_owned()) } else { Err("is no name") };
    let site = item.parsed("site", site, super::read::NAME_HINT);
    if item.has("spiffe_id") == item.has("site") || !item.has("budget") {
        item.problem("names nobody, or has no budget", NEED_HINT);
        return None;
    }
    let budget = item.parsed("budget", budget, BUDGET_HINT)?;
    let whom = member.map(Whom::Member).or(site.map(Whom::Site))?;
    let name = match &whom {
        Whom::Member(name) => name.to_string(),
        Whom::Site(site) => format!("site {site}"),
    };
    Some((whom, budget, name))
}

/// `2 GB/day`; nothing for `unlimited`.
fn budget(text: &str) -> Result<Option<LinkBudget>, String> {
    if text.trim() == "unlimited" {
        return Ok(None);
    }
    let (size, period) = text.split_once('/').ok_or("does not say per what")?;
    let per_ms = match period.trim() {
        "hour" | "h" => HOUR_MS,
        "day" | "d" => 24 * HOUR_MS,
        _ => return Err("is neither per hour nor per day".to_owned()),
    };
    let bytes = ByteSize::from_str(size.trim()).map_err(|_| "is no amount of bytes")?.as_u64();
    if bytes < LINK_BUDGET_MIN {
        return Err(format!(
            "is less than {}, with which a large document would never go",
            ByteSize::b(LINK_BUDGET_MIN).display().si()
        ));
    }
    // A petabyte: nobody counts more.
    if bytes > 1_000_000_000_000_000 {
        return Err("is more than 1 PB: leave it out".to_owned());
    }
    Ok(Some(LinkBudget { bytes, per_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_bytes_in_a_time() {
        let of = |bytes, per_ms| Ok(Some(LinkBudget { bytes, per_ms }));
        assert_eq!(budget("2 GB/day"), of(2_000_000_000, 86_400_000));
        assert_eq!(budget("100MiB / hour"), of(104_857_600, 3_600_000));
        assert_eq!(budget("1.5 TB/d"), of(1_500_000_000_000, 86_400_000));
        assert_eq!(budget("unlimited"), Ok(None));
        for (bad, why) in [
            ("2 GB", "per what"),
            ("2 GB/week", "neither"),
            ("two GB/day", "no amount"),
            ("-2 GB/day", "no amount"),
            ("1 MB/day", "less than 4.0 MB"),
            ("2000 PB/day", "more than"),
            ("/day", "no amount"),
        ] {
            let told = budget(bad).expect_err(bad);
            assert!(told.contains(why), "{bad}: {told}");
        }
    }
}
