//! `e2e`: sets up the tools that the tests need, and runs the demo. The Makefile calls it.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use keyferry_e2e::sops::Sops;
use keyferry_e2e::tools::Tools;
use keyferry_e2e::{bench, demo, progress, tools};

#[derive(Parser)]
#[command(about = "The servers that keyferry's tests and demo run against")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or make all programs, and say where they are.
    Setup {
        /// Also those that only tests need.
        #[arg(long)]
        tests: bool,
    },
    /// Print the path of one of these programs.
    Path {
        /// Its name.
        program: Program,
    },
    /// Show the main job, and end everything.
    Demo,
    /// Show the main job, and leave everything running.
    DemoUp,
    /// End what demo-up left running.
    DemoDown,
    /// Measure the operator beside a bare client, and print one table.
    Bench,
}

#[derive(Clone, Copy, ValueEnum)]
enum Program {
    Helm,
    Kubectl,
    Python,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::note(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup { tests } => {
            let tools = Tools::find_or_make()?;
            progress::note(format!("control plane: {}", tools.control_plane.display()));
            progress::note(format!("helm:          {}", tools.helm.display()));
            progress::note(format!("python:        {}", tools.python().display()));
            if tests {
                progress::note(format!("postgresql:    {}", tools::postgres::find_or_install()?.display()));
                progress::note(format!("openldap:      {}", tools::ldap::OpenLdap::find_or_unpack()?.slapd.display()));
                progress::note(format!("vault:         {}", tools::vault::find_or_make()?.display()));
                // else the tests that use it build it beside others, which wait for the machine then
                progress::note(format!("sops:          {}", Sops::find_or_make()?.bin.display()));
            }
            Ok(())
        }
        Command::Path { program } => {
            let tools = Tools::find_or_make()?;
            let path = match program {
                Program::Helm => tools.helm,
                Program::Kubectl => tools.kubectl(),
                Program::Python => tools.python(),
            };
            Ok(writeln!(std::io::stdout(), "{}", path.display())?)
        }
        Command::Demo => demo::run().await,
        Command::DemoUp => demo::up().await,
        Command::DemoDown => demo::down(),
        Command::Bench => bench::run().await,
    }
}
