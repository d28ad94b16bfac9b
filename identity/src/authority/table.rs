//! Which kinds of entries need whose signatures, and when they take effect: one table, for the code and for the reader.
//!
//! [`RULES`] is the only place that says so. `docs/wire.md` carries [`markdown`] verbatim; a test compares them.

use std::fmt::Write as _;

/// Whose word an entry carries beside that of the sequencer who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signers {
    /// The author that the entry is about, by its own key.
    Author,
    /// The council's threshold, as the charter stands before the entry.
    Council,
    /// More than half of the recovery keys.
    Recovery,
    /// Two policy authors, or the only one.
    PolicyAuthors,
    /// Each council key that the entry adds.
    NewCouncilKeys,
    /// Two facts of the author at one place of one chain: proof that needs nobody's word.
    ForkEvidence,
    /// The owner of the resources and the next one, by a fact each.
    OwnerAndNext,
    /// Two enrolled people who say that the old owner's machine is off.
    TwoPeople,
}

/// When an entry takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// As soon as it is held.
    AtOnce,
    /// Once an enrolled, uncut author other than the sequencer holds it (`held`), or while no such author exists.
    WhenHeld,
}

/// A kind of entry as far as signatures go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An author under a name that nobody has.
    EnrolNew,
    /// An author under a name whose author was cut.
    EnrolReplacement,
    /// A new life of an author.
    Incarnate,
    /// The end of an author's right to write.
    Cut,
    /// A person with credentials.
    Person,
    /// The end of a person's credentials.
    RevokePerson,
    /// A policy bundle.
    Activate,
    /// A change of the charter.
    Amend,
    /// A change of nothing but the council.
    AmendCouncil,
    /// A new sequencer.
    Term,
    /// Rights of a budget for one window.
    Mint,
    /// The end of restrictions.
    Lift,
    /// Autonomy of an agent.
    Autonomy,
    /// The end of it.
    AutonomyEnds,
    /// Resources that their owner gives to another.
    HandOver,
    /// Resources of an owner that was cut, which nobody else reaches.
    Reassign,
    /// Resources of an owner that was cut, which it may still reach.
    ReassignUnfenced,
    /// What a site may do past its lease.
    Isolation,
    /// Tokens that break the glass.
    BreakGlass,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The kind.
    pub kind: Kind,
    /// The entry's name.
    pub name: &'static str,
    /// Which of its cases.
    pub case: &'static str,
    /// Any one of these ways, each with all of its signers.
    pub ways: &'static [&'static [Signers]],
    /// When it takes effect.
    pub effect: Effect,
    /// Whether the sequencer must write it; a Term stands on its own.
    pub written: bool,
}

/// The table.
pub const RULES: [Rule; 19] = {
    use Effect::{AtOnce, WhenHeld};
    use Signers::{Author, Council, ForkEvidence, NewCouncilKeys, OwnerAndNext, PolicyAuthors, Recovery, TwoPeople};
    const fn rule(
        kind: Kind,
        name: &'static str,
        case: &'static str,
        ways: &'static [&'static [Signers]],
        effect: Effect,
    ) -> Rule {
        Rule { kind, name, case, ways, effect, written: !matches!(kind, Kind::Term) }
    }
    [
        rule(Kind::EnrolNew, "Enrol", "of a new node id", &[&[Author]], WhenHeld),
        rule(Kind::EnrolReplacement, "Enrol", "in place of a cut author", &[&[Author, Council]], WhenHeld),
        rule(Kind::Incarnate, "Incarnate", "of any author but the sequencer", &[&[Author]], AtOnce),
        rule(Kind::Cut, "Cut", "", &[&[Council], &[ForkEvidence]], AtOnce),
        rule(Kind::Person, "Person", "", &[&[Council]], WhenHeld),
        rule(Kind::RevokePerson, "RevokePerson", "", &[&[Council]], WhenHeld),
        rule(Kind::Activate, "Activate", "", &[&[PolicyAuthors]], WhenHeld),
        rule(Kind::Amend, "Amend", "of anything", &[&[Council, NewCouncilKeys]], WhenHeld),
        rule(
            Kind::AmendCouncil,
            "Amend",
            "of council and threshold alone",
            &[&[Council, NewCouncilKeys], &[Recovery, NewCouncilKeys]],
            WhenHeld,
        ),
        rule(Kind::Term, "Term", "", &[&[Council], &[Recovery]], AtOnce),
        // Until the chain carries rules for budgets: then a mint needs one that is in effect.
        rule(Kind::Mint, "Mint", "of a budget and window that have none", &[&[]], WhenHeld),
        rule(Kind::Lift, "Lift", "", &[&[Council]], WhenHeld),
        rule(Kind::Autonomy, "Autonomy", "that grants", &[&[Council]], WhenHeld),
        rule(Kind::AutonomyEnds, "Autonomy", "that takes back", &[&[Council]], AtOnce),
        rule(Kind::HandOver, "Reassign", "by hand-over", &[&[OwnerAndNext]], WhenHeld),
        rule(Kind::Reassign, "Reassign", "from a cut owner, fenced local or native", &[&[Council]], WhenHeld),
        rule(Kind::ReassignUnfenced, "Reassign", "from a cut owner, unfenced", &[&[Council, TwoPeople]], WhenHeld),
        rule(Kind::Isolation, "Isolation", "", &[&[Council]], WhenHeld),
        rule(Kind::BreakGlass, "BreakGlass", "", &[&[Council]], WhenHeld),
    ]
};

impl Kind {
    /// Its line.
    #[must_use]
    pub fn rule(self) -> &'static Rule {
        // The table names every kind: a test says so.
        RULES.iter().find(|rule| rule.kind == self).unwrap_or(&RULES[0])
    }
}

impl Signers {
    /// How people call them.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Author => "the author itself",
            Self::Council => "the council",
            Self::Recovery => "the recovery keys",
            Self::PolicyAuthors => "the policy authors",
            Self::NewCouncilKeys => "each new council key",
            Self::ForkEvidence => "proof of a fork",
            Self::OwnerAndNext => "the owner and the next one",
            Self::TwoPeople => "two people who attest that its machine is off",
        }
    }
}

impl Rule {
    /// "the council, or proof of a fork".
    #[must_use]
    pub fn needs(&self) -> String {
        let way = |signers: &&[Signers]| match signers {
            [] => "nobody else".to_owned(),
            _ => signers.iter().map(|s| s.name()).collect::<Vec<_>>().join(" and "),
        };
        self.ways.iter().map(way).collect::<Vec<_>>().join(", or ")
    }
}

/// The table for `docs/wire.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| entry | written by | needs the word of | takes effect |\n|---|---|---|---|\n".to_owned();
    for rule in &RULES {
        let space = if rule.case.is_empty() { "" } else { " " };
        let by = if rule.written { "the sequencer" } else { "nobody: it stands on its own" };
        let effect = match rule.effect {
            Effect::AtOnce => "at once",
            Effect::WhenHeld => "once held",
        };
        let _ = writeln!(text, "| `{}`{space}{} | {by} | {} | {effect} |", rule.name, rule.case, rule.needs());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_kind_once_and_the_docs_carry_it() {
        use Kind::{
            Activate, Amend, AmendCouncil, BreakGlass, Cut, EnrolNew, EnrolReplacement, Incarnate, Isolation, Mint,
            Person, RevokePerson, Term,
        };
        use Kind::{Autonomy, AutonomyEnds, HandOver, Lift, Reassign, ReassignUnfenced};
        let people = [Person, RevokePerson, Activate, Amend, AmendCouncil, Term];
        let all = [EnrolNew, EnrolReplacement, Incarnate, Cut, Mint, Isolation, BreakGlass].into_iter().chain(people);
        let all = all.chain([Lift, Autonomy, AutonomyEnds, HandOver, Reassign, ReassignUnfenced]);
        for kind in all {
            assert_eq!(RULES.iter().filter(|rule| rule.kind == kind).count(), 1, "{kind:?}");
        }
        let docs = include_str!("../../../docs/wire.md");
        assert!(docs.contains(&markdown()), "docs/wire.md must carry:\n{}", markdown());
    }
}
