//! librdkafka's errors, classified by what the caller must do.

use crate::log::LogError;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// What became of an append.
pub(super) fn append(error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
            LogError::Halted("the message is larger than the topic takes".to_owned())
        }
        Some(Code::InvalidRecord) => LogError::Halted("the topic does not take the message".to_owned()),
        Some(Code::QueueFull) => LogError::Unavailable("too much waits for the brokers already".to_owned()),
        Some(Code::MessageTimedOut) => LogError::Unavailable("the brokers did not acknowledge in time".to_owned()),
        _ => unavailable("append", error),
    }
}

/// What may pass, with what is known about why.
pub(super) fn unavailable(action: &str, error: &KafkaError) -> LogError {
    let hint = error.rdkafka_error_code().and_then(hint).map(|hint| format!(": {hint}")).unwrap_or_default();
    let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
    LogError::Unavailable(format!("cannot {action}: {reason}{hint}"))
}

/// What the operator could do.
fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId => {
            Some("the topic is gone; start again to have it made anew")
        }
        Code::TopicAuthorizationFailed => Some("give the user Read, Write, Describe and DescribeConfigs on the topics"),
        Code::GroupAuthorizationFailed => Some("give the user Read and Describe on the consumer groups"),
        Code::ClusterAuthorizationFailed => Some("give the user IdempotentWrite and Create on the cluster"),
        Code::Authentication | Code::SaslAuthenticationFailed => Some("check the user and the password"),
        Code::SSL => Some("check the certificates"),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            Some("too many brokers are down for min.insync.replicas")
        }
        Code::KafkaStorageError => Some("a broker's disk failed or is full"),
        _ => None,
    }
}

/// Whether a partition is changing its leader, or was made a moment ago: the client asks who leads it now.
pub(super) fn is_leader_unclear(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
        )
    )
}

/// What a failed commit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// Another member owns the partition.
    Fenced,
    /// The group is changing, or this member's part in it is in doubt: ask again soon, unless the partition is lost.
    Again,
    /// It could not be done now.
    Unavailable,
}

/// Classifies a failed commit.
pub(super) fn commit(error: &KafkaError) -> Commit {
    match error.rdkafka_error_code() {
        Some(Code::AssignmentLost | Code::Fenced | Code::FencedInstanceId | Code::FencedMemberEpoch) => Commit::Fenced,
        Some(
            Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator,
        ) => Commit::Again,
        _ => Commit::Unavailable,
    }
}

/// What an error in place of a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The position lies outside what the partition holds.
    OutOfRange,
    /// The bytes are not what was written.
    Corrupt,
    /// It could not be done now.
    Unavailable,
}

/// Classifies a failed read.
pub(super) fn read(error: &KafkaError) -> Read {
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset) => Read::OutOfRange,
        Some(Code::BadMessage | Code::InvalidMessage | Code::BadCompression) => Read::Corrupt,
        _ => Read::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_never_fits_is_not_tried_again() {
        for code in [Code::MessageSizeTooLarge, Code::InvalidRecord] {
            assert!(matches!(append(&KafkaError::MessageProduction(code)), LogError::Halted(_)));
        }
    }

    #[test]
    fn what_may_pass_is_unavailable_and_says_what_to_do() {
        for code in [Code::NotEnoughReplicas, Code::TopicAuthorizationFailed, Code::QueueFull, Code::MessageTimedOut] {
            assert!(matches!(append(&KafkaError::MessageProduction(code)), LogError::Unavailable(_)));
        }
        let LogError::Unavailable(text) = append(&KafkaError::MessageProduction(Code::UnknownTopic)) else { panic!() };
        assert!(text.contains("start again"), "{text}");
    }

    #[test]
    fn a_rebalance_does_not_fence() {
        let of = |code| commit(&KafkaError::ConsumerCommit(code));
        assert_eq!(of(Code::RebalanceInProgress), Commit::Again);
        assert_eq!(of(Code::UnknownMemberId), Commit::Again);
        assert_eq!(of(Code::AssignmentLost), Commit::Fenced);
        assert_eq!(of(Code::GroupAuthorizationFailed), Commit::Unavailable);
    }

    #[test]
    fn damage_is_told_from_a_position_outside() {
        let of = |code| read(&KafkaError::MessageConsumption(code));
        assert_eq!(of(Code::BadMessage), Read::Corrupt);
        assert_eq!(of(Code::AutoOffsetReset), Read::OutOfRange);
        assert_eq!(of(Code::BrokerTransportFailure), Read::Unavailable);
    }
}
