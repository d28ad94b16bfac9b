//! Hard places, and proof that the worlds got there. A simulator that never loses a race finds no races.

use std::collections::BTreeMap;

/// Places that a large enough number of seeds must have reached, each at least once.
pub const MARKS: &[(&str, &str)] = &[
    ("crash.before_persist", "a process died while a commit was running"),
    ("topology.dialled", "a node reached a member that nobody had told it to call"),
    ("presence.lost_for_long", "a node could hear nothing of a member for so long that it must not show it as there"),
    ("truth.level", "after the storm a node showed a peer that it is linked with as one that has all there is"),
    ("presence.rumour", "a member was said to be lost that nobody had lost"),
    ("crash.slow_fsync", "a process died while a slow commit (over 200 ms) was running"),
    ("crash.permit_to_started", "a process died between a durable permit and the commit of its start"),
    ("crash.started_to_effect", "a process died between a durable start and its effect"),
    ("crash.effect_to_done", "a process died between an effect and the record of it"),
    ("crash.end_to_ended", "a process died between the end of an effect and the record of it"),
    ("crash.before_reply", "a process died between a commit and the reply that rests on it"),
    ("crash.before_send", "a process died between a commit and a frame that rests on it"),
    ("store.left_aside", "a start took facts out of the store that nothing vouched for when the process died"),
    ("store.tampered", "a fact of a store was changed, exchanged, cut short or taken out before a start"),
    ("store.indexed", "a store was opened by the index of a clean stop, and gave the node that its records give"),
    ("store.cold", "a node ran without any of its facts in memory"),
    ("probe.applied", "after a crash the connector found the effect in place"),
    ("probe.absent", "after a crash the connector found no effect"),
    ("probe.ended", "after a crash the connector saw that what was done is over"),
    ("check.held", "a check after an effect held"),
    ("check.refuted", "a check after an effect did not hold"),
    ("undo.done", "an effect was taken back"),
    ("crash.announced_to_undo", "a process died between the word that an effect is taken back and the undo"),
    ("execute.resumed", "a start was resumed after a crash without an effect"),
    ("restore.with_loss", "a store was restored that lay behind what its node had written"),
    ("restore.redelivered_permit", "a restored node was handed a permit again that it had used"),
    ("restore.incarnated", "a restored node began a new incarnation"),
    ("deny.concurrent_with_approve", "a denial and enough approvals crossed each other"),
    ("deny.beats_permit", "a denial reached the owner between permit and start"),
    ("withdraw.before_start", "an approval was taken back before the start"),
    ("veto.known_at_owner", "a veto or kill stood at the owner while a permit was open"),
    ("vote.odd", "a vote that must not count was recorded"),
    ("vote.two_keys", "one person voted with two keys"),
    ("edit.written", "a person edited what they were asked to approve"),
    ("edit.beats_permit", "an edit reached the owner between permit and start"),
    ("deputy.named", "a person named a deputy"),
    ("deputy.sat", "something was started on the approval of a deputy"),
    ("session.opened", "an agent began to work for a person"),
    ("undo.asked", "somebody wanted an effect back"),
    ("saga.proposed", "an agent proposed several steps at once"),
    ("saga.second_step", "a step was started behind one that was done"),
    ("saga.aborted", "an owner gave a step up"),
    ("saga.rolled_back", "what was done as a step was taken back because another one was not"),
    ("silence.kept", "something was started because nobody had objected in time"),
    ("silence.broken", "somebody objected in time"),
    ("silence.closed_early", "a coordinator said that nobody had objected before the time was over"),
    ("coordinators.both_permitted", "two coordinators permitted the same proposal"),
    (
        "coordinators.one_dark",
        "something was started on the permit of one coordinator while the other could not be reached",
    ),
    ("coordinators.r3_started", "something of class R3 was started on the permits of two coordinators"),
    (
        "coordinators.r3_waited",
        "something of class R3 was started of which a coordinator wrote while the other could not be reached",
    ),
    ("person.revoked", "a person was revoked"),
    ("permit.waited_hq_dark", "a permit was open at its owner while hq could not be reached"),
    ("permit.forged", "hq wrote a permit for which nobody had voted"),
    ("permit.forged_at_owner", "a forged permit arrived at the owner it names"),
    ("lease.expired_with_permit", "an owner held an open permit beyond its lease"),
    ("intent.repeated", "an intent was proposed again, or by another node"),
    ("partition.healed", "a partition with news on both sides healed"),
    ("stall.healed", "a one-way silence ended before the link noticed"),
    ("link.broken_in_flight", "a link broke with frames in flight"),
    ("lanes.waited", "frames waited for a thin link, and the most urgent went first"),
    ("lanes.budget_used_up", "documents waited because the budget of a link was used up"),
    ("range.packed", "facts arrived as a packed range, on the signature of its last"),
    ("freeze.thawed_with_backlog", "a suspended machine woke to waiting frames"),
    ("clock.unbelieved", "a wall clock jumped beyond belief"),
    ("clock.reset", "an operator had a node believe its clock"),
    ("clock.mistaken_operator", "an operator vouched for a wrong clock while a coordinator was heard"),
    ("stranger.spoke", "a link without an enrolled key carried frames"),
    ("garbage.from_member", "an enrolled peer sent garbage"),
    ("cut.member", "an enrolled author was cut"),
    ("cut.early", "an author was cut before its last facts"),
    ("document.in_one_piece", "a node that lacked many facts took a document in one piece"),
    ("document.sealed", "a reader sealed an epoch of a document"),
    ("document.closed", "a node left the facts of an epoch that had ended to its log"),
    ("document.packed", "a node packed facts that the seals of an epoch cover"),
    ("document.reopened", "a node read the facts of such an epoch again"),
    ("document.late", "an author said again what it had written to an epoch that had ended"),
    ("document.said_again", "an honest author said again what it had written on top of cut changes"),
    ("join.reply_lost", "a token was redeemed and the reply was lost"),
    (
        "forge.invented_person",
        "hq enrolled a person whom the council does not know, and permitted by that person's vote",
    ),
    ("forge.impostor", "hq enrolled a second author under a node's name"),
    ("fork.shown", "hq signed two entries for one place and showed them to different nodes"),
    ("term.named", "the council named a new term behind a forked chain"),
    ("root.activated", "a new root key began to sign"),
    ("root.waited_for", "a new root key had to wait for a member that did not trust it yet"),
    ("term.frame_from_stranger", "somebody sent a term that nobody signed"),
    ("held_by.another", "two machines of one site held the same lineage, only one of which owns it"),
    ("budget.borrow_under_partition", "a site cut off from hq credited rights that another site granted"),
    ("budget.crash_debit_to_send", "a process died when a grant was durable and nobody else knew of it"),
    ("budget.duplicate_grant", "a restored node was handed a grant again that it had credited"),
    ("budget.credited_twice", "hq credited the same rights a second time, and others stored that"),
    ("budget.granted_from_nothing", "hq granted what it did not hold, and others stored that"),
    ("budget.refused", "a grant from beyond the end of its grantor's life was refused"),
    ("budget.lost", "rights were lost with a life that was over"),
    ("budget.not_enough", "more was asked for than a node held"),
    ("budget.clock_unknown", "nobody knew which window was open"),
    ("budget.unconfirmed", "a restarted node would not use its rights before a peer had confirmed its store"),
    ("budget.used_up", "a limit was reserved or spent to its last unit"),
    ("budget.settled", "a reservation was settled"),
    ("budget.reserved_for_a_permit", "an owner set aside what a permit takes"),
    ("budget.granted_for_a_permit", "a holder granted what the owner of a permit lacked"),
    ("budget.granted_by_a_neighbour", "a node that is no coordinator granted what the owner of a permit lacked"),
    ("budget.permit_lacked", "everything settled while an owner still lacked what a permit takes"),
    ("alone.for_a_week", "a site was cut off for more than seven days"),
    ("alone.started", "something was started past the lease, under an isolation grant"),
    ("alone.started_with_two_people", "so was something of class R2"),
    ("alone.permitted_by_the_site", "so was something that the site had permitted itself"),
    ("alone.approved_beyond_the_end", "people of a site that was cut off voted when its grant had ended"),
    ("alone.taken_back_unheard", "the council took back a grant of a site that could not hear of it"),
    ("alone.lift_signed", "one of a site's own people lifted what one of them had stopped"),
    ("glass.broken", "somebody used a sealed token"),
    ("glass.refused", "a use of a token was refused before it was spent"),
    ("glass.started", "something was started by a token"),
    ("glass.reviewed", "somebody looked at a use of a token"),
    ("executor.lied", "somebody with an owner's key wrote what it had not done"),
    ("executor.started_for_another", "that was a start of what another owner had to carry out"),
    ("effect.done", "an effect was done"),
    ("effect.ended", "an effect left when its time was over"),
    ("effect.unknown", "an effect ended with nobody knowing"),
];

/// Places that few worlds reach, and how many worlds are enough.
pub const RARE: &[(&str, u64)] = &[
    // A right clock is mostly believed again by itself: about one world in 400.
    ("clock.reset", 4_000),
    // Its receiver has to be away from before the grant until after the cut: about one world in 300.
    ("budget.refused", 2_000),
    // The neighbour must hold rights, and hq none: about one world in 60.
    ("budget.granted_by_a_neighbour", 600),
    // A metered world in eight, and its traffic must outgrow the budget: how often is not measured yet.
    ("lanes.budget_used_up", 2_000),
    // The site needs rights, two people and the right class at the right time: about one world in 70.
    ("alone.started_with_two_people", 600),
];

/// How often each place was reached.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    counts: BTreeMap<&'static str, u64>,
}

impl Reached {
    /// Counts one visit.
    ///
    /// # Panics
    /// When the table does not name the place: a bug of the simulator.
    pub fn mark(&mut self, name: &'static str) {
        assert!(MARKS.iter().any(|(known, _)| *known == name), "{name} is not in the table of hard places");
        *self.counts.entry(name).or_default() += 1;
    }

    /// Adds another world's visits.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// How often `name` was reached.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Places never reached in so many worlds, though they should have been.
    #[must_use]
    pub fn missing(&self, worlds: u64) -> Vec<&'static str> {
        let due = |name: &&str| RARE.iter().all(|(rare, enough)| rare != name || worlds >= *enough);
        MARKS.iter().map(|(name, _)| *name).filter(|name| self.count(name) == 0).filter(due).collect()
    }

    /// One line per place.
    #[must_use]
    pub fn table(&self) -> String {
        MARKS.iter().map(|(name, what)| format!("{:>9}  {name:<32} {what}\n", self.count(name))).collect()
    }
}

/// `reached!(world, "place")`: this world got there.
#[macro_export]
macro_rules! reached {
    ($world:expr, $name:literal) => {
        $world.reached.mark($name)
    };
}
