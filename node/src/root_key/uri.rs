//! `pkcs11:` URIs (RFC 7512): which key in which token, by which module, with the PIN from which file.

use std::fmt;
use std::path::{Path, PathBuf};

/// How such a URI begins.
pub const SCHEME: &str = "pkcs11:";
/// `CK_TOKEN_INFO.label` has 32 bytes, padded (PKCS #11 v2.40 §3.2).
const TOKEN_LEN_MAX: usize = 32;
/// More is no name that anybody gave.
const OBJECT_LEN_MAX: usize = 256;

/// A key pair in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUri {
    /// The token's label.
    pub token: String,
    /// Its serial number, where several tokens have one label.
    pub serial: Option<String>,
    /// The label of both halves of the pair.
    pub object: String,
    /// The module: a shared library, loaded when it is needed.
    pub module: PathBuf,
    /// The file that holds the user's PIN.
    pub pin_source: PathBuf,
}

impl TokenUri {
    /// Reads a URI.
    ///
    /// # Errors
    /// What is wrong with it. Values are not repeated: one that stands in the wrong place may be a PIN.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(SCHEME).ok_or("does not begin with pkcs11:")?;
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err("has a space or a control character; write %20 for a space".into());
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let [mut token, mut serial, mut object] = attributes(path, ';', ["token", "serial", "object"])?;
        let [mut module, mut pin_source] = attributes(query, '&', ["module-path", "pin-source"])?;
        let name = |name: &str, value: &mut Option<String>, max: usize| match value.take() {
            None => Err(format!("has no {name}")),
            Some(value) if value.is_empty() => Err(format!("has an empty {name}")),
            Some(value) if value.len() > max => Err(format!("has a {name} of more than {max} bytes")),
            Some(value) => Ok(value),
        };
        let token = name("token", &mut token, TOKEN_LEN_MAX)?;
        let object = name("object", &mut object, OBJECT_LEN_MAX)?;
        let serial = serial.is_some().then(|| name("serial", &mut serial, TOKEN_LEN_MAX)).transpose()?;
        let module = file("module-path", &name("module-path", &mut module, usize::MAX)?)?;
        let pin_source = name("pin-source", &mut pin_source, usize::MAX)?;
        if pin_source.starts_with('|') {
            return Err("has a program as pin-source; only a file is read".into());
        }
        // RFC 7512 §2.4: a path, or a file URI (RFC 8089).
        let plain = pin_source.strip_prefix("file:").map_or(&*pin_source, |p| p.strip_prefix("//").unwrap_or(p));
        Ok(Self { token, serial, object, module, pin_source: file("pin-source", plain)? })
    }
}

/// Not relative: whoever starts the node elsewhere must not load another module.
fn file(name: &str, path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(format!("has a {name} that does not begin with /")) }
}

/// The values of `known`, in that order. RFC 7512 §2.3: none may be there twice, and what is not understood cannot match.
fn attributes<const N: usize>(
    part: &str,
    separator: char,
    known: [&'static str; N],
) -> Result<[Option<String>; N], String> {
    let mut found = [const { None }; N];
    for attribute in part.split(separator).filter(|a| !a.is_empty()) {
        let (name, value) = attribute.split_once('=').ok_or("has a part without =")?;
        if name == "pin-value" {
            return Err("has pin-value; a PIN stands in a file of its own, mode 0600, that pin-source names".into());
        }
        let at = known.iter().position(|k| *k == name).ok_or_else(|| {
            let place = if separator == ';' { "before" } else { "behind" };
            format!("has an attribute that is not understood; {} may stand {place} the ?", known.join(", "))
        })?;
        let decoded = decoded(value).ok_or_else(|| format!("has a {} that cannot be decoded", known[at]))?;
        if found[at].replace(decoded).is_some() {
            return Err(format!("has {} twice", known[at]));
        }
    }
    Ok(found)
}

/// RFC 3986 §2.1, and UTF-8 behind it that can be shown.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let (digits, behind) = behind.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = behind;
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

impl fmt::Display for TokenUri {
    /// For a person: no URI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key `{}` in token `{}`", self.object, self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

    #[test]
    fn a_whole_uri_is_read_and_decoded() {
        let uri = TokenUri::parse(&format!(
            "pkcs11:token=acme%20root;object=ro%C3%B6t;serial=01ab?module-path={MODULE}&pin-source=file:///etc/cauldron/pin"
        ));
        let uri = uri.expect("whole");
        assert_eq!((&*uri.token, &*uri.object, uri.serial.as_deref()), ("acme root", "roöt", Some("01ab")));
        assert_eq!((uri.module, uri.pin_source), (PathBuf::from(MODULE), PathBuf::from("/etc/cauldron/pin")));
        let plain = TokenUri::parse("pkcs11:object=b;token=a?pin-source=/p&module-path=/m").expect("any order");
        assert_eq!((&*plain.token, plain.serial.as_deref(), plain.pin_source), ("a", None, PathBuf::from("/p")));
    }

    #[test]
    fn each_mistake_has_its_sentence_and_no_value_is_repeated() {
        let query = "?module-path=/m&pin-source=/p";
        for (text, says) in [
            (format!("pkcs11:{query}"), "has no token"),
            (format!("pkcs11:token=a{query}"), "has no object"),
            (format!("pkcs11:token=;object=b{query}"), "has an empty token"),
            (format!("pkcs11:token={};object=b{query}", "a".repeat(33)), "more than 32 bytes"),
            (format!("pkcs11:token=a;token=a;object=b{query}"), "has token twice"),
            (
                format!("pkcs11:token=a;object=b;slot-id=3{query}"),
                "not understood; token, serial, object may stand before",
            ),
            (format!("pkcs11:token=a;object=b;pin-value=8642{query}"), "pin-source names"),
            (format!("pkcs11:token=a;object{query}"), "a part without ="),
            (format!("pkcs11:token=a;object=%zz{query}"), "object that cannot be decoded"),
            (format!("pkcs11:token=a;object=%c3{query}"), "object that cannot be decoded"),
            (format!("pkcs11:token=a;object=b%0{query}"), "object that cannot be decoded"),
            (format!("pkcs11:token=a;object=b%0a{query}"), "object that cannot be decoded"),
            (format!("pkcs11:token=a b;object=b{query}"), "write %20"),
            ("pkcs11:token=a;object=b".into(), "has no module-path"),
            ("pkcs11:token=a;object=b?module-path=/m".into(), "has no pin-source"),
            ("pkcs11:token=a;object=b?module-path=m.so&pin-source=/p".into(), "module-path that does not begin with /"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-source=pin".into(), "pin-source that does not begin with /"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-source=file://host/p".into(), "does not begin with /"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-source=|/bin/pin".into(), "a program as pin-source"),
            (format!("pkcs11:token=a;object=b{query}&pin-value=8642"), "mode 0600"),
            (format!("pkcs11:token=a;object=b{query}&pin=8642"), "behind the ?"),
            ("pkcs12:token=a".into(), "does not begin with pkcs11:"),
        ] {
            let why = TokenUri::parse(&text).expect_err(&text);
            assert!(why.contains(says) && !why.contains("8642"), "{text}: {why}");
        }
    }
}
