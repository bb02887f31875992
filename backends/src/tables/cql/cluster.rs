//! The connection to the cluster: how statements are prepared, run, tried again and given up.
//!
//! Every statement is idempotent, so one whose outcome is not known is simply run again: plain writes say the same thing
//! twice, and of conditional writes each carries what tells its own outcome from another's (see the modules that have
//! them). The driver routes by token; it tries nothing again by itself.
//!
//! Consistency:
//!
//! - `LOCAL_QUORUM` for reads and writes alike: what was acknowledged is on a majority, and a majority is asked, so that
//!   the loss of a minority of the copies loses nothing and hides nothing.
//! - `SERIAL` for the condition of conditional writes, `LOCAL_QUORUM` for their outcome, so that plain reads see it.

use super::{
    failure::{Failure, of_opening},
    options::Options,
    patience::{LONGEST_DELAY, Patience, delays},
};
use crate::{crash, tables::TablesError, world::World};
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    deserialize::row::DeserializeRow,
    policies::{load_balancing::DefaultPolicy, retry::FallthroughRetryPolicy},
    response::{PagingState, query_result::QueryResult},
    serialize::row::SerializeRow,
    statement::{
        Consistency, SerialConsistency, Statement,
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlValue, Row},
};
use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A connection on which nothing comes back for this long is asked whether it lives, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A connected cluster.
pub(super) struct Cluster {
    session: Session,
    patience: Patience,
    /// How long each step of opening is tried: servers that are busy take seconds to make a table.
    step_timeout: Duration,
    pub(super) world: Arc<dyn World>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects; tries until the start time-out is over, except when the cluster refuses the user.
    pub(super) async fn connect(options: &Options) -> Result<Self, TablesError> {
        let deadline = Instant::now() + options.start_timeout;
        let mut waits = delays(&*options.world);
        let builder = builder(options)?;
        let session = loop {
            let why = match timeout_at(deadline, builder.build()).await {
                Ok(Ok(session)) => break session,
                Ok(Err(error)) => match of_opening(&error) {
                    Failure::Unavailable(why) => why,
                    Failure::Refused(why) | Failure::Missing(why) | Failure::There(why) | Failure::Halted(why) => {
                        return Err(TablesError::Halted(format!("the CQL cluster lets nobody in: {why}")));
                    }
                },
                Err(_) => "no answer in time".to_owned(),
            };
            let delay = waits.next().unwrap_or(LONGEST_DELAY);
            if Instant::now() + delay >= deadline {
                let nodes = options.nodes.join(", ");
                return Err(TablesError::Unavailable(format!("no CQL server answers at {nodes}: {why}")));
            }
            tokio::time::sleep(delay).await;
        };
        let step_timeout = options.start_timeout.max(options.request_timeout);
        let (patience, world) = (Patience::new(options), Arc::clone(&options.world));
        let cluster = Self { session, patience, step_timeout, world };
        cluster.check_datacenters(options)?;
        Ok(cluster)
    }

    /// Nodes of several data centers, none of them named, would make `LOCAL_QUORUM` mean another majority each time.
    fn check_datacenters(&self, options: &Options) -> Result<(), TablesError> {
        let state = self.session.get_cluster_state();
        let known: BTreeSet<&str> =
            state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
        let known_text = || known.iter().copied().collect::<Vec<_>>().join(", ");
        match &options.datacenter {
            Some(wanted) if !known.contains(wanted.as_str()) => {
                Err(TablesError::Halted(format!("the CQL cluster has no data center {wanted}, but {}", known_text())))
            }
            None if known.len() > 1 => Err(TablesError::Halted(format!(
                "the CQL cluster has several data centers ({}): name the one to work with",
                known_text()
            ))),
            _ => Ok(()),
        }
    }

    /// Nodes that rows can be copied to.
    pub(super) fn nodes(&self, datacenter: Option<&str>) -> usize {
        let state = self.session.get_cluster_state();
        let here = |name: Option<&str>| datacenter.is_none() || datacenter == name;
        state.get_nodes_info().iter().filter(|node| here(node.datacenter.as_deref())).count()
    }

    /// The driver's own session, for what is not a prepared statement.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Prepares a statement, plain or conditional. A step of opening.
    pub(super) async fn prepare(&self, cql: impl Into<Statement>) -> Result<PreparedStatement, Failure> {
        let cql = cql.into();
        let mut prepared =
            self.opening(|| async { self.session.prepare(cql.clone()).await.map_err(Failure::from) }).await?;
        prepared.set_is_idempotent(true);
        // Only what it is that comes back may change, and never does while a process runs.
        prepared.set_use_cached_result_metadata(true);
        Ok(prepared)
    }

    /// Prepares a read that first brings every conditional write before it to its end.
    pub(super) async fn prepare_serial(&self, cql: &str) -> Result<PreparedStatement, Failure> {
        let mut prepared = self.prepare(cql).await?;
        prepared.set_consistency(Consistency::Serial);
        Ok(prepared)
    }

    /// Runs a statement, repeating it while that may help.
    pub(super) async fn run(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failure> {
        let attempt = || async { Ok(self.session.execute_unpaged(statement, &values).await?) };
        self.patience.call(attempt).await
    }

    /// Runs a statement that writes.
    pub(super) async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<(), Failure> {
        self.run(statement, values).await?;
        crash::point("tables.after_write");
        Ok(())
    }

    /// Runs a statement that is not prepared. A step of opening.
    pub(super) async fn query(
        &self,
        mut statement: Statement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failure> {
        statement.set_request_timeout(Some(self.step_timeout / 3));
        let attempt = || async { Ok(self.session.query_unpaged(statement.clone(), &values).await?) };
        self.opening(attempt).await
    }

    /// Runs a conditional write; whether it was applied. One that was repeated after an unclear answer may say that it
    /// was not although the first of them was: the caller finds out from what is there.
    pub(super) async fn applies(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<bool, Failure> {
        let result = self.run(statement, values).await?;
        crash::point("tables.after_write");
        applied(result)
    }

    /// All rows that a statement finds.
    pub(super) async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        rows(self.run(statement, values).await?)
    }

    /// Gives what a statement finds page by page.
    pub(super) async fn pages(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        mut each: impl FnMut(QueryResult) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut state = None;
        loop {
            let (page, next) = self.page(statement, &values, state).await?;
            each(page)?;
            match next {
                Some(next) => state = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// One page of what a statement finds, the first or where another ended, and where the next one begins.
    pub(super) async fn page(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        from: Option<PagingState>,
    ) -> Result<(QueryResult, Option<PagingState>), Failure> {
        let from = from.unwrap_or_else(PagingState::start);
        let attempt = || async { Ok(self.session.execute_single_page(statement, &values, from.clone()).await?) };
        let (page, next) = self.patience.call(attempt).await?;
        match next.into_paging_control_flow() {
            ControlFlow::Continue(next) => Ok((page, Some(next))),
            ControlFlow::Break(()) => Ok((page, None)),
        }
    }

    /// Writes several rows of one partition as one mutation.
    pub(super) async fn write_together(
        &self,
        statement: &PreparedStatement,
        rows: &[impl SerializeRow],
    ) -> Result<(), Failure> {
        match rows {
            [] => Ok(()),
            [row] => self.write(statement, row).await,
            rows => {
                let mut batch =
                    Batch::new_with_statements(BatchType::Unlogged, vec![statement.clone().into(); rows.len()]);
                batch.set_is_idempotent(true);
                let attempt = || async { Ok(self.session.batch(&batch, rows).await?) };
                self.patience.call(attempt).await?;
                crash::point("tables.after_write");
                Ok(())
            }
        }
    }

    /// Repeats an attempt of a step of opening.
    async fn opening<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.patience.within(self.step_timeout, attempt).await
    }
}

fn builder(options: &Options) -> Result<SessionBuilder, TablesError> {
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &options.datacenter {
        balancing = balancing.prefer_datacenter(datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(options.attempt_timeout()))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .load_balancing_policy(balancing.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .default_execution_profile_handle(profile.into_handle())
        // Only how the keyspaces are copied is needed, for routing; of the tables the prepared statements know enough.
        .keyspaces_to_fetch([options.keyspace.clone(), options.index_keyspace()])
        .fetch_full_schema_metadata(false)
        .refresh_metadata_on_auto_schema_agreement(false)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE)
        .schema_agreement_interval(Duration::from_millis(50))
        .schema_agreement_timeout(options.start_timeout)
        .connection_timeout(options.start_timeout.min(Duration::from_secs(5)));
    if let (Some(user), Some(password)) = (&options.user, &options.password) {
        builder = builder.user(user, password);
    }
    if let Some(tls) = &options.tls {
        builder = builder.tls_context(Some(tls.config()?));
    }
    Ok(builder)
}

/// Awaits all, so many at once, up to the first that fails; what they give, in their order.
pub(super) async fn all<T, E>(
    at_once: usize,
    futures: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    stream::iter(futures).buffered(at_once).try_collect().await
}

/// The rows of a result.
pub(super) fn rows<R>(result: QueryResult) -> Result<Vec<R>, Failure>
where
    R: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let result = result.into_rows_result().map_err(unreadable)?;
    result.rows::<R>().map_err(unreadable)?.map(|row| row.map_err(unreadable)).collect()
}

/// What a conditional write says of itself.
pub(super) fn applied(result: QueryResult) -> Result<bool, Failure> {
    // What follows the first column differs between Cassandra and ScyllaDB.
    let row: Option<Row> = rows(result)?.pop();
    let first = row.and_then(|row| row.columns.into_iter().next().flatten());
    match first {
        Some(CqlValue::Boolean(applied)) => Ok(applied),
        other => Err(Failure::Halted(format!("the CQL server does not say whether it wrote, but {other:?}"))),
    }
}

/// Of what comes back in another shape than it was asked for.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::Halted(format!("a row of the CQL tables does not read: {error}; was the table changed by hand?"))
}
