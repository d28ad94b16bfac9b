//! The configuration that `init`, `node join` and the demo write.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::PeerAddr;

/// What differs from node to node; everything else keeps its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// `node.name`.
    pub name: String,
    /// `node.site`; none for a mesh coordinator.
    pub site: Option<String>,
    /// `node.dir`, when the file does not lie in it.
    pub dir: Option<PathBuf>,
    /// `mesh.trust_domain`.
    pub trust_domain: String,
    /// `mesh.listen`.
    pub listen: SocketAddr,
    /// `mesh.advertise`.
    pub advertise: Vec<PeerAddr>,
    /// `mesh.join`.
    pub join: Vec<PeerAddr>,
    /// `mesh.charter`, once it is known.
    pub charter: Option<String>,
    /// Whether it founded the mesh, and so issues its identities.
    pub first: bool,
    /// Whether it issues identities although it founded no mesh.
    pub authority: bool,
    /// `authority.root_key`, where it is not the default.
    pub root_key: Option<String>,
    /// `api.listen`.
    pub api: Option<SocketAddr>,
    /// The sshd log and the blocklist of the security module.
    pub security: Option<SecurityTemplate>,
    /// `connectors.folder.path`.
    pub folder: Option<PathBuf>,
}

/// `[security.sshd]` and `[security.blocklist]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityTemplate {
    /// `security.sshd.log`.
    pub log: PathBuf,
    /// `security.blocklist.path`.
    pub blocklist: PathBuf,
    /// `security.blocklist.ttl`, as a duration text.
    pub ttl: Option<String>,
}

impl Template {
    /// The file's text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::from("# A Cauldron node. docs/configuration.md explains every key.\n\n[node]\n");
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "name = {}", quoted(&self.name))?;
        if let Some(site) = &self.site {
            writeln!(out, "site = {}", quoted(site))?;
        }
        if let Some(dir) = &self.dir {
            writeln!(out, "dir = {}", quoted(&dir.to_string_lossy()))?;
        }
        writeln!(out, "\n[mesh]\ntrust_domain = {}", quoted(&self.trust_domain))?;
        writeln!(out, "listen = \"{}\"", self.listen)?;
        if !self.advertise.is_empty() {
            writeln!(out, "advertise = {}", list(&self.advertise))?;
        }
        if self.first {
            writeln!(out, "first = true")?;
        }
        if !self.join.is_empty() || !self.first {
            writeln!(out, "join = {}", list(&self.join))?;
        }
        if let Some(charter) = &self.charter {
            writeln!(out, "charter = {}", quoted(charter))?;
        }
        // Nothing else in the file would say that it coordinates.
        if self.site.is_none() && !self.first && !self.authority {
            let id = format!("spiffe://{}/coordinator/{}", self.trust_domain, self.name);
            writeln!(out, "\n[identity]\nspiffe_id = {}", quoted(&id))?;
        }
        if self.first || self.authority {
            writeln!(out, "\n[authority]\nenabled = true")?;
            if let Some(root_key) = &self.root_key {
                writeln!(out, "root_key = {}", quoted(root_key))?;
            }
        }
        if let Some(api) = self.api {
            writeln!(out, "\n[api]\nlisten = \"{api}\"")?;
        }
        if let Some(security) = &self.security {
            writeln!(out, "\n[modules]\nlist = [\"security\"]")?;
            writeln!(out, "\n[security.sshd]\nlog = {}", quoted(&security.log.to_string_lossy()))?;
            writeln!(out, "\n[security.blocklist]\npath = {}", quoted(&security.blocklist.to_string_lossy()))?;
            if let Some(ttl) = &security.ttl {
                writeln!(out, "ttl = {}", quoted(ttl))?;
            }
        }
        if let Some(folder) = &self.folder {
            writeln!(out, "\n[connectors.folder]\npath = {}", quoted(&folder.to_string_lossy()))?;
        }
        Ok(())
    }
}

fn list(addresses: &[PeerAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// A TOML basic string: paths may hold anything but a zero byte.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
