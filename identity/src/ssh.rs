//! OpenSSH's forms, as far as signatures of people need them: public keys, `SSHSIG`, agent messages.
//!
//! Sources: RFC 4251 §5 (wire types), RFC 8709 (Ed25519), OpenSSH `PROTOCOL.u2f` (`sk-ssh-ed25519@openssh.com`),
//! `PROTOCOL.sshsig` and draft-ietf-sshm-ssh-agent (agent). Reading is strict: every byte is used, every length is bounded.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::keys::{PublicKey, Signature};
use crate::signer::{SignerKey, SshSignature, Touch};

const ED25519: &str = "ssh-ed25519";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
const MAGIC: &[u8] = b"SSHSIG";
/// What `ssh-keygen -Y sign` hashes with unless told otherwise, and the one that we read.
const HASH: &str = "sha512";
const ARMOUR_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const ARMOUR_END: &str = "-----END SSH SIGNATURE-----";
/// The agent's own limit, `AGENT_MAX_LEN` in OpenSSH's `ssh-agent.c`.
pub const AGENT_MESSAGE_MAX: usize = 256 * 1024;
const AGENT_FAILURE: u8 = 5;
const AGENT_LIST: u8 = 11;
const AGENT_KEYS: u8 = 12;
const AGENT_SIGN: u8 = 13;
const AGENT_SIGNED: u8 = 14;

/// Why bytes of OpenSSH's are refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum SshError {
    /// A length points beyond the end.
    #[error("it ends inside {0}")]
    CutOff(&'static str),
    /// Bytes follow what should be the end.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// A field has another value than the only one that makes sense here.
    #[error("its {what} is {found:?}, not {wanted:?}")]
    Field {
        /// Which field.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// Neither of the two kinds that sign here.
    #[error("a key of type {0:?}; Cauldron takes ssh-ed25519 and sk-ssh-ed25519@openssh.com")]
    KeyType(String),
    /// A value of the wrong size or form.
    #[error("its {0} is malformed")]
    Malformed(&'static str),
    /// The agent said no.
    #[error("the agent refused: the key is not in it, it is locked, or nobody confirmed")]
    AgentRefused,
}

/// What an SSH key signs when it signs `message` for `namespace`: `PROTOCOL.sshsig` §3, with SHA-512.
#[must_use]
pub fn signed_data(namespace: &str, message: &[u8]) -> Vec<u8> {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, message);
    let mut out = MAGIC.to_vec();
    for field in [namespace.as_bytes(), b"", HASH.as_bytes(), hash.as_ref()] {
        put(&mut out, field);
    }
    out
}

/// The key as the wire writes it.
#[must_use]
pub fn key_blob(key: &SignerKey) -> Vec<u8> {
    let mut out = Vec::new();
    match key {
        SignerKey::Ed25519(point) => {
            put(&mut out, ED25519.as_bytes());
            put(&mut out, point.as_bytes());
        }
        SignerKey::Sk { point, application } => {
            put(&mut out, SK_ED25519.as_bytes());
            put(&mut out, point.as_bytes());
            put(&mut out, application.as_bytes());
        }
    }
    out
}

/// Reads [`key_blob`].
///
/// # Errors
/// [`SshError`].
pub fn key_from_blob(blob: &[u8]) -> Result<SignerKey, SshError> {
    let mut input = Reader(blob);
    let kind = input.text("key type")?;
    let point = |input: &mut Reader<'_>| {
        <[u8; 32]>::try_from(input.bytes("public key")?).map_err(|_| SshError::Malformed("public key"))
    };
    let key = match kind {
        ED25519 => SignerKey::Ed25519(PublicKey::from_bytes(point(&mut input)?)),
        SK_ED25519 => {
            let point = PublicKey::from_bytes(point(&mut input)?);
            SignerKey::Sk { point, application: input.text("application")?.to_owned() }
        }
        other => return Err(SshError::KeyType(shown(other))),
    };
    input.end()?;
    Ok(key)
}

/// The line of a `.pub` file, without a comment.
#[must_use]
pub fn public_line(key: &SignerKey) -> String {
    let kind = match key {
        SignerKey::Ed25519(_) => ED25519,
        SignerKey::Sk { .. } => SK_ED25519,
    };
    format!("{kind} {}", BASE64_STANDARD.encode(key_blob(key)))
}

/// Reads the line of a `.pub` file; what stands behind the key is its comment and counts for nothing.
///
/// # Errors
/// [`SshError`].
pub fn key_from_line(line: &str) -> Result<SignerKey, SshError> {
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else { return Err(SshError::Malformed("key line")) };
    if kind != ED25519 && kind != SK_ED25519 {
        return Err(SshError::KeyType(shown(kind)));
    }
    let key = key_from_blob(&BASE64_STANDARD.decode(blob).map_err(|_| SshError::Malformed("base64"))?)?;
    match public_line(&key).starts_with(&format!("{kind} ")) {
        true => Ok(key),
        false => Err(SshError::Malformed("key type")),
    }
}

/// The signature as an agent or a signature file carries it: format, bytes and, from a token, flags and counter.
#[must_use]
pub fn signature_blob(signature: &SshSignature) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, if signature.touch.is_some() { SK_ED25519 } else { ED25519 }.as_bytes());
    put(&mut out, signature.signature.as_bytes());
    if let Some(touch) = signature.touch {
        out.push(touch.flags);
        out.extend_from_slice(&touch.counter.to_be_bytes());
    }
    out
}

/// Reads [`signature_blob`].
///
/// # Errors
/// [`SshError`].
pub fn signature_from_blob(blob: &[u8]) -> Result<SshSignature, SshError> {
    let mut input = Reader(blob);
    let touched = match input.text("signature type")? {
        ED25519 => false,
        SK_ED25519 => true,
        other => return Err(SshError::KeyType(shown(other))),
    };
    let bytes = <[u8; 64]>::try_from(input.bytes("signature")?).map_err(|_| SshError::Malformed("signature"))?;
    let touch = match touched {
        true => Some(Touch { flags: input.byte("flags")?, counter: input.number("counter")? }),
        false => None,
    };
    input.end()?;
    Ok(SshSignature { signature: Signature::from_bytes(bytes), touch })
}

/// Reads what `ssh-keygen -Y sign -n NAMESPACE` wrote: whose key, and the signature, not yet verified.
///
/// # Errors
/// [`SshError`]: no such file, another namespace or hash.
pub fn from_armour(text: &str, namespace: &str) -> Result<(SignerKey, SshSignature), SshError> {
    let body = text.trim().strip_prefix(ARMOUR_BEGIN).and_then(|t| t.strip_suffix(ARMOUR_END));
    let body: String = body.ok_or(SshError::Malformed("armour"))?.split_ascii_whitespace().collect();
    let blob = BASE64_STANDARD.decode(body).map_err(|_| SshError::Malformed("base64"))?;
    let mut input = Reader(blob.strip_prefix(MAGIC).ok_or(SshError::Malformed("preamble"))?);
    if input.number("version")? != 1 {
        return Err(SshError::Malformed("version"));
    }
    let key = key_from_blob(input.bytes("public key")?)?;
    expect("namespace", input.text("namespace")?, namespace)?;
    let _reserved = input.bytes("reserved field")?;
    expect("hash", input.text("hash")?, HASH)?;
    let signature = signature_from_blob(input.bytes("signature")?)?;
    input.end()?;
    Ok((key, signature))
}

/// Writes what [`from_armour`] and `ssh-keygen -Y verify` read.
#[must_use]
pub fn to_armour(key: &SignerKey, namespace: &str, signature: &SshSignature) -> String {
    let mut blob = MAGIC.to_vec();
    blob.extend_from_slice(&1u32.to_be_bytes());
    let (key, signature) = (key_blob(key), signature_blob(signature));
    for field in [&key, namespace.as_bytes(), b"", HASH.as_bytes(), &signature] {
        put(&mut blob, field);
    }
    let text = BASE64_STANDARD.encode(blob);
    let lines: Vec<&str> = text.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("{ARMOUR_BEGIN}\n{}\n{ARMOUR_END}\n", lines.join("\n"))
}

/// Asks an agent for its keys. Messages here are without the length that frames them on the socket.
#[must_use]
pub fn agent_list() -> Vec<u8> {
    vec![AGENT_LIST]
}

/// The keys of the agent's answer that can sign here, with their comments.
///
/// # Errors
/// [`SshError`]. Keys of other types are passed over.
pub fn agent_keys(answer: &[u8]) -> Result<Vec<(SignerKey, String)>, SshError> {
    let mut input = answered(answer, AGENT_KEYS)?;
    let mut keys = Vec::new();
    for _ in 0..input.number("number of keys")? {
        let (blob, comment) = (input.bytes("key")?, input.bytes("comment")?);
        if let Ok(key) = key_from_blob(blob) {
            keys.push((key, shown(&String::from_utf8_lossy(comment))));
        }
    }
    input.end()?;
    Ok(keys)
}

/// Asks an agent to sign `data` with `key`.
#[must_use]
pub fn agent_sign(key: &SignerKey, data: &[u8]) -> Vec<u8> {
    let mut out = vec![AGENT_SIGN];
    put(&mut out, &key_blob(key));
    put(&mut out, data);
    out.extend_from_slice(&0u32.to_be_bytes());
    out
}

/// The signature of the agent's answer, not yet verified.
///
/// # Errors
/// [`SshError`].
pub fn agent_signature(answer: &[u8]) -> Result<SshSignature, SshError> {
    let mut input = answered(answer, AGENT_SIGNED)?;
    let signature = signature_from_blob(input.bytes("signature")?)?;
    input.end()?;
    Ok(signature)
}

fn answered(answer: &[u8], wanted: u8) -> Result<Reader<'_>, SshError> {
    match answer.split_first() {
        Some((kind, rest)) if *kind == wanted => Ok(Reader(rest)),
        Some((&AGENT_FAILURE, _)) => Err(SshError::AgentRefused),
        _ => Err(SshError::Malformed("answer")),
    }
}

fn expect(what: &'static str, found: &str, wanted: &str) -> Result<(), SshError> {
    match found == wanted {
        true => Ok(()),
        false => Err(SshError::Field { what, found: shown(found), wanted: wanted.to_owned() }),
    }
}

/// A stranger's words in an error: short, and nothing that moves a cursor.
fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    // Nothing that is signed or sent here comes near 4 GiB.
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(field);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self, what: &'static str) -> Result<u8, SshError> {
        let (first, rest) = self.0.split_first().ok_or(SshError::CutOff(what))?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self, what: &'static str) -> Result<u32, SshError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(SshError::CutOff(what))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], SshError> {
        let length = usize::try_from(self.number(what)?).map_err(|_| SshError::CutOff(what))?;
        let (field, rest) = self.0.split_at_checked(length).ok_or(SshError::CutOff(what))?;
        self.0 = rest;
        Ok(field)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, SshError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| SshError::Malformed(what))
    }

    fn end(&self) -> Result<(), SshError> {
        if self.0.is_empty() { Ok(()) } else { Err(SshError::Trailing(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::AuthorKey;
    use crate::signer::tests::token;

    const NAMESPACE: &str = "cauldron/test";

    fn both() -> [(SignerKey, SshSignature); 2] {
        let key = AuthorKey::from_seed(&[1; 32]);
        let (sk, touched) = token(&[2; 32], NAMESPACE, b"m", 0x01);
        [(SignerKey::Ed25519(key.public()), key.sign_ssh(NAMESPACE, b"m")), (sk, touched)]
    }

    #[test]
    fn keys_and_signatures_round_trip_in_every_form() {
        for (key, signature) in both() {
            assert_eq!(key_from_line(&format!("{} ana@desk", public_line(&key))), Ok(key.clone()));
            assert_eq!(signature_from_blob(&signature_blob(&signature)), Ok(signature));
            let armour = to_armour(&key, NAMESPACE, &signature);
            assert_eq!(from_armour(&armour, NAMESPACE), Ok((key.clone(), signature)));
            assert!(matches!(from_armour(&armour, "file"), Err(SshError::Field { what: "namespace", .. })));
            assert_eq!(key.verify(NAMESPACE, b"m", &signature), Ok(()));
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        for (key, signature) in both() {
            for (blob, reads) in [
                (key_blob(&key), (|b| key_from_blob(b).is_ok()) as fn(&[u8]) -> bool),
                (signature_blob(&signature), |b| signature_from_blob(b).is_ok()),
            ] {
                for end in 0..blob.len() {
                    assert!(!reads(&blob[..end]), "cut at {end}");
                }
                assert!(!reads(&[&blob[..], b"x"].concat()));
            }
        }
        assert!(matches!(key_from_line("ssh-rsa AAAA"), Err(SshError::KeyType(_))));
        let (plain, _) = &both()[0];
        let lying = public_line(plain).replacen(ED25519, SK_ED25519, 1);
        assert_eq!(key_from_line(&lying), Err(SshError::Malformed("key type")));
    }

    #[test]
    fn an_agents_answers_are_read_within_their_bounds() {
        let (key, signature) = &both()[1];
        let mut list = vec![AGENT_KEYS, 0, 0, 0, 2];
        put(&mut list, b"\0\0\0\x07ssh-rsa");
        put(&mut list, b"old\x1b[2J");
        put(&mut list, &key_blob(key));
        put(&mut list, b"token");
        assert_eq!(agent_keys(&list), Ok(vec![(key.clone(), "token".to_owned())]));
        assert_eq!(agent_keys(&[AGENT_KEYS, 255, 255, 255, 255]), Err(SshError::CutOff("key")));
        let mut signed = vec![AGENT_SIGNED];
        put(&mut signed, &signature_blob(signature));
        assert_eq!(agent_signature(&signed), Ok(*signature));
        assert_eq!(agent_signature(&[AGENT_FAILURE]), Err(SshError::AgentRefused));
        assert_eq!(agent_signature(&[]), Err(SshError::Malformed("answer")));
    }
}
