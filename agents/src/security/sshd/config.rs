//! The rule's numbers, each with its bounds.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::net::Cidr;
use crate::proposal::Evidence;

/// Configuration of [`SshdBruteforce`](super::SshdBruteforce). [`Config::problems`] finds every mistake at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Failed logins from one source within the window that make a finding. Default 5; 1 to 32.
    pub threshold: u32,
    /// Length of the window in seconds of event time; both ends belong to it. Default 600; 1 to 86400.
    pub window_s: u32,
    /// The node's own addresses.
    pub own_addresses: Vec<IpAddr>,
    /// Addresses that are never proposed.
    pub allow: Vec<Cidr>,
    /// How long a block is asked for, and how long a finding without an answer stays open, in seconds. Default 3600;
    /// 1 to 86400.
    pub ttl_s: u32,
    /// Year of the log's first stamp if it has none; see [`reference_year`](super::reference_year). Default 1970.
    pub reference_year: i16,
    /// Zone of year-less stamps: seconds east of UTC. Default 0; within 14 hours.
    pub utc_offset_s: i32,
    /// Sources that are tracked at the same time; beyond it the one silent for longest in event time is forgotten.
    /// Default 4096; 1 to 1,000,000.
    pub sources_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            threshold: 5,
            window_s: 600,
            own_addresses: Vec::new(),
            allow: Vec::new(),
            ttl_s: 3600,
            reference_year: 1970,
            utc_offset_s: 0,
            sources_max: 4096,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {value}: must be between {min} and {max}")]
pub struct ConfigProblem {
    /// Name of the field.
    pub setting: &'static str,
    /// What was given.
    pub value: i64,
    /// Smallest value that works.
    pub min: i64,
    /// Largest value that works.
    pub max: i64,
}

impl Config {
    /// Every setting that is out of bounds; empty when the configuration can be used.
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let checks = [
            ("threshold", i64::from(self.threshold), 1, Evidence::LINES_MAX as i64),
            ("window_s", i64::from(self.window_s), 1, 86_400),
            ("ttl_s", i64::from(self.ttl_s), 1, 86_400),
            ("reference_year", i64::from(self.reference_year), 1970, 9000),
            ("utc_offset_s", i64::from(self.utc_offset_s), -50_400, 50_400),
            ("sources_max", i64::try_from(self.sources_max).unwrap_or(i64::MAX), 1, 1_000_000),
        ];
        let wrong = checks.into_iter().filter(|(_, value, min, max)| !(min..=max).contains(&value));
        wrong.map(|(setting, value, min, max)| ConfigProblem { setting, value, min, max }).collect()
    }

    /// What shapes the rule's behaviour, in one canonical text: it goes into the agent's build digest. Where the log stands in
    /// time and who this node is do not.
    pub(crate) fn rule_text(&self) -> String {
        let allow: Vec<String> = self.allow.iter().map(Cidr::to_string).collect();
        format!(
            "threshold={} window_s={} ttl_s={} allow={}",
            self.threshold,
            self.window_s,
            self.ttl_s,
            allow.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = Config { threshold: 0, window_s: 0, ttl_s: 86_401, utc_offset_s: 60_000, ..Config::default() };
        let told: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "threshold = 0: must be between 1 and 32",
                "window_s = 0: must be between 1 and 86400",
                "ttl_s = 86401: must be between 1 and 86400",
                "utc_offset_s = 60000: must be between -50400 and 50400",
            ]
        );
        assert_eq!(Config::default().problems(), []);
    }
}
