use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use error::reason;
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tokio::time::Sleep;
use tonic::{Status, body::Body};

/// A body that ends with `DEADLINE_EXCEEDED` when time is up. Transports watch the time until the headers only.
struct Timed {
    body: Body,
    time: Pin<Box<Sleep>>,
    over: bool,
}

/// Ends a body at a deadline, if it has not ended by then.
pub fn timed(body: Body, deadline: Instant) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(Timed { body, time: Box::pin(tokio::time::sleep_until(deadline.into())), over: false })
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.time.as_mut().poll(context).is_ready() {
            (self.over, self.body) = (true, Body::empty());
            let status = Status::from(reason::DEADLINE_EXCEEDED);
            return Poll::Ready(Some(Ok(Frame::trailers(status.into_http::<()>().into_parts().0.headers))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame)
    }
}
