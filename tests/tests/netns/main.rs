//! Real processes in network namespaces: what breaks between nodes breaks here, and status is held against what was so.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod ground;
mod mesh;

/// Says why the test that calls it does not run here; nothing if it does.
fn unable(name: &str) -> bool {
    let able = cauldron_tests::netns::able();
    if let Err(why) = &able {
        cauldron_tests::skipped(name, why);
    }
    able.is_err()
}
