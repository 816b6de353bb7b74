//! Appending to a real broker: where records land, and what is refused.

mod common;

use common::broker::shared;
use segno::position::PartitionId;
use segno::record::NewRecord;
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::{Error, Log};

fn connect() -> Kafka {
    Kafka::connect(KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() }).unwrap()
}

#[test]
fn appends_land_where_kafkas_own_partitioner_puts_them_and_in_order() {
    let topic = shared().topic("append", 4);
    let log = connect();
    let records: Vec<_> = (0..5000)
        .map(|i| NewRecord {
            key: Some(format!("key-{}", i % 50).into_bytes()),
            value: Some(i.to_string().into_bytes()),
            timestamp: Some(1_700_000_000_000 + i),
            headers: vec![("n".to_owned(), Some(vec![1])), ("null".to_owned(), None)],
            ..NewRecord::default()
        })
        .collect();
    let appended = log.append(&topic, records.clone()).unwrap();
    for partition in 0..4 {
        let mine: Vec<_> =
            appended.iter().zip(&records).filter(|(a, _)| a.partition == PartitionId(partition)).collect();
        assert!(mine.windows(2).all(|w| w[0].0.offset < w[1].0.offset), "Order");
        assert!(
            mine.iter()
                .all(|(_, r)| { segno::streams::murmur2::partition_of(r.key.as_ref().unwrap(), 4) == partition })
        );
    }
    let spread = log.append(&topic, vec![NewRecord::default(); 8]).unwrap();
    assert!((0..4).all(|p| spread.iter().filter(|a| a.partition == PartitionId(p)).count() == 2), "{spread:?}");
    let named = log.append(&topic, vec![NewRecord { partition: Some(3), ..NewRecord::default() }]).unwrap();
    assert_eq!(named[0].partition, PartitionId(3));
    assert_eq!(log.append(&topic, Vec::new()).unwrap(), []);
}

#[test]
fn a_record_that_is_too_large_is_refused_with_both_numbers() {
    let topic = shared().topic_with("large", 1, &[("max.message.bytes", "20000")]);
    let log = connect();
    // Noise, so that compression does not make it small.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let noise: Vec<u8> = (0..1_100_000).map(|_| noise()).collect();
    let of = |bytes: usize| vec![NewRecord { value: Some(noise[..bytes].to_vec()), ..NewRecord::default() }];
    let error = log.append(&topic, of(30_000)).unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 30_000, max: 20_000 }), "{error}");
    let error = log.append(&topic, of(1_100_000)).unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 1_100_000, max: 1_000_000 }), "{error}");
    log.append(&topic, of(10_000)).unwrap();
    let error = log.append(&topic, vec![NewRecord { timestamp: Some(0), ..NewRecord::default() }]).unwrap_err();
    assert!(error.to_string().contains("timestamp 0"), "{error}");
}
