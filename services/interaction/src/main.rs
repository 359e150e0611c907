//! The process of the interaction service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(interaction::NAME, |config: &ServiceConfig| config.listen, interaction::start).await
}
