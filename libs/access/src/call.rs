use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use error::{Failure, reason};

/// The metadata in which a caller declares its purpose.
pub const PURPOSE_HEADER: &str = "clientele-purpose";

/// What data is used for. The list is closed, so that a policy can speak of each.
pub const PURPOSES: [&str; 7] =
    ["service", "fulfilment", "marketing", "analytics", "fraud", "subject_request", "administration"];

/// A declared purpose, one of [`PURPOSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose(&'static str);

impl Purpose {
    /// `PURPOSE_UNKNOWN` unless it is in the list.
    pub fn parse(name: &str) -> Result<Self, Failure> {
        let known = PURPOSES.into_iter().find(|purpose| *purpose == name);
        known.map(Self).ok_or_else(|| reason::PURPOSE_UNKNOWN.into())
    }

    /// Reads the purpose that a call declares in the header.
    pub fn declared(header: Option<&[u8]>) -> Result<Self, Failure> {
        let header = header.ok_or(reason::PURPOSE_MISSING)?;
        Self::parse(std::str::from_utf8(header).map_err(|_| reason::PURPOSE_UNKNOWN)?)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// An authenticated caller with its purpose.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who: the `sub` of the caller's own token, the same at every hop.
    pub subject: Arc<str>,
    /// What for.
    pub purpose: Purpose,
}

/// What a handler knows of the call it answers.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The W3C trace context, written beside each change; empty without a trace.
    pub traceparent: Arc<str>,
}

/// What a hop keeps of the time that is left, so that the next one's answer is back before its own time is up.
const MARGIN: (u32, Duration) = (20, Duration::from_millis(20));

impl Call {
    /// The time that is left to who is asked next: less by a twentieth, at most 20 ms.
    pub fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left - (left / MARGIN.0).min(MARGIN.1)
    }

    /// The same call with half a minute from now: the items of a stream have no deadline of their
    /// own, and the stream's is its caller's to watch.
    pub fn renewed(&self) -> Self {
        Self { deadline: Instant::now() + Duration::from_secs(30), ..self.clone() }
    }
}
