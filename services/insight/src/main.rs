//! The process of the insight service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(insight::NAME, |config: &ServiceConfig| config.listen, insight::start).await
}
