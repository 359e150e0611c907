//! The process of the loyalty service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(loyalty::NAME, loyalty::migrations, loyalty::start).await
}
