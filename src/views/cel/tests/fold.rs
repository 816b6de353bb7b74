//! What events do to rows.

use super::*;

/// The value that one expression gives, as it is stored.
fn value(initial: Literal, expression: &str, payload: &str) -> Result<String, Failure> {
    let mut row = view(&[("x", initial), ("n", Literal::Int(5)), ("m", Literal::Map(BTreeMap::new()))])
        .on("A", "x", expression)
        .row();
    row.apply(&event("A", payload))?;
    let stored: serde_json::Value = serde_json::from_str(&json(row.as_ref())).unwrap();
    Ok(stored["x"].to_string())
}

fn any(expression: &str, payload: &str) -> Result<String, Failure> {
    value(Literal::Null, expression, payload)
}

fn rejected(result: Result<String, Failure>) -> String {
    match result {
        Err(Failure::Rejected(reason)) => reason,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

#[test]
fn a_bank_account() {
    let mut row = bank().row();
    assert_eq!(row.apply(&event("AccountOpened", r#"{"owner":"Ada"}"#)), Ok(Applied::Folded));
    assert_eq!(row.apply(&event("MoneyDeposited", r#"{"amount":100,"note":[1.5,{"x":null}]}"#)), Ok(Applied::Folded));
    assert_eq!(row.apply(&event("MoneyWithdrawn", r#"{"amount":30}"#)), Ok(Applied::Folded));
    let after = r#"{"balance":70,"owner":"Ada","transactions":2}"#;
    assert_eq!(json(row.as_ref()), after);
    let no = Err(Failure::Rejected("insufficient funds".into()));
    assert_eq!(row.apply(&event("MoneyWithdrawn", r#"{"amount":71}"#)), no);
    assert_eq!(json(row.as_ref()), after);
    assert!(row.checkpoint().is_none());
}

#[test]
fn assignments_see_the_old_row_and_happen_together() {
    let swap = view(&[("a", Literal::Int(1)), ("b", Literal::Int(2))])
        .on("Swap", "a", "state.b")
        .on("Swap", "b", "state.a")
        .on("Torn", "a", "state.a + 1")
        .on("Torn", "b", "event.payload.b");
    let mut row = swap.row();
    row.apply(&event("Swap", "null")).unwrap();
    assert_eq!(json(row.as_ref()), r#"{"a":2,"b":1}"#);
    let torn = row.apply(&event("Torn", r#"{"b":"x"}"#));
    assert_eq!(torn, Err(Failure::Rejected("`b`: expected int, got string".into())));
    assert_eq!(json(row.as_ref()), r#"{"a":2,"b":1}"#, "the first assignment did not happen either");
}

#[test]
fn the_envelope_is_at_hand() {
    let all = "[event.type, event.id, event.version, event.timestamp, event.key, event.offset, event.partition, \
               event.topic, event.metadata.user_id, event.metadata.correlationId, has(event.metadata.user_id), \
               has(event.metadata.causation_id)]";
    assert_eq!(
        any(all, "{}").unwrap(),
        r#"["A","e1",2,"2024-05-01T10:00:00.123Z","k1",7,3,"bank","u1",null,true,false]"#
    );
    assert_eq!(
        any("event.timestamp.date() + '/' + event.timestamp.hour()", "{}").unwrap(),
        "\"2024-05-01/2024-05-01T10\""
    );
    assert_eq!(any("event.timestamp.getHours('Europe/Berlin')", "{}").unwrap(), "12");
}

#[test]
fn numbers_are_exact() {
    assert_eq!(any("event.payload.n + state.n", r#"{"n":9007199254740993}"#).unwrap(), "9007199254740998");
    assert_eq!(any("event.payload.n", r#"{"n":0.1}"#).unwrap(), "0.1");
    for n in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e400", "[1e400]"] {
        let result = any("event.payload.n", &format!(r#"{{"n":{n}}}"#));
        assert!(matches!(&result, Err(Failure::Undecodable(_))), "{n}: {result:?}");
    }
    let most = format!(r#"{{"n":{}}}"#, i64::MAX);
    assert!(rejected(any("event.payload.n + 1", &most)).contains("9223372036854775807 + 1 is beyond"));
    assert!(rejected(any("state.n / event.payload.n", r#"{"n":0}"#)).contains("division by zero"));
    assert!(rejected(any("1.0 / event.payload.n", r#"{"n":0.0}"#)).contains("inf, which JSON cannot hold"));
}

#[test]
fn a_result_of_another_type_is_rejected_by_name() {
    let amount = |payload: &str| value(Literal::Int(0), "state.n + event.payload.amount", payload);
    assert!(rejected(amount(r#"{"amount":"5"}"#)).contains("`x`: `+` does not work on int and string"));
    assert!(rejected(amount(r#"{"amount":5.5}"#)).contains("convert one with double() or int()"));
    assert!(rejected(amount(r#"{"amount":null}"#)).contains("int and null"));
    assert!(rejected(amount("{}")).contains("no such field `event.payload.amount`"));
    assert!(rejected(amount("[1]")).contains("no such field"));
    assert!(rejected(amount("null")).contains("no such field"));
    let plain = |initial, payload: &str| value(initial, "event.payload.v", payload);
    for (initial, payload, got) in [
        (Literal::Int(0), "1.0", "expected int, got float"),
        (Literal::Float(0.0), r#""1""#, "expected float, got string"),
        (Literal::Float(0.0), "9007199254740993", "expected float, got int"),
        (text(""), "1", "expected string, got int"),
        (text(""), "null", "expected string, got null"),
        (Literal::Bool(true), "0", "expected bool, got int"),
        (Literal::List(vec![]), "{}", "expected list, got map"),
        (Literal::Map(BTreeMap::new()), "[]", "expected map, got list"),
        (Literal::Time(Moment::EPOCH), r#""1970-01-01T00:00:00Z""#, "expected timestamp, got string"),
    ] {
        let reason = rejected(plain(initial, &format!(r#"{{"v":{payload}}}"#)));
        assert!(reason.contains(got), "{reason}");
    }
    assert_eq!(plain(Literal::Float(0.0), r#"{"v":12}"#).unwrap(), "12.0", "the same number");
}

#[test]
fn what_json_cannot_hold_is_rejected() {
    assert!(rejected(any("{1: event.type}", "{}")).contains("keys that are not strings"));
    assert!(rejected(any("[event.timestamp - timestamp('2024-01-01T00:00:00Z')]", "{}")).contains("duration"));
    let deep = format!(r#"{{"v":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    assert!(rejected(any("event.payload.v", &deep)).contains("nested deeper than 64"));
    assert_eq!(any("[event.timestamp]", "{}").unwrap(), r#"["2024-05-01T10:00:00.123Z"]"#);
}

#[test]
fn payloads_are_reached_in_every_way() {
    let payload = r#"{"a":{"b":[{"c":1},{"c":2}],"b-c":true,"null":null},"list":[3,1,2],"text":"t\n"}"#;
    for (expression, expected) in [
        ("event.payload.a.b[1].c", "2"),
        ("event.payload['a']['b-c']", "true"),
        ("event.payload.a.b.map(i, i.c * 10)", "[10,20]"),
        ("event.payload.list.filter(i, i > 1).sort()", "[2,3]"),
        ("event.payload.a.b.exists(i, i.c == 2) && event.payload.list.all(i, i < 9)", "true"),
        ("event.payload.map(k, k)", r#"["a","list","text"]"#),
        ("{'z': 1, 'y': 2, 'x': 3}.map(k, k)", r#"["x","y","z"]"#),
        ("has(event.payload.a.b) && !has(event.payload.a.x) && !has(event.payload.x.y) && has(event.payload)", "true"),
        ("has(event.payload.x) ? event.payload.x : 'none'", "\"none\""),
        ("event.payload.a['null'] == null", "true"),
        ("has(state.n) && !has(state.m.x)", "true"),
        ("event.payload", payload),
        ("size(event.payload.list) + event.payload.text.size()", "5"),
        ("math.greatest(event.payload.list) + math.least(4, state.n, 9)", "7"),
        ("event.payload.a.b.sortBy(i, -i.c).map(i, i.c)", "[2,1]"),
        ("[1, 2].map(x, [3].map(y, x + y + state.n))", "[[9],[10]]"),
        ("event.payload.text.matches('^t')", "true"),
        ("type(event.payload.list) == list", "true"),
        ("event.payload.list[0] in [3] ? 1.5 : 2", "1.5"),
        ("timestamp('2024-05-01T12:00:00+02:00')", "\"2024-05-01T10:00:00Z\""),
    ] {
        assert_eq!(any(expression, payload).as_deref(), Ok(expected), "{expression}");
    }
    assert!(rejected(any("event.payload.list[9]", payload)).contains("there is no element 9"));
    assert!(rejected(any("event.payload.a.b[0].x", payload)).contains("no such field `x`"));
    assert!(rejected(any("event.payload.a.text", payload)).contains("no such field `event.payload.a.text`"));
}

/// What is asked for is found or not, whatever is missing on the way, and wherever the way begins.
#[test]
fn has_is_alike_for_payload_row_and_anything_else() {
    let value = r#"{"a":{"b":{"c":null}},"n":1,"l":[{"a":1}]}"#;
    let mut row =
        view(&[("m", Literal::Map(BTreeMap::new())), ("x", Literal::List(vec![]))]).on("Set", "m", "event.payload").on(
            "A",
            "x",
            "[has(event.payload.PATH), has(state.m.PATH), [state.m].all(i, has(i.PATH)), has([state.m][0].PATH)]",
        );
    let template = row.spec.on["A"]["x"].text.clone();
    for (path, found) in [
        ("a", true),
        ("a.b", true),
        ("a.b.c", true),
        ("a['b'].c", true),
        ("z", false),
        ("z.b", false),
        ("a.z.c", false),
        ("a.b.c.d", false),
        ("n.b", false),
        ("l.a", false),
        ("n.b.c.d", false),
    ] {
        row.spec.on.get_mut("A").unwrap().get_mut("x").unwrap().text = template.replace("PATH", path);
        let mut row = Declared::compile(&row.spec).unwrap_or_else(|error| panic!("{error}")).initial();
        row.apply(&event("Set", value)).unwrap();
        assert_eq!(row.apply(&event("A", value)), Ok(Applied::Folded), "{path}");
        let stored: serde_json::Value = serde_json::from_str(&json(row.as_ref())).unwrap();
        assert_eq!(stored["x"], serde_json::json!(vec![found; 4]), "{path}");
    }
    let wrong = rejected(any("has(event.payload.l[9].a)", value));
    assert!(wrong.contains("there is no element 9"), "what the way begins with must be there: {wrong}");
}

#[test]
fn keys_given_twice_are_undecodable() {
    for payload in [r#"{"v":1,"v":2}"#, r#"{"q":1,"v":1,"q":2}"#, r#"{"v":{"a":1,"a":1}}"#] {
        let result = any("event.payload.v", payload);
        assert!(matches!(&result, Err(Failure::Undecodable(why)) if why.contains("twice")), "{result:?}");
    }
}

#[test]
fn types_are_applied_ignored_or_unknown() {
    let mut row = bank().ignore(&["Noted"]).row();
    assert_eq!(row.apply(&event("Noted", "{}")), Ok(Applied::Ignored));
    assert_eq!(row.apply(&event("Closed", "{}")), Err(Failure::UnknownType("Closed".into())));
    let mut row = bank().ignore(&["*"]).row();
    assert_eq!(row.apply(&event("Closed", "{}")), Ok(Applied::Ignored));
    let counter = view(&[("n", Literal::Int(0))]).on("*", "n", "state.n + 1").on("Reset", "n", "0").ignore(&["Noted"]);
    let mut row = counter.guard("Never", "true", "never").row();
    for (name, result) in [("X", Ok(Applied::Folded)), ("Y", Ok(Applied::Folded)), ("Noted", Ok(Applied::Ignored))] {
        assert_eq!(row.apply(&event(name, "{}")), result);
    }
    assert_eq!(row.apply(&event("Never", "{}")), Err(Failure::Rejected("never".into())));
    assert_eq!(json(row.as_ref()), r#"{"n":2}"#);
    row.apply(&event("Reset", "{}")).unwrap();
    assert_eq!(json(row.as_ref()), r#"{"n":0}"#);
    let mut row = view(&[("n", Literal::Int(1))]).also("Touched").row();
    assert_eq!(row.apply(&event("Touched", "{}")), Ok(Applied::Folded));
}

#[test]
fn a_type_of_another_view_of_the_topic_is_ignored() {
    let counter = view(&[("n", Literal::Int(0))]).on("Closed", "n", "state.n + 1");
    let views = Declared::compile_topic(&[bank().spec(), counter.spec()]).unwrap();
    let mut rows: Vec<_> = views.iter().map(|view| view.initial()).collect();
    assert_eq!(rows[0].apply(&event("Closed", "{}")), Ok(Applied::Ignored));
    assert_eq!(rows[1].apply(&event("Closed", "{}")), Ok(Applied::Folded));
    assert_eq!(rows[1].apply(&event("AccountOpened", "{}")), Ok(Applied::Ignored));
    assert_eq!(rows[1].apply(&event("Nope", "{}")), Err(Failure::UnknownType("Nope".into())));
    let types: BTreeSet<_> = views[0].event_types().collect();
    assert_eq!(types, BTreeSet::from(["AccountOpened", "MoneyDeposited", "MoneyWithdrawn"]));
}

#[test]
fn a_newer_version_is_set_aside() {
    let mut spec = bank().ignore(&["Noted"]).spec();
    spec.max_event_version = Some(1);
    let mut row = Declared::compile(&spec).unwrap().initial();
    let too_new = Err(Failure::TooNew { found: 2, known: 1 });
    assert_eq!(row.apply(&event("AccountOpened", r#"{"owner":"a"}"#)), too_new);
    assert_eq!(row.apply(&event("Unknown", "{}")), too_new);
    assert_eq!(row.apply(&event("Noted", "{}")), Ok(Applied::Ignored));
}

#[test]
fn guards_run_first_and_say_why_they_cannot() {
    let odd =
        bank().guard("*", "event.payload.amount % 2 == 1", "odd").guard("AccountOpened", "event.payload.ok", "not ok");
    let mut row = odd.row();
    assert_eq!(row.apply(&event("MoneyDeposited", r#"{"amount":3}"#)), Err(Failure::Rejected("odd".into())));
    let why = "the guard \"insufficient funds\": no such field `event.payload.amount`";
    assert_eq!(row.apply(&event("MoneyWithdrawn", "{}")), Err(Failure::Rejected(why.into())));
    let why = "the guard \"not ok\": it gives neither true nor false";
    let opened = event("AccountOpened", r#"{"amount":2,"ok":1,"owner":"a"}"#);
    assert_eq!(row.apply(&opened), Err(Failure::Rejected(why.into())));
}

#[test]
fn extreme_times_are_rejected_only_where_they_are_used() {
    for millis in [-1, 0, 7_258_118_400_000] {
        let mut row = view(&[("t", Literal::Time(Moment::EPOCH))]).on("A", "t", "event.timestamp").row();
        let mut event = event("A", "{}");
        event.meta.timestamp = Timestamp(millis);
        row.apply(&event).unwrap();
        assert_eq!(json(row.as_ref()), format!(r#"{{"t":"{}"}}"#, Moment::from_millis(millis).unwrap()));
    }
    for millis in [i64::MIN, i64::MAX, -62_135_596_800_001, 253_402_300_800_000] {
        let mut row = view(&[("t", text(""))]).on("A", "t", "event.timestamp.date()").on("B", "t", "event.key").row();
        let mut event = event("A", "{}");
        event.meta.timestamp = Timestamp(millis);
        let why = "`t`: `event.timestamp` is outside the years 1 to 9999";
        assert_eq!(row.apply(&event), Err(Failure::Rejected(why.into())), "{millis}");
        event.meta.event_type = "B".into();
        assert_eq!(row.apply(&event), Ok(Applied::Folded));
        event.meta.key = b"\xff";
        assert_eq!(row.apply(&event), Err(Failure::Rejected("`t`: `event.key` is not UTF-8".into())));
    }
}

#[test]
fn rows_come_back_as_they_went() {
    let times = Moment::EPOCH;
    let fields = [
        ("any", Literal::Null),
        ("bool", Literal::Bool(true)),
        ("float", Literal::Float(0.1)),
        ("int", Literal::Int(-1)),
        ("list", Literal::List(vec![Literal::Float(2.0), Literal::Null])),
        ("map", Literal::Map(BTreeMap::from([("k".into(), Literal::Int(1))]))),
        ("text", text("\"é\n")),
        ("time", Literal::Time(times)),
    ];
    let all = view(&fields)
        .on("A", "any", "event.timestamp")
        .on("A", "float", "state.float + 1.0")
        .on("A", "time", "timestamp('0001-01-01T00:00:00.000000001Z')")
        .compile()
        .unwrap();
    let mut row = all.initial();
    let first = r#"{"any":null,"bool":true,"float":0.1,"int":-1,"list":[2.0,null],"map":{"k":1},"text":"\"é\n","time":"1970-01-01T00:00:00Z"}"#;
    assert_eq!(json(row.as_ref()), first);
    row.apply(&event("A", "{}")).unwrap();
    let second = json(row.as_ref());
    assert!(second.contains(r#""time":"0001-01-01T00:00:00.000000001Z""#), "{second}");
    assert!(row.footprint() > 8 * 24);
    for stored in [first, &second] {
        let back = all.decode(stored.as_bytes()).unwrap();
        assert_eq!(json(back.as_ref()), stored);
        assert_eq!(json(back.copy().as_ref()), stored);
    }
    for (bad, why) in [
        ("{}", "no field `any`"),
        (&first.replace("\"int\"", "\"itn\""), "a field `itn`, the view has none"),
        (&first.replace("-1", "\"-1\""), "`int` is string, the view's is int"),
        (&first.replace("1970-01-01T", "x"), "`time` is string"),
        (&first.replace("\"any\":null", "\"any\":1,\"any\":2"), "`any` twice"),
        ("[]", "unexpected byte 0"),
        ("", "too early"),
    ] {
        let error = all.decode(bad.as_bytes()).err().unwrap();
        assert!(error.contains(why), "{error}");
    }
}
