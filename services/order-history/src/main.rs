//! The process of the order-history service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(order_history::NAME, order_history::migrations, order_history::start).await
}
