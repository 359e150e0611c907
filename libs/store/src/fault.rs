use error::{Failure, Reason, reason};
use metrics::METRICS;
use uuid::Uuid;
use vault::Unreadable;

/// A named constraint and the reason that its violation means.
pub type Constraint = (&'static str, Reason);

/// The result of everything that touches the database.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// Why something did not happen.
#[derive(Debug)]
pub enum Fault {
    /// A rule says no; the caller learns the reason.
    Refused(Failure),
    /// The database says no; a known constraint becomes a reason, the rest is ours to explain.
    Database(sqlx::Error),
    /// These customers are new here: profile has to be asked whether they exist.
    Unanchored(Vec<Uuid>),
    /// A concurrent twin of the request was faster: what it was answered is to be recalled.
    Answered,
}

impl Fault {
    /// The reason's name alone, which may be logged.
    pub(crate) fn named(self) -> anyhow::Error {
        anyhow::anyhow!(self.into_failure().reason().name)
    }

    /// Whether the same transaction may succeed the next time: serialization_failure or
    /// deadlock_detected.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Fault::Database(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("40001" | "40P01")))
    }

    /// Turns a violation of a known constraint into its reason.
    pub(crate) fn judge(self, constraints: &[Constraint]) -> Self {
        let Fault::Database(sqlx::Error::Database(error)) = &self else { return self };
        let violated = error.constraint().unwrap_or_default();
        match constraints.iter().find(|(name, _)| *name == violated) {
            Some((_, reason)) => Fault::Refused((*reason).into()),
            None => self,
        }
    }

    /// The failure as the caller sees it. What the caller cannot mend is logged without values.
    pub fn into_failure(self) -> Failure {
        let error = match self {
            Fault::Refused(failure) => return failure,
            Fault::Unanchored(_) => return reason::CUSTOMER_NOT_FOUND.into(),
            Fault::Answered => return reason::WRITE_CONFLICT.into(),
            Fault::Database(error) => error,
        };
        match &error {
            sqlx::Error::PoolTimedOut => {
                Failure::from(reason::DATABASE_BUSY).retry_after(std::time::Duration::from_secs(1))
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => reason::DATABASE_UNAVAILABLE.into(),
            sqlx::Error::Database(database) => match database.code().as_deref().unwrap_or_default() {
                "57014" => reason::DEADLINE_EXCEEDED.into(),
                "40001" | "40P01" => reason::WRITE_CONFLICT.into(),
                // The rules of the contract refuse what a text cannot hold; this is the net below them.
                "22021" | "22P05" => Failure::invalid(".", "holds a character that cannot be stored"),
                // Class 08 is a broken connection, 57P a server that stops or starts, 53 one without room.
                code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
                    reason::DATABASE_UNAVAILABLE.into()
                }
                code => {
                    // The message of a database error may quote a row, so only its code is written down.
                    tracing::error!(
                        db.response.status_code = code,
                        constraint = database.constraint(),
                        "a statement failed"
                    );
                    reason::INTERNAL_ERROR.into()
                }
            },
            _ => {
                tracing::error!(error.type = "sqlx", "a statement could not be run");
                reason::INTERNAL_ERROR.into()
            }
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Fault::Refused(failure)
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Fault::Refused(reason.into())
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Fault::Database(error)
    }
}

impl From<Unreadable> for Fault {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Destroyed => reason::CUSTOMER_ERASED.into(),
            Unreadable::Broken => unreadable_value().into(),
        }
    }
}

impl From<prost::DecodeError> for Fault {
    fn from(_: prost::DecodeError) -> Self {
        unreadable_value().into()
    }
}

/// Altered, moved, cut or damaged: whoever runs the service must know, so it is counted for an alert.
fn unreadable_value() -> Reason {
    tracing::error!("a sealed value could not be read");
    METRICS.unreadable.inc();
    reason::SEALED_VALUE_UNREADABLE
}

impl From<Fault> for tonic::Status {
    fn from(fault: Fault) -> Self {
        fault.into_failure().into()
    }
}
