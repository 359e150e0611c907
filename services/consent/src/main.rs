//! The process of the consent service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(consent::NAME, consent::migrations, consent::start).await
}
