//! What tells a node to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::CliError;

/// SIGINT, SIGTERM, or the end of standard input where a parent asked for that.
pub struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    parent: watch::Receiver<bool>,
}

impl StopSignal {
    /// Listens from here on.
    ///
    /// # Errors
    /// [`CliError`] when the system does not let it.
    pub fn listen() -> Result<Self, CliError> {
        let failed = |e: std::io::Error| CliError::config("cannot listen for signals").because(&e);
        let (gone, parent) = watch::channel(false);
        if std::env::var_os("CAULDRON_EXIT_ON_STDIN_EOF").is_some() {
            std::thread::Builder::new()
                .name("parent".into())
                .spawn(move || {
                    // Whatever the parent writes is of no interest; its end is.
                    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                    let _ = gone.send(true);
                })
                .map_err(failed)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            parent,
        })
    }

    /// Returns at the first of them.
    pub async fn wait(&mut self) {
        let parent = async {
            if self.parent.wait_for(|gone| *gone).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = parent => {}
        }
    }
}
