//! The command line: what a person may type, and who answers.
//!
//! Commands that look or decide talk to one node over its socket ([`crate::client`]); `init`, `node join`, `charter`, `identity`,
//! `policy`, `agent` and `store` work on files and need no running node.

mod agent;
mod approvals;
mod audit;
mod authority;
mod budgets;
mod charter;
mod check;
mod decide;
mod doc;
mod draft;
mod edits;
mod entries;
mod files;
mod isolation;
mod key;
mod look;
mod misc;
mod orders;
mod people;
mod policy;
mod powers;
mod reconcile;
mod roots;
pub(crate) mod start;
mod store;
mod verify;

pub(crate) use verify::read_bundles;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use cauldron_identity::SpiffeId;
use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use crate::error::CliError;
use crate::output::Format;
use crate::paths::DataDir;

/// Where a packaged node listens.
const SOCKET_DEFAULT: &str = "/run/cauldron/node.sock";
/// Names the socket when no flag does.
const SOCKET_VARIABLE: &str = "CAULDRON_SOCKET";

/// An edge agent mesh: agents propose, people and policy decide, the node that owns the actuator acts once.
#[derive(Debug, Parser)]
#[command(name = "cauldron", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 a check did not hold, 2 usage, 3 configuration, 4 unreachable, 5 refused, 6 integrity"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
struct Global {
    /// How to print the answer
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORM")]
    output: Format,
    /// The node's socket [env: CAULDRON_SOCKET] [default: ./node.sock, else /run/cauldron/node.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The node's data directory; its socket is the one in it
    #[arg(long, global = true, value_name = "DIR")]
    node: Option<PathBuf>,
}

impl Global {
    /// The node to talk to: a flag, then the environment, then where nodes usually listen.
    fn client(&self) -> Client {
        let here = PathBuf::from("node.sock");
        let found = match (&self.socket, &self.node) {
            (Some(socket), _) => socket.clone(),
            (None, Some(dir)) => DataDir::new(dir).socket(),
            (None, None) => match std::env::var_os(SOCKET_VARIABLE).filter(|v| !v.is_empty()) {
                Some(named) => named.into(),
                None if here.exists() => here,
                None => SOCKET_DEFAULT.into(),
            },
        };
        Client::new(found)
    }

    /// Whether somebody said which node is meant.
    fn names_a_node(&self) -> bool {
        let by_environment = || std::env::var_os(SOCKET_VARIABLE).is_some_and(|v| !v.is_empty());
        self.node.is_some() || self.socket.is_some() || by_environment()
    }

    /// The data directory for commands that read files: `--node`, else the folder of the socket.
    fn data_dir(&self) -> DataDir {
        match &self.node {
            Some(dir) => DataDir::new(dir),
            None => {
                let socket = self.client().socket().to_owned();
                DataDir::new(socket.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(std::path::Path::new(".")))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a mesh: keys, charter and first policy, in a new data directory
    Init(Box<start::InitArgs>),
    /// Run a node, or make one join
    #[command(subcommand)]
    Node(start::NodeCommand),
    /// Watch three nodes do the main job on this machine
    Demo(DemoArgs),
    /// How this node is
    Status,
    /// Check that a node is well, or that it could start
    Check(check::CheckArgs),
    /// Who else is in the mesh
    Peers(look::PeersArgs),
    /// What the sites say on the board
    Sites,
    /// What a proposal, permit or peer waits for
    Why(look::Named),
    /// What agents proposed, or one proposal in full
    Proposals(look::ProposalsArgs),
    /// Propose an action yourself
    Propose(decide::ProposeArgs),
    /// Take back what this node did, by the undo that was permitted with it
    Undo(decide::UndoArgs),
    /// Say whether something happened of which nobody knows
    Reconcile(reconcile::ReconcileArgs),
    /// What waits for a person, and your decision
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// Stop one proposal and everything that descends from it, for good
    Veto(decide::VetoArgs),
    /// Stop a class of actions, an agent, a build, a feature, a site or everything
    Kill(decide::KillArgs),
    /// Stop an author: connections close, and what it wrote beyond what is known here grants nothing
    Suspend(decide::SuspendArgs),
    /// What is restricted, which nodes say to enforce it, and by when the rest stops by itself
    Restrictions(look::RestrictionsArgs),
    /// Draft the end of restrictions, for the council to sign
    Lift(powers::LiftArgs),
    /// What agents may do by themselves
    #[command(subcommand)]
    Autonomy(powers::AutonomyCommand),
    /// Resources that move to another node
    #[command(subcommand)]
    Ownership(powers::OwnershipCommand),
    /// What a site may do when no coordinator can be reached
    #[command(subcommand)]
    Isolation(isolation::Isolation),
    /// Tokens for an emergency: they skip approvals alone, once, and loudly
    #[command(subcommand)]
    BreakGlass(isolation::Glass),
    /// This machine's clock
    #[command(subcommand)]
    Clock(decide::ClockCommand),
    /// Limits that hold under partition: what is left of them, and who holds it
    #[command(subcommand)]
    Budgets(budgets::Command),
    /// The record of what happened
    #[command(subcommand)]
    Audit(audit::Command),
    /// Who may decide
    #[command(subcommand)]
    People(people::Command),
    /// The root held by people
    #[command(subcommand)]
    Charter(charter::Command),
    /// Who is enrolled, and invitations
    #[command(subcommand)]
    Authority(authority::Command),
    /// Key files: make, show, seal and unseal them
    #[command(subcommand)]
    Key(key::Command),
    /// This node's identity, and any certificate
    #[command(subcommand)]
    Identity(files::IdentityCommand),
    /// Guardrails: judge, check and test a bundle
    #[command(subcommand)]
    Policy(policy::Command),
    /// Agents without a mesh
    #[command(subcommand)]
    Agent(agent::Command),
    /// Shared documents: sites' boards, catalogue, configuration, notes
    #[command(subcommand)]
    Doc(doc::Command),
    /// What is on disk
    #[command(subcommand)]
    Store(store::Command),
    /// Shell completions
    Completions(misc::CompletionsArgs),
    /// Manual pages
    Man(misc::ManArgs),
    /// Versions of program and formats
    Version,
}

/// `cauldron demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Tell the story without a person; exit 0 only if every check held
    #[arg(long)]
    pub once: bool,
    /// Keep the data directories here
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Read your own sshd log instead of the project's
    #[arg(long, value_name = "FILE")]
    pub auth_log: Option<PathBuf>,
    /// How long a block stands, 1s to 1day [default: 20s, with --once 8s]
    #[arg(long, value_name = "DURATION", value_parser = block_ttl)]
    pub block_ttl: Option<Duration>,
    /// Break the thing behind one check, so that the demo ends with code 1; `list` prints the names
    #[arg(long, value_name = "NAME", requires = "once")]
    pub sabotage: Option<String>,
    /// How to print the outcome; the global `--output`.
    #[arg(skip)]
    pub output: Format,
}

/// `10m`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| e.to_string())
}

fn spiffe_id(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::new(text).map_err(|e| format!("{e}; a SPIFFE ID looks like spiffe://acme.example/site/lyon/node/lyon"))
}

fn block_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(cauldron_coordinator::action::TTL_S_MAX);
    if bounds.contains(&ttl) { Ok(ttl) } else { Err("a block stands for 1s to 1day".into()) }
}

/// Carries out one command line.
///
/// # Errors
/// [`CliError`], whose kind is the exit code.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => start::init(global, *args),
        Command::Node(command) => start::node(global, command),
        Command::Demo(args) => crate::demo::run(DemoArgs { output: global.output, ..args }),
        Command::Charter(charter::Command::Show { file }) => charter::show(global, file.as_deref()),
        Command::Charter(charter::Command::Sign(args)) => charter::sign(global, &args),
        Command::Authority(authority::Command::Sign(args)) => entries::sign(global, &args),
        Command::Identity(command) => files::identity(global, &command),
        Command::Key(command) => key::run(global, &command),
        Command::Agent(command) => agent::run(global, command),
        Command::Store(command) => store::run(global, &command),
        Command::Doc(doc::Command::Check(args)) => doc::check(global.output, &args),
        Command::Completions(args) => misc::completions(&args),
        Command::Man(args) => misc::man(&args),
        Command::Version => misc::version(global),
        Command::Check(args) if args.is_pre() => check::before_start(global, &args),
        online => block_on(ask(global, online))?,
    }
}

/// Commands that a running node answers.
async fn ask(global: &Global, command: Command) -> Result<(), CliError> {
    let client = global.client();
    let format = global.output;
    match command {
        Command::Status => look::status(&client, format).await,
        Command::Check(_) => check::running(&client, format).await,
        Command::Peers(args) => look::peers(&client, format, &args).await,
        Command::Sites => look::sites(&client, format).await,
        Command::Why(args) => look::why(&client, format, &args).await,
        Command::Proposals(args) => look::proposals(&client, format, &args).await,
        Command::Propose(args) => decide::propose(&client, global, &args).await,
        Command::Policy(command) => policy::run(&client, global, &command).await,
        Command::Undo(args) => decide::undo(&client, format, &args).await,
        Command::Reconcile(args) => reconcile::reconcile(&client, global, &args).await,
        Command::Approvals(command) => approvals::run(&client, global, command).await,
        Command::Veto(args) => decide::veto(&client, global, &args).await,
        Command::Lift(args) => powers::lift(&client, global, &args).await,
        Command::Autonomy(command) => powers::autonomy(&client, global, &command).await,
        Command::Ownership(command) => powers::ownership(&client, global, &command).await,
        Command::Charter(charter::Command::Amend(args)) => draft::amend(&client, global, &args).await,
        Command::Suspend(args) => decide::suspend(&client, global, &args).await,
        Command::Restrictions(args) => look::restrictions(&client, format, &args).await,
        Command::Isolation(command) => isolation::isolation(&client, global, command).await,
        Command::BreakGlass(command) => isolation::glass(&client, global, command).await,
        Command::Clock(decide::ClockCommand::Reset(args)) => decide::clock_reset(&client, format, &args).await,
        Command::Kill(args) => decide::kill(&client, global, &args).await,
        Command::Audit(command) => audit::run(&client, format, &command).await,
        Command::Budgets(command) => budgets::run(&client, format, &command).await,
        Command::Doc(command) => doc::run(&client, format, &command).await,
        Command::People(command) => people::run(&client, global, command).await,
        Command::Authority(command) => authority::run(&client, global, &command).await,
        offline => Err(CliError::usage(format!("{offline:?} does not ask a node"))),
    }
}

/// Runs `work` on this thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|e| CliError::config("cannot start the asynchronous runtime").because(&e))?.block_on(work))
}

/// A path segment of the API: ids and names come from people, and must not become other paths.
fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |out, b| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            out + char::from(b).encode_utf8(&mut [0; 4])
        }
        _ => format!("{out}%{b:02X}"),
    })
}

/// Whether [`confirm`] will get an answer: on a terminal, or where `--yes` is one.
fn can_confirm(yes: bool) -> Result<(), CliError> {
    use std::io::IsTerminal;
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(CliError::usage("nobody is at the terminal to confirm this").hint("add --yes if you mean it"))
}

/// Asks y/N on a terminal. Without one, only `--yes` says yes.
fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    use std::io::Write;
    can_confirm(yes)?;
    if yes {
        return Ok(());
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| CliError::usage("cannot read your answer").because(&e))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::new(crate::error::Kind::Refused, "nothing was done")),
    }
}
