//! How often one caller may call, by the generic cell rate algorithm. What is left is told with every answer, so that a
//! caller can slow down before it is refused.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use error::{Failure, reason};
use governor::{
    DefaultKeyedRateLimiter, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use metrics::METRICS;
use tonic::body::Body;

use crate::layers::refusal;

type Response = http::Response<Body>;

/// How many calls there may be, how many are left of them, and in how many seconds all are there again (the names of
/// the IETF's RateLimit fields, which gRPC has in its trailing metadata).
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Callers that have their whole quota are forgotten so often.
const FORGET: Duration = Duration::from_secs(30);

/// The quotas of all callers: so many calls a second, and as many at once.
pub(crate) struct Quota {
    limiter: Arc<DefaultKeyedRateLimiter<Arc<str>, StateInformationMiddleware>>,
    limit: NonZeroU32,
}

/// What is left to a caller.
pub(crate) struct Left {
    limit: u32,
    remaining: u32,
    reset: Duration,
}

impl Quota {
    pub(crate) fn per_second(limit: NonZeroU32) -> Self {
        let quota = governor::Quota::per_second(limit);
        let limiter = Arc::new(RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>());
        let forgetful = Arc::downgrade(&limiter);
        tokio::spawn(async move {
            while let Some(limiter) = forgetful.upgrade() {
                limiter.retain_recent();
                limiter.shrink_to_fit();
                drop(limiter);
                tokio::time::sleep(FORGET).await;
            }
        });
        Self { limiter, limit }
    }

    /// One call of a caller's, or the refusal of it.
    pub(crate) fn take(&self, caller: &Arc<str>) -> Result<Left, Response> {
        let limit = self.limit.get();
        match self.limiter.check_key(caller) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Ok(Left { limit, remaining, reset: state.quota().replenish_interval() * (limit - remaining) })
            }
            Err(not_until) => {
                METRICS.over_quota.inc();
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                let refused = refusal(Failure::from(reason::QUOTA_EXCEEDED).retry_after(wait));
                Err(Left { limit, remaining: 0, reset: Duration::from_secs(1) }.told_in(refused))
            }
        }
    }
}

impl Left {
    /// The answer that tells it: behind the messages, or in the headers of an answer without any.
    pub(crate) fn told_in(self, mut response: Response) -> Response {
        if response.body().is_end_stream() {
            self.tell(response.headers_mut());
            return response;
        }
        response.map(|body| {
            Body::new(body.map_frame(move |frame| match frame.into_trailers() {
                Ok(mut trailers) => {
                    self.tell(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            }))
        })
    }

    fn tell(&self, metadata: &mut HeaderMap) {
        metadata.insert(LIMIT, HeaderValue::from(self.limit));
        metadata.insert(REMAINING, HeaderValue::from(self.remaining));
        metadata.insert(RESET, HeaderValue::from(self.reset.as_secs_f64().ceil() as u64));
    }
}
