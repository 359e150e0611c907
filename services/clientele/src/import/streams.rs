use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::Context;
use client::Client;
use proto::{
    interaction::v1::{RecordInteractionRequest, RecordInteractionsRequest},
    order_history::v1::{Order, RecordOrderResult, RecordOrdersRequest, RecordOutcome},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::{Journal, Tally, bar};

/// So many items of a stream may be unacknowledged.
const WINDOW: usize = 1000;
/// The journal is written after so many acknowledgements.
const CHECKPOINT: u64 = 5000;
/// A stream may run so long.
const PATIENCE: Duration = Duration::from_secs(12 * 3600);

/// Sends items with never more than the window unacknowledged. The permits come back one by one as
/// acknowledgements are read.
fn send<T: Send + 'static>(items: Vec<T>, window: std::sync::Arc<Semaphore>) -> ReceiverStream<T> {
    let (sender, receiver) = mpsc::channel(WINDOW);
    tokio::spawn(async move {
        for item in items {
            match window.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return,
            }
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Records orders, each with its line in the file.
pub async fn record(client: &Client, orders: Vec<(usize, Order)>, journal: &mut Journal) -> anyhow::Result<()> {
    let began = Instant::now();
    let done = journal.acknowledged("orders");
    let progress = bar(orders.len() as u64, "orders");
    progress.set_position(done);
    let (mut lines, mut items) = (VecDeque::new(), Vec::new());
    for (sequence, (line, order)) in (0..).zip(orders).skip(done as usize) {
        lines.push_back(line);
        items.push(RecordOrdersRequest { sequence, order: Some(order) });
    }
    let window = std::sync::Arc::new(Semaphore::new(WINDOW));
    let mut request = Request::new(send(items, window.clone()));
    request.set_timeout(PATIENCE);
    let replies = client.order_history().record_orders(request).await.map_err(crate::show::failed)?;
    let (mut replies, mut tally) = (replies.into_inner(), Tally::default());
    while let Some(reply) = replies.message().await.map_err(crate::show::failed)? {
        window.add_permits(1);
        let line = lines.pop_front().context("more was acknowledged than was sent")?;
        count(reply.result.unwrap_or_default(), line, &mut tally, journal)?;
        progress.inc(1);
        let acknowledged = reply.sequence as u64 + 1;
        if acknowledged.is_multiple_of(CHECKPOINT) {
            journal.acknowledge("orders", acknowledged)?;
        }
    }
    anyhow::ensure!(lines.is_empty(), "the stream ended with {} orders unacknowledged; run it again", lines.len());
    progress.finish_and_clear();
    tally.print("orders", began);
    Ok(())
}

fn count(result: RecordOrderResult, line: usize, tally: &mut Tally, journal: &mut Journal) -> anyhow::Result<()> {
    match result.outcome() {
        RecordOutcome::Created => tally.created += 1,
        RecordOutcome::Unchanged => tally.unchanged += 1,
        RecordOutcome::Revised => tally.revised += 1,
        RecordOutcome::Unspecified => {
            tally.refused += 1;
            journal.refuse(line, &result.failure, &result.invalid_fields)?;
        }
    }
    Ok(())
}

/// Records interactions, each with its line in the file.
pub async fn record_interactions(
    client: &Client,
    requests: Vec<(usize, RecordInteractionRequest)>,
    journal: &mut Journal,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let done = journal.acknowledged("interactions");
    let progress = bar(requests.len() as u64, "interactions");
    progress.set_position(done);
    let (mut lines, mut items) = (VecDeque::new(), Vec::new());
    for (sequence, (line, request)) in (0..).zip(requests).skip(done as usize) {
        lines.push_back(line);
        items.push(RecordInteractionsRequest { sequence, request: Some(request) });
    }
    let window = std::sync::Arc::new(Semaphore::new(WINDOW));
    let mut request = Request::new(send(items, window.clone()));
    request.set_timeout(PATIENCE);
    let replies = client.interaction().record_interactions(request).await.map_err(crate::show::failed)?;
    let (mut replies, mut tally) = (replies.into_inner(), Tally::default());
    while let Some(reply) = replies.message().await.map_err(crate::show::failed)? {
        window.add_permits(1);
        let line = lines.pop_front().context("more was acknowledged than was sent")?;
        let result = reply.result.unwrap_or_default();
        match (result.failure.as_str(), result.replayed) {
            ("", false) => tally.created += 1,
            ("", true) => tally.unchanged += 1,
            (reason, _) => {
                tally.refused += 1;
                journal.refuse(line, reason, &result.invalid_fields)?;
            }
        }
        progress.inc(1);
        let acknowledged = reply.sequence as u64 + 1;
        if acknowledged.is_multiple_of(CHECKPOINT) {
            journal.acknowledge("interactions", acknowledged)?;
        }
    }
    anyhow::ensure!(
        lines.is_empty(),
        "the stream ended with {} interactions unacknowledged; run it again",
        lines.len()
    );
    progress.finish_and_clear();
    tally.print("interactions", began);
    Ok(())
}
