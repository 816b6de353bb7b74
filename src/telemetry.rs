//! Logs and metrics: how they are set up, and the names of all metrics.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    Human,
    Json,
}

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log level `{level}`: {reason}")]
    Level { level: String, reason: String },
    #[error("logs are already set up in this process: {0}")]
    Logs(String),
    #[error("metrics are already set up in this process: {0}")]
    Metrics(String),
}

/// Sends log lines to standard error, which leaves standard output to answers.
pub fn logs(level: &str, format: Format) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|error| Error::Level { level: level.to_owned(), reason: error.to_string() })?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let human = match format {
        Format::Auto => terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let set = if human {
        lines.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    set.map_err(|error| Error::Logs(error.to_string()))
}

/// Starts collecting metrics. The handle renders them in Prometheus's text format.
pub fn metrics() -> Result<PrometheusHandle, Error> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .map_err(|error| Error::Metrics(error.to_string()))?
        .install_recorder()
        .map_err(|error| Error::Metrics(error.to_string()))?;
    describe();
    Ok(handle)
}

/// Upper bounds of the histograms, in seconds: from a cached read to a stop.
const SECONDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0];

/// The names of all metrics. Labels are of low cardinality: `topic`, `partition`, `view`, `reason`, `route`, `status`.
pub mod names {
    /// Counter by topic, partition: records taken from the log.
    pub const RECORDS: &str = "segno_records_total";
    /// Counter by topic, partition: bytes taken from the log.
    pub const RECORD_BYTES: &str = "segno_record_bytes_total";
    /// Counter by topic, partition: batches taken from the log.
    pub const BATCHES: &str = "segno_batches_total";
    /// Counter by topic, partition: commits to the store.
    pub const COMMITS: &str = "segno_commits_total";
    /// Histogram by topic: how long a commit took.
    pub const COMMIT_SECONDS: &str = "segno_commit_seconds";
    /// Counter by topic, reason: records that were set aside or skipped.
    pub const HELD: &str = "segno_held_total";
    /// Counter by topic, partition: shards that were restarted.
    pub const RESTARTS: &str = "segno_restarts_total";

    /// Gauge by topic, partition: the position that readers see.
    pub const APPLIED: &str = "segno_applied_position";
    /// Gauge by topic, partition: the position that survives a crash of the machine.
    pub const DURABLE: &str = "segno_durable_position";
    /// Gauge by topic, partition: the end of the log.
    pub const LOG_END: &str = "segno_log_end_position";
    /// Gauge by topic, partition: offsets between the applied position and the end of the log.
    pub const LAG_RECORDS: &str = "segno_lag_records";
    /// Gauge by topic, partition: the age of the oldest record that has not been applied.
    pub const LAG_SECONDS: &str = "segno_lag_seconds";
    /// Gauge by topic, partition: aggregates in memory.
    pub const RESIDENT: &str = "segno_resident_aggregates";
    /// Gauge by topic, partition: records of the last batch.
    pub const BATCH_RECORDS: &str = "segno_batch_records";
    /// Gauge by topic, partition: records that are read and not yet committed.
    pub const IN_FLIGHT: &str = "segno_in_flight_records";
    /// Gauge by topic, partition, standing: events set aside now.
    pub const HELD_NOW: &str = "segno_held_records";
    /// Gauge by topic, view: rows.
    pub const ROWS: &str = "segno_view_rows";
    /// Gauge by topic, view, column: the view's books.
    pub const BOOKS: &str = "segno_view_records";
    /// Gauge: 1 when the node is ready.
    pub const READY: &str = "segno_ready";
    /// Gauge: seconds since the process started.
    pub const UPTIME_SECONDS: &str = "segno_uptime_seconds";

    /// Counter by topic, view: rows that the audit has folded again and compared.
    pub const AUDIT_KEYS: &str = "segno_audit_keys_total";
    /// Counter by topic, view, partition: rows that are not what their records give.
    pub const AUDIT_DIVERGED: &str = "segno_audit_diverged_total";
    /// Gauge by topic, view, partition, key, of one row: the first that is not what its records give, and the offset of
    /// the last of them; not a number when the generation that had it serves no more.
    pub const AUDIT_FIRST: &str = "segno_audit_first_diverging_offset";
    /// Counter by topic, reason: rows that the audit has picked and could not compare.
    pub const AUDIT_SKIPPED: &str = "segno_audit_skipped_total";

    /// Counter by route, status: HTTP answers.
    pub const REQUESTS: &str = "segno_http_requests_total";
    /// Histogram by route: how long an HTTP answer took.
    pub const REQUEST_SECONDS: &str = "segno_http_request_seconds";
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(names::RECORDS, "Records taken from the log");
    describe_counter!(names::RECORD_BYTES, Unit::Bytes, "Bytes taken from the log");
    describe_counter!(names::BATCHES, "Batches taken from the log");
    describe_counter!(names::COMMITS, "Commits to the store");
    describe_histogram!(names::COMMIT_SECONDS, Unit::Seconds, "How long a commit took");
    describe_counter!(names::HELD, "Records that were set aside or skipped, by reason");
    describe_counter!(names::RESTARTS, "Shards that were restarted");
    describe_gauge!(names::APPLIED, "The position that readers see");
    describe_gauge!(names::DURABLE, "The position that survives a crash of the machine");
    describe_gauge!(names::LOG_END, "The end of the log");
    describe_gauge!(names::LAG_RECORDS, "Offsets between the applied position and the end of the log");
    describe_gauge!(names::LAG_SECONDS, Unit::Seconds, "Age of the oldest record that has not been applied");
    describe_gauge!(names::RESIDENT, "Aggregates in memory");
    describe_gauge!(names::BATCH_RECORDS, "Records of the last batch");
    describe_gauge!(names::IN_FLIGHT, "Records that are read and not yet committed");
    describe_gauge!(names::HELD_NOW, "Events set aside now: waiting, parked or dead");
    describe_gauge!(names::ROWS, "Rows of a view");
    describe_gauge!(names::BOOKS, "A view's books: consumed, applied, skipped, waiting, parked, dead");
    describe_gauge!(names::READY, "1 when the node is ready");
    describe_gauge!(names::UPTIME_SECONDS, Unit::Seconds, "Seconds since the process started");
    describe_counter!(names::AUDIT_KEYS, "Rows that the audit has folded again and compared");
    describe_counter!(names::AUDIT_DIVERGED, "Rows that are not what their records give");
    describe_gauge!(
        names::AUDIT_FIRST,
        "The first row that is not what its records give, and the last of their offsets"
    );
    describe_counter!(names::AUDIT_SKIPPED, "Rows that the audit has picked and could not compare, by reason");
    describe_counter!(names::REQUESTS, "HTTP answers, by route and status");
    describe_histogram!(names::REQUEST_SECONDS, Unit::Seconds, "How long an HTTP answer took");
}
