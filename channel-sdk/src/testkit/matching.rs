//! Comparing JSON by subset. The words are in the header of [`testkit`](crate::testkit).

use serde_json::Value;

/// Where `found` is other than `expected`: path, expected and found, a sentence each. Nothing when it matches.
pub fn mismatches(expected: &Value, found: &Value) -> Vec<String> {
    mismatches_at("$", expected, found)
}

/// The same, with the path that `found` has.
pub(super) fn mismatches_at(path: &str, expected: &Value, found: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    compare(path, expected, found, &mut wrong);
    wrong
}

fn compare(path: &str, expected: &Value, found: &Value, wrong: &mut Vec<String>) {
    let differ = |wrong: &mut Vec<String>| wrong.push(format!("{path}: expected {expected}, found {found}"));
    match (expected, found) {
        (Value::String(word), found) if word == "$any" => {
            if found.is_null() {
                wrong.push(format!("{path}: expected anything, found nothing"));
            }
        }
        (Value::Object(fields), found) if fields.len() == 1 && fields.contains_key("$contains") => {
            let words = fields["$contains"].as_str().unwrap_or_default();
            if !found.as_str().is_some_and(|text| text.contains(words)) {
                wrong.push(format!("{path}: expected a text with {words:?} in it, found {found}"));
            }
        }
        (Value::Object(fields), found) if fields.len() == 1 && fields.contains_key("$json") => {
            match found.as_str().map(serde_json::from_str::<Value>) {
                Some(Ok(json)) => compare(&format!("{path}(json)"), &fields["$json"], &json, wrong),
                _ => wrong.push(format!("{path}: expected a text that is JSON, found {found}")),
            }
        }
        (Value::Object(fields), Value::Object(there)) => {
            for (name, expected) in fields {
                compare(&format!("{path}.{name}"), expected, there.get(name).unwrap_or(&Value::Null), wrong);
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if expected.len() != found.len() {
                wrong.push(format!("{path}: expected {} items, found {}", expected.len(), found.len()));
            }
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{path}[{index}]"), expected, found, wrong);
            }
        }
        // 2 and 2.0 are one number; integers are compared exactly.
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            if a.as_f64() != b.as_f64() {
                differ(wrong);
            }
        }
        (expected, found) => {
            if expected != found {
                differ(wrong);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subset_matches() {
        let found = json!({"a": 1, "b": [{"c": "words here", "d": null}], "e": "{\"f\":[1]}", "g": 2.0});
        for expected in [
            json!({}),
            json!({"a": 1, "z": null}),
            json!({"b": [{"c": {"$contains": "here"}, "d": null}]}),
            json!({"e": {"$json": {"f": [1]}}, "g": 2, "b": "$any"}),
        ] {
            assert_eq!(mismatches(&expected, &found), Vec::<String>::new(), "{expected}");
        }
    }

    #[test]
    fn a_mismatch_says_where_what_and_what_else() {
        let found = json!({"a": {"b": [1, {"c": "x"}]}});
        assert_eq!(
            mismatches(&json!({"a": {"b": [1, {"c": "y"}]}}), &found),
            ["$.a.b[1].c: expected \"y\", found \"x\""]
        );
        assert_eq!(mismatches(&json!({"a": {"b": [1]}}), &found), ["$.a.b: expected 1 items, found 2"]);
        assert_eq!(mismatches(&json!({"z": 1}), &found), ["$.z: expected 1, found null"]);
        assert_eq!(mismatches(&json!({"z": "$any"}), &found), ["$.z: expected anything, found nothing"]);
        assert_eq!(mismatches(&json!(10_u64), &json!(11_u64)).len(), 1);
    }
}
