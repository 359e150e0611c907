//! The process of the contact service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(contact::NAME, contact::migrations, contact::start).await
}
