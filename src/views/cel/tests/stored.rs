//! A declaration that was stored as text and read again is the same view.

use proptest::prelude::*;

use super::*;

const EXPRESSIONS: [&str; 16] = [
    "state.n + 1",
    "state.n - -1",
    "event.payload.a",
    "has ( event.payload.a ) ? event.payload.a : state.any",
    "event.payload.a in [ 'x  y' , \"p // q\", 1 , null ] ? 1.5 : .5",
    "'it  is // ' + event.type + r'\\n '",
    "''' a \\'  ''' + ''",
    "event.payload.map(k , k)",
    "[ state.list , [ event.timestamp , event.key ] ]",
    "{ 'k ' : event.payload , 'l' : state.map }",
    "event . payload . a == 1 || event.payload.a == '1'",
    "event.timestamp",
    "! ( state.flag )",
    "double ( state.n ) * 0.1 + state.f",
    "size ( state.list ) > 3 ? [] : state.list + [ event.payload ]",
    "[1, 2].exists(x , x == event.payload.a)",
];

/// Puts spare white space and comments where white space is.
fn laid_out(expression: &str, how: u8) -> String {
    let gap = ["  ", "\n", " // it is 'so\n ", " \t"][usize::from(how % 4)];
    let mut quoted = None;
    let text: String = expression
        .chars()
        .map(|c| {
            match quoted {
                None if matches!(c, '\'' | '"') => quoted = Some(c),
                Some(open) if open == c => quoted = None,
                _ => {}
            }
            if c == ' ' && quoted.is_none() { gap.to_owned() } else { c.to_string() }
        })
        .collect();
    // An escaped quote fools the scan above: then the text stays as it is.
    if expression.contains("'''") { expression.to_owned() } else { text }
}

fn literal() -> impl Strategy<Value = Literal> {
    let leaf = prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(Literal::Int),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Literal::Float),
        (-1_000_000i64..1_000_000).prop_map(|whole| Literal::Float(whole as f64)),
        any::<String>().prop_map(Literal::Text),
        (-62_135_596_800i64..253_402_300_800, 0u32..1_000_000_000)
            .prop_map(|(second, nanosecond)| Literal::Time(Moment::from_unix(second, nanosecond).unwrap())),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Literal::List),
            proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Literal::Map),
        ]
    })
}

/// Declarations; those that do not compile are left out.
fn declaration() -> impl Strategy<Value = ViewSpec> {
    let initial = (any::<i64>(), any::<f64>(), literal(), literal(), any::<bool>(), any::<String>());
    let set = (0usize..5, 0usize..7, 0..EXPRESSIONS.len(), any::<u8>());
    let sets = proptest::collection::vec(set, 1..14);
    let guards = proptest::collection::vec((0usize..4, any::<String>(), any::<u8>()), 0..3);
    (initial, sets, guards, 0u8..8, 1u32..5).prop_map(|(initial, sets, guards, flags, version)| {
        let (n, f, any, more, flag, text) = initial;
        let initial = [
            ("n", Literal::Int(n % 1000)),
            ("f", Literal::Float(if f.is_finite() { f } else { -0.0 })),
            ("any", any),
            ("more", more),
            ("flag", Literal::Bool(flag)),
            ("time", Literal::Time(Moment::EPOCH)),
            ("list", Literal::List(vec![Literal::Float(1.0), Literal::Null])),
            ("map", Literal::Map(BTreeMap::from([(text, Literal::Int(i64::MIN))]))),
        ];
        let mut spec = view(&initial).spec;
        spec.version = version;
        let types = ["A", "B", "C", "*", "a \"b"];
        let fields = ["n", "f", "any", "flag", "time", "list", "more"];
        for (on, field, expression, how) in sets {
            let to = Located { text: laid_out(EXPRESSIONS[expression], how), line: 1, column: 1 };
            let mut wider = spec.clone();
            wider.on.entry(types[on].into()).or_default().insert(fields[field].into(), to);
            // What does not fit its field is left out.
            if Declared::compile(&wider).is_ok() {
                spec = wider;
            }
        }
        for (on, reason, how) in guards {
            let when = Located { text: laid_out("state.n > 100 && has ( event.payload.a )", how), line: 1, column: 1 };
            spec.reject_when.push(GuardSpec { on: types[on].into(), when, reason });
        }
        if flags & 1 != 0 {
            spec.ignore = vec!["Z".into(), "Y".into(), "Z".into()];
        }
        if flags & 2 != 0 && !spec.on.contains_key("*") {
            spec.ignore.push("*".into());
        }
        spec.max_event_version = (flags & 4 != 0).then_some(u32::from(flags));
        spec
    })
}

fn folded(view: &dyn Definition, events: &[(usize, usize)]) -> (String, Vec<String>) {
    let types = ["A", "B", "C", "a \"b", "Y", "Z", "X"];
    let payloads = [r#"{"a":1}"#, r#"{"a":"x  y","b":[1.0]}"#, "{}", r#"{"a":null}"#, r#"{"a":2.5}"#, "[]", "7"];
    let mut row = view.initial();
    let mut outcomes = Vec::new();
    for &(of, payload) in events {
        let outcome = row.apply(&event(types[of % types.len()], payloads[payload % payloads.len()]));
        outcomes.push(format!("{outcome:?} {}", json(row.as_ref())));
        let mut stored = Vec::new();
        row.encode(&mut stored);
        row = view.decode(&stored).unwrap();
    }
    (json(row.as_ref()), outcomes)
}

proptest! {
    #[test]
    fn pure_a_view_read_from_its_text_is_the_same_view(
        spec in declaration(),
        events in proptest::collection::vec((0usize..7, 0usize..7), 0..25),
    ) {
        let compiled = Declared::compile(&spec);
        prop_assume!(compiled.is_ok());
        let view = compiled.unwrap();
        let text = view.text();
        let read = Declared::from_text(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        prop_assert_eq!(read.text(), text.clone());
        prop_assert_eq!(super::super::text::canonical(&super::super::text::read(&text).unwrap()), text);
        prop_assert_eq!((read.name(), read.version()), (view.name(), view.version()));
        prop_assert_eq!(folded(&read, &events), folded(&view, &events));
    }

    #[test]
    fn no_text_breaks_the_reader(text: String) {
        prop_assert!(Declared::from_text(&text).is_err());
    }
}

/// Squeezing does not know names in backticks; neither does the language.
#[test]
fn there_are_no_names_in_backticks() {
    assert!(view(&[("n", Literal::Int(0))]).on("A", "n", "event.payload.`a  b`").compile().is_err());
}
