//! The process of the interaction service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    store::run(interaction::NAME, interaction::migrations, interaction::start).await
}
