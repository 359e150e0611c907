//! The process of the profile service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(profile::NAME, profile::migrations, profile::start).await
}
