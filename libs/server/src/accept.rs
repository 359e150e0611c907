use access::Call;
use error::{Failure, Violations, reason};
use futures_util::{Stream, StreamExt, stream, stream::BoxStream};
use prost_protovalidate::Validate;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming};

use crate::layers::Draining;

const MAX_BATCH: usize = 250;

/// The first line of a handler: the call and its message, once every rule of the contract and every
/// further check of the service holds. All violations are told at once.
pub fn accept<T: Validate>(request: Request<T>, check: impl FnOnce(&T, &mut Violations)) -> Result<(Call, T), Status> {
    let call = call(&request)?;
    let message = request.into_inner();
    validate(&message, check)?;
    Ok((call, message))
}

/// The first line of a batch's handler: the call and its items, up to 250. Each is checked by itself, so that each
/// one's failure is its own.
pub fn accept_batch<T, I>(
    request: Request<T>,
    field: &str,
    items: impl FnOnce(T) -> Vec<I>,
) -> Result<(Call, Vec<I>), Status> {
    let call = call(&request)?;
    let items = items(request.into_inner());
    if items.is_empty() || items.len() > MAX_BATCH {
        return Err(Failure::invalid(field, format!("must have 1 to {MAX_BATCH} items")).into());
    }
    Ok((call, items))
}

/// Checks a message, for items of a batch or stream.
pub fn validate<T: Validate>(message: &T, check: impl FnOnce(&T, &mut Violations)) -> Result<(), Failure> {
    let mut violations = Violations::default();
    if let Err(broken) = message.validate() {
        for violation in broken.violations() {
            let field = violation.field_path();
            violations.add(if field.is_empty() { "." } else { field.as_str() }, violation.message());
        }
    }
    check(message, &mut violations);
    violations.into_result()
}

/// Fires when this process takes no more calls, for streams to end with their last token.
pub fn draining<T>(request: &Request<T>) -> CancellationToken {
    request.extensions().get::<Draining>().cloned().map(|Draining(token)| token).unwrap_or_default()
}

/// The call that the identity layer has put beside the request.
pub fn call<T>(request: &Request<T>) -> Result<Call, Status> {
    // Only a handler outside the layer stack could miss it.
    request.extensions().get::<Call>().cloned().ok_or_else(|| reason::CREDENTIALS_MISSING.into())
}

/// Answers the items of a stream in the order of arrival, as many together as have arrived, up to
/// `chunk`. The first answer that is an error ends the stream, as does an item that cannot be read.
pub fn acknowledge<T, R, F>(
    items: Streaming<T>,
    chunk: usize,
    answer: impl Fn(Vec<T>) -> F + Send + 'static,
) -> impl Stream<Item = Result<R, Status>> + Send
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Vec<Result<R, Status>>> + Send,
{
    let answers = inbound(items).ready_chunks(chunk).then(move |arrived| {
        let mut broken = None;
        let whole = arrived.into_iter().filter_map(|item| item.map_err(|status| broken = Some(status)).ok());
        let answers = answer(whole.collect());
        async move {
            let mut answers = answers.await;
            answers.extend(broken.map(Err));
            stream::iter(answers)
        }
    });
    answers.flatten()
}

/// The messages of an inbound stream up to the first failure, which gets its reason. tonic answers
/// oversize with `OUT_OF_RANGE` and broken frames with `INTERNAL`, and when it is asked again it goes
/// on in the middle of the refused message and reads its bytes as frames.
fn inbound<T: Send + 'static>(messages: Streaming<T>) -> BoxStream<'static, Result<T, Status>> {
    let next = |messages: Option<Streaming<T>>| async {
        let mut messages = messages?;
        match messages.message().await {
            Ok(message) => Some((Ok(message?), Some(messages))),
            Err(status) => Some((Err(with_reason(status)), None)),
        }
    };
    stream::unfold(Some(messages), next).boxed()
}

fn with_reason(status: Status) -> Status {
    if error::reason_of(&status).is_some() {
        return status;
    }
    match status.code() {
        Code::OutOfRange => reason::MESSAGE_TOO_LARGE.into(),
        Code::Internal => reason::MALFORMED_MESSAGE.into(),
        _ => status,
    }
}
