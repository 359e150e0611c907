//! Failures as data. A [`Reason`] is a constant, a [`Failure`] is a reason with what belongs to one
//! occurrence, and here alone it becomes a `google.rpc.Status` with `ErrorInfo` (AIP-193).

pub mod reason;

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo` of this system.
pub const DOMAIN: &str = "clientele";

/// So many bytes of violations are told; in base64 and with the rest they stay below 8 KiB.
const MAX_VIOLATION_BYTES: usize = 4096;

/// One way to fail: a code, a name that programs compare and a text that people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The gRPC code.
    pub code: Code,
    /// The name in `ErrorInfo.reason`, in capitals.
    pub name: &'static str,
    /// A sentence for people, the same at each occurrence, so it never holds personal data.
    pub text: &'static str,
}

/// One occurrence of a [`Reason`].
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    reason: Reason,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path: `profile.name.given_name`.
    pub field: String,
    /// What is wrong, without the value.
    pub text: String,
}

/// Collects what is wrong with a request, so that a caller learns everything at once.
#[derive(Debug, Default)]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.0.push(Violation { field: field.into(), text: text.into() });
    }

    /// `INVALID_FIELDS` when there is any.
    pub fn into_result(self) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Failure { violations: self.0, ..reason::INVALID_FIELDS.into() })
    }
}

impl Failure {
    /// Adds a fact to the `ErrorInfo`: an id or a limit, never personal data.
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Tells the caller when to try again.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// `INVALID_FIELDS` with one violation.
    pub fn invalid(field: impl Into<String>, text: impl Into<String>) -> Self {
        let mut violations = Violations::default();
        violations.add(field, text);
        Self { violations: violations.0, ..reason::INVALID_FIELDS.into() }
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the same request fails in the same way however often it is made, as long as the data
    /// is what it is. What is not final is a failure of the moment: try again.
    pub fn is_final(&self) -> bool {
        use Code::*;
        matches!(
            self.reason.code,
            InvalidArgument | NotFound | AlreadyExists | PermissionDenied | FailedPrecondition | OutOfRange
        )
    }

    /// Whether it is about the moment and not about the request: whatever else is asked now fails too.
    pub fn is_momentary(&self) -> bool {
        use Code::*;
        matches!(self.reason.code, Unavailable | DeadlineExceeded | Aborted | Cancelled)
    }

    /// The violations as `field: text`, for results inside a batch.
    pub fn invalid_fields(&self) -> Vec<String> {
        self.violations.iter().map(|v| format!("{}: {}", v.field, v.text)).collect()
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, metadata: Vec::new(), violations: Vec::new(), retry_after: None }
    }
}

impl From<Reason> for Status {
    fn from(reason: Reason) -> Self {
        Failure::from(reason).into()
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let Failure { reason, metadata, violations, retry_after } = failure;
        let metadata: std::collections::HashMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason.name, DOMAIN, metadata);
        let (told, untold) = within_headers(violations);
        for Violation { field, text } in told {
            details.add_bad_request_violation(field, text);
        }
        if untold > 0 {
            details.add_bad_request_violation(".", format!("and {untold} more"));
        }
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Status::with_error_details(reason.code, reason.text, details)
    }
}

/// Details travel in a header, and clients refuse headers of more than 8 KiB: the violations that
/// fit, and how many do not.
fn within_headers(mut violations: Vec<Violation>) -> (Vec<Violation>, usize) {
    let mut room = MAX_VIOLATION_BYTES;
    let fits = violations.iter().take_while(|violation| {
        // The frame of each is a few bytes.
        let size = violation.field.len() + violation.text.len() + 8;
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    });
    let fitting = fits.count();
    let untold = violations.split_off(fitting).len();
    (violations, untold)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.name)
    }
}

impl std::error::Error for Failure {}

/// The reason's name in a status that came over the wire.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_violations_fit_a_header_and_none_is_silently_dropped() {
        let mut violations = Violations::default();
        (0..1000).for_each(|i| violations.add(format!("items[{i}]"), "is not valid"));
        let status = Status::from(violations.into_result().unwrap_err());
        let told = status.get_details_bad_request().unwrap().field_violations;
        let (last, told) = told.split_last().unwrap();
        assert_eq!(last.description, format!("and {} more", 1000 - told.len()));
        let response = status.into_http::<()>();
        let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(told.len() > 100 && size < 8192, "{} in {size}", told.len());
    }
}
