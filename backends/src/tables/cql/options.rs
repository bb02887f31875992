//! What is chosen when the tables are opened.

use super::Tls;
use crate::{
    tables::TablesError,
    world::{SystemWorld, World},
};
use std::{fmt, sync::Arc, time::Duration};

/// Where the tables are, and how long to wait for them.
#[derive(Clone)]
pub struct Options {
    /// `host` or `host:port` of some nodes of the cluster (port 9042 when none is given); the others are found through
    /// them.
    pub nodes: Vec<String>,
    /// Keyspace of everything but the key index, which is in `<keyspace>_index`: the index can be made again from the
    /// lake, so it may be dropped or copied less often. Both are made when they are not there. Default `tributary`.
    pub keyspace: String,
    /// Who logs in, where the cluster wants to know.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<String>,
    /// Encryption. Default: none.
    pub tls: Option<Tls>,
    /// Copies of each row, for keyspaces that are made here. Default: three, or as many as there are nodes.
    pub replication: Option<u32>,
    /// The data center to work with. It must be named where there are several, and be the same for all processes:
    /// what one has written with `LOCAL_QUORUM`, another must read there.
    pub datacenter: Option<String>,
    /// How long a call is tried before it fails with [`TablesError::Unavailable`]. Default 10 s, which outlives the loss
    /// of a node. Shorter: senders hear sooner that they must come back.
    pub request_timeout: Duration,
    /// How long opening waits for the cluster to answer, and for each of its steps. Default 30 s, for a busy cluster takes
    /// seconds to make a table.
    pub start_timeout: Duration,
    /// Time and randomness.
    pub world: Arc<dyn World>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "tributary".to_owned(),
            user: None,
            password: None,
            tls: None,
            replication: None,
            datacenter: None,
            request_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(30),
            world: Arc::new(SystemWorld),
        }
    }
}

impl fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .field("replication", &self.replication)
            .field("datacenter", &self.datacenter)
            .field("request_timeout", &self.request_timeout)
            .field("start_timeout", &self.start_timeout)
            .finish_non_exhaustive()
    }
}

/// Names of keyspaces have up to 48 characters, and the index's has six more than the other.
const LONGEST_KEYSPACE: usize = 42;

impl Options {
    /// Keyspace of the key index.
    pub(super) fn index_keyspace(&self) -> String {
        format!("{}_index", self.keyspace)
    }

    /// How long one attempt of a request may take. Longer than the servers' own time-outs (2 s for a write), so that
    /// they and not we say what happened; a third of the whole, so that there is a second one.
    pub(super) fn attempt_timeout(&self) -> Duration {
        (self.request_timeout / 3).max(Duration::from_millis(100))
    }

    /// Refuses what could never work, before any server is asked.
    pub(super) fn check(&self) -> Result<(), TablesError> {
        let halted = |reason: String| Err(TablesError::Halted(reason));
        if self.nodes.iter().all(|node| node.trim().is_empty()) {
            return halted("no node of the CQL cluster is named".to_owned());
        }
        let keyspace = &self.keyspace;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !keyspace.starts_with(|c: char| c.is_ascii_lowercase())
            || !keyspace.chars().all(legal)
            || keyspace.len() > LONGEST_KEYSPACE
        {
            return halted(format!(
                "{keyspace:?} cannot be a keyspace: up to {LONGEST_KEYSPACE} of [a-z0-9_], a letter first"
            ));
        }
        if self.user.is_some() != self.password.is_some() {
            return halted("of user and password for the CQL cluster only one is given".to_owned());
        }
        if self.replication == Some(0) {
            return halted("0 copies of each row keep nothing".to_owned());
        }
        if self.request_timeout.is_zero() || self.start_timeout.is_zero() {
            return halted("the time-outs of the CQL cluster must be longer than nothing".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let options =
            Options { user: Some("me".to_owned()), password: Some("secret".to_owned()), ..Options::default() };
        let shown = format!("{options:?}");
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let check = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check()
        };
        assert!(check(|_| ()).is_ok());
        let wrong: [fn(&mut Options); 8] = [
            |o| o.nodes = vec![],
            |o| o.nodes = vec![" ".to_owned()],
            |o| o.keyspace = "a; DROP".to_owned(),
            |o| o.keyspace = "1a".to_owned(),
            |o| o.keyspace = "a".repeat(43),
            |o| o.user = Some("me".to_owned()),
            |o| o.replication = Some(0),
            |o| o.request_timeout = Duration::ZERO,
        ];
        for (n, change) in wrong.into_iter().enumerate() {
            assert!(matches!(check(change), Err(TablesError::Halted(_))), "number {n}");
        }
    }
}
