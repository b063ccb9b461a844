//! Who may import whom: the modules of `src/` form layers, and a module imports only from lower ones.

use std::{fmt, path::Path};

use crate::source::{Token, files, root, tokens};

/// The layers, lowest first. Modules of one layer do not import each other. Below them all is the protocol crate.
const LAYERS: &[&[&str]] = &[
    &["clock"],
    &["config"],
    &["store", "wire", "transport"],
    &["ingest", "swarm"],
    &["serve", "client"],
    &["sync", "gateway"],
    &["node"],
    &["cli"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// An import that the layers forbid.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    importer: String,
    imported: String,
    line: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { importer, imported, line } = self;
        write!(f, "line {line}: `{importer}` imports `{imported}`: ")?;
        match (layer(importer), layer(imported)) {
            (None, _) => write!(f, "`{importer}` has no layer; give it one in tests/it/layering.rs"),
            (_, None) => write!(f, "`{imported}` has no layer; name the module, or give it a layer"),
            (Some(from), Some(to)) if from == to => {
                write!(f, "both are in layer {from}, whose modules do not import each other")
            }
            (Some(from), Some(to)) => write!(
                f,
                "layer {from} lies below layer {to}; move what both need down, or pass it as an argument"
            ),
        }
    }
}

/// The top-level modules that a source file names, with lines: through `crate::` and through `super::` out of its own.
/// `depth` is the number of modules that the file lies in: 1 for `src/store.rs`, 2 for `src/store/write.rs`.
fn imports(source: &str, depth: usize) -> Vec<(String, usize)> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| token.text.as_str());
    let mut found = Vec::new();
    // The brace depths at which inline modules were opened.
    let mut braces = 0;
    let mut inline = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "mod" if text(at + 2) == "{" => inline.push(braces),
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                inline.pop_if(|opened| *opened == braces);
            }
            "crate" if text(at + 1) == "::" => names_at(&tokens, at + 2, &mut found),
            "super" if text(at + 1) == "::" => {
                let mut supers = 1;
                while text(at + 2 * supers) == "super" && text(at + 2 * supers + 1) == "::" {
                    supers += 1;
                }
                if supers >= depth + inline.len() {
                    names_at(&tokens, at + 2 * supers, &mut found);
                }
                at += 2 * supers - 1;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The first names of a path: one, or those of a group `{a, b::c}`.
fn names_at(tokens: &[Token], at: usize, found: &mut Vec<(String, usize)>) {
    let Some(first) = tokens.get(at) else { return };
    if first.text != "{" {
        found.push((first.text.clone(), first.line));
        return;
    }
    let mut depth = 0;
    let mut is_start = false;
    for token in &tokens[at..] {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                is_start = depth == 1;
            }
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," => is_start = depth == 1,
            _ if is_start => {
                found.push((token.text.clone(), token.line));
                is_start = false;
            }
            _ => {}
        }
    }
}

/// What a source file of a module may not import.
fn violations(importer: &str, source: &str, depth: usize) -> Vec<Violation> {
    let is_allowed = |imported: &str| {
        imported == importer || layer(importer).zip(layer(imported)).is_some_and(|(from, to)| from > to)
    };
    imports(source, depth)
        .into_iter()
        .filter(|(imported, _)| !is_allowed(imported))
        .map(|(imported, line)| Violation { importer: importer.to_owned(), imported, line })
        .collect()
}

/// The modules that a file of `src/` lies in; none for the crate roots.
fn modules(file: &Path) -> Vec<String> {
    let mut modules: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    modules.pop_if(|last| last == "mod");
    if matches!(modules.as_slice(), [only] if only == "lib" || only == "main") {
        modules.clear();
    }
    modules
}

#[test]
fn modules_import_only_from_lower_layers() {
    let src = root().join("src");
    let mut found = Vec::new();
    let mut checked = 0;
    for file in files(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let modules = modules(relative);
        let Some(module) = modules.first() else { continue };
        let source = std::fs::read_to_string(&file).unwrap();
        assert!(layer(module).is_some(), "src/{} has no layer; give `{module}` one here", relative.display());
        let violations = violations(module, &source, modules.len());
        found.extend(violations.iter().map(|violation| format!("src/{}: {violation}", relative.display())));
        checked += 1;
    }
    assert!(checked > 0, "no sources below {}", src.display());
    assert!(found.is_empty(), "imports against the layers:\n{}", found.join("\n"));
}

#[test]
fn an_import_from_above_or_beside_is_found() {
    let source = "\
use crate::{clock::Clock, node, serve::{self, put}};
use crate::store::Store; // crate::cli
fn f() { let text = \"crate::cli\"; crate::wire::encode(); }
use super::sync::Session;
use super::Entry;
mod tests { use super::super::super::client; use super::super::Entry; }
";
    let found: Vec<(String, usize)> = violations("store", source, 2)
        .into_iter()
        .map(|violation| (violation.imported, violation.line))
        .collect();
    let expected = [("node", 1), ("serve", 1), ("wire", 3), ("client", 6)];
    assert_eq!(found, expected.map(|(module, line)| (module.to_owned(), line)));
    // One level higher, `super` is the crate root.
    assert!(violations("store", source, 1).iter().any(|violation| violation.imported == "sync"));
}

#[test]
fn a_violation_says_what_to_do() {
    let message = |importer: &str, source: &str| violations(importer, source, 1)[0].to_string();
    assert_eq!(
        message("store", "use crate::wire::Frame;"),
        "line 1: `store` imports `wire`: both are in layer 2, whose modules do not import each other"
    );
    assert!(message("config", "use crate::node::Node;").contains("layer 1 lies below layer 6"));
    assert!(message("node", "use crate::*;").contains("name the module"));
    assert!(message("misc", "use crate::store;").contains("give it one in tests/it/layering.rs"));
}

#[test]
fn files_belong_to_modules() {
    for (file, expected) in [
        ("lib.rs", &[][..]),
        ("main.rs", &[]),
        ("clock.rs", &["clock"]),
        ("store/mod.rs", &["store"]),
        ("store/write/tests.rs", &["store", "write", "tests"]),
    ] {
        assert_eq!(modules(Path::new(file)), expected, "{file}");
    }
}
