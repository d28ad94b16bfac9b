//! `cauldron demo`: three node processes on this machine do the main job on real input.

use crate::cli::DemoArgs;
use crate::error::CliError;

/// Runs the story.
///
/// # Errors
/// [`CliError`]: a check that did not hold, or a node that could not be started.
pub fn run(args: DemoArgs) -> Result<(), CliError> {
    let _ = args;
    Err(CliError::usage("this build has no demo").hint("found a mesh by hand with `cauldron init --first`"))
}
