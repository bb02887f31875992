//! For tests: logs that stand in front of another.

use super::{Append, FetchLimit, LogError, Member, Message, Progress, RecordLog, Topic, Watermarks};
use async_trait::async_trait;
use std::{fmt::Debug, sync::Arc, time::Duration};
use tokio::time::Instant;
use tributary_schemas::frame::SchemaIds;

/// A log in front of another, to which goes all that it does not do otherwise. Who does something about appends has two to
/// change: with and without a time.
#[async_trait]
#[expect(missing_docs, reason = "they are those of the log")]
pub trait StandIn: Send + Sync + Debug + 'static {
    /// The log behind, for one call.
    fn behind(&self) -> &dyn RecordLog;

    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        self.behind().append(messages).await
    }
    async fn append_by(&self, messages: Vec<Append>, by: Instant) -> Result<Vec<i64>, LogError> {
        self.behind().append_by(messages, by).await
    }
    fn settles_within(&self) -> Duration {
        self.behind().settles_within()
    }
    async fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        self.behind().look(topic, places, limit).await
    }
    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Member>, LogError> {
        self.behind().join(group, topic).await
    }
}

#[async_trait]
impl<L: StandIn> RecordLog for L {
    fn id(&self) -> &str {
        self.behind().id()
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.behind().partitions(topic)
    }
    fn schema_ids(&self) -> Arc<dyn SchemaIds> {
        self.behind().schema_ids()
    }
    async fn learn_schemas(&self, ids: &[u32]) -> Result<bool, LogError> {
        self.behind().learn_schemas(ids).await
    }
    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        StandIn::append(self, messages).await
    }
    async fn append_by(&self, messages: Vec<Append>, by: Instant) -> Result<Vec<i64>, LogError> {
        StandIn::append_by(self, messages, by).await
    }
    fn settles_within(&self) -> Duration {
        StandIn::settles_within(self)
    }
    async fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, LogError> {
        self.behind().watermarks(topic, partition).await
    }
    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<i64>, LogError> {
        self.behind().committed(group, topic, partition).await
    }
    async fn progress_of(&self, groups: &[(&str, Topic)]) -> Result<Vec<Vec<Progress>>, LogError> {
        self.behind().progress_of(groups).await
    }
    async fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        StandIn::look(self, topic, places, limit).await
    }
    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Member>, LogError> {
        StandIn::join(self, group, topic).await
    }
}
