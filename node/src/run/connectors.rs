//! The connectors that the configuration asks for, opened and locked.

use cauldron_agents::connector::blocklist::Blocklist;
use cauldron_agents::connector::folder::Folder;
use cauldron_agents::connector::{Connector, FaultHook, Fencing};
use cauldron_coordinator::owner::{Declared, Hands};
use cauldron_identity::authority::Fenced;

use super::fault::Fault;
use crate::config::{Config, External};
use crate::error::CliError;

pub(super) fn open(config: &Config, fault: &Fault) -> Result<Vec<Box<dyn Connector + Send>>, CliError> {
    let hook = || -> FaultHook {
        let fault = fault.clone();
        Box::new(move |point: &str| fault.reached(point))
    };
    let mut connectors: Vec<Box<dyn Connector + Send>> = Vec::new();
    if let Some(blocklist) = config.security.as_ref().and_then(|s| s.blocklist.as_ref()) {
        let open = Blocklist::open(&blocklist.path, &config.identity.spiffe_id, hook());
        connectors.push(Box::new(open.map_err(|e| CliError::config("the blocklist cannot be used").because(&e))?));
    }
    if let Some(folder) = &config.connectors.folder {
        let open = Folder::open(&folder.path, &config.identity.spiffe_id, hook());
        connectors.push(Box::new(open.map_err(|e| CliError::config("the folder cannot be used").because(&e))?));
    }
    #[cfg(feature = "fault-points")]
    if let Some(lie) = fault.lie {
        connectors = connectors
            .into_iter()
            .map(|of| -> Box<dyn Connector + Send> { Box::new(lying::Liar { of, lie }) })
            .collect();
    }
    Ok(connectors)
}

/// What the connectors of a node declare, for the owner that judges permits.
pub(super) fn declared(connectors: &[Box<dyn Connector + Send>], externals: &[External]) -> Hands {
    let built_in = connectors.iter().map(|c| {
        let sandbox = c.sandboxes().iter().map(|s| (*s).to_owned()).collect();
        (c.name().to_owned(), Declared { fencing: fenced(c.fencing()), sandbox })
    });
    let elsewhere = externals.iter().map(|of| {
        let declared = Declared { fencing: fenced(of.fencing), sandbox: of.sandboxes.clone() };
        (of.name.clone(), declared)
    });
    built_in.chain(elsewhere).collect()
}

fn fenced(fencing: Fencing) -> Fenced {
    match fencing {
        Fencing::Local => Fenced::Local,
        Fencing::Native => Fenced::Native,
        Fencing::None => Fenced::None,
    }
}

#[cfg(feature = "fault-points")]
mod lying {
    //! A connector that does not say what is.

    use cauldron_agents::connector::{
        Connector, ConnectorError, DryRun, Effect, Ended, Fencing, Held, Outcome, Probe, Reading,
    };
    use cauldron_coordinator::action::Action;
    use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};

    use crate::run::fault::Lie;

    pub(super) struct Liar {
        pub(super) of: Box<dyn Connector + Send>,
        pub(super) lie: Lie,
    }

    impl Connector for Liar {
        fn name(&self) -> &str {
            self.of.name()
        }

        fn operations(&self) -> &[&'static str] {
            self.of.operations()
        }

        fn fencing(&self) -> Fencing {
            self.of.fencing()
        }

        fn sandboxes(&self) -> &[&'static str] {
            self.of.sandboxes()
        }

        fn version(&self, object: &str) -> Result<Option<String>, ConnectorError> {
            self.of.version(object)
        }

        fn dry_run(&self, action: &Action, now_ms: u64) -> Result<DryRun, ConnectorError> {
            self.of.dry_run(action, now_ms)
        }

        fn read(&self, action: &Action) -> Result<Reading, ConnectorError> {
            self.of.read(action)
        }

        fn execute(&mut self, permit: &VerifiedPermit, now_ms: u64) -> Result<Outcome, ConnectorError> {
            if self.lie != Lie::Done {
                return self.of.execute(permit, now_ms);
            }
            let (effect_ref, at) = ("done, it says".to_owned(), "absent".to_owned());
            let (before, after, told) = (at.clone(), at, Vec::new());
            Ok(Outcome { effect: Effect::Applied, effect_ref, until_ms: None, before, after, replaced: None, told })
        }

        fn probe(&self, idempotency_key: &str) -> Result<Probe, ConnectorError> {
            self.of.probe(idempotency_key)
        }

        fn check(&self, idempotency_key: &str, name: &str) -> Result<Held, ConnectorError> {
            match self.lie {
                Lie::Check => Ok(Held::No("the fault point says no".to_owned())),
                Lie::Done => self.of.check(idempotency_key, name),
            }
        }

        fn undo(&mut self, undo: &VerifiedUndo, now_ms: u64) -> Result<Outcome, ConnectorError> {
            self.of.undo(undo, now_ms)
        }

        fn sweep(&mut self, now_ms: u64) -> Result<Vec<Ended>, ConnectorError> {
            self.of.sweep(now_ms)
        }
    }
}
