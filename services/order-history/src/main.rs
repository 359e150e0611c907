//! The process of the order-history service.

use server::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    server::run(order_history::NAME, |config: &ServiceConfig| config.listen, order_history::start).await
}
