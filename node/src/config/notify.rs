//! `[[notify.webhook]]`: who is told that something waits for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cauldron_identity::scope::is_name;
use hyper::Uri;

use super::read::NAME_HINT;
use super::reader::{Item, Reader};

const KEY: &str = "notify.webhook";
const URL_HINT: &str = "write a URL such as \"https://hooks.acme.example/cauldron\"; http is for loopback alone";
/// Each has a task, a connection at a time and a queue.
const WEBHOOKS_MAX: usize = 16;
/// A person reads the groups of one approval; more than these in a filter is a mistake.
const GROUPS_MAX: usize = 64;

/// `[[notify.webhook]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What people call it; also the name of its file in the data directory.
    pub name: String,
    /// Where messages go.
    pub url: HookUrl,
    /// The file with the secrets that sign them.
    pub secret: PathBuf,
    /// The root certificates that the endpoint's must lead to; those of this machine without.
    pub ca: Option<PathBuf>,
    /// Only approvals that wait for one of these groups; all when empty.
    pub groups: BTreeSet<String>,
}

/// Where messages go. Paths of such addresses are secrets as often as not, so only scheme and host are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(Uri);

impl HookUrl {
    /// The whole address, for the connection alone.
    #[must_use]
    pub fn secret(&self) -> &Uri {
        &self.0
    }

    /// Whether the endpoint must prove who it is.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.0.scheme_str().unwrap_or("https"))
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookUrl({self}/…)")
    }
}

impl std::str::FromStr for HookUrl {
    type Err = &'static str;

    /// `https`, or `http` to this machine; without user name and fragment.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        web_address(text).map(Self)
    }
}

/// An address that people or programs reach: `https`, or `http` to this machine; without user name and fragment.
pub(super) fn web_address(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "is no URL")?;
    let authority = url.authority().ok_or("is no whole URL")?;
    if authority.as_str().contains('@') {
        return Err("carries a user name");
    }
    if text.contains('#') {
        return Err("has a fragment, which goes to no server");
    }
    match (url.scheme_str(), authority.host()) {
        (_, "") => Err("names no host"),
        (Some("https"), _) => Ok(url),
        (Some("http"), host) if is_loopback(host) => Ok(url),
        (Some("http"), _) => Err("is http to another machine, where anybody on the way reads along"),
        _ => Err("is neither https nor http"),
    }
}

/// By its name: the connection looks at the address that it has reached, too.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn webhooks(r: &Reader<'_>, base: &Path) -> Vec<Webhook> {
    let keys = ["name", "url", "secret_file", "ca_file", "groups"];
    let read = r.tables(KEY, &keys, |item| webhook(item, base));
    let mut names = BTreeMap::<&str, usize>::new();
    read.iter().for_each(|hook| *names.entry(&hook.name).or_default() += 1);
    if let Some((twice, _)) = names.iter().find(|(_, times)| **times > 1) {
        r.problem(KEY, &format!("names `{twice}` twice"), "give each webhook a name of its own");
    }
    if read.len() > WEBHOOKS_MAX {
        let what = format!("has more than {WEBHOOKS_MAX} entries");
        r.problem(KEY, &what, "have one receiver hand the messages on");
    }
    read
}

fn webhook(item: &Item<'_, '_>, base: &Path) -> Option<Webhook> {
    for (key, hint) in [
        ("name", "name it, such as \"duty\": its queue and its errors are shown under that name"),
        ("url", URL_HINT),
        ("secret_file", "name the file with its secret, which signs every message"),
    ] {
        if !item.has(key) {
            item.problem(&format!("has no {key}"), hint);
        }
    }
    let a_name = |text: &str| if is_name(text) { Ok(text.to_owned()) } else { Err("is no name") };
    let a_group = |text: &str| match text.is_empty() || text.len() > 255 {
        true => Err("is no group"),
        false => Ok(text.to_owned()),
    };
    let name = item.parsed("name", a_name, NAME_HINT);
    let url = item.parsed_unseen("url", str::parse::<HookUrl>, URL_HINT);
    let secret = item.path("secret_file", base);
    let ca = item.path("ca_file", base);
    let groups = item.list("groups", a_group, "write groups as the policy names them, such as \"security-duty\"");
    if item.has("ca_file") && url.as_ref().is_some_and(|url| !url.is_https()) {
        item.problem("has a ca_file, but its url is http", "leave ca_file out, or write an https URL");
    }
    if groups.as_ref().is_some_and(|groups| groups.len() > GROUPS_MAX) {
        item.problem(&format!("has more than {GROUPS_MAX} groups"), "leave groups out: then it hears of everything");
    }
    let groups = groups.unwrap_or_default().into_iter().collect();
    // A file that is named wrongly is a problem already; nothing is built from half of it.
    let ca = if item.has("ca_file") { Some(ca?) } else { None };
    Some(Webhook { name: name?, url: url?, secret: secret?, ca, groups })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Config;
    use crate::error::CliError;

    const HQ: &str =
        "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.example\"\nfirst = true\n[authority]\nenabled = true\n";

    fn parse(text: &str) -> Result<Config, CliError> {
        Config::parse(&format!("{HQ}{text}"), std::path::Path::new("/etc/cauldron/node.toml"))
    }

    #[track_caller]
    fn refused(text: &str, want: Expect) {
        want.assert_eq(&parse(text).expect_err("has mistakes").to_string());
    }

    #[test]
    fn a_webhook_is_read_and_its_address_is_not_shown_whole() {
        let config = parse(
            "[[notify.webhook]]\nname = \"duty\"\nurl = \"https://hooks.example:8443/T0/s3cret?k=v\"\nsecret_file = \"duty.secret\"\n\
             ca_file = \"/etc/ca.pem\"\ngroups = [\"security-duty\", \"night\"]\n\
             [[notify.webhook]]\nname = \"local\"\nurl = \"http://localhost:9000\"\nsecret_file = \"/s\"\n\
             [page]\nurl = \"https://approve.acme.example/\"\n",
        )
        .expect("good");
        let [duty, local] = &config.notify[..] else { panic!("two: {:?}", config.notify) };
        assert_eq!(duty.secret, std::path::Path::new("/etc/cauldron/duty.secret"));
        assert_eq!(duty.groups.iter().map(String::as_str).collect::<Vec<_>>(), ["night", "security-duty"]);
        assert_eq!(duty.url.to_string(), "https://hooks.example:8443");
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(duty.url.is_https() && !local.url.is_https() && local.groups.is_empty() && local.ca.is_none());
        assert_eq!(config.page.link("ab").as_deref(), Some("https://approve.acme.example/approvals/ab"));
        assert_eq!(crate::config::Page::default().link("ab"), None);
        assert!(parse("").expect("good").notify.is_empty());
    }

    #[test]
    fn every_mistake_of_webhooks_and_page_is_reported_at_once() {
        refused(
            "[[notify.webhook]]\nname = \"Duty\"\nurl = \"http://hooks.example/x\"\nsecretfile = \"x\"\n\
             [[notify.webhook]]\nname = \"a\"\nurl = \"https://u@hooks.example/\"\nsecret_file = \"\"\ngroups = \"x\"\n\
             [[notify.webhook]]\nname = \"b\"\nurl = \"http://127.0.0.1/#x\"\nsecret_file = \"s\"\ngroups = [7, \"\"]\n\
             [[notify.webhook]]\nname = \"c\"\nurl = \"http://[::1]/\"\nsecret_file = \"s\"\nca_file = \"ca.pem\"\n\
             [[notify.webhook]]\nname = \"c\"\nurl = \"https://c.example\"\nsecret_file = \"s\"\n\
             [[notify.webhook]]\n\
             [page]\nurl = \"https://approve.acme.example/?a=b\"\n",
            expect![[r#"
                Error: the configuration /etc/cauldron/node.toml has 16 problems
                  8:1    notify.webhook[0] has no secret_file
                         → name the file with its secret, which signs every message
                  8:1    notify.webhook = [[notify.webhook]]  names `c` twice
                         → give each webhook a name of its own
                  9:8    notify.webhook[0].name = "Duty"  is no name
                         → write 1 to 63 of a-z, 0-9 and '-', not at either end
                  10:7   notify.webhook[0].url is http to another machine, where anybody on the way reads along
                         → write a URL such as "https://hooks.acme.example/cauldron"; http is for loopback alone
                  11:1   notify.webhook[0].secretfile is no key of this configuration
                         → did you mean `secret_file`?
                  14:7   notify.webhook[1].url carries a user name
                         → write a URL such as "https://hooks.acme.example/cauldron"; http is for loopback alone
                  15:15  notify.webhook[1].secret_file = ""  is empty
                         → write a path; a relative one counts from the folder of this file
                  16:10  notify.webhook[1].groups = "x"  is a text, not a list
                         → put it in brackets: ["…"]
                  19:7   notify.webhook[2].url has a fragment, which goes to no server
                         → write a URL such as "https://hooks.acme.example/cauldron"; http is for loopback alone
                  21:11  notify.webhook[2].groups[0] = 7  is a number, not a text
                         → write groups as the policy names them, such as "security-duty"
                  21:14  notify.webhook[2].groups[1] = ""  is no group
                         → write groups as the policy names them, such as "security-duty"
                  22:1   notify.webhook[3] has a ca_file, but its url is http
                         → leave ca_file out, or write an https URL
                  31:1   notify.webhook[5] has no name
                         → name it, such as "duty": its queue and its errors are shown under that name
                  31:1   notify.webhook[5] has no url
                         → write a URL such as "https://hooks.acme.example/cauldron"; http is for loopback alone
                  31:1   notify.webhook[5] has no secret_file
                         → name the file with its secret, which signs every message
                  33:7   page.url = "https://approve.acme.example/?a=b"  has a query, behind which no path can stand
                         → write where people reach the approval page, such as "https://approve.acme.example"
                Hint: docs/configuration.md lists every key with its meaning, unit and default"#]],
        );
    }
}
