//! What happened, as one hash and, when asked for, as lines.

use cauldron_identity::ids::sha256;

use crate::queue::Ms;

/// The hash over everything that happened, in order: two runs of one seed are equal exactly when their hashes are.
#[derive(Debug)]
pub struct Trace {
    state: [u8; 32],
    events: u64,
    print: bool,
}

impl Trace {
    /// Begins a trace; `print` also writes every event to the standard output.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self { state: [0; 32], events: 0, print }
    }

    /// Takes one event in. `bytes` are hashed; `text` is made only for printing.
    pub fn note(&mut self, at: Ms, who: &str, verb: &'static str, bytes: &[u8], text: impl FnOnce() -> String) {
        let mut input = Vec::with_capacity(64 + who.len() + verb.len() + bytes.len());
        input.extend_from_slice(&self.state);
        input.extend_from_slice(&at.to_be_bytes());
        input.extend_from_slice(who.as_bytes());
        input.extend_from_slice(verb.as_bytes());
        input.extend_from_slice(bytes);
        self.state = sha256(&input);
        self.events += 1;
        if self.print {
            println!("{:>9}.{:03} {who:<12} {verb:<12} {}", at / 1000, at % 1000, text());
        }
    }

    /// The hash, lower-case hex.
    #[must_use]
    pub fn hash(&self) -> String {
        self.state.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many events it covers.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }
}
