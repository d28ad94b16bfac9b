//! Where fuzzing starts: real values, made at run time by the library's own constructors.

mod chains;
pub mod document;
pub mod enrol;
mod governance;
mod pki;
mod shared;
mod words;

/// An input to start with.
#[derive(Debug, Clone)]
pub struct Seed {
    /// For which target.
    pub target: &'static str,
    /// Unique within the target.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Every seed that can be made here; some come from third-party data beside the repository, where it is.
#[must_use]
pub fn all() -> Vec<Seed> {
    let made = [chains::seeds(), document::seeds(), enrol::seeds(), governance::seeds(), pki::seeds(), words::seeds()];
    made.into_iter().flatten().chain(shared::seeds()).collect()
}

fn seed(target: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Seed {
    Seed { target, name: name.into(), bytes: bytes.into() }
}
