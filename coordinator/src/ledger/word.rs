//! What people say of effects of which nobody knows whether they happened.
//!
//! A word counts while its owner's own facts leave the outcome open. Of people who contradict each other whoever says that it happened
//! counts: what may have happened must not happen twice.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::FactId;
use cauldron_identity::authority::{Authority, Person};

use super::{Ledger, Origin, Recorded, Report};
use crate::bodies::{DUTY_GROUPS, Started, Word, WordStatement};
use crate::planted;

impl Ledger {
    pub(super) fn insert_word(&mut self, (id, header): (FactId, Origin), word: Word, started: FactId) -> bool {
        self.words.entry(started).or_default().entry(word).or_default().insert(id, header).is_none()
    }

    /// The word that counts of what became of a start, where its owner does not know.
    #[must_use]
    pub fn word_on(&self, start: &Recorded<Started>, authority: &Authority) -> Option<WordStatement> {
        if !self.words.contains_key(&start.id) || !self.is_unknown(start, authority) {
            return None;
        }
        let said = self.words.get(&start.id).into_iter().flatten();
        let counts = |(word, carriers): (&Word, &BTreeMap<FactId, Origin>)| {
            self.judge_word(start, word, carriers, authority).ok()
        };
        said.filter_map(counts).min_by_key(|s| (!s.happened, s.issued_ms, s.person.clone(), s.nonce))
    }

    /// Whether nobody knows what became of a start: its owner said so, or is gone without a word; and said nothing else since that
    /// settles it.
    #[must_use]
    pub fn is_unknown(&self, start: &Recorded<Started>, authority: &Authority) -> bool {
        let mut unknown = is_gone(&start.header, authority);
        for report in self.reports_on(&start.id) {
            match &report.body {
                Report::Unknown(_) => unknown = true,
                Report::Failed(failed) if !failed.probed_no_effect => unknown = true,
                Report::Done(_) | Report::Failed(_) | Report::Ended(_) | Report::Compensated(_) => return false,
                // Taking it back was begun, on a person's word perhaps, and that it was done is not asked any more.
                Report::Compensating(_) | Report::CompensationFailed(_) => return false,
                Report::Verified(_) | Report::VerifyFailed(_) => {}
            }
        }
        unknown
    }

    /// Whether a person may say what became of a start.
    ///
    /// # Errors
    /// A sentence that says who may.
    pub fn may_say(&self, start: &Recorded<Started>, person: &Person, authority: &Authority) -> Result<(), String> {
        if planted::active("reconciled-by-anybody") {
            return Ok(());
        }
        let p = self.proposal(&start.body.proposal).ok_or("its proposal is not here")?;
        if !super::rights::is_its_owners(start, p, authority) {
            return Err("whoever says to have started it does not own the resource".to_owned());
        }
        if self.writers(p).contains(&person.id) {
            return Err(format!("{} asked for it: somebody else must look", person.id));
        }
        let may = self.reconcilers(start, authority);
        if person.groups.iter().any(|g| may.contains(g)) {
            return Ok(());
        }
        let may: Vec<String> = may.into_iter().collect();
        Err(format!("{} is in none of the groups that may: {}", person.id, may.join(", ")))
    }

    /// Whether somebody who might said that a start had no effect, whatever became of them or was found out later: then nobody did wrong
    /// who started the same anew.
    #[must_use]
    pub fn was_freed_by_word(&self, start: &Recorded<Started>, authority: &Authority) -> bool {
        let said = self.words.get(&start.id).into_iter().flatten();
        let said = said.filter(|(_, carriers)| carriers.values().any(|h| h.scope == start.header.scope));
        let mut then = said.filter_map(|(word, _)| word.verify_then(authority).ok());
        let mut told = self.reports_on(&start.id).map(|r| &r.body);
        let unknown = is_gone(&start.header, authority)
            || told.any(|r| matches!(r, Report::Unknown(_)) || matches!(r, Report::Failed(f) if !f.probed_no_effect));
        unknown && then.any(|(s, person)| !s.happened && self.may_say(start, &person, authority).is_ok())
    }

    /// The groups whose members may say what became of a start: those whose approval its permit needed; where it needed none, those
    /// that may restrict a site.
    #[must_use]
    pub fn reconcilers(&self, start: &Recorded<Started>, authority: &Authority) -> BTreeSet<String> {
        let asked = self
            .behind(start, authority)
            .into_iter()
            .flat_map(|d| &d.body.obligations.approvals)
            .flat_map(|need| &need.any_of);
        let asked: BTreeSet<String> = asked.map(|need| need.group.clone()).collect();
        if asked.is_empty() { DUTY_GROUPS.map(str::to_owned).into() } else { asked }
    }

    /// When people who might said what became of a start, whatever became of them and their words since.
    pub(super) fn words_ms<'a>(
        &'a self,
        start: &'a Recorded<Started>,
        authority: &'a Authority,
    ) -> impl Iterator<Item = u64> + use<'a> {
        let said = self.words.get(&start.id).into_iter().flatten();
        let said = said.filter(|(_, carriers)| carriers.values().any(|h| h.scope == start.header.scope));
        let then = said.filter_map(|(word, _)| word.verify_then(authority).ok());
        then.filter(|(_, person)| self.may_say(start, person, authority).is_ok()).map(|(s, _)| s.issued_ms)
    }

    /// Every word on a start, with what carries it and why it counts for nothing, where it does.
    pub(super) fn words_on<'a>(
        &'a self,
        start: &'a Recorded<Started>,
        authority: &'a Authority,
    ) -> impl Iterator<Item = (&'a FactId, &'a Origin, String, Option<String>)> {
        let said = self.words.get(&start.id).into_iter().flatten();
        said.filter_map(|(word, carriers)| Some((word.statement().ok()?.says(), word, carriers))).flat_map(
            move |(says, word, carriers)| {
                let settled = || "its owner knows what became of it".to_owned();
                let void = self.judge_word(start, word, carriers, authority).err();
                let void = void.or_else(|| (!self.is_unknown(start, authority)).then(settled));
                carriers.iter().map(move |(id, header)| (id, header, says.clone(), void.clone()))
            },
        )
    }

    fn judge_word(
        &self,
        start: &Recorded<Started>,
        word: &Word,
        carriers: &BTreeMap<FactId, Origin>,
        authority: &Authority,
    ) -> Result<WordStatement, String> {
        // Everybody who reads of the start reads the word, too.
        if !carriers.values().any(|header| header.scope == start.header.scope) {
            return Err("it is not in the scope of what it is about".to_owned());
        }
        // That it happened is the strict side, and stays said whatever becomes of who said it.
        let verified = match word.statement() {
            Ok(statement) if statement.happened => word.verify_then(authority),
            _ => word.verify(authority),
        };
        let (statement, person) = verified.map_err(|e| e.to_string())?;
        self.may_say(start, &person, authority)?;
        Ok(statement)
    }
}

/// Whether the life that wrote something is over: it will say nothing more.
pub(super) fn is_gone(header: &Origin, authority: &Authority) -> bool {
    let (author, life) = (&header.author, header.incarnation);
    authority.member(author).is_some_and(|m| m.incarnation > life) || authority.is_cut(author, life)
}
