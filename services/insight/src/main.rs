//! The process of the insight service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(insight::NAME, insight::migrations, insight::start).await
}
