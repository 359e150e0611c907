//! The operator's binary.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(clientele::run(clientele::Cli::parse()))
}
