//! Lines of an sshd log, which strangers write: whatever they say, what the agent proposes of it is sound.
//!
//! Input: the log, line by line.
#![no_main]

use cauldron_agents::security::sshd::{Config, SshdBruteforce};
use cauldron_agents::source::LineRef;
use cauldron_coordinator::action::{Action, Catalogue};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::{hostile, ready};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |log| {
    let mut agent = SshdBruteforce::new(Config::default());
    let mut offset = 0;
    for (index, bytes) in log.split(|byte| *byte == b'\n').enumerate() {
        let line_no = index as u64 + 1;
        if let Some(finding) = agent.observe(LineRef { bytes, line_no, offset }) {
            let draft = agent.draft(&finding);
            let action = Action::new(Catalogue::built_in(), &draft.operation, Some(&draft.connector), &draft.args)
                .expect("an action that the mesh knows");
            assert_eq!(action.object(), draft.object);
            assert!(!finding.source.is_loopback() && !finding.source.is_multicast(), "{} is nobody's", finding.source);
            agent.settled(finding.source);
        }
        offset += bytes.len() as u64 + 1;
    }
    let counted = agent.counters();
    assert!(counted.exempt <= counted.failures);
}));
