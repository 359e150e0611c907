//! Sending the items of a file over an acknowledged stream.
//!
//! Items are committed in the order of the file, so whoever holds an item holds all before it. An
//! import that broke off therefore sends the last accepted item once more: known already, the rest
//! may follow; new, this is another database, or one restored to an earlier day, and everything is
//! sent.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use client::Client;
use proto::{
    interaction::v1::{RecordInteractionRequest, RecordInteractionsRequest, RecordInteractionsResponse},
    order_history::v1::{Order, RecordOrdersRequest, RecordOrdersResponse, RecordOutcome},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Journal, Tally, bar};

/// So many items of a stream may be unacknowledged.
const WINDOW: usize = 1000;
/// The journal is written after so many acknowledgements.
const CHECKPOINT: usize = 500;
/// A stream may run so long.
const PATIENCE: Duration = Duration::from_secs(12 * 3600);

/// What an acknowledgement says.
enum Outcome {
    Created,
    Unchanged,
    Revised,
    Refused { reason: String, fields: Vec<String> },
}

/// Records orders, each with its line in the file.
pub async fn orders(client: &Client, orders: Vec<(usize, Order)>, journal: &mut Journal) -> anyhow::Result<()> {
    let item = |(sequence, (line, order))| (line, RecordOrdersRequest { sequence, order: Some(order) });
    let items: Vec<_> = (0..).zip(orders).map(item).collect();
    let open = |request| async { client.order_history().record_orders(request).await };
    let outcome = |reply: RecordOrdersResponse| {
        let result = reply.result.unwrap_or_default();
        match result.outcome() {
            RecordOutcome::Created => Outcome::Created,
            RecordOutcome::Unchanged => Outcome::Unchanged,
            RecordOutcome::Revised => Outcome::Revised,
            RecordOutcome::Unspecified => Outcome::Refused { reason: result.failure, fields: result.invalid_fields },
        }
    };
    send_all("orders", &items, journal, open, outcome).await
}

/// Records interactions, each with its line in the file.
pub async fn interactions(
    client: &Client,
    requests: Vec<(usize, RecordInteractionRequest)>,
    journal: &mut Journal,
) -> anyhow::Result<()> {
    let item = |(sequence, (line, request))| (line, RecordInteractionsRequest { sequence, request: Some(request) });
    let items: Vec<_> = (0..).zip(requests).map(item).collect();
    let open = |request| async { client.interaction().record_interactions(request).await };
    let outcome = |reply: RecordInteractionsResponse| {
        let result = reply.result.unwrap_or_default();
        match (result.failure.as_str(), result.replayed) {
            ("", false) => Outcome::Created,
            ("", true) => Outcome::Unchanged,
            _ => Outcome::Refused { reason: result.failure, fields: result.invalid_fields },
        }
    };
    send_all("interactions", &items, journal, open, outcome).await
}

/// Sends what is left of the items, or all of them when the journal speaks of another database.
async fn send_all<T, R, F>(
    what: &'static str,
    items: &[(usize, T)],
    journal: &mut Journal,
    open: impl Fn(Request<ReceiverStream<T>>) -> F,
    outcome: impl Fn(R) -> Outcome,
) -> anyhow::Result<()>
where
    T: Clone + Send + 'static,
    F: Future<Output = Result<Response<Streaming<R>>, Status>>,
{
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut from = journal.accepted(what).min(items.len()).saturating_sub(1);
    let progress = bar(items.len() as u64, what);
    'anew: loop {
        progress.set_position(from as u64);
        let mut lines = items[from..].iter().map(|(line, _)| *line);
        let window = Arc::new(Semaphore::new(WINDOW));
        let mut request = Request::new(send(items[from..].iter().map(|(_, item)| item.clone()).collect(), &window));
        request.set_timeout(PATIENCE);
        let mut replies = open(request).await.map_err(crate::show::failed)?.into_inner();
        let (mut done, mut recorded) = (from, from);
        while let Some(reply) = replies.message().await.map_err(crate::show::failed)? {
            window.add_permits(1);
            let line = lines.next().context("more was acknowledged than was sent")?;
            let outcome = outcome(reply);
            if from > 0 && done == from {
                if matches!(outcome, Outcome::Created | Outcome::Revised) {
                    tally.created += 1;
                    from = 0;
                    continue 'anew;
                }
                items[..from].iter().for_each(|(line, _)| journal.keep(*line));
            }
            done += 1;
            match outcome {
                Outcome::Refused { reason, fields } => {
                    tally.refused += 1;
                    journal.refuse(line, &reason, &fields);
                    continue;
                }
                Outcome::Created => tally.created += 1,
                Outcome::Unchanged => tally.unchanged += 1,
                Outcome::Revised => tally.revised += 1,
            }
            progress.set_position(done as u64);
            if done >= recorded + CHECKPOINT {
                journal.accept(what, done)?;
                recorded = done;
            }
        }
        let missing = items.len() - done;
        anyhow::ensure!(missing == 0, "the stream ended with {missing} {what} unacknowledged; run it again");
        break;
    }
    progress.finish_and_clear();
    tally.print(what, began);
    Ok(())
}

/// Sends items with never more than the window unacknowledged. The permits come back one by one as
/// acknowledgements are read.
fn send<T: Send + 'static>(items: Vec<T>, window: &Arc<Semaphore>) -> ReceiverStream<T> {
    let (sender, receiver) = mpsc::channel(WINDOW);
    let window = window.clone();
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
