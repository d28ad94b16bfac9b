//! Signatures of messages, as the Standard Webhooks specification 1.0.0 has them: symmetric, `v1`.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::files;

const PREFIX: &str = "whsec_";
/// Specification, "Signature scheme".
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The present secret and the one before it: while receivers change over, both sign.
const SECRETS_MAX: usize = 2;
const HINT: &str = "make one with: (umask 077; printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\" > FILE), and give it to the receiver";

/// What signs the messages of one webhook. Shows nothing of itself.
pub(super) struct Secrets(Vec<hmac::Key>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads a file that its owner alone may read: a secret on each line, at most two.
    ///
    /// # Errors
    /// [`CliError`] that names the file and nothing of what stands in it.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let text = Zeroizing::new(files::read_secret(path)?);
        Self::parse(&text).map_err(|why| CliError::config(format!("{} {why}", path.display())).hint(HINT))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.len() {
            0 => Err("holds no secret".to_owned()),
            1..=SECRETS_MAX => lines.into_iter().map(key).collect::<Result<_, _>>().map(Self),
            n => Err(format!("holds {n} secrets; a webhook has one, and while it changes two")),
        }
    }

    /// The value of `webhook-signature`: one signature per secret over `id.timestamp.body`.
    pub(super) fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let one = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp_s}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

fn key(line: &str) -> Result<hmac::Key, String> {
    let coded = line.strip_prefix(PREFIX).ok_or("holds a secret that does not begin with whsec_")?;
    let bytes =
        Zeroizing::new(BASE64_STANDARD.decode(coded).map_err(|_| "holds a secret that is no base64 behind whsec_")?);
    if !SECRET_BYTES.contains(&bytes.len()) {
        return Err(format!("holds a secret of {} bytes; it needs 24 to 64", bytes.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of the specification's own libraries (standard-webhooks/standard-webhooks, `libraries/*`).
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn sign(secrets: &str) -> String {
        let secrets = Secrets::parse(secrets).expect("secrets");
        secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_signature_is_that_of_the_standard() {
        assert_eq!(sign(SECRET), SIGNED);
        let other = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
        let both = sign(&format!("{other}\n\n  {SECRET}\n"));
        assert_eq!(both.split(' ').nth(1), Some(SIGNED), "the old secret still signs beside the new one");
        assert_eq!(both.split(' ').next(), Some(sign(&other).as_str()));
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_not_repeated() {
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
        let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 23]));
        let three = format!("{SECRET}\n").repeat(3);
        for (text, why) in [
            ("", "holds no secret"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "does not begin with whsec_"),
            ("whsec_!!!!", "no base64"),
            (&*short, "23 bytes"),
            (&*long, "65 bytes"),
            (&*three, "holds 3 secrets"),
        ] {
            let error = Secrets::parse(text).expect_err(why);
            assert!(error.contains(why) && !error.contains("MfKQ"), "{why}: {error}");
        }
        assert_eq!(format!("{:?}", Secrets::parse(SECRET).expect("a secret")), "Secrets(1)");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("duty.secret");
        files::write_private(&path, SECRET.as_bytes()).expect("written");
        assert!(Secrets::read(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Secrets::read(&path).expect_err("shared").to_string().contains("chmod 600"));
    }
}
