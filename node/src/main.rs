//! The `cauldron` binary.
fn main() {}
