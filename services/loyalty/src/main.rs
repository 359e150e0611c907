//! The process of the loyalty service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(loyalty::NAME, |config: &ServiceConfig| config.listen, loyalty::start).await
}
