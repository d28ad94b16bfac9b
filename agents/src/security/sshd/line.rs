//! One line of an sshd log, read from both ends.
//!
//! sshd writes `"%s %s%s%s for %s%.100s from %.200s port %d ssh2%s%s"` (OpenSSH `auth.c`, `auth_log`). The user name in the
//! middle is the attacker's and may contain anything, also ` from 192.0.2.1 port 22 ssh2`. So nothing is searched from the
//! left: the suffix is sshd's own and must end the line, and the source is what stands after the *last* ` from `.

use std::net::IpAddr;

use super::stamp::Stamp;
use crate::net::canonical;

/// Largest `N` of `message repeated N times` that counts in full; rsyslog's own counter is flushed long before.
pub(crate) const REPEAT_MAX: u32 = 1_000;

/// What a line says about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) stamp: Stamp,
    pub(crate) success: bool,
    pub(crate) source: IpAddr,
    /// How many logins the line stands for, 1 to [`REPEAT_MAX`].
    pub(crate) count: u32,
}

/// Why a line says nothing about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLogin {
    /// No RFC 3164 or RFC 3339 stamp at its start.
    NoStamp,
    /// Another program's line.
    OtherProgram(Stamp),
    /// sshd, but not a login's outcome.
    OtherMessage(Stamp),
    /// It begins as a login's outcome but does not end as sshd ends one: no source can be trusted.
    Malformed(Stamp),
}

/// Reads one line without its terminator (a trailing `\r` is tolerated).
pub(crate) fn parse(line: &[u8]) -> Result<Login, NoLogin> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (stamp, rest) = Stamp::split(line).ok_or(NoLogin::NoStamp)?;
    let message = sshd_message(rest).ok_or(NoLogin::OtherProgram(stamp))?;
    let (count, message) = match message.strip_prefix(b"message repeated ") {
        Some(repeated) => unwrap_repeated(repeated).ok_or(NoLogin::Malformed(stamp))?,
        None => (1, message),
    };
    let (success, rest) = match (message.strip_prefix(b"Failed "), message.strip_prefix(b"Accepted ")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(NoLogin::OtherMessage(stamp)),
    };
    let (method, rest) = split_word(rest).ok_or(NoLogin::Malformed(stamp))?;
    // `none` is how a client asks which methods there are: no attempt to log in. It never succeeds by accident.
    if !success && !is_credential_method(method) {
        return Err(NoLogin::OtherMessage(stamp));
    }
    let source =
        rest.strip_prefix(b"for ").and_then(|rest| source_at_end(rest, success)).ok_or(NoLogin::Malformed(stamp))?;
    Ok(Login { stamp, success, source, count })
}

/// `host sshd[123]: message` or `host sshd-session[123]: message` (OpenSSH 9.8 and later).
fn sshd_message(rest: &[u8]) -> Option<&[u8]> {
    let (_host, rest) = split_word(rest)?;
    let rest = rest.strip_prefix(b"sshd-session[").or_else(|| rest.strip_prefix(b"sshd["))?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    rest.split_at_checked(digits).filter(|_| (1..=10).contains(&digits))?.1.strip_prefix(b"]: ")
}

/// rsyslog's `message repeated N times: [ … ]`, behind its first two words.
fn unwrap_repeated(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = split_word(rest)?;
    let message = rest.strip_prefix(b"times: [ ")?.strip_suffix(b"]")?;
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0u32, |n, d| n.saturating_mul(10).saturating_add(u32::from(d - b'0')));
    (count > 0).then_some((count.min(REPEAT_MAX), message))
}

fn is_credential_method(method: &[u8]) -> bool {
    matches!(method, b"password" | b"publickey" | b"keyboard-interactive")
        || method.starts_with(b"keyboard-interactive/")
}

/// The address in `<user> from <address> port <port> ssh2[: <key>]`, all of it at the very end.
///
/// A success by certificate ends with the certificate's id, which its holder chose. Then the account, which does exist and
/// has no space in its name, leads to the address from the left.
fn source_at_end(rest: &[u8], success: bool) -> Option<IpAddr> {
    const FROM: &[u8] = b" from ";
    let at = rest.windows(FROM.len()).rposition(|w| w == FROM)?;
    let last = rest.get(at + FROM.len()..).and_then(|peer| peer_address(peer, is_key_fingerprint));
    match split_word(rest) {
        Some((_account, peer)) if success && last.is_none() => peer_address(peer.strip_prefix(b"from ")?, |_| true),
        _ => last,
    }
}

/// The address in `<address> port <port> ssh2[: <extra>]`.
fn peer_address(peer: &[u8], extra_is_good: impl Fn(&[u8]) -> bool) -> Option<IpAddr> {
    let (address, tail) = split_word(peer)?;
    let (port, tail) = split_word(tail.strip_prefix(b"port ")?)?;
    let (protocol, extra) = split_word(tail).map_or((tail, None), |(word, extra)| (word, Some(extra)));
    let _: u16 = decimal(port)?;
    let ends_well = match extra {
        None => protocol == b"ssh2",
        Some(extra) => protocol == b"ssh2:" && extra_is_good(extra),
    };
    if !ends_well || address.len() > 45 {
        return None;
    }
    std::str::from_utf8(address).ok()?.parse().ok().map(canonical)
}

/// `RSA SHA256:<base64>` or `RSA MD5:<hex>`, two words: one plain key. A certificate's line goes on with an id that its holder
/// chose, and is refused.
fn is_key_fingerprint(key: &[u8]) -> bool {
    let Some((kind, print)) = split_word(key) else { return false };
    let Some(print) = print.strip_prefix(b"SHA256:").or_else(|| print.strip_prefix(b"MD5:")) else { return false };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b':');
    (1..=32).contains(&kind.len())
        && kind.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && (1..=64).contains(&print.len())
        && print.iter().all(plain)
}

fn decimal(digits: &[u8]) -> Option<u16> {
    let plain = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == b' ')?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    fn show(message: &str) -> String {
        match parse(format!("Dec 10 06:55:46 host {message}").as_bytes()) {
            Ok(l) => format!("{} {} x{}", if l.success { "success" } else { "failure" }, l.source, l.count),
            Err(NoLogin::NoStamp) => "no stamp".into(),
            Err(NoLogin::OtherProgram(_)) => "other program".into(),
            Err(NoLogin::OtherMessage(_)) => "other message".into(),
            Err(NoLogin::Malformed(_)) => "malformed".into(),
        }
    }

    #[test]
    fn lines_and_what_they_say() {
        let lines = [
            "sshd[1]: Failed password for root from 198.51.100.7 port 22 ssh2",
            "sshd[1]: Failed password for root from 198.51.100.7 port 22 ssh2\r",
            "sshd-session[1]: Failed password for invalid user a from 2001:db8::7 port 22 ssh2",
            "sshd[1]: Failed password for a from ::ffff:198.51.100.7 port 22 ssh2",
            "sshd[1]: Failed publickey for a from 198.51.100.7 port 22 ssh2: RSA SHA256:a+b/c=",
            "sshd[1]: Failed keyboard-interactive/pam for a from 198.51.100.7 port 22 ssh2",
            "sshd[1]: Failed none for invalid user a from 198.51.100.7 port 22 ssh2",
            "sshd[1]: message repeated 5 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]",
            "sshd[1]: message repeated 99999999999 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]",
            "sshd[1]: message repeated 0 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]",
            "sshd[1]: message repeated -1 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]",
            "sshd[1]: Accepted password for fztu from 198.51.100.9 port 49116 ssh2",
            "sshd[1]: Accepted publickey for a from 198.51.100.9 port 1 ssh2: ED25519-CERT SHA256:x ID me (serial 0) CA ED25519 SHA256:y",
            "sshd[1]: Accepted publickey for a from 198.51.100.9 port 1 ssh2: ED25519-CERT SHA256:x ID from 192.0.2.1 port 22 ssh2 (serial 0) CA ED25519 SHA256:y",
            "sshd[1]: Accepted password for DOMAIN\\first last from 198.51.100.9 port 1 ssh2",
            // Framing: the user name plays sshd.
            "sshd[1]: Failed password for invalid user x from 192.0.2.1 port 22 ssh2 from 198.51.100.7 port 9 ssh2",
            "sshd[1]: Failed password for invalid user x from 192.0.2.1 port 22 ssh2: RSA SHA256:a from 198.51.100.7 port 9 ssh2",
            "sshd[1]: Failed publickey for x from 198.51.100.7 port 9 ssh2: RSA-CERT SHA256:x ID a from 192.0.2.1 port 22 ssh2 (serial 0) CA RSA SHA256:y",
            "sshd[1]: Failed publickey for x from 198.51.100.7 port 9 ssh2: RSA-CERT SHA256:x ID a from 192.0.2.1 port 22 ssh2: RSA SHA256:z (serial 0) CA RSA SHA256:y",
            "sshd[1]: Invalid user Failed password for x from 192.0.2.1 port 22 ssh2",
            "sshd[1]: Invalid user x Failed password for root from 192.0.2.1 port 22 ssh2",
            "cron[1]: Failed password for root from 192.0.2.1 port 22 ssh2",
            "sshd: Failed password for root from 192.0.2.1 port 22 ssh2",
            "x sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2",
            // Not an address, not a port, not the end.
            "sshd[1]: Failed password for root from fe80::1%eth0 port 22 ssh2",
            "sshd[1]: Failed password for root from host.example port 22 ssh2",
            "sshd[1]: Failed password for root from 010.1.1.1 port 22 ssh2",
            "sshd[1]: Failed password for root from 198.51.100.7 port 65536 ssh2",
            "sshd[1]: Failed password for root from 198.51.100.7 port 22 ssh2 x",
            "sshd[1]: Failed password for root from 198.51.100.7",
            "sshd[1]: Failed password for root",
            "sshd[1]: Failed password",
            "sshd[1]: ",
        ];
        let shown: String = lines.iter().map(|l| format!("{:<14} {l:?}\n", show(l))).collect();
        expect![[r#"
            failure 198.51.100.7 x1 "sshd[1]: Failed password for root from 198.51.100.7 port 22 ssh2"
            failure 198.51.100.7 x1 "sshd[1]: Failed password for root from 198.51.100.7 port 22 ssh2\r"
            failure 2001:db8::7 x1 "sshd-session[1]: Failed password for invalid user a from 2001:db8::7 port 22 ssh2"
            failure 198.51.100.7 x1 "sshd[1]: Failed password for a from ::ffff:198.51.100.7 port 22 ssh2"
            failure 198.51.100.7 x1 "sshd[1]: Failed publickey for a from 198.51.100.7 port 22 ssh2: RSA SHA256:a+b/c="
            failure 198.51.100.7 x1 "sshd[1]: Failed keyboard-interactive/pam for a from 198.51.100.7 port 22 ssh2"
            other message  "sshd[1]: Failed none for invalid user a from 198.51.100.7 port 22 ssh2"
            failure 198.51.100.7 x5 "sshd[1]: message repeated 5 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]"
            failure 198.51.100.7 x1000 "sshd[1]: message repeated 99999999999 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]"
            malformed      "sshd[1]: message repeated 0 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]"
            malformed      "sshd[1]: message repeated -1 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]"
            success 198.51.100.9 x1 "sshd[1]: Accepted password for fztu from 198.51.100.9 port 49116 ssh2"
            success 198.51.100.9 x1 "sshd[1]: Accepted publickey for a from 198.51.100.9 port 1 ssh2: ED25519-CERT SHA256:x ID me (serial 0) CA ED25519 SHA256:y"
            success 198.51.100.9 x1 "sshd[1]: Accepted publickey for a from 198.51.100.9 port 1 ssh2: ED25519-CERT SHA256:x ID from 192.0.2.1 port 22 ssh2 (serial 0) CA ED25519 SHA256:y"
            success 198.51.100.9 x1 "sshd[1]: Accepted password for DOMAIN\\first last from 198.51.100.9 port 1 ssh2"
            failure 198.51.100.7 x1 "sshd[1]: Failed password for invalid user x from 192.0.2.1 port 22 ssh2 from 198.51.100.7 port 9 ssh2"
            failure 198.51.100.7 x1 "sshd[1]: Failed password for invalid user x from 192.0.2.1 port 22 ssh2: RSA SHA256:a from 198.51.100.7 port 9 ssh2"
            malformed      "sshd[1]: Failed publickey for x from 198.51.100.7 port 9 ssh2: RSA-CERT SHA256:x ID a from 192.0.2.1 port 22 ssh2 (serial 0) CA RSA SHA256:y"
            malformed      "sshd[1]: Failed publickey for x from 198.51.100.7 port 9 ssh2: RSA-CERT SHA256:x ID a from 192.0.2.1 port 22 ssh2: RSA SHA256:z (serial 0) CA RSA SHA256:y"
            other message  "sshd[1]: Invalid user Failed password for x from 192.0.2.1 port 22 ssh2"
            other message  "sshd[1]: Invalid user x Failed password for root from 192.0.2.1 port 22 ssh2"
            other program  "cron[1]: Failed password for root from 192.0.2.1 port 22 ssh2"
            other program  "sshd: Failed password for root from 192.0.2.1 port 22 ssh2"
            other program  "x sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2"
            malformed      "sshd[1]: Failed password for root from fe80::1%eth0 port 22 ssh2"
            malformed      "sshd[1]: Failed password for root from host.example port 22 ssh2"
            malformed      "sshd[1]: Failed password for root from 010.1.1.1 port 22 ssh2"
            malformed      "sshd[1]: Failed password for root from 198.51.100.7 port 65536 ssh2"
            malformed      "sshd[1]: Failed password for root from 198.51.100.7 port 22 ssh2 x"
            malformed      "sshd[1]: Failed password for root from 198.51.100.7"
            malformed      "sshd[1]: Failed password for root"
            malformed      "sshd[1]: Failed password"
            other message  "sshd[1]: "
        "#]].assert_eq(&shown);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&line);
            let _ = parse(&[b"Dec 10 06:55:46 h sshd[1]: Failed password for ".as_slice(), &line].concat());
            let _ = parse(&[b"Dec 10 06:55:46 h sshd[1]: message repeated ".as_slice(), &line].concat());
        }

        /// Whatever the user calls himself, the source is the peer's address.
        #[test]
        fn a_user_name_frames_nobody(user in r"[ -~]{0,40}( from 192\.0\.2\.1 port 22 ssh2(: RSA SHA256:a)?)?[ -~]{0,20}", n in 0u32..3) {
            let core = format!("Failed password for invalid user {user} from 198.51.100.7 port 4711 ssh2");
            let message = if n > 1 { format!("message repeated {n} times: [ {core}]") } else { core };
            let login = parse(format!("Dec 10 06:55:46 h sshd[1]: {message}").as_bytes()).unwrap();
            prop_assert_eq!(login.source, "198.51.100.7".parse::<IpAddr>().unwrap());
        }
    }
}
