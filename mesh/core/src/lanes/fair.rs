//! Frames of one lane: scopes take turns by bytes (deficit round robin, Shreedhar and Varghese, SIGCOMM 1995).

use std::collections::{BTreeMap, VecDeque};

use cauldron_identity::{AuthorId, Scope};

use super::Waiting;

/// What a scope gains with each turn, bytes: small frames of one scope go between large ones of another.
const QUANTUM: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Line {
    frames: VecDeque<Waiting>,
    /// What it may still send in this turn, bytes.
    credit: usize,
}

#[derive(Debug, Default)]
pub(super) struct Fair {
    lines: BTreeMap<Option<Scope>, Line>,
    /// Scopes with frames, whose turn it is first.
    turns: VecDeque<Option<Scope>>,
    frames: usize,
    bytes: usize,
}

impl Fair {
    pub fn push(&mut self, waiting: Waiting) {
        (self.frames, self.bytes) = (self.frames + 1, self.bytes + waiting.bytes.len());
        let scope = waiting.scope.clone();
        if !self.lines.contains_key(&scope) {
            self.turns.push_back(scope.clone());
        }
        self.lines.entry(scope).or_default().frames.push_back(waiting);
    }

    /// Length of the frame that [`Fair::pop`] takes next.
    pub fn front_len(&mut self) -> Option<usize> {
        loop {
            let line = self.lines.get_mut(self.turns.front()?)?;
            let len = line.frames.front()?.bytes.len();
            // Who is alone waits for nobody.
            if len <= line.credit || self.turns.len() == 1 {
                return Some(len);
            }
            line.credit += QUANTUM;
            self.turns.rotate_left(1);
        }
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        let len = self.front_len()?;
        let scope = self.turns.front()?.clone();
        let line = self.lines.get_mut(&scope)?;
        line.credit = line.credit.saturating_sub(len);
        let waiting = line.frames.pop_front()?;
        if line.frames.is_empty() {
            self.lines.remove(&scope);
            self.turns.pop_front();
        }
        self.took(&waiting);
        Some(waiting)
    }

    /// Takes the frames of one chain out, in order.
    pub fn take_chain(&mut self, scope: &Option<Scope>, writer: &Option<(AuthorId, u32)>) -> Vec<Waiting> {
        let Some(line) = self.lines.get_mut(scope) else { return Vec::new() };
        if !line.frames.iter().any(|waiting| waiting.writer == *writer) {
            return Vec::new();
        }
        let (out, stay): (Vec<_>, Vec<_>) = line.frames.drain(..).partition(|waiting| waiting.writer == *writer);
        line.frames = stay.into();
        if line.frames.is_empty() {
            self.lines.remove(scope);
            self.turns.retain(|turn| turn != scope);
        }
        out.iter().for_each(|waiting| self.took(waiting));
        out
    }

    pub fn retain(&mut self, keep: impl Fn(Option<&Scope>, &[u8]) -> bool) {
        for (scope, mut line) in std::mem::take(&mut self.lines) {
            line.frames.retain(|waiting| keep(scope.as_ref(), &waiting.bytes));
            if !line.frames.is_empty() {
                self.lines.insert(scope, line);
            }
        }
        self.turns.retain(|scope| self.lines.contains_key(scope));
        let left = self.lines.values().flat_map(|line| &line.frames);
        (self.frames, self.bytes) = left.fold((0, 0), |(f, b), waiting| (f + 1, b + waiting.bytes.len()));
    }

    fn took(&mut self, waiting: &Waiting) {
        (self.frames, self.bytes) = (self.frames - 1, self.bytes - waiting.bytes.len());
    }

    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub fn frames(&self) -> usize {
        self.frames
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when the frame waits that has waited longest.
    pub fn since_ms(&self) -> Option<u64> {
        self.lines.values().flat_map(|line| &line.frames).map(|waiting| waiting.since_ms).min()
    }

    /// The number of the frame that was queued first.
    pub fn oldest(&self) -> Option<u64> {
        self.lines.values().flat_map(|line| &line.frames).map(|waiting| waiting.number).min()
    }
}
