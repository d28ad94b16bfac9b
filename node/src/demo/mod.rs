//! `cauldron demo`: three node processes on this machine do the main job on real input.
//!
//! `World` founds a mesh as anybody would and runs hq, lyon and porto as processes of this same program. The
//! story is told to a person (`story`), or checked without one (`once`). Nothing here looks inside a node: it asks
//! the nodes' APIs, reads their files, and decides by the command that a person would type.

mod auth_log;
mod checks;
mod look;
mod once;
mod process;
mod record;
mod story;
mod stranger;
mod tell;
mod world;

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DemoArgs;
use crate::error::{CliError, Kind};
use crate::output::{Format, print, say};
use checks::{Check, Outcome};
use once::Once;
use process::Failure;
use tell::Tell;
use world::{Plan, World};

/// Long enough to look at the blocklist in another terminal.
const BLOCK_TTL: Duration = Duration::from_secs(20);
/// Without a person nobody needs to see the line; long enough for a restart of lyon to lie within.
const BLOCK_TTL_ONCE: Duration = Duration::from_secs(8);
/// Says that `--sabotage` shall only list its names.
const LIST: &str = "list";

/// Runs the story.
///
/// # Errors
/// [`CliError`]: a check that did not hold, or a node that could not be started.
pub fn run(args: DemoArgs) -> Result<(), CliError> {
    let sabotage = match args.sabotage.as_deref() {
        Some(LIST) => return say(&checks::list()),
        named => named.map(Check::named).transpose()?,
    };
    let usual = if args.once { BLOCK_TTL_ONCE } else { BLOCK_TTL };
    let plan =
        Plan { keep: args.keep.clone(), auth_log: args.auth_log.clone(), block_ttl: args.block_ttl.unwrap_or(usual) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::config("cannot start the asynchronous runtime").because(&e))?;
    runtime.block_on(async {
        // Heard before anything starts, so that no child outlives an early Ctrl-C.
        let mut stop = Stop::listen()?;
        let world = World::found(&plan)?;
        let result = tokio::select! {
            result = perform(&world, &args, sabotage) => result,
            () = stop.wait() => interrupted(args.once),
        };
        if !args.once {
            // The terminal may be what is gone.
            let _ = say("\nStopping hq, lyon and porto.\n");
        }
        world.stop().await;
        if world.is_kept() && args.output == Format::Table {
            say(&format!("Everything lies in {}.\n", world.root().display()))?;
        }
        result
    })
}

async fn perform(world: &World, args: &DemoArgs, sabotage: Option<Check>) -> Result<(), CliError> {
    if args.once {
        return once(world, args.output, sabotage).await;
    }
    story::tell(world, &Tell::to_stdout()).await.map_err(|failure| failed("the demo cannot go on", failure))
}

/// Ctrl-C is how a person ends the demo; without a person it ends a check before it could hold.
fn interrupted(once: bool) -> Result<(), CliError> {
    if once { Err(CliError::check("interrupted before all checks were made")) } else { Ok(()) }
}

async fn once(world: &World, format: Format, sabotage: Option<Check>) -> Result<(), CliError> {
    let began = Instant::now();
    let table = format == Format::Table;
    let mut once = Once::new(world, sabotage).map_err(|failure| failed("the demo cannot begin", failure))?;
    let outcomes = once
        .run(|outcome| {
            if table {
                // A reader that is gone does not change what is true.
                let _ = say(&format!("{}\n", outcome.line()));
            }
            if let Err(Failure { log: Some(log), .. }) = &outcome.result {
                eprintln!("{log}");
            }
        })
        .await;
    let took = began.elapsed();
    let broken: Vec<&str> = outcomes.iter().filter(|o| o.result.is_err()).map(|o| o.check.name()).collect();
    print(format, &checks::report(&outcomes, took), || summary(&outcomes, took))?;
    match broken[..] {
        [] => Ok(()),
        _ => Err(CliError::check(format!(
            "{} of {} checks do not hold: {}",
            broken.len(),
            outcomes.len(),
            broken.join(", ")
        ))
        .hint("run again with --keep DIR to keep data directories and logs")),
    }
}

fn summary(outcomes: &[Outcome], took: Duration) -> String {
    let held = outcomes.iter().filter(|o| o.result.is_ok()).count();
    format!("{held} of {} checks held in {:.1} s\n", outcomes.len(), took.as_secs_f64())
}

fn failed(doing: &str, failure: Failure) -> CliError {
    let error = CliError::new(Kind::Check, doing).detail(failure.why);
    match failure.log {
        Some(log) => error.detail(log),
        None => error,
    }
}

/// SIGINT, SIGTERM, or SIGHUP when the terminal is closed.
struct Stop {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, CliError> {
        let failed = |e: std::io::Error| CliError::config("cannot listen for signals").because(&e);
        Ok(Self {
            hangup: signal(SignalKind::hangup()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
