//! Questions to the cluster: a topic's shape, a partition's ends, positions for a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::client::Client;
use super::context::{Context, is_moving, is_transport};
use super::offsets::{self, Listed, Spec};
use super::{KafkaOptions, properties};
use crate::position::{PartitionId, Position, Timestamp, TopicPartition};
use crate::streams::{Error, Result, TimeLookup, TopicInfo, Watermarks};

/// How long the first attempt may take; each one after it takes twice as long. Short, so that refused credentials are
/// noticed long before the whole time is up; doubling, so that a slow network gets through in the end.
const FIRST_ATTEMPT: Duration = Duration::from_millis(500);

/// Asks, within the request timeout.
pub(super) struct Asker {
    options: Arc<KafkaOptions>,
    client: Client,
}

impl Asker {
    pub fn new(options: Arc<KafkaOptions>) -> Result<Asker> {
        let context = Context::new(options.clone(), Vec::new());
        let client = Client::start(&options, &properties::asking(&options), context)?;
        Ok(Asker { options, client })
    }

    pub fn topic(&self, topic: &str) -> Result<TopicInfo> {
        let partitions = self.attempts(topic, |left| {
            let consumer = self.client.consumer();
            let metadata = consumer.fetch_metadata(Some(topic), left);
            let metadata =
                metadata.map_err(|error| (error.rdkafka_error_code().unwrap_or(Code::Fail), String::new()))?;
            let Some(found) = metadata.topics().first() else { return Err((Code::UnknownTopic, String::new())) };
            match found.error() {
                Some(error) => Err((error.into(), String::new())),
                None => Ok(found.partitions().len() as u32),
            }
        })?;
        let cluster = self.client.consumer().client().fetch_cluster_id(self.options.request_timeout);
        let cluster = cluster.ok_or_else(|| self.client.context().unreachable("the cluster did not tell its id"))?;
        Ok(TopicInfo { name: topic.to_owned(), cluster, partitions })
    }

    pub fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks> {
        let mut all = self.all_watermarks(&at.topic, &[at.partition])?;
        all.remove(&at.partition).ok_or_else(|| Error::PartitionMissing { at: at.clone() })
    }

    pub fn all_watermarks(&self, topic: &str, partitions: &[PartitionId]) -> Result<BTreeMap<PartitionId, Watermarks>> {
        let count = self.topic(topic)?.partitions;
        if let Some(partition) = partitions.iter().find(|partition| partition.0 >= count) {
            return Err(Error::PartitionMissing { at: TopicPartition::new(topic, partition.0) });
        }
        // The start first: retention may move it on meanwhile, but never beyond the end that is asked for after it.
        let starts = self.list(topic, partitions, Spec::Start)?;
        let ends = self.list(topic, partitions, Spec::End)?;
        // Proven: of a start or an end `Listed::failed` lets no negative offset pass.
        let position = |listed: &Listed| Position(u64::try_from(listed.offset).expect("an offset"));
        let ends: BTreeMap<_, _> = ends.iter().map(|l| (l.partition, position(l))).collect();
        let both = starts.iter().filter_map(|listed| {
            let end = *ends.get(&listed.partition)?;
            Some((listed.partition, Watermarks { start: position(listed), end }))
        });
        Ok(both.collect())
    }

    /// For each partition its ends, and what the broker's look-up says.
    pub fn positions_at(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> Result<Vec<(PartitionId, Watermarks, TimeLookup)>> {
        // Ends before look-ups: what is appended in between then lies above the end, and nothing is passed over.
        let all = self.all_watermarks(topic, partitions)?;
        let found: BTreeMap<_, _> = match time.0 {
            // Kafka takes negative times for other questions. No record is older than "no timestamp", −1, so the first
            // one is the answer.
            i64::MIN..0 => BTreeMap::new(),
            millis => self.list(topic, partitions, Spec::At(millis))?.into_iter().map(|l| (l.partition, l)).collect(),
        };
        let answer = |partition: &PartitionId| {
            let missing = || Error::PartitionMissing { at: TopicPartition::new(topic, partition.0) };
            let ends @ Watermarks { start, end } = *all.get(partition).ok_or_else(missing)?;
            let lookup = match found.get(partition) {
                Some(listed) if listed.offset >= 0 => TimeLookup::Found {
                    position: Position(listed.offset as u64),
                    timestamp: (listed.timestamp >= 0).then_some(Timestamp(listed.timestamp)),
                },
                None if time.0 < 0 && start < end => TimeLookup::Found { position: start, timestamp: None },
                _ => TimeLookup::AtEnd { position: end },
            };
            Ok((*partition, ends, lookup))
        };
        partitions.iter().map(answer).collect()
    }

    /// Whether the broker's "no record at or after `time`" can be believed, for one partition that is not empty.
    ///
    /// The broker looks into the first segment whose largest timestamp is late enough, and into no other. After
    /// `DeleteRecords` the record with that timestamp may lie below the log's start, in a segment that is not deleted
    /// yet, and then it answers "none" whatever the later segments hold. That cannot be when it finds something in
    /// open transactions, nor when no record at all is late enough.
    pub fn surely_none(&self, at: &TopicPartition, time: Timestamp) -> Result<bool> {
        let one = |spec| self.list(&at.topic, &[at.partition], spec);
        if one(Spec::AtUncommitted(time.0))?.iter().any(|listed| listed.offset >= 0) {
            return Ok(true);
        }
        let newest =
            self.attempts(&at.topic, |left| match self.listed(&at.topic, &[at.partition], Spec::Newest, left) {
                Err((code, _)) if is_unknown_question(code) => Ok(None),
                other => other.map(Some),
            })?;
        // Brokers before 3.0 do not know the question. What they answered first has to do.
        Ok(newest.is_none_or(|newest| newest.iter().all(|listed| listed.timestamp < time.0)))
    }

    fn list(&self, topic: &str, partitions: &[PartitionId], spec: Spec) -> Result<Vec<Listed>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.attempts(topic, |left| self.listed(topic, partitions, spec, left))
    }

    /// One attempt.
    fn listed(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        spec: Spec,
        left: Duration,
    ) -> std::result::Result<Vec<Listed>, (Code, String)> {
        let listed = offsets::list(self.client.native(), topic, partitions, spec, left)?;
        let Some((partition, code)) = listed.iter().find_map(|l| l.failed(spec).map(|code| (l.partition, code))) else {
            return Ok(listed);
        };
        if is_moving(code) {
            // librdkafka would ask the same broker again: of these errors it does not conclude that another one leads.
            let _ = self.client.consumer().fetch_metadata(Some(topic), left);
        }
        Err((code, format!("partition {partition}: {code}")))
    }

    /// Tries until it works, until it cannot work, or until the time is up.
    fn attempts<T>(
        &self,
        topic: &str,
        mut attempt: impl FnMut(Duration) -> std::result::Result<T, (Code, String)>,
    ) -> Result<T> {
        let deadline = Instant::now() + self.options.request_timeout;
        let context = self.client.context();
        let mut patience = FIRST_ATTEMPT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (code, text) = match attempt(left.min(patience).max(Duration::from_millis(1))) {
                Ok(answer) => {
                    context.recovered();
                    return Ok(answer);
                }
                Err(problem) => problem,
            };
            if matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic) {
                return Err(Error::TopicMissing { log: super::KIND, topic: topic.to_owned() });
            }
            if let Some(failure) = context.failure() {
                return Err(failure);
            }
            if !is_transport(code) {
                return Err(context.typed(code, topic, &text));
            }
            if Instant::now() >= deadline {
                let seconds = self.options.request_timeout.as_secs_f32();
                return Err(context.unreachable(&format!("no answer within {seconds} s ({code})")));
            }
            patience *= 2;
            // A refused connection answers at once; do not spin on it.
            std::thread::sleep(Duration::from_millis(20).min(left));
        }
    }
}

/// What a broker answers that does not know a question, and nothing else: any other error leaves the answer open.
fn is_unknown_question(code: Code) -> bool {
    matches!(code, Code::UnsupportedVersion | Code::InvalidRequest | Code::UnsupportedFeature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_nobody_knows_is_not_the_beginning() {
        let unknown = Listed { partition: PartitionId(0), offset: -1, timestamp: -1, error: None };
        for spec in [Spec::Start, Spec::End] {
            assert!(unknown.failed(spec).is_some_and(is_moving), "{spec:?}");
            assert_eq!(Listed { offset: 0, ..unknown }.failed(spec), None);
        }
        assert_eq!(unknown.failed(Spec::At(5)), None, "no record is late enough");
    }

    #[test]
    fn only_an_old_broker_leaves_the_first_answer_as_it_is() {
        for code in [Code::UnsupportedVersion, Code::InvalidRequest, Code::UnsupportedFeature] {
            assert!(is_unknown_question(code), "{code}");
        }
        for code in
            [Code::OffsetNotAvailable, Code::KafkaStorageError, Code::FencedLeaderEpoch, Code::Fail, Code::Unknown]
        {
            assert!(!is_unknown_question(code), "{code}");
        }
    }
}
