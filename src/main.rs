//! The keyferry binary.

use std::io::Write;
use std::process::ExitCode;

use keyferry::cli::{Cli, Task};

/// Gives memory back to the system sooner than glibc's allocator does; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // First of all: with two TLS providers in the dependency tree, the first handshake panics unless one is chosen. The only way
    // to fail is that one is chosen already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::of(std::env::args_os()).run(&mut std::io::stdout()) {
        Ok(Task::Done) => ExitCode::SUCCESS,
        Ok(Task::Controller(settings)) => match keyferry::app::run(*settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, 1),
        },
        Ok(Task::Adopt(what)) => match keyferry::adopt::run(&what, &mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, 1),
        },
        Ok(Task::Render(render)) => {
            match render.run(&mut std::io::stdin(), &mut std::io::stdout(), &mut std::io::stderr()) {
                Ok(code) => ExitCode::from(code),
                Err(error) => complain(&error, error.exit_code()),
            }
        }
        Err(error) => complain(&error, error.exit_code()),
    }
}

fn complain(error: &dyn std::error::Error, code: u8) -> ExitCode {
    // When the standard error is closed, the exit code has to say it all.
    let _ = writeln!(std::io::stderr(), "keyferry: {error}");
    ExitCode::from(code)
}
