//! The command line.

mod adopt;
mod controller;
mod docs;
mod ignored;
mod render;
mod value;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{CommandFactory, Parser, Subcommand};

pub use adopt::Adopt;
pub use controller::{CacheBounds, Controller, ElectionSettings, LogSettings, Scope, Settings, SettingsError};
pub use ignored::{IGNORED, IgnoredFlag};
pub use render::{Render, RenderCliError};
pub use value::LogFormat;

/// Brings secrets from the managers that keep them into namespaced Kubernetes Secrets.
#[derive(Debug, Parser)]
#[command(name = "keyferry", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator. Finds the cluster by KUBECONFIG, or by the account of its pod
    #[command(mut_args = value::switch, args_override_self = true)]
    Controller(Box<Controller>),
    /// Take over a cluster in which External Secrets Operator ran, or hand it back
    Adopt(Adopt),
    /// Print the Secrets that manifests would make and what they would push, with no cluster and without writing anything
    Render(Box<Render>),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`
    Crds,
    /// Print the flags of `controller` as Markdown
    #[command(hide = true)]
    Flags,
    /// Print the version
    Version,
}

/// What is left to do once the command line is dealt with.
#[derive(Debug)]
pub enum Task {
    /// Nothing: the answer is printed.
    Done,
    /// Run the operator.
    Controller(Box<Settings>),
    /// Move a cluster from ESO, or back.
    Adopt(Adopt),
    /// Render manifests.
    Render(Box<Render>),
}

/// Why the command line could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Flags that do not go together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The CustomResourceDefinitions cannot be printed.
    #[error(transparent)]
    Crds(#[from] crate::api::crds::CrdError),
    /// The answer cannot be written.
    #[error("cannot write to the standard output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Exit code: clap's own 2 for bad flags, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            Self::Crds(_) | Self::Output(_) => 1,
        }
    }
}

/// Arguments, the program's name first, with the command that is left out where they begin with a flag: ESO's controller has none.
fn with_command(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let first = args.get(1).and_then(|arg| arg.to_str());
    if first.is_some_and(|arg| arg.starts_with("--") && !matches!(arg, "--" | "--help" | "--version")) {
        args.insert(1, "controller".into());
    }
    args
}

impl Cli {
    /// Reads the arguments of the process, its name first; ends it where they cannot be understood.
    #[must_use]
    pub fn of(args: impl IntoIterator<Item = OsString>) -> Self {
        Self::parse_from(with_command(args))
    }

    /// Answers what can be answered at once; gives the settings when the operator is to run.
    ///
    /// # Errors
    /// When flags contradict each other or the answer cannot be written.
    pub fn run(self, out: &mut impl Write) -> Result<Task, CliError> {
        match self.command {
            Command::Controller(controller) => return Ok(Task::Controller(Box::new(controller.into_settings()?))),
            Command::Adopt(adopt) => return Ok(Task::Adopt(adopt)),
            Command::Render(render) => return Ok(Task::Render(render)),
            Command::Crds => out.write_all(crate::api::crds::yaml()?.as_bytes())?,
            Command::Flags => out.write_all(docs::markdown(&Self::command()).as_bytes())?,
            Command::Version => writeln!(out, "keyferry {}", env!("CARGO_PKG_VERSION"))?,
        }
        out.flush()?;
        Ok(Task::Done)
    }
}
