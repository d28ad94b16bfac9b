//! What the test did, to whom and when: the only witness that the checker believes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, milliseconds since the Unix epoch: nodes and test share one machine and one clock.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Something that keeps nodes from hearing each other while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The node's process is not there.
    Dead(String),
    /// It is there and does nothing.
    Frozen(String),
    /// Its interface is down.
    Unplugged(String),
    /// Nothing gets from the first site to the second.
    Cut(String, String),
}

/// From when until when; without an end it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from_ms: u64,
    until_ms: Option<u64>,
}

/// How long a way takes from a time on, all in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Takes {
    since_ms: u64,
    least_ms: u64,
    most_ms: u64,
}

#[derive(Debug, Default)]
struct Kept {
    sites: BTreeMap<String, String>,
    spans: BTreeMap<Fault, Vec<Span>>,
    /// When each write was acknowledged, by node.
    written: BTreeMap<String, Vec<u64>>,
    /// Since when the way from one site to another takes how long, at least and at most, milliseconds.
    ways: BTreeMap<(String, String), Vec<Takes>>,
    /// When this machine kept a thread waiting that wanted to run, and for how long, milliseconds.
    stalls: Vec<(u64, u64)>,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Truth(Mutex<Kept>);

impl Truth {
    /// A ledger of these nodes, each with its site; all of them are dead until something [ends](Self::end) that.
    #[must_use]
    pub fn of<'n>(nodes: impl IntoIterator<Item = (&'n str, &'n str)>) -> Self {
        let truth = Self::default();
        for (node, site) in nodes {
            let mut kept = truth.kept();
            kept.sites.insert(node.to_owned(), site.to_owned());
            kept.spans.insert(Fault::Dead(node.to_owned()), vec![Span { from_ms: 0, until_ms: None }]);
        }
        truth
    }

    /// A fault begins now: say so before it is done.
    pub fn begin(&self, fault: Fault) {
        self.begin_at(fault, now_ms());
    }

    /// It is over now: say so once it is.
    pub fn end(&self, fault: &Fault) {
        self.end_at(fault, now_ms());
    }

    /// [`Truth::begin`] at another time.
    pub fn begin_at(&self, fault: Fault, at_ms: u64) {
        let mut kept = self.kept();
        let spans = kept.spans.entry(fault).or_default();
        if spans.last().is_none_or(|span| span.until_ms.is_some()) {
            spans.push(Span { from_ms: at_ms, until_ms: None });
        }
    }

    /// [`Truth::end`] at another time.
    pub fn end_at(&self, fault: &Fault, at_ms: u64) {
        if let Some(span) = self.kept().spans.get_mut(fault).and_then(|spans| spans.last_mut())
            && span.until_ms.is_none()
        {
            span.until_ms = Some(at_ms);
        }
    }

    /// From `at_ms` on packets from one site to another take so many milliseconds, at least and at most.
    pub fn way_takes(&self, from: &str, to: &str, (least_ms, most_ms): (u64, u64), at_ms: u64) {
        self.kept().ways.entry((from.to_owned(), to.to_owned())).or_default().push(Takes {
            since_ms: at_ms,
            least_ms,
            most_ms,
        });
    }

    /// The machine kept a thread waiting for `for_ms`, until `at_ms`.
    pub fn stalled(&self, at_ms: u64, for_ms: u64) {
        self.kept().stalls.push((at_ms, for_ms));
    }

    /// For how long the machine kept a thread waiting between the two times, in all. Nodes were kept waiting, too.
    #[must_use]
    pub fn stalled_ms(&self, from_ms: u64, until_ms: u64) -> u64 {
        let kept = self.kept();
        kept.stalls.iter().filter(|(at, _)| (from_ms..=until_ms).contains(at)).map(|(_, for_ms)| for_ms).sum()
    }

    /// A node acknowledged a write of its own, one fact, at `at_ms`.
    pub fn wrote(&self, node: &str, at_ms: u64) {
        self.kept().written.entry(node.to_owned()).or_default().push(at_ms);
    }

    /// How many writes a node acknowledged from the first time on and before the second.
    #[must_use]
    pub fn written(&self, node: &str, from_ms: u64, before_ms: u64) -> u64 {
        let kept = self.kept();
        let all = kept.written.get(node).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|at| (from_ms..before_ms).contains(*at)).count() as u64
    }

    /// Since when, without a break until `at_ms`, nothing that `from` sends could reach `to`; none if something could.
    #[must_use]
    pub fn silent_since(&self, from: &str, to: &str, at_ms: u64) -> Option<u64> {
        let kept = self.kept();
        let mut faults: Vec<Fault> =
            [from, to].iter().flat_map(|n| [Fault::Dead((*n).into()), Fault::Frozen((*n).into())]).collect();
        faults.extend([from, to].map(|n| Fault::Unplugged(n.into())));
        faults.extend(kept.between(from, to));
        kept.unbroken(&faults, at_ms)
    }

    /// When the process of `node` that runs at `at_ms` began; none if there is none.
    #[must_use]
    pub fn runs_since(&self, node: &str, at_ms: u64) -> Option<u64> {
        let kept = self.kept();
        let dead = kept.spans.get(&Fault::Dead(node.to_owned()))?;
        let gone = |span: &&Span| span.from_ms <= at_ms && span.until_ms.is_none_or(|until| until > at_ms);
        if dead.iter().any(|span| gone(&span)) {
            return None;
        }
        dead.iter().filter_map(|span| span.until_ms).filter(|until| *until <= at_ms).max()
    }

    /// Whether `fault` was there at any time between the two.
    #[must_use]
    pub fn during(&self, fault: &Fault, from_ms: u64, until_ms: u64) -> bool {
        let kept = self.kept();
        let touches = |span: &Span| span.from_ms <= until_ms && span.until_ms.is_none_or(|until| until >= from_ms);
        kept.spans.get(fault).is_some_and(|spans| spans.iter().any(touches))
    }

    /// When `fault` ended last, at or before `at_ms`.
    #[must_use]
    pub fn ended(&self, fault: &Fault, at_ms: u64) -> Option<u64> {
        let kept = self.kept();
        let ends = kept.spans.get(fault)?.iter().filter_map(|span| span.until_ms);
        ends.filter(|until| *until <= at_ms).max()
    }

    /// The latest end of any fault that can keep the two apart, at or before `at_ms`; 0 for none.
    #[must_use]
    pub fn calm_since(&self, one: &str, other: &str, at_ms: u64) -> Option<u64> {
        if self.silent_since(one, other, at_ms).is_some() || self.silent_since(other, one, at_ms).is_some() {
            return None;
        }
        let kept = self.kept();
        let ends = kept.spans.iter().filter(|(fault, _)| kept.concerns(fault, one, other)).flat_map(|(_, spans)| spans);
        Some(ends.filter_map(|span| span.until_ms).filter(|until| *until <= at_ms).max().unwrap_or(0))
    }

    /// The longest that a packet which arrives at `at_ms` may have been on its way, milliseconds.
    #[must_use]
    pub fn way_ms(&self, from: &str, to: &str, at_ms: u64) -> u64 {
        self.way_range_ms(from, to, 0, at_ms).1
    }

    /// How long packets from one node to another took between the two times, at least and at most, milliseconds.
    #[must_use]
    pub fn way_range_ms(&self, from: &str, to: &str, since_ms: u64, until_ms: u64) -> (u64, u64) {
        let kept = self.kept();
        let Some(changes) = kept.way(from, to).and_then(|way| kept.ways.get(&way)) else { return (0, 0) };
        // Before the first change a way takes no time.
        let before = changes.iter().rfind(|takes| takes.since_ms <= since_ms);
        let before = before.map_or((0, 0), |takes| (takes.least_ms, takes.most_ms));
        let within = changes.iter().filter(|takes| takes.since_ms > since_ms && takes.since_ms <= until_ms);
        within.fold(before, |(least, most), takes| (least.min(takes.least_ms), most.max(takes.most_ms)))
    }

    /// The nodes, each with its site.
    #[must_use]
    pub fn nodes(&self) -> Vec<(String, String)> {
        self.kept().sites.clone().into_iter().collect()
    }

    /// Everything that happened, in order, for people.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        let kept = self.kept();
        let mut all: Vec<(u64, String)> = Vec::new();
        for (fault, spans) in &kept.spans {
            for span in spans {
                all.push((span.from_ms, format!("{fault:?} begins")));
                all.extend(span.until_ms.map(|until| (until, format!("{fault:?} ends"))));
            }
        }
        all.sort();
        all.into_iter().map(|(at, what)| format!("{at} {what}")).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn way(&self, from: &str, to: &str) -> Option<(String, String)> {
        let (from, to) = (self.sites.get(from)?, self.sites.get(to)?);
        (from != to).then(|| (from.clone(), to.clone()))
    }

    fn between(&self, from: &str, to: &str) -> Option<Fault> {
        self.way(from, to).map(|(from, to)| Fault::Cut(from, to))
    }

    fn concerns(&self, fault: &Fault, one: &str, other: &str) -> bool {
        match fault {
            Fault::Dead(node) | Fault::Frozen(node) | Fault::Unplugged(node) => node == one || node == other,
            Fault::Cut(..) => [self.between(one, other), self.between(other, one)].contains(&Some(fault.clone())),
        }
    }

    /// Goes back from `at_ms` as long as one of `faults` was there.
    fn unbroken(&self, faults: &[Fault], at_ms: u64) -> Option<u64> {
        let spans: Vec<Span> = faults.iter().filter_map(|fault| self.spans.get(fault)).flatten().copied().collect();
        let mut since = None;
        loop {
            let at = since.unwrap_or(at_ms);
            let over = |span: &&Span| span.from_ms < at && span.until_ms.is_none_or(|until| until >= at);
            match spans.iter().filter(over).map(|span| span.from_ms).min() {
                Some(earlier) => since = Some(earlier),
                None => return since,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_what_adjoining_faults_make_together_and_goes_one_way() {
        let truth = Truth::of([("hq", "hq"), ("lyon", "lyon"), ("annexe", "lyon")]);
        for node in ["hq", "lyon", "annexe"] {
            truth.end_at(&Fault::Dead(node.into()), 100);
        }
        let cut = Fault::Cut("lyon".into(), "hq".into());
        truth.begin_at(cut.clone(), 1_000);
        assert_eq!(truth.silent_since("lyon", "hq", 5_000), Some(1_000));
        assert_eq!(truth.silent_since("hq", "lyon", 5_000), None, "the other way is open");
        assert_eq!(truth.silent_since("annexe", "lyon", 5_000), None, "and inside the site");
        truth.begin_at(Fault::Frozen("lyon".into()), 5_500);
        truth.end_at(&cut, 6_000);
        assert_eq!(truth.silent_since("lyon", "hq", 7_000), Some(1_000), "one fault took over from the other");
        assert_eq!(truth.silent_since("hq", "lyon", 7_000), Some(5_500));
        assert_eq!(truth.calm_since("hq", "lyon", 7_000), None);
        truth.end_at(&Fault::Frozen("lyon".into()), 8_000);
        assert_eq!(truth.silent_since("lyon", "hq", 8_001), None);
        assert_eq!(truth.calm_since("hq", "lyon", 9_000), Some(8_000));
        assert_eq!((truth.runs_since("hq", 50), truth.runs_since("hq", 9_000)), (None, Some(100)));
    }
}
