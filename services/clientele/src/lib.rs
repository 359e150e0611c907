//! The operator's binary: it starts an installation on one machine, imports, and looks customers up.

#![expect(clippy::print_stdout, reason = "this is the one crate that talks to people")]

pub mod acl;
mod backup;
pub mod catalogue;
pub mod database;
mod import;
mod insight;
pub mod json;
pub mod keys;
mod port;
mod prepare;
pub mod processes;
mod reach;
mod rotate;
mod search;
mod servers;
mod show;
pub mod suite;
mod up;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use port::Port;
pub use reach::Reach;

/// Runs a customer database, imports into it and looks customers up.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts all services and what they need, and stays until Ctrl-C.
    Up(up::Up),
    /// Imports a file through the public API.
    #[command(subcommand)]
    Import(import::Import),
    /// Shows everything that is known about one customer.
    Get(show::Get),
    /// Finds a customer by any identifier and shows it.
    Lookup(show::Lookup),
    /// Finds customers by words of their names and by a filter.
    Search(search::Search),
    /// Looks at what may be concluded from purchases.
    #[command(subcommand)]
    Insight(insight::Insight),
    /// Prints a caller's token for the installation in the state folder.
    Token(Token),
    /// Writes the secrets of an installation that runs elsewhere, and prepares its database.
    Prepare(prepare::Prepare),
    /// Copies the database and its keys, apart.
    Backup(backup::Backup),
    /// Brings a backup into a new database.
    Restore(backup::Restore),
    /// Finishes a restore that was made by other means, before any service is started on it.
    RestoreFinish(RestoreFinish),
    /// Turns the keys that wrap other keys, while everything is served.
    RotateKeys(rotate::RotateKeys),
    /// Prints what every stored field holds, what for, and how long.
    Catalogue(catalogue::Catalogue),
    /// Prints the version.
    Version,
}

#[derive(clap::Args)]
struct RestoreFinish {
    /// The restored database, with a role that owns it.
    #[arg(long, env = "CLIENTELE_DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

#[derive(clap::Args)]
struct Token {
    /// Who the token is for.
    #[arg(long, default_value = "developer")]
    subject: String,
    /// The purposes that it allows; all unless said.
    #[arg(long, value_delimiter = ',')]
    purposes: Vec<String>,
    /// For how many hours it is good.
    #[arg(long, default_value_t = 12)]
    hours: u64,
    /// Where the installation keeps its keys.
    #[arg(long, default_value = up::STATE, env = "CLIENTELE_STATE")]
    state: PathBuf,
}

/// Does what the command line says.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(up) => up.run().await,
        Command::Import(import) => import.run().await,
        Command::Get(get) => get.run().await,
        Command::Lookup(lookup) => lookup.run().await,
        Command::Search(search) => search.run().await,
        Command::Insight(insight) => insight.run().await,
        Command::Token(token) => {
            let keys = keys::Keys::load(&token.state)?;
            println!("{}", keys.token(&token.subject, &token.purposes, token.hours)?);
            Ok(())
        }
        Command::Prepare(prepare) => prepare.run().await,
        Command::Backup(backup) => backup.run().await,
        Command::Restore(restore) => restore.run().await,
        Command::RestoreFinish(restored) => {
            database::finish_restore(&restored.database_url).await?;
            println!("tokens from before the restore are refused from now on; the services may be started");
            Ok(())
        }
        Command::RotateKeys(rotate) => rotate.run().await,
        Command::Catalogue(catalogue) => catalogue.run().await,
        Command::Version => {
            println!("clientele {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_arguments_of_a_command_have_one_name() {
        Cli::command().debug_assert();
    }
}
