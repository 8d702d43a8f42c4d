//! The command line: one verb per file. `run` parses, dispatches and prints what went wrong.
//!
//! Client commands know only the public gRPC door. Standard output carries results and nothing
//! else; problems, progress and logs go to standard error.

mod bench;
mod cert;
mod cluster;
mod completions;
mod config;
mod connect;
mod credential;
mod dev;
mod device;
mod input;
mod mqtt;
mod output;
mod prestop;
mod problem;
mod role;
mod serve;
mod shadow;
mod start;
mod tenant;
mod tls;
mod version;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::environment::Environment;

pub use problem::EXIT_CODES;

use problem::{Exit, Problem};

/// Device shadows, strongly consistent: one binary for the node and for its clients.
#[derive(Debug, Parser)]
#[command(name = "antumbra", version, propagate_version = false, after_long_help = exit_codes_help())]
#[command(arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Args),
    Serve(serve::Args),
    #[command(subcommand)]
    Shadow(shadow::Verb),
    #[command(subcommand)]
    Device(device::Verb),
    #[command(subcommand)]
    Cluster(cluster::Verb),
    #[command(subcommand)]
    Tenant(tenant::Verb),
    #[command(subcommand)]
    Credential(credential::Verb),
    #[command(subcommand)]
    Role(role::Verb),
    #[command(subcommand)]
    Bench(bench::Verb),
    #[command(subcommand)]
    Config(config::Verb),
    #[command(subcommand)]
    Cert(cert::Verb),
    Prestop(prestop::Args),
    Version(version::Args),
    Completions(completions::Args),
}

/// What a verb may know of the process it runs in.
pub(crate) struct Context {
    /// How the user called this program, for commands to paste.
    pub(crate) program: String,
    /// The environment variables.
    pub(crate) environment: Environment,
    /// Whether standard error shows colours.
    pub(crate) color: bool,
}

/// Runs the command of `arguments` (the program's name first) to its end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = arguments
        .first()
        .map(|name| name.to_string_lossy().into_owned());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" of clap that exit with 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let environment = Environment::read();
    let color = io::stderr().is_terminal() && !environment.no_color();
    let program = program.unwrap_or_else(|| "antumbra".to_owned());
    let context = Context {
        program,
        environment,
        color,
    };
    match dispatch(cli.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = io::stderr().write_all(problem.render(color).as_bytes());
            ExitCode::from(problem.exit() as u8)
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Result<(), Problem> {
    match command {
        Command::Dev(args) => dev::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Shadow(verb) => verb.run(context),
        Command::Device(verb) => verb.run(context),
        Command::Cluster(verb) => verb.run(context),
        Command::Tenant(verb) => verb.run(context),
        Command::Credential(verb) => verb.run(context),
        Command::Role(verb) => verb.run(context),
        Command::Bench(verb) => verb.run(context),
        Command::Config(verb) => verb.run(context),
        Command::Cert(verb) => verb.run(),
        Command::Prestop(args) => prestop::run(&args),
        Command::Version(args) => version::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Runs a client command on a runtime of one thread.
fn block_on<T>(future: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Problem::new(Exit::Failure, "cannot start the runtime").why(error))?;
    runtime.block_on(future)
}

fn exit_codes_help() -> String {
    let line = |(code, meaning): &(u8, &str)| format!("\n  {code}  {meaning}");
    format!(
        "Exit codes:{}",
        EXIT_CODES.iter().map(line).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    /// clap checks names, groups and defaults of every verb.
    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
