//! The process of the profile service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(profile::NAME, |config: &ServiceConfig| config.listen, profile::start).await
}
