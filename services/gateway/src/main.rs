//! The process of the gateway.

use gateway::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(gateway::NAME, |config: &Config| config.listen, gateway::start).await
}
