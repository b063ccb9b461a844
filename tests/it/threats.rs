//! `deploy/THREATS.md` says what attackers can and cannot do; each of its lines names what shows it, which has to be there.

use std::fs;

use crate::source::root;

/// The references of a line: what is between backticks and begins with the name of a directory of tests or sources.
fn references(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| ["tests/", "protocol/", "src/"].iter().any(|directory| text.starts_with(directory)))
}

#[test]
fn every_line_names_a_test_that_exists() {
    let text = fs::read_to_string(root().join("deploy/THREATS.md")).unwrap();
    // A line of the list goes on until the next one, or to an empty one.
    let mut points: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if line.starts_with("- ") {
            points.push(line.to_owned());
            is_inside = true;
        } else if line.trim().is_empty() || line.starts_with('#') {
            is_inside = false;
        } else if is_inside {
            let point = points.last_mut().unwrap();
            point.push(' ');
            point.push_str(line.trim());
        }
    }
    assert!(points.len() > 20, "only {} points", points.len());
    for point in &points {
        assert!(references(point).next().is_some(), "nothing shows this: {point}");
        for reference in references(point) {
            let (file, test) =
                reference.split_once("::").map_or((reference, None), |(file, test)| (file, Some(test)));
            let source =
                fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("no {file}: {point}"));
            if let Some(test) = test {
                let is_there = ["fn", "def"].iter().any(|word| source.contains(&format!("{word} {test}(")));
                assert!(is_there, "no {test} in {file}: {point}");
            }
        }
    }
}
