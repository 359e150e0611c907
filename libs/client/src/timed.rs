use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use error::{Reason, reason};
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tonic::{Status, body::Body};

/// A body that is ended from outside.
struct Ending {
    body: Body,
    end: Pin<Box<dyn Future<Output = Reason> + Send>>,
    over: bool,
}

/// Ends a body with `DEADLINE_EXCEEDED` at a deadline, if it has not ended by then. Transports watch the time until the
/// headers only.
pub(crate) fn timed(body: Body, deadline: Instant) -> Body {
    ending(body, async move {
        tokio::time::sleep_until(deadline.into()).await;
        reason::DEADLINE_EXCEEDED
    })
}

/// Ends a body with a reason when there is one.
pub fn ending(body: Body, end: impl Future<Output = Reason> + Send + 'static) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(Ending { body, end: Box::pin(end), over: false })
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(reason) = self.end.as_mut().poll(context) {
            (self.over, self.body) = (true, Body::empty());
            let trailers = Status::from(reason).into_http::<()>().into_parts().0.headers;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame)
    }
}
