//! Chance for the shell: keys, token secrets, nonces and trace ids. Cores get theirs from here as arguments.

/// `N` bytes from the operating system, through aws-lc-rs as everything else that must not be guessed.
///
/// # Panics
/// When the system has no randomness to give: there is no safe way to go on.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    aws_lc_rs::rand::fill(&mut out).expect("the operating system must give randomness");
    out
}
