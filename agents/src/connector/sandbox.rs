//! Sandboxes that the connectors of this crate enforce. They hold by what is done, not by a process around it: each is looked at before
//! the effect, against the very arguments and bytes of it.

use cauldron_coordinator::action::Action;

use super::ConnectorError;

/// Nothing goes over a network: connectors of files have no socket.
pub(super) const NET_NONE: &str = "net:none";
/// `path:PREFIX`: the object is `PREFIX`, or lies below it.
pub(super) const PATH: &str = "path:*";
/// `bytes:N`: at most so many bytes are written into a file, or read from it.
pub(super) const BYTES: &str = "bytes:*";
/// `ttl_s:N`: what is done ends by itself after at most so many seconds.
pub(super) const TTL_S: &str = "ttl_s:*";

/// The sandbox of one permit: all of it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    paths: Vec<String>,
    bytes_max: Option<usize>,
    ttl_s_max: Option<u64>,
}

impl Limits {
    /// Reads the texts that a permit carries, for a connector that declares `enforced`.
    ///
    /// # Errors
    /// One of them is none that it declares, or is malformed: nothing may be done then.
    pub fn parse(sandbox: &[String], enforced: &[&str]) -> Result<Self, ConnectorError> {
        let mut limits = Self::default();
        for text in sandbox {
            let unknown = || ConnectorError::refused(format!("the sandbox {text:?} cannot be enforced here"));
            let number = |value: &str| value.parse::<u64>().map_err(|_| unknown());
            let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
            if !enforced.contains(&text.as_str()) && !enforced.contains(&format!("{kind}:*").as_str()) {
                return Err(unknown());
            }
            match (kind, value) {
                ("net", "none") => {}
                ("path", prefix) if !prefix.is_empty() => limits.paths.push(prefix.trim_end_matches('/').to_owned()),
                ("bytes", value) => {
                    let bytes = usize::try_from(number(value)?).map_err(|_| unknown())?;
                    limits.bytes_max = Some(limits.bytes_max.unwrap_or(bytes).min(bytes));
                }
                ("ttl_s", value) => {
                    let ttl_s = number(value)?;
                    limits.ttl_s_max = Some(limits.ttl_s_max.unwrap_or(ttl_s).min(ttl_s));
                }
                _ => return Err(unknown()),
            }
        }
        Ok(limits)
    }

    /// Whether an action's object and time lie within.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] that names the limit.
    pub fn admit(&self, action: &Action) -> Result<(), ConnectorError> {
        let object = action.object();
        let below = |prefix: &&String| {
            object.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(outside) = self.paths.iter().find(|prefix| !below(prefix)) {
            return Err(ConnectorError::refused(format!("{object} lies outside of the sandbox path:{outside}")));
        }
        let ttl_s = action.args().get("ttl_s").and_then(serde_json::Value::as_u64);
        match (self.ttl_s_max, ttl_s) {
            (Some(max), Some(ttl_s)) if ttl_s > max => {
                Err(ConnectorError::refused(format!("{ttl_s} s are more than the sandbox ttl_s:{max} allows")))
            }
            _ => Ok(()),
        }
    }

    /// Whether so many bytes lie within.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] that names the limit.
    pub fn admit_bytes(&self, bytes: usize) -> Result<(), ConnectorError> {
        match self.bytes_max {
            Some(max) if bytes > max => {
                Err(ConnectorError::refused(format!("{bytes} bytes are more than the sandbox bytes:{max} allows")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cauldron_coordinator::action::{Action, Catalogue};
    use serde_json::json;

    use super::*;

    fn limits(texts: &[&str]) -> Result<Limits, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Limits::parse(&texts, &[NET_NONE, PATH, BYTES, TTL_S]).map_err(|e| e.to_string())
    }

    fn action(class: &str, args: &serde_json::Value) -> Action {
        let bytes = cauldron_coordinator::json::canonical(args).expect("canonical");
        Action::parse(Catalogue::built_in(), class, &bytes).expect("an action")
    }

    #[test]
    fn what_lies_beyond_a_limit_is_refused_and_the_narrowest_of_several_holds() {
        let write = |path: &str| action("devops.file.write/folder", &json!({ "path": path, "text": "x" }));
        let site = limits(&["path:sites/", "path:sites/a", "bytes:10", "bytes:3", "net:none"]).expect("known");
        assert!(site.admit(&write("sites/a")).is_ok() && site.admit(&write("sites/a/b.conf")).is_ok());
        for outside in ["sites/ab", "sites", "other/sites/a"] {
            let why = site.admit(&write(outside)).expect_err(outside).to_string();
            assert!(why.contains("outside of the sandbox path:sites"), "{why}");
        }
        assert!(site.admit_bytes(3).is_ok());
        assert!(site.admit_bytes(4).expect_err("4").to_string().contains("bytes:3"));
        let block = |ttl_s: u32| {
            let args = json!({ "address": "198.51.100.7", "ttl_s": ttl_s, "reason": "r" });
            action("security.address.block/blocklist", &args)
        };
        let short = limits(&["ttl_s:600"]).expect("known");
        assert!(short.admit(&block(600)).is_ok());
        assert!(short.admit(&block(601)).expect_err("601").to_string().contains("ttl_s:600"));
    }

    #[test]
    fn what_is_not_known_here_is_refused_and_not_left_out() {
        assert_eq!(limits(&[]), Ok(Limits::default()));
        for text in ["net:host", "cpu:1", "path:", "bytes:", "bytes:-1", "bytes:many", "ttl_s:1h", "net", ""] {
            assert!(limits(&["net:none", text]).expect_err(text).contains("cannot be enforced here"), "{text}");
        }
        let other = Limits::parse(&["ttl_s:60".to_owned()], &[NET_NONE, PATH, BYTES]);
        assert!(other.is_err(), "known, and not this connector's");
    }
}
