//! Two agents: OpenSSH's own, and a software authenticator behind the same protocol.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use cauldron_identity::ids::sha256;
use cauldron_identity::{PublicKey, SignerKey, ssh};
use cauldron_tests::eventually;

/// Whether OpenSSH's client programs are here (Debian: openssh-client).
pub fn openssh() -> bool {
    let there = |name| Command::new(name).arg("-?").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    there("ssh-keygen") && there("ssh-agent") && there("ssh-add")
}

/// Runs a program of OpenSSH's to its end, without any agent of the person who runs the tests.
pub fn run(program: &str, args: &[&str], socket: Option<&Path>, input: &[u8]) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(args).env_remove("SSH_AUTH_SOCK").env_remove("SSH_ASKPASS");
    command.envs(socket.map(|socket| ("SSH_AUTH_SOCK", socket)));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("OpenSSH is here");
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// OpenSSH's agent with one fresh key, in a folder of the test.
pub struct OpenSsh {
    child: Child,
    pub socket: PathBuf,
    /// The `.pub` file; the secret half is in the agent alone.
    pub public: PathBuf,
}

impl OpenSsh {
    pub fn start(folder: &Path) -> Self {
        let (socket, secret) = (folder.join("agent.sock"), folder.join("id_ed25519"));
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("ssh-agent starts");
        let secret_text = secret.display().to_string();
        let (made, said) = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &secret_text], None, b"");
        assert!(made, "{said}");
        let agent = Self { child, socket, public: folder.join("id_ed25519.pub") };
        eventually("the agent takes the key", || run("ssh-add", &["-q", &secret_text], Some(&agent.socket), b"").0);
        std::fs::remove_file(secret).expect("removed");
        agent
    }
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A software authenticator: one `sk-ssh-ed25519` key and a finger, after OpenSSH's PROTOCOL.u2f.
pub struct Token {
    pair: Ed25519KeyPair,
    touched: bool,
}

impl Token {
    pub fn new(seed: u8, touched: bool) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed"), touched }
    }

    pub fn key(&self) -> SignerKey {
        let point = self.pair.public_key().as_ref().try_into().expect("32 bytes");
        SignerKey::Sk { point: PublicKey::from_bytes(point), application: "ssh:".into() }
    }

    /// Signature blob over `data`: format, signature, flags, counter.
    pub fn sign(&self, data: &[u8]) -> Vec<u8> {
        let attested = [u8::from(self.touched), 0, 0, 0, 41];
        let signed = [&sha256(b"ssh:")[..], &attested, &sha256(data)].concat();
        let signature = self.pair.sign(&signed);
        [&field(b"sk-ssh-ed25519@openssh.com"), &field(signature.as_ref()), &attested[..]].concat()
    }

    /// Serves the agent protocol at `socket` until the test process ends.
    pub fn serve(self, socket: &Path) {
        let listener = UnixListener::bind(socket).expect("the socket is free");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = self.answer(stream.expect("a connection"));
            }
        });
    }

    fn answer(&self, mut stream: UnixStream) -> std::io::Result<()> {
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request)?;
            let answer = match request.first() {
                Some(11) => [&[12, 0, 0, 0, 1][..], &field(&ssh::key_blob(&self.key())), &field(b"token")].concat(),
                Some(13) => {
                    let key = field(&ssh::key_blob(&self.key()));
                    let data = request[1..].strip_prefix(&key[..]).expect("it asks for the only key");
                    let length = u32::from_be_bytes(data[..4].try_into().expect("4 bytes")) as usize;
                    [&[14][..], &field(&self.sign(&data[4..4 + length]))].concat()
                }
                _ => vec![5],
            };
            stream.write_all(&field(&answer))?;
        }
    }
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}
