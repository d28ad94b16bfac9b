//! Test data of the `spiffe` crate, beside the repository and never copied into it.

use std::io::Write as _;
use std::path::Path;

/// The bytes of one file; nothing where there is none, which is said under the name of the test.
pub(crate) fn fixture(test: &str, name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/spiffe/tests/testdata");
    let bytes = std::fs::read(folder.join(name)).ok();
    if bytes.is_none() {
        skipped(test, "needs ../shared/data/spiffe");
    }
    bytes
}

/// What `cauldron_tests::skipped` does; that crate rests on this one.
fn skipped(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("CAULDRON_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .expect("CAULDRON_SKIPS can be written");
    }
}
