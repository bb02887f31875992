//! The driver's errors, classified by what is to be done.

use super::tls;
use crate::tables::TablesError;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may work later; a write may or may not have happened.
    Unavailable(String),
    /// The keyspace or the table is not there.
    Missing(String),
    /// What was to be made is there.
    There(String),
    /// The user may not log in, or may not do this: no repetition helps before somebody has acted.
    Refused(String),
    /// No repetition will ever help.
    Halted(String),
}

impl From<Failure> for TablesError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(why) => Self::Unavailable(why),
            // An operator can grant it while we run.
            Failure::Refused(why) => Self::Unavailable(format!("the CQL cluster refuses: {why}; grant it to the user")),
            Failure::Missing(why) => {
                Self::Halted(format!("a table is gone: {why}; restore it, or start again to have it made anew"))
            }
            Failure::There(why) | Failure::Halted(why) => Self::Halted(why),
        }
    }
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Self {
        match &error {
            ExecutionError::LastAttemptError(attempt) => of_attempt(attempt),
            ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
                of_attempt(first_attempt)
            }
            ExecutionError::BadQuery(_) => Self::Halted(format!("the CQL driver does not take a request: {error}")),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match &error {
            PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

fn of_attempt(error: &RequestAttemptError) -> Failure {
    let RequestAttemptError::DbError(kind, said) = error else {
        return match error {
            RequestAttemptError::BrokenConnectionError(_) | RequestAttemptError::UnableToAllocStreamId => {
                Failure::Unavailable(error.to_string())
            }
            _ => Failure::Halted(format!("the CQL server and its driver do not understand each other: {error}")),
        };
    };
    match kind {
        DbError::Unauthorized | DbError::AuthenticationError => Failure::Refused(said.clone()),
        DbError::Invalid | DbError::ConfigError if is_missing(said) => Failure::Missing(said.clone()),
        DbError::AlreadyExists { .. } => Failure::There(said.clone()),
        DbError::Invalid if is_there(said) => Failure::There(said.clone()),
        DbError::Invalid | DbError::SyntaxError | DbError::ConfigError => {
            Failure::Halted(format!("the CQL server does not take a request: {said}"))
        }
        _ => Failure::Unavailable(format!("{kind}: {said}")),
    }
}

/// Cassandra and ScyllaDB have no code of their own for a keyspace or a table that is not there.
fn is_missing(said: &str) -> bool {
    ["does not exist", "unconfigured table", "Can't find a keyspace"].iter().any(|words| said.contains(words))
}

/// Likewise for a column that is there: as Cassandra has it, and as ScyllaDB.
fn is_there(said: &str) -> bool {
    ["already exists", "conflicts with an existing column"].iter().any(|words| said.contains(words))
}

/// Why no session came about. Wrong credentials are told from a cluster that is not there.
pub(super) fn of_opening(error: &NewSessionError) -> Failure {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error,
    })) = error
    else {
        return Failure::Unavailable(error.to_string());
    };
    let setup = match last_connection_error {
        ConnectionError::ConnectionSetupRequestError(setup) => setup,
        ConnectionError::IoError(error) if let Some(advice) = tls::advice(error) => return Failure::Refused(advice),
        error => return Failure::Unavailable(error.to_string()),
    };
    match &setup.error {
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError | DbError::Unauthorized, said) => {
            Failure::Refused(format!("{said}; check the user and the password"))
        }
        ConnectionSetupRequestErrorKind::MissingAuthentication => {
            Failure::Refused("it wants a user and a password, and none are given".to_owned())
        }
        ConnectionSetupRequestErrorKind::BrokenConnection(broken) if tls::is_refusal(&broken.to_string()) => {
            Failure::Refused(format!("{broken}: {}", tls::SHOW_OURS))
        }
        _ => Failure::Unavailable(setup.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: DbError, said: &str) -> Failure {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, said.to_owned())).into()
    }

    #[test]
    fn what_may_pass_is_unavailable() {
        for kind in [DbError::Overloaded, DbError::ServerError, DbError::IsBootstrapping] {
            assert!(matches!(of(kind, ""), Failure::Unavailable(_)));
        }
        let timeout = ExecutionError::RequestTimeout(std::time::Duration::from_secs(1));
        assert!(matches!(Failure::from(timeout), Failure::Unavailable(_)));
        assert!(matches!(Failure::from(ExecutionError::EmptyPlan), Failure::Unavailable(_)));
    }

    #[test]
    fn a_column_that_is_there_is_told_from_a_wrong_request() {
        for said in [
            "Column with name 'c' already exists",
            "Invalid column name c because it conflicts with an existing column",
        ] {
            assert!(matches!(of(DbError::Invalid, said), Failure::There(_)), "{said}");
        }
        let there = DbError::AlreadyExists { keyspace: "k".to_owned(), table: "t".to_owned() };
        assert!(matches!(of(there, "Cannot add already existing table"), Failure::There(_)));
    }

    #[test]
    fn a_missing_table_is_told_from_a_wrong_request() {
        for said in ["table locations does not exist", "unconfigured table locations", "Keyspace k does not exist"] {
            assert!(matches!(of(DbError::Invalid, said), Failure::Missing(_)), "{said}");
        }
        assert!(matches!(of(DbError::Invalid, "Undefined column name x"), Failure::Halted(_)));
        assert!(matches!(of(DbError::SyntaxError, "no viable alternative"), Failure::Halted(_)));
        assert!(matches!(TablesError::from(of(DbError::Unauthorized, "no MODIFY")), TablesError::Unavailable(_)));
    }
}
