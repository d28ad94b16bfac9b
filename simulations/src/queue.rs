//! Virtual time: what happens next, and nothing else.

use std::collections::BTreeMap;

/// Milliseconds of virtual time since the world began.
pub type Ms = u64;

/// Events in the order of their time; events of one time in the order in which they were scheduled.
#[derive(Debug)]
pub struct Queue<T> {
    now: Ms,
    scheduled: u64,
    events: BTreeMap<(Ms, u64), T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { now: 0, scheduled: 0, events: BTreeMap::new() }
    }
}

impl<T> Queue<T> {
    /// The present.
    #[must_use]
    pub fn now(&self) -> Ms {
        self.now
    }

    /// Schedules `event` in `delay` milliseconds.
    pub fn after(&mut self, delay: Ms, event: T) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// Schedules `event` at a time; the past is now.
    pub fn at(&mut self, at: Ms, event: T) {
        self.scheduled += 1;
        self.events.insert((at.max(self.now), self.scheduled), event);
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Ms> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next event, unless it lies behind `limit`; time moves to it.
    pub fn pop_until(&mut self, limit: Ms) -> Option<T> {
        if self.next_at()? > limit {
            return None;
        }
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Time passes in which nothing happens: everything that is scheduled happens so much later.
    pub fn leap(&mut self, ms: Ms) {
        self.now = self.now.saturating_add(ms);
        let events = std::mem::take(&mut self.events);
        self.events = events.into_iter().map(|((at, n), event)| ((at.saturating_add(ms), n), event)).collect();
    }

    /// Lets time pass to `at`, when nothing is due before.
    pub fn pass_to(&mut self, at: Ms) {
        if self.next_at().is_none_or(|next| next >= at) {
            self.now = self.now.max(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_the_order_of_scheduling() {
        let mut queue = Queue::default();
        queue.after(5, "late");
        queue.after(1, "first");
        queue.after(1, "second");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop_until(4)).collect();
        assert_eq!((order, queue.now()), (vec!["first", "second"], 1));
        queue.pass_to(4);
        assert_eq!((queue.now(), queue.pop_until(5), queue.now()), (4, Some("late"), 5));
        queue.after(5, "later still");
        queue.leap(100);
        assert_eq!((queue.now(), queue.next_at()), (105, Some(110)));
    }
}
