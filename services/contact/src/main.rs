//! The process of the contact service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(contact::NAME, |config: &ServiceConfig| config.listen, contact::start).await
}
