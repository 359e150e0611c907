//! The process of the consent service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(consent::NAME, |config: &ServiceConfig| config.listen, consent::start).await
}
