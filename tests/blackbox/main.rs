//! Black box: the real binary, judged from outside. Expected rows come from the scripts' oracles, which share no code
//! with Segno; records reach Kafka through plain rdkafka, or through `segno append` where that is what is tested.

#[path = "../common/mod.rs"]
mod common;
#[path = "../faces/mod.rs"]
mod faces;

mod config_faults;
mod crash_embedded;
mod crash_kafka;
mod disk_faults;
mod feeding;
mod harness;
mod killing;
mod life;
mod log_faults;
mod moods;
mod pausing;
mod readers;
mod readme;
mod real_data;
mod record_faults;
mod replay_embedded;
mod replay_kafka;
mod replaying;
mod story;
mod upgrade;
