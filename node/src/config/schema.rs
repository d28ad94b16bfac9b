//! Every key of the configuration file: what the reader accepts, what "did you mean" knows, what the handbook must explain.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its full name, `section.key`.
    pub name: &'static str,
    /// What a value looks like.
    pub form: &'static str,
    /// What holds when it is absent; empty when there is no default.
    pub default: &'static str,
}

const fn key(name: &'static str, form: &'static str, default: &'static str) -> Key {
    Key { name, form, default }
}

/// All keys, section by section.
pub const KEYS: &[Key] = &[
    key("node.name", "text: 1 to 63 of a-z, 0-9 and '-'", ""),
    key("node.site", "text: 1 to 63 of a-z, 0-9 and '-'", "none: a mesh coordinator"),
    key("node.dir", "path", "the folder of this file"),
    key("node.socket", "path", "node.sock in node.dir"),
    key("node.socket_mode", "text: octal permissions", "0660"),
    key("node.key_seal", "path, or text: credential:<name>", "none: keys lie plain, mode 0600"),
    key("identity.source", "text: embedded, workload-api or files", "embedded"),
    key("identity.endpoint", "text: unix:///path", "SPIFFE_ENDPOINT_SOCKET of the environment"),
    key("identity.certificate", "path", ""),
    key("identity.key", "path", ""),
    key("identity.bundle", "path", ""),
    key("identity.socket", "path", "workload.sock in node.dir"),
    key("identity.socket_mode", "text: octal permissions", "0666"),
    key("identity.workload", "list of tables", "the agents of this node"),
    key("identity.spiffe_id", "text: spiffe://…", "derived from mesh.trust_domain, node.site and node.name"),
    key("mesh.trust_domain", "text: a SPIFFE trust domain", ""),
    key("mesh.listen", "text: address:port, or a list of them", "0.0.0.0:7443"),
    key("mesh.advertise", "list of text: host:port", "mesh.listen, unless that is every address"),
    key("mesh.join", "list of text: host:port", "empty"),
    key("mesh.first", "true or false", "false"),
    key("mesh.relay", "true or false", "false"),
    key("mesh.via", "list of text: spiffe://…", "empty"),
    key("mesh.post_quantum", "text: prefer or require", "prefer"),
    key("mesh.region", "text: 1 to 63 of a-z, 0-9 and '-'", "none: all of the mesh is one region"),
    key("mesh.hub", "true or false", "false; a mesh coordinator is one"),
    key("mesh.charter", "text: 64 hex characters", "the one pinned in node.dir"),
    key("link.budget", "text: bytes per hour or day, such as 2 GB/day", "none: links carry what there is"),
    key("link.peer", "list of tables", "none: all links that leave the site have the same"),
    key("authority.enabled", "true or false", "false"),
    key("authority.enrol", "true or false", "true"),
    key("authority.svid_lifetime", "duration, 5m to 24h", "1h"),
    key("authority.token_lifetime", "duration, 1m to 7d", "1h"),
    key("authority.site_issuer", "true or false", "false"),
    key("authority.root_key", "path, or text: pkcs11:…", "ca/root.key in node.dir"),
    key("authority.site_issuers", "list of text: spiffe://…", "empty"),
    key("store.engine", "text: redb", "redb"),
    key("store.cache", "size, 1 MiB to 4 GiB", "4 MiB"),
    key("modules.list", "list of text: security", "empty"),
    key("security.sshd.log", "path", ""),
    key("security.sshd.threshold", "number, 1 to 32", "5"),
    key("security.sshd.window", "duration, 1s to 24h", "10m"),
    key("security.sshd.allow", "list of text: address or CIDR block", "empty"),
    key("security.sshd.own_addresses", "list of text: address", "those of this machine's interfaces"),
    key("security.blocklist.path", "path", ""),
    key("security.blocklist.ttl", "duration, 1s to 24h", "1h"),
    key("connectors.answer_within", "duration, 1s to 1h", "60s"),
    key("connectors.folder.path", "path", ""),
    key("connectors.external", "list of tables", "none: agents act through this node's own connectors"),
    key("federation.listen", "text: address:port", "none: nothing is published"),
    key("federation.profile", "text: https_spiffe or https_web", "https_spiffe"),
    key("federation.certificate", "path", "none: the node's own SVID"),
    key("federation.key", "path", "none: the node's own SVID"),
    key("federation.refresh_hint", "duration, 5s to 24h", "5m"),
    key("federation.domains.*.url", "text: https://…", ""),
    key("federation.domains.*.profile", "text: https_spiffe or https_web", "https_spiffe"),
    key("federation.domains.*.endpoint_spiffe_id", "text: spiffe://…", "none, required with https_spiffe"),
    key("federation.domains.*.bundle", "path", "none: what was fetched before, or with https_web the first fetch"),
    key("notify.webhook", "list of tables", "none: nobody is told"),
    key("page.url", "text: https://…", "none: messages carry no link"),
    key("page.listen", "text: address:port", "none: this node serves no page"),
    key("page.certificate", "path", "none: plain HTTP, on loopback alone"),
    key("page.key", "path", "none: plain HTTP, on loopback alone"),
    key("api.listen", "text: address:port on loopback", "none: the socket alone"),
    key("telemetry.otlp", "text: http://host:port", "none"),
    key("telemetry.log", "text: log filter", "info"),
    key("telemetry.format", "text: text or json", "text"),
];

/// The section whose tables carry names of the operator's choice; `*` stands for them in [`KEYS`].
pub(super) const NAMED: &str = "federation.domains";

/// Whether `name` is a section, i.e. a proper prefix of some key.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|k| k.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// What may stand directly inside `section` (empty for the top).
pub(super) fn children(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter_map(|k| match section {
            "" => Some(k.name),
            _ => k.name.strip_prefix(section)?.strip_prefix('.'),
        })
        .filter_map(|rest| rest.split('.').next())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_children() {
        assert!(is_section("security.sshd") && is_section("mesh") && !is_section("mesh.join") && !is_section("mes"));
        assert_eq!(children("security"), ["blocklist", "sshd"]);
        assert_eq!(children("store"), ["cache", "engine"]);
        assert!(children("").contains(&"telemetry"));
    }

    #[test]
    fn every_key_can_be_read() {
        // All keys at once: a key in the schema that no section reads would be accepted in silence.
        let sections = ["read.rs", "identity.rs", "federation.rs", "link.rs", "notify.rs", "connectors.rs", "page.rs"];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
        let source = sections.map(|file| std::fs::read_to_string(folder.join(file)).expect("readable")).concat();
        for key in KEYS {
            assert!(source.contains(&format!("\"{}\"", key.name)), "{} is in the schema and nobody reads it", key.name);
        }
    }

    #[test]
    fn the_handbook_explains_every_key_and_no_other() {
        let doc = include_str!("../../../docs/configuration.md");
        let rows: Vec<&str> =
            doc.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).filter(|n| n.contains('.')).collect();
        let mut told: Vec<&str> = rows.clone();
        let mut known: Vec<&str> = KEYS.iter().map(|k| k.name).collect();
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
        for key in KEYS {
            let row = doc.lines().find(|l| l.starts_with(&format!("| `{}`", key.name))).expect("a row");
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert!(cells.len() == 6 && cells[2..5].iter().all(|c| !c.is_empty()), "{row}");
            let default = if key.default.is_empty() { "none, required" } else { key.default };
            assert!(cells[4].replace('`', "").starts_with(default), "{}: the handbook says {:?}", key.name, cells[4]);
        }
    }
}
