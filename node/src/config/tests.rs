use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

fn parse(text: &str) -> Result<Config, CliError> {
    Config::parse(text, Path::new("/etc/cauldron/node.toml"))
}

#[track_caller]
fn refused(text: &str, want: Expect) {
    let error = parse(text).expect_err("has mistakes");
    assert_eq!(error.kind().exit_code(), 3);
    want.assert_eq(&error.to_string());
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    refused(
        r#"[node]
name = "Lyon"
socket_mode = 660

[mesh]
trust_domain = "Acme Example"
lsiten = "0.0.0.0:7443"
listen = "0.0.0.0:99999"
join = ["10.0.0.5", "hq.example:7443", 7]
charter = "beef"

[authority]
svid_lifetime = "10s"

[store]
engine = "sled"
cache = "32 MB"

[modules]
list = ["security", "erp"]

[security.sshd]
threshold = 0
window = "ten minutes"
allow = ["192.0.2.1/24"]

[api]
listen = "0.0.0.0:8080"

[telemetry]
otlp = "https://collector:4317"
log = "loud=very"
format = "xml"

[nodes]
x = 1
"#,
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 22 problems
              2:8    node.name = "Lyon"  is no name
                     → write 1 to 63 of a-z, 0-9 and '-', not at either end
              3:15   node.socket_mode = 660  is a number, not a text
                     → put it in double quotes
              6:16   mesh.trust_domain = "Acme Example"  trust domain may only contain ASCII letters (case-insensitive), digits, dots, dashes, and underscores
                     → write a name such as "acme.example"
              7:1    mesh.lsiten is no key of this configuration
                     → did you mean `listen`?
              8:10   mesh.listen = "0.0.0.0:99999"  the port must be between 1 and 65535
                     → write an IP address and a port, such as "0.0.0.0:7443" or "[::]:7443"
              9:9    mesh.join[0] = "10.0.0.5"  has no port
                     → write host:port, such as "hq.example:7443" or "[2001:db8::5]:7443"
              9:40   mesh.join[2] = 7  is a number, not a text
                     → write host:port, such as "hq.example:7443" or "[2001:db8::5]:7443"
              10:11  mesh.charter = "beef"  expected 64 hex characters, found "beef"
                     → write the mesh id, 64 lower-case hex characters
              13:17  authority.svid_lifetime = "10s"  must be between 5m and 1day
                     → write a duration from 5m to 1day, such as "10m"
              16:10  store.engine = "sled"  is no engine in this build
                     → write "redb"
              17:9   store.cache = "32 MB"  is no size
                     → write a size such as "32 MiB"
              20:21  modules.list[1] = "erp"  is no module in this build
                     → this build has: security
              22:2   security.blocklist.path is missing: the sshd agent proposes blocks that nothing here could carry out
                     → name the file that the firewall reads
              22:11  security.sshd.log is missing
                     → name the log of sshd, such as "/var/log/auth.log"
              23:13  security.sshd.threshold = 0  must be a number between 1 and 32
                     → write a whole number from 1 to 32, without quotes
              24:10  security.sshd.window = "ten minutes"  is no duration
                     → write a duration from 1s to 1day, such as "10m"
              25:10  security.sshd.allow[0] = "192.0.2.1/24"  `192.0.2.1/24` has bits set beyond its prefix; write 192.0.2.0/24 instead
                     → write an address or a block such as "192.0.2.0/24"
              28:10  api.listen = "0.0.0.0:8080"  is not on loopback, and this door has no password
                     → write a loopback address such as "127.0.0.1:7480"; others reach this node through an SSH tunnel
              31:8   telemetry.otlp = "https://collector:4317"  needs TLS to the collector, which this build does not have
                     → write the OTLP/gRPC address of a collector on this machine, such as "http://127.0.0.1:4317"
              32:7   telemetry.log = "loud=very"  is no log filter
                     → write a level such as "info", or "warn,cauldron_node=debug"
              33:10  telemetry.format = "xml"  is no log format
                     → write "text" or "json"
              35:2   nodes is no key of this configuration
                     → did you mean `node`?
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}

#[test]
fn an_empty_file_says_what_a_node_needs() {
    refused(
        "",
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 3 problems
          -  node.name is missing
             → name this node: write 1 to 63 of a-z, 0-9 and '-', not at either end
          -  mesh.trust_domain is missing
             → write the trust domain of the mesh, such as "acme.example"
          -  mesh.join is empty
             → name one peer, or set mesh.first = true
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}

#[test]
fn syntax_errors_do_not_hide_the_other_mistakes() {
    refused(
        "[node]\nname = \"lyon\nsite = \"lyon\"\n\n[mesh]\ntrust_domain = acme\nlisten = \"10.0.0.1:0\"\n",
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 3 problems
              2:13  this is not TOML: invalid basic string, expected `"`
                    → see https://toml.io for the syntax
              6:16  this is not TOML: string values must be quoted, expected literal string
                    → see https://toml.io for the syntax
              7:10  mesh.listen = "10.0.0.1:0"  the port must be between 1 and 65535
                    → write an IP address and a port, such as "0.0.0.0:7443" or "[::]:7443"
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}

#[test]
fn keys_in_the_wrong_place_are_recognised() {
    refused(
        "listen = \"0.0.0.0:7443\"\nnode = \"lyon\"\n[mesh]\nfrist = true\nsvid_lifetime = \"1h\"\npassword = \"x\"\n",
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 8 problems
              1:1  listen is no key of this configuration
                   → did you mean `mesh.listen`?
              2:8  node must be a table
                   → write [node] and its keys below
              3:2  mesh.trust_domain is missing
                   → write the trust domain of the mesh, such as "acme.example"
              3:2  mesh.join is empty
                   → name one peer, or set mesh.first = true
              4:1  mesh.frist is no key of this configuration
                   → did you mean `first`?
              5:1  mesh.svid_lifetime is no key of this configuration
                   → did you mean `authority.svid_lifetime`?
              6:1  mesh.password is no key of this configuration
                   → [mesh] has advertise, charter, first, hub, join, listen, post_quantum, region, relay, trust_domain, via
              -    node.name is missing
                   → name this node: write 1 to 63 of a-z, 0-9 and '-', not at either end
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}

#[test]
fn what_must_fit_together_is_checked_together() {
    let node = "[node]\nname = \"lyon\"\nsite = \"lyon\"\n[mesh]\ntrust_domain = \"acme.test\"\n";
    refused(
        &format!("{node}first = true\n"),
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 1 problem
          6:9  mesh.first = true  but the first node of a mesh issues its identities
               → set authority.enabled = true
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &format!("{node}join = []\n"),
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 1 problem
          6:8  mesh.join = []  is empty
               → name one peer, or set mesh.first = true
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &format!("{node}join = [\"a:1\"]\n[authority]\nenabled = true\n"),
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 1 problem
          8:11  authority.enabled = true  but spiffe://acme.test/site/lyon/node/lyon is no coordinator of the mesh
                → leave node.site out on the coordinator, or authority.enabled here
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &format!("{node}join = [\"a:1\"]\n[identity]\nspiffe_id = \"spiffe://old.test/site/porto/node/n\"\n"),
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 3 problems
              8:13  identity.spiffe_id = "spiffe://old.test/site/porto/node/n"  is outside mesh.trust_domain `acme.test`
                    → write one trust domain in both places
              8:13  identity.spiffe_id = "spiffe://old.test/site/porto/node/n"  does not lie in node.site `lyon`
                    → leave one of the two out
              8:13  identity.spiffe_id = "spiffe://old.test/site/porto/node/n"  ends in another name than node.name `lyon`
                    → use one name in both places
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &format!("{node}join = [\"a:1\"]\n[modules]\nlist = [\"security\"]\n"),
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 1 problem
          8:8  modules.list = ["security"]  has security, which nothing configures
               → add [security.sshd] and [security.blocklist], or leave the module out
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &format!("{node}join = [\"a:1\"]\n[modules]\nlist = [\"security\"]\n[security.sshd]\nlog = \"auth.log\"\n"),
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 1 problem
              9:2  security.blocklist.path is missing: the sshd agent proposes blocks that nothing here could carry out
                   → name the file that the firewall reads
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &format!("{node}join = [\"a:1\"]\n[security.blocklist]\npath = \"blocklist\"\n"),
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 1 problem
              -  modules.list lacks security, but [security.blocklist] is there
                 → add "security" to modules.list, or remove the section
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\nfirst = true\n[authority]\nenabled = true\n\
         [modules]\nlist = [\"security\"]\n[security.blocklist]\npath = \"b\"\n",
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 1 problem
              9:8  modules.list = ["security"]  has security, but spiffe://acme.test/coordinator/hq belongs to no site
                   → run modules on a node with node.site; a mesh coordinator has none
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\njoin = [\"a:1\"]\n",
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 1 problem
          -  identity.spiffe_id is missing and cannot be derived
             → set node.site to the site this node stands in, or identity.spiffe_id
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}

#[test]
fn a_small_file_gives_a_whole_configuration() {
    let config = parse(
        "[node]\nname = \"lyon\"\nsite = \"lyon\"\ndir = \"../lib/lyon\"\n\
         [mesh]\ntrust_domain = \"acme.test\"\njoin = [\"quic://hq.test:7443\"]\n\
         [modules]\nlist = [\"security\"]\n[security.sshd]\nlog = \"/var/log/auth.log\"\n\
         [security.blocklist]\npath = \"blocklist\"\nttl = \"20s\"\n",
    )
    .expect("valid");
    assert_eq!(config.identity.spiffe_id.to_string(), "spiffe://acme.test/site/lyon/node/lyon");
    assert_eq!(config.identity.role.site(), Some("lyon"));
    assert_eq!(config.node.dir.root(), Path::new("/etc/cauldron/../lib/lyon"));
    assert_eq!(config.node.socket, Path::new("/etc/cauldron/../lib/lyon/node.sock"));
    assert_eq!(config.node.socket_mode, 0o660);
    assert_eq!(config.mesh.join.iter().map(ToString::to_string).collect::<Vec<_>>(), ["hq.test:7443"]);
    assert_eq!(config.mesh.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:7443"]);
    assert_eq!(config.mesh.post_quantum, PostQuantum::Prefer);
    assert_eq!(config.authority, None);
    let agent = config.sshd_agent().expect("configured");
    assert_eq!((agent.threshold, agent.window_s, agent.ttl_s), (5, 600, 20));
    assert_eq!(agent.problems(), []);
}

#[test]
fn a_first_node_is_a_coordinator_that_advertises_where_it_listens() {
    let text = "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\nlisten = \"127.0.0.1:7443\"\nfirst = true\n\
                [authority]\nenabled = true\n";
    let config = parse(text).expect("valid");
    assert_eq!(config.identity.spiffe_id.to_string(), "spiffe://acme.test/coordinator/hq");
    assert_eq!(config.mesh.advertise.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:7443"]);
    assert_eq!(config.authority.map(|a| a.svid_lifetime.as_secs()), Some(3_600));
}

#[test]
fn a_node_listens_on_several_addresses_and_every_mistake_in_them_is_told() {
    let with = |listen: &str| {
        format!(
            "[node]\nname = \"hq\"\nsite = \"lyon\"\n[mesh]\ntrust_domain = \"acme.test\"\njoin = [\"a.test:1\"]\nlisten = {listen}\n"
        )
    };
    let config =
        parse(&with("[\"0.0.0.0:7443\", \"[::]:7443\", \"192.0.2.1:7444\"]\npost_quantum = \"require\"\nrelay = true"))
            .expect("valid");
    let listen: Vec<_> = config.mesh.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:7443", "[::]:7443", "192.0.2.1:7444"]);
    assert_eq!(config.mesh.advertise.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:7444"]);
    assert_eq!(config.mesh.post_quantum, PostQuantum::Require);
    assert!(config.mesh.relay);
    let many: Vec<String> = (1..=17).map(|n| format!("\"192.0.2.{n}:7443\"")).collect();
    for (listen, says) in [
        ("[]".to_owned(), "is empty"),
        ("[\"0.0.0.0:7443\", \"0.0.0.0:7443\"]".to_owned(), "names 0.0.0.0:7443 twice"),
        ("[\"0.0.0.0:0\"]".to_owned(), "the port must be between 1 and 65535"),
        ("[\"hq.test:7443\"]".to_owned(), "mesh.listen[0]"),
        ("7443".to_owned(), "mesh.listen"),
        (format!("[{}]", many.join(", ")), "at most 16"),
        ("\"0.0.0.0:7443\"\npost_quantum = \"yes\"".to_owned(), "write \"prefer\" or \"require\""),
    ] {
        let error = parse(&with(&listen)).expect_err(&listen).to_string();
        assert!(error.contains(says), "{listen}: {error}");
    }
}

#[test]
fn the_example_that_we_ship_loads() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/node.example.toml"));
    let config = Config::load(path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.identity.spiffe_id.to_string(), "spiffe://acme.example/site/lyon/node/lyon");
    assert!(config.sshd_agent().is_some());
}

#[test]
fn federation_is_read_whole_and_every_mistake_in_it_is_told() {
    let base =
        "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\nfirst = true\n[authority]\nenabled = true\n";
    let good = format!(
        "{base}[federation]\nlisten = \"0.0.0.0:8443\"\n[federation.domains.\"b.test\"]\nurl = \"https://b.test/b.json\"\n\
         endpoint_spiffe_id = \"spiffe://b.test/hq\"\nbundle = \"b.pem\"\n[federation.domains.\"c.test\"]\n\
         url = \"https://c.test:8443/\"\nprofile = \"https_web\"\n"
    );
    let federation = parse(&good).unwrap_or_else(|e| panic!("{e}")).federation;
    assert_eq!(federation.endpoint.map(|e| (e.web, e.refresh_hint.as_secs())), Some((None, 300)));
    let shown: Vec<_> = federation.domains.iter().map(|d| (d.trust_domain.as_str(), d.profile.name())).collect();
    assert_eq!(shown, [("b.test", "https_spiffe"), ("c.test", "https_web")]);

    let table = |text: &str| format!("{base}[federation.domains.\"b.test\"]\n{text}\n");
    let web = "profile = \"https_web\"";
    for (text, why) in [
        (table(web), "federation.domains.\"b.test\".url is missing"),
        (table(&format!("url = \"http://b.test/\"\n{web}")), "is not https"),
        (table(&format!("url = \"https://u:p@b.test/\"\n{web}")), "carries a user name"),
        (table(&format!("url = \"/b.json\"\n{web}")), "is no whole URL"),
        (table("url = \"https://b.test/\""), "endpoint_spiffe_id is missing for https_spiffe"),
        (
            table(&format!("url = \"https://b.test/\"\n{web}\nendpoint_spiffe_id = \"spiffe://b.test/x\"")),
            "is not used by https_web",
        ),
        (table("url = \"https://b.test/\"\nendpoint_spiffe_id = \"b.test\""), "scheme is missing"),
        (table("url = \"https://b.test/\"\nprofile = \"web\""), "is no profile"),
        (table(&format!("url = \"https://b.test/\"\n{web}\nurll = 1")), "did you mean `url`?"),
        (
            table(&format!("url = \"https://b.test/\"\n{web}")).replace("\"b.test\"]", "\"B.test\"]"),
            "is no trust domain",
        ),
        (
            table(&format!("url = \"https://b.test/\"\n{web}")).replace("\"b.test\"]", "\"acme.test\"]"),
            "our own trust domain",
        ),
        (format!("{base}[federation]\ndomains = 1\n"), "must be a table"),
        (format!("{base}[federation.domains]\nb = 1\n"), "must be a table"),
        (
            format!("{base}[federation]\nlisten = \"0.0.0.0:1\"\n{web}\n"),
            "federation.certificate is missing for https_web",
        ),
        (format!("{base}[federation]\nlisten = \"0.0.0.0:1\"\nkey = \"k\"\n"), "is not used by https_spiffe"),
        (format!("{base}[federation]\nrefresh_hint = \"1s\"\n"), "must be between"),
        (good.replace("enabled = true", "enabled = false"), "this node holds no authority"),
    ] {
        let error = parse(&text).expect_err(why).to_string();
        assert!(error.contains(why), "{why}:\n{error}");
    }
}

#[test]
fn what_the_template_writes_is_what_the_reader_reads() {
    let template = Template {
        name: "lyon".into(),
        site: Some("lyon".into()),
        dir: Some("/var/lib/with \"quotes\" and \\ back".into()),
        trust_domain: "acme.test".into(),
        listen: "127.0.0.1:7444".parse().expect("an address"),
        advertise: vec!["lyon.test:7444".parse().expect("an address")],
        join: vec!["[2001:db8::1]:7443".parse().expect("an address")],
        charter: Some("ab".repeat(32)),
        first: false,
        authority: false,
        root_key: None,
        api: Some("127.0.0.1:7480".parse().expect("an address")),
        security: Some(SecurityTemplate {
            log: "/var/log/auth.log".into(),
            blocklist: "blocklist".into(),
            ttl: Some("20s".into()),
        }),
        folder: Some("conf.d".into()),
    };
    let config = parse(&template.render()).unwrap_or_else(|e| panic!("{e}\n{}", template.render()));
    assert_eq!(config.node.dir.root(), Path::new("/var/lib/with \"quotes\" and \\ back"));
    assert_eq!(config.mesh.join, template.join);
    assert_eq!(config.mesh.advertise, template.advertise);
    assert_eq!(config.mesh.charter.map(|c| c.to_string()), template.charter);
    assert_eq!(config.api.listen, template.api);
    assert_eq!(config.connectors.folder.map(|f| f.path).as_deref(), Some(Path::new("/etc/cauldron/conf.d")));
    assert_eq!(config.security.and_then(|s| s.blocklist).map(|b| b.ttl.as_secs()), Some(20));
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = Config::load(Path::new("/nonexistent/node.toml")).expect_err("missing");
    assert_eq!(error.kind().exit_code(), 3);
    assert!(error.to_string().contains("cauldron init --first"), "{error}");
}

#[test]
fn a_broken_header_is_one_mistake() {
    let text = "[node\nname = \"hq\"\n[mesh]\nfrist = true\n";
    let problems = parse(text).expect_err("mistakes").to_string();
    assert!(problems.contains("1:6  this is not TOML") && problems.contains("mesh.frist"), "{problems}");
    assert!(!problems.contains("name is no key"), "{problems}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_cut_of_a_good_file_panics(end in 0usize..900) {
        let text = include_str!("../../../deploy/node.example.toml");
        let _ = parse(text.get(..end).unwrap_or(text));
    }
}

const LYON: &str =
    "[node]\nname = \"lyon\"\nsite = \"lyon\"\n[mesh]\ntrust_domain = \"acme.example\"\njoin = [\"hq:1\"]\n";

#[test]
fn a_workload_lies_below_the_node_and_is_told_from_others() {
    let text = |entry: &str| format!("{LYON}[[identity.workload]]\n{entry}");
    let good = text(
        "spiffe_id = \"spiffe://acme.example/site/lyon/node/lyon/agent/web\"\nuid = 33\npath = \"/bin/web\"\nttl = \"5m\"\n",
    );
    let config = parse(&good).expect("good");
    let [web] = &config.identity.workloads.entries[..] else { panic!("one entry") };
    assert_eq!(
        (web.entry.hint.as_str(), web.entry.selectors.uid, web.ttl),
        ("web", Some(33), Some(Duration::from_secs(300)))
    );
    assert_eq!(config.identity.workloads.socket, Path::new("/etc/cauldron/workload.sock"));
    refused(
        &text(
            "spiffe_id = \"spiffe://acme.example/site/porto/node/porto/agent/web\"\nuid = -1\nsha256 = \"beef\"\npaht = \"/x\"\n\n[[identity.workload]]\npath = \"web\"\nttl = \"1s\"\n\n[[identity.workload]]\nspiffe_id = 7\n",
        ),
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 10 problems
              8:13   identity.workload[0].spiffe_id = "spiffe://acme.example/site/porto/node/porto/agent/web"  does not lie below this node, spiffe://acme.example/site/lyon/node/lyon/agent/<name>
                     → write this node's SPIFFE ID and /agent/<name> behind it
              9:7    identity.workload[0].uid = -1  is no user or group id
                     → write its number, without quotes; `id` prints it
              10:10  identity.workload[0].sha256 = "beef"  is no SHA-256 in hexadecimal
                     → write what `sha256sum` prints for the program
              11:1   identity.workload[0].paht is no key of this configuration
                     → did you mean `path`?
              13:1   identity.workload[1] has no spiffe_id
                     → name the identity, below this node's own
              13:1   identity.workload[1] has neither uid nor gid and would be everybody's who can run the program
                     → add uid or gid, as the kernel must say of the caller; path and sha256 narrow it further
              14:8   identity.workload[1].path = "web"  is not absolute
                     → write where the program lies, such as "/usr/bin/curl"
              15:7   identity.workload[1].ttl = "1s"  is no duration between 1m and 24h
                     → write a duration such as "10m"
              17:1   identity.workload[2] has neither uid nor gid and would be everybody's who can run the program
                     → add uid or gid, as the kernel must say of the caller; path and sha256 narrow it further
              18:13  identity.workload[2].spiffe_id = 7  is a number, not a text
                     → write this node's SPIFFE ID and /agent/<name> behind it
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}

#[test]
fn each_source_of_identities_wants_its_own_keys() {
    let text = |identity: &str| format!("{LYON}[identity]\n{identity}");
    let source = |identity: &str| parse(&text(identity)).expect("good").identity.source;
    assert_eq!(source(""), Source::Embedded);
    let socket = "/run/spire/agent.sock".into();
    assert_eq!(
        source("source = \"workload-api\"\nendpoint = \"unix:///run/spire/agent.sock\""),
        Source::WorkloadApi { socket }
    );
    let files = "source = \"files\"\ncertificate = \"svid.pem\"\nkey = \"/k\"\nbundle = \"b\"";
    let path = |p: &str| PathBuf::from(p);
    let want =
        Source::Files { certificate: path("/etc/cauldron/svid.pem"), key: path("/k"), bundle: path("/etc/cauldron/b") };
    assert_eq!(source(files), want);
    refused(
        &text("source = \"spire\"\n"),
        expect![[r#"
        Error: the configuration /etc/cauldron/node.toml has 1 problem
          8:10  identity.source = "spire"  is no source of identities in this build
                → write "embedded" (the mesh's own authority), "workload-api" (SPIRE and its like) or "files"
        Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &text(
            "source = \"workload-api\"\nendpoint = \"tcp://127.0.0.1:1\"\nkey = \"k\"\n[[identity.workload]]\nspiffe_id = \"spiffe://acme.example/site/lyon/node/lyon/agent/web\"\nuid = 1\n",
        ),
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 2 problems
              9:12  identity.endpoint = "tcp://127.0.0.1:1"  is no unix: address, and identities do not go over a network here
                    → write the agent's socket, such as "unix:///run/spire/sockets/agent.sock"
              10:7  identity.key = "k"  is of no use with identity.source "workload-api"
                    → remove it, or name the other source
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
    refused(
        &text("source = \"files\"\nkey = \"k\"\nendpoint = \"unix:///x\"\n"),
        expect![[r#"
            Error: the configuration /etc/cauldron/node.toml has 3 problems
              7:2    identity.certificate is missing
                     → name the PEM file that is kept fresh for this node
              7:2    identity.bundle is missing
                     → name the PEM file that is kept fresh for this node
              10:12  identity.endpoint = "unix:///x"  is of no use with identity.source "files"
                     → remove it, or name the other source
            Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
    );
}
