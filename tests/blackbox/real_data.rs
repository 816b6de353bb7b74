//! Data that nobody here shaped, through views that nobody compiled: every row as the independent computation has it.

use crate::faces::Place;
use crate::harness::*;

#[test]
fn strikes_and_flights_are_what_the_data_says() {
    let _alone = alone();
    let place = Place::new(&std::fs::read_to_string(repository("examples/airports.toml")).unwrap());
    let data = place.path("real");
    let data = data.to_str().unwrap();
    script("real-data.sh", &[data]);
    let mut daemon = place.daemon(&[]);
    for (topic, file, least) in
        [("airports.strikes", "strikes.jsonl", 10_000), ("airports.flights", "flights.jsonl", 10_000)]
    {
        let file = format!("{data}/{file}");
        let args = ["append", topic, &file, "--key", "aggregate_id", "--timestamp", "timestamp", "--json"];
        let appended = place.run(&args).ok().json();
        assert!(appended["records"].as_u64().unwrap() >= least, "{appended}");
        assert_eq!(appended["skipped"], 0);
    }
    let status = settled(&mut daemon);
    let (expected, expected_books) =
        (script_json("real_oracle.py", &[data]), script_json("real_oracle.py", &[data, "--books"]));
    let books = books(&status);
    assert_eq!(books.len(), expected.as_object().unwrap().len());
    for (view, rows_of_view) in expected.as_object().unwrap() {
        assert_rows(view, &rows(&daemon, view), rows_of_view);
        for (column, count) in expected_books[view].as_object().unwrap() {
            assert_eq!(&books[view][column], count, "{column} of {view}: {}", books[view]);
        }
        assert_eq!(books[view]["waiting"], 0);
    }
}
