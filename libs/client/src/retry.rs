use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Repeats a call that found nobody to answer it, at most twice. Every unary RPC of the contract is
/// repeatable: reads by nature, writes by their `request_id` or natural key. Make the request once
/// and clone it, so that each attempt carries the same id. A pause that the server names is kept.
pub async fn retry<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => {
                let named = status.get_details_retry_info().and_then(|info| info.retry_delay);
                tokio::time::sleep(named.unwrap_or(pause)).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn only_an_absent_server_is_asked_again() {
        for (code, expected) in [(Code::Unavailable, 3), (Code::InvalidArgument, 1), (Code::DeadlineExceeded, 1)] {
            let calls = Cell::new(0);
            let answer: Result<(), Status> = retry(|| async {
                calls.set(calls.get() + 1);
                Err(Status::new(code, ""))
            })
            .await;
            assert_eq!(answer.unwrap_err().code(), code);
            assert_eq!(calls.get(), expected);
        }
    }
}
