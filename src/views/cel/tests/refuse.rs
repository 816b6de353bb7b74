//! Which declarations are refused, and how.

use proptest::prelude::*;

use super::*;

fn refused(draft: Draft) -> String {
    match draft.compile() {
        Ok(_) => panic!("it compiled"),
        Err(error) => error.to_string(),
    }
}

/// A view with a field of each type and one expression for `balance`, an int.
fn with(expression: &str) -> Draft {
    view(&[
        ("balance", Literal::Int(0)),
        ("owner", text("")),
        ("rate", Literal::Float(0.0)),
        ("open", Literal::Bool(false)),
        ("tags", Literal::List(vec![])),
        ("by", Literal::Map(BTreeMap::new())),
        ("any", Literal::Null),
    ])
    .on("A", "balance", expression)
}

#[test]
fn an_error_names_the_file_the_line_and_the_place() {
    let error = refused(with("state.balance +\n  state.balanec"));
    let expected = "config.toml:3:9: view `account`: `state` has no field `balanec`\
                    \n 3 |   state.balanec'''\n   |         ^\n help: did you mean `balance`?";
    assert_eq!(error, expected);
    let mut spec = with("1 + é").spec();
    spec.source = "".into();
    let error = Declared::compile(&spec).unwrap_err().to_string();
    assert!(error.starts_with("config.toml:2:20: view `account`: "), "{error}");
    assert!(error.contains("\n 2 | 1 + é\n   |     ^"), "{error}");
}

/// The caret points at the `^` under each expression.
#[test]
fn every_mistake_is_shown_where_it_is() {
    let cases = [
        ("state.balance + ", "                ^", "ends too early"),
        ("state.", "      ^", "ends too early"),
        ("1 + )", "    ^", "`)` is unexpected here"),
        ("1 2", "  ^", "`2` is unexpected here"),
        ("'abc", "^", "cannot be read"),
        ("", "^", "ends too early"),
        ("state.balanec", "      ^", "did you mean `balance`?"),
        ("1 + stat.balance", "    ^", "did you mean `state`?"),
        ("1 + balance", "    ^", "did you mean `state.balance`?"),
        ("amount", "^", "did you mean `event.payload.amount`?"),
        ("state", "^", "`state` alone"),
        ("event", "^", "`event` alone"),
        ("event.metadata", "      ^", "`correlation_id`"),
        ("event.offest", "      ^", "did you mean `offset`?"),
        ("event.amount", "      ^", "did you mean `event.payload.amount`?"),
        ("event.metadata.user", "               ^", "`event` has no field `metadata.user`"),
        ("event.offset.x", "             ^", "`event.offset` has no fields"),
        ("state.balance.x", "              ^", "`state.balance` is an int, which has no fields"),
        ("size(state.owner) + siez(state.owner)", "                    ^", "did you mean `size`?"),
        ("state.owner.date()", "            ^", "method `date` does not work on a string"),
        ("event.payload.x.upper()", "                ^", "there is no method `upper`"),
        ("trim(state.owner)", "^", "it is called on a value: `value.trim(…)`"),
        ("event.payload.x.int()", "                ^", "`int(value)`"),
        ("now()", "^", "there is no function `now`"),
        ("optional.of(1)", "^", "there is no variable `optional`"),
        ("size(1, 2)", "^", "takes 1 arguments, not 2"),
        ("state.balance + state.owner", "              ^", "`+` does not work on an int and a string"),
        ("int(state.balance * state.rate)", "                  ^", "convert one with double() or int()"),
        ("state.owner == state.balance ? 1 : 2", "            ^", "`==` does not work on a string and an int"),
        ("state.open < state.owner ? 1 : 2", "           ^", "`<` does not work"),
        ("state.balance ? 1 : 2", "^", "the condition is an int, not a bool"),
        ("!state.balance ? 1 : 2", "^", "`!` does not work on an int"),
        ("-state.balance in state.balance ? 1 : 2", "               ^", "`in` does not work"),
        ("state.balance.map(x, x)", "^", "an int cannot be iterated over"),
        ("size(state.tags.map(state, 1))", "                   ^", "would hide the `state`"),
        ("1u", "^", "leave out the `u`"),
        ("1 + 1 / 0", "    ^", "this can never be evaluated: division by zero"),
        ("9223372036854775807 + 1", "^", "beyond what an int of 64 bits can hold"),
        ("int(double('1e400'))", "    ^", "the number 1e400 is beyond what a float can hold"),
        ("1 + {'a': 1, 'a': 2}[event.payload.k]", "    ^", "this can never be evaluated: a map's key is given twice"),
        ("{'a': event.payload.x, 'b': 1, 'a': 2}.a", "^", "this can never be evaluated: a map's key is given twice"),
        ("{1.5: event.payload.x}[1]", "^", "this can never be evaluated: float cannot be a map's key"),
        ("timestamp('x') < event.timestamp ? 1 : 2", "^", "this can never be evaluated"),
        ("event.payload.x.matches('[') ? 1 : 2", "                        ^", "matches(): "),
        ("'x'", "^", "`balance` is an int by its first value, and this is a string"),
        ("1.5", "^", "convert it with int()"),
        ("state.rate", "^", "and this is a float"),
        ("event.payload.n > 1", "^", "and this is a bool"),
        ("null", "^", "and this is null"),
        ("event.timestamp - event.timestamp", "^", "`(…).getSeconds()`"),
        ("state.by.map(k, k)", "^", "and this is a list"),
        ("9223372036854775808", "^", "invalid int literal"),
        ("Foo{x: 1}", "^", "there are no struct types here"),
        ("event.payload.?x", "             ^", "unsupported syntax"),
        ("b'x'", "^", "and this is bytes"),
    ];
    for (expression, caret, says) in cases {
        let error = refused(with(expression));
        assert!(error.contains(says), "{expression}: {error}");
        let shown = error.lines().nth(2).unwrap_or_else(|| panic!("no caret: {error}"));
        let indent = "A.balance = '''".chars().count();
        let found = shown.chars().skip(" 2 | ".len()).position(|c| c == '^').unwrap();
        assert_eq!(found, indent + caret.len() - 1, "{expression}:\n{error}");
    }
}

#[test]
fn right_expressions_are_not_refused() {
    for expression in [
        "state.balance + event.payload.amount",
        "int(event.payload.amount)",
        "event.payload.x",
        "state.any",
        "state.by.x",
        "state.by['x']",
        "state.tags[0]",
        "event.timestamp.getFullYear()",
        "(event.timestamp - timestamp('2024-01-01T00:00:00Z')).getSeconds()",
        "size(state.tags) + state.owner.size()",
        "state.owner == 'x' || event.payload.x == null ? 1 : 0",
        "math.greatest(state.balance, event.payload.amount)",
        "state.tags.exists(tag, tag == event.payload.tag) ? 1 : 0",
        "// a comment\n 1",
    ] {
        with(expression).compile().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_constant_that_no_row_can_hold_is_refused() {
    for (field, expression, says) in [
        ("rate", "double('nan')", "`rate` can never be this: expected float, got the number NaN"),
        ("rate", "-double('inf')", "expected float, got the number -inf, which JSON cannot hold"),
        ("any", "double('inf')", "expected a JSON value, got the number inf"),
        ("any", "{'a': [1, double('nan')]}", "expected a JSON value, got the number NaN"),
        ("any", "{1: 2}", "keys that are not strings"),
        ("any", "{'a': 1, 'a': 2}", "a map's key is given twice"),
        ("any", "[timestamp('2024-01-01T00:00:00Z') - timestamp('2023-01-01T00:00:00Z')]", "got duration"),
        ("any", "1e400", "invalid double literal"),
        ("by", "{'a': b'x'}", "expected map, got bytes"),
        ("rate", "9007199254740993", "expected float, got int"),
    ] {
        let error = refused(with("1").on("B", field, expression));
        assert!(error.contains(says), "{expression}: {error}");
    }
    for (field, expression) in [
        ("open", "event.payload.x < double('inf')"),
        ("open", "double('nan') == double('nan')"),
        ("rate", "2"),
        ("any", "{'a': [timestamp('9999-12-31T23:59:59Z'), null]}"),
        ("by", "{'a': 1, 'A': event.payload.x, event.payload.y: 2}"),
    ] {
        with("1").on("B", field, expression).compile().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_declaration_itself_is_checked() {
    let error = refused(with("1").on("A", "balanec", "1"));
    assert!(
        error.contains("assigns `balanec`, which `initial` does not have") && error.contains("`balance`?"),
        "{error}"
    );
    assert!(error.starts_with("config.toml:3:"), "{error}");
    assert!(refused(view(&[("n", Literal::Int(0))])).contains("`on` has no event types"));
    assert!(refused(view(&[]).on("A", "n", "1")).contains("`initial` has no fields"));
    assert!(refused(with("1").ignore(&["A"])).contains("both in `on` and in `ignore`"));
    assert!(refused(with("1").on("*", "balance", "1").ignore(&["*"])).contains("`*` is both"));
    assert!(refused(view(&[("f", Literal::Float(f64::NAN))]).on("A", "f", "1")).contains("first value of `f`"));
    let mut spec = with("1").spec();
    spec.name = "Account".into();
    assert!(Declared::compile(&spec).unwrap_err().to_string().contains("a-z, 0-9"));
}

#[test]
fn guards_are_checked() {
    assert!(
        refused(with("1").guard("A", "state.balance", "r")).contains("a guard says true or false, and this is an int")
    );
    assert!(refused(with("1").guard("A", "state.x", "r")).contains("no field `x`"));
    let error = refused(bank().guard("MoneyWithdrawm", "true", "r"));
    assert!(error.contains("which `on` does not name") && error.contains("did you mean `MoneyWithdrawn`?"), "{error}");
    assert!(refused(with("1").ignore(&["B"]).guard("B", "true", "r")).contains("ignored"));
}

#[test]
fn hostile_expressions_are_refused_and_do_no_harm() {
    assert!(refused(with(&"1+".repeat(3000))).contains("at most 4096"));
    assert!(refused(with(&format!("1{}", "+1".repeat(2000)))).contains("nested deeper"));
    assert!(refused(with(&format!("{}1{}", "(".repeat(1500), ")".repeat(1500)))).contains("nested too deeply"));
    assert!(refused(with(&format!("{}1{}", "[".repeat(1500), "]".repeat(1500)))).contains("nested too deeply"));
    assert!(refused(with(&"-".repeat(4000))).contains("view `account`"));
    for root in ["state.by", "event.payload", "{'a': event.payload}", "has(state.by", "has(event.payload", "has({}"] {
        let close = if root.starts_with("has") { ") ? 1 : 0" } else { "" };
        assert!(refused(with(&format!("{root}{}{close}", ".a".repeat(2000)))).contains("nested deeper"), "{root}");
        with(&format!("{root}{}{close}", ".a".repeat(190))).compile().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_text_is_stable_under_layout_and_place() {
    let one = bank().compile().unwrap().text();
    let mut spec = bank().spec();
    spec.line = 77;
    for located in spec.on.values_mut().flat_map(|sets| sets.values_mut()) {
        located.line += 9;
        located.text = format!("\n  {} // why\n", located.text.replace(" + ", "\n+"));
    }
    assert_eq!(Declared::compile(&spec).unwrap().text(), one);
    assert_eq!(
        one,
        r#"{"name":"account","version":1,"initial":{"balance":0,"owner":"","transactions":0},"types":{"balance":"int","owner":"string","transactions":"int"},"on":{"AccountOpened":{"owner":"event.payload.owner"},"MoneyDeposited":{"balance":"state.balance+event.payload.amount","transactions":"state.transactions+1"},"MoneyWithdrawn":{"balance":"state.balance-event.payload.amount","transactions":"state.transactions+1"}},"ignore":[],"reject_when":[{"on":"MoneyWithdrawn","when":"state.balance<event.payload.amount","reason":"insufficient funds"}]}"#
    );
    assert_ne!(bank().on("AccountOpened", "balance", "1").compile().unwrap().text(), one);
    assert_ne!(bank().guard("AccountOpened", "false", "x").compile().unwrap().text(), one);
    assert_ne!(bank().ignore(&["X"]).compile().unwrap().text(), one);
}

#[test]
fn literals_are_read_from_toml() {
    let table: toml::Table = "a = 1\nb = 1.5\nc = ['x', true]\nd = { e = 2024-05-01T10:00:00+02:00 }".parse().unwrap();
    let literal = Literal::try_from(&toml::Value::Table(table)).unwrap();
    let time = "2024-05-01T08:00:00Z".parse().unwrap();
    let expected = [
        ("a", Literal::Int(1)),
        ("b", Literal::Float(1.5)),
        ("c", Literal::List(vec![text("x"), Literal::Bool(true)])),
        ("d", Literal::Map(BTreeMap::from([("e".to_owned(), Literal::Time(time))]))),
    ];
    assert_eq!(literal, Literal::Map(expected.map(|(name, literal)| (name.to_owned(), literal)).into()));
    let local: toml::Table = "a = 2024-05-01".parse().unwrap();
    assert!(Literal::try_from(&local["a"]).unwrap_err().contains("an offset"));
}

/// Pieces of expressions, right and wrong, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let words = "state.balance state. event.payload .x ['k'] [0] + - * / % && || ! ? : ( ) [ ] { } , 'a' \"b ''' r'\\d' 1 \
        1.5 9223372036854775807 -9223372036854775808 1e308 null true event.timestamp duration('1h') size( has( .map(i,i \
        timestamp('2024-01-01T00:00:00Z') .exists( .matches('a math.least( string( in == < state.by state.tags é // `a` \
        b'\\xff' 0x7fffffffffffffff 1u \\ \u{0} ?. optional.of(1) event. type( int {'a':";
    let words: Vec<_> = words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let piece = prop_oneof![9 => proptest::sample::select(words), 1 => any::<String>()];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_compiler_or_the_fold_panic(text in pieces()) {
        let mut spec = with("1").spec();
        let place = Located { text: text.clone(), line: 2, column: 16 };
        spec.on.insert("B".into(), BTreeMap::from([("any".into(), place)]));
        match Declared::compile(&spec) {
            Err(error) => prop_assert!(error.to_string().starts_with("config.toml:"), "{}", error),
            Ok(view) => {
                let mut row = view.initial();
                for payload in ["{}", "null", r#"{"x":{"k":-1},"k":[1.5]}"#] {
                    let before = json(row.as_ref());
                    let outcome = row.apply(&event("B", payload));
                    prop_assert!(outcome.is_ok() || json(row.as_ref()) == before);
                    prop_assert!(view.decode(json(row.as_ref()).as_bytes()).is_ok());
                }
            }
        }
    }
}

#[test]
fn arithmetic_at_its_limits_is_an_answer_or_a_reason() {
    for expression in [
        "(-9223372036854775807 - event.payload.one) / -1",
        "(-9223372036854775807 - event.payload.one) % -1",
        "-(-9223372036854775807 - event.payload.one)",
        "(-9223372036854775807 - event.payload.one) * -1",
        "math.abs(-9223372036854775807 - event.payload.one)",
        "int(1e300 * double(event.payload.one))",
        "timestamp('9999-12-31T23:59:59Z') + duration(string(event.payload.one) + 'h')",
        "event.timestamp + duration(string(9223372036854775807 - event.payload.one) + 's')",
        "timestamp(9223372036854775807 - event.payload.one)",
        "'abc'.substring(event.payload.one, 99)",
        "'abc'.charAt(-event.payload.one)",
        "[1].slice(event.payload.one, 0)",
        "'%d %s'.format([event.payload.one])",
        "event.timestamp.getHours('No/Where' + string(event.payload.one))",
        "timestamp('x' + string(event.payload.one))",
        "'a'.matches('(' + string(event.payload.one))",
    ] {
        let mut row = with("1").on("B", "any", expression).row();
        let outcome = row.apply(&event("B", r#"{"one":1}"#));
        assert!(matches!(outcome, Ok(_) | Err(Failure::Rejected(_))), "{expression}: {outcome:?}");
    }
}
