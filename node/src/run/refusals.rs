//! The last connections that were refused, each with its reason: for `/v1/self` and `cauldron why`. They never leave this machine
//! by the mesh.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cauldron_mesh::Direction;
use cauldron_node_core::view::Time;
use serde_json::{Value, json};

/// Refusals remembered: enough for a person to see a pattern, too few for a stranger to fill memory with.
const LAST_MAX: usize = 32;

/// What was refused last; a clone is the same list.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<VecDeque<Refusal>>>);

#[derive(Debug)]
struct Refusal {
    at_ms: u64,
    direction: Direction,
    remote: SocketAddr,
    code: &'static str,
    reason: String,
    times: u64,
}

impl Refusals {
    /// Remembers one. The same reason from the same machine again is counted, not repeated.
    pub fn note(&self, now_ms: u64, direction: Direction, remote: SocketAddr, code: &'static str, reason: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.iter().position(|r| {
            (r.direction, r.remote.ip(), r.code, r.reason.as_str()) == (direction, remote.ip(), code, reason.as_str())
        });
        let times = known.and_then(|at| last.remove(at)).map_or(0, |r| r.times) + 1;
        last.push_back(Refusal { at_ms: now_ms, direction, remote, code, reason, times });
        while last.len() > LAST_MAX {
            last.pop_front();
        }
    }

    /// All of them, newest first.
    pub fn view(&self) -> Value {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |r: &Refusal| {
            json!({
                "at": Time(r.at_ms),
                "direction": direction(r.direction),
                "remote": r.remote.to_string(),
                "code": r.code,
                "reason": r.reason,
                "times": r.times,
            })
        };
        last.iter().rev().map(one).collect()
    }

    /// What was refused to a peer of this name, newest first, in sentences.
    pub fn about(&self, name: &str) -> Vec<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = last.iter().rev().filter(|r| names(&r.reason, name));
        let sentence = |r: &Refusal| {
            let who = match r.direction {
                Direction::Inbound => "its call from",
                Direction::Outbound => "our call to",
            };
            format!("{who} {} was refused at {} ({}): {}", r.remote, Time(r.at_ms), r.code, r.reason)
        };
        named.map(sentence).collect()
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// Whether a reason speaks of the peer `name`: its SPIFFE ID, or the last part of it, whole.
fn names(reason: &str, name: &str) -> bool {
    let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
    let whole = |(at, found): (usize, &str)| {
        let before = name.contains("://") || reason[..at].ends_with('/');
        before && reason[at + found.len()..].chars().next().is_none_or(end)
    };
    !name.is_empty() && reason.match_indices(name).any(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_memory_is_bounded() {
        let refusals = Refusals::default();
        let from = |n: u8| SocketAddr::from(([192, 0, 2, n], 7));
        for n in 0..200 {
            refusals.note(1, Direction::Inbound, from(n), "certificate", "expired".into());
        }
        refusals.note(2, Direction::Inbound, SocketAddr::from(([192, 0, 2, 199], 8)), "certificate", "expired".into());
        let all = refusals.view();
        assert_eq!(all.as_array().map(Vec::len), Some(LAST_MAX));
        assert_eq!((all[0]["times"].as_u64(), all[1]["times"].as_u64()), (Some(2), Some(1)));
    }

    #[test]
    fn a_peer_is_found_by_its_whole_name_only() {
        let reason = "the certificate of `spiffe://a.test/site/x/node/lyon` expired";
        for (name, found) in [
            ("lyon", true),
            ("spiffe://a.test/site/x/node/lyon", true),
            ("yon", false),
            ("spiffe://a.test/site/x/node/lyo", false),
            ("expired", false),
            ("", false),
        ] {
            assert_eq!(names(reason, name), found, "{name}");
        }
    }
}
