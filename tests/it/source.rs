//! Reads the sources of this project as tokens, without comments, texts and test modules.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// An identifier or a punctuation character (`::` is one token) and the line it stands on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a directory, ascending.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The tokens of a source text; comments, texts, characters and lifetimes are left out.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            tokens.push(Token { text: rest[..length].to_owned(), line });
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the space, comment, text, character or lifetime that the source begins with.
fn skipped(source: &str) -> Option<usize> {
    let first = source.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if source.starts_with("//") {
        return Some(source.find('\n').unwrap_or(source.len()));
    }
    if source.starts_with("/*") {
        return Some(block_comment(source));
    }
    for prefix in ["r", "br", "cr"] {
        let Some(after) = source.strip_prefix(prefix) else { continue };
        let hashes = after.len() - after.trim_start_matches('#').len();
        if let Some(text) = after[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = text.find(&end).map_or(text.len(), |at| at + end.len());
            return Some(prefix.len() + hashes + 1 + length);
        }
    }
    for prefix in ["", "b", "c"] {
        if let Some(text) = source.strip_prefix(prefix).and_then(|after| after.strip_prefix('"')) {
            return Some(prefix.len() + 1 + quoted(text, '"'));
        }
    }
    let quote = source.strip_prefix('\'').or_else(|| source.strip_prefix("b'"))?;
    let before = source.len() - quote.len();
    let is_character = quote.starts_with('\\') || quote.chars().nth(1) == Some('\'');
    let lifetime = || quote.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(quote.len());
    Some(before + if is_character { quoted(quote, '\'') } else { lifetime() })
}

/// The length of a text up to and with its closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// The length of a block comment, with those nested in it.
fn block_comment(source: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < source.len() {
        let rest = &source.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Removes `#[cfg(test)] mod name { .. }` from the tokens.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const TEST_MODULE: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let [first, others @ ..] = rest {
        let is_test = rest.len() > TEST_MODULE.len() + 1
            && rest.iter().zip(TEST_MODULE).all(|(token, expected)| token.text == *expected)
            && rest[TEST_MODULE.len() + 1].text == "{";
        if is_test {
            rest = &rest[block(&rest[TEST_MODULE.len() + 1..]) + TEST_MODULE.len() + 1..];
        } else {
            kept.push(first.clone());
            rest = others;
        }
    }
    kept
}

/// The number of tokens of the block in braces that the tokens begin with.
fn block(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[test]
fn comments_texts_and_characters_are_no_tokens() {
    let source = "a /* b /* c */ d */ \"e \\\" f\" r#\"g \" h\"# 'i' '\\'' b'\"' &'j k // l\n::m";
    let found = tokens(source);
    let texts: Vec<&str> = found.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["a", "&", "k", "::", "m"]);
    assert_eq!(found.last().unwrap().line, 2);
}

#[test]
fn test_modules_are_left_out() {
    let found = without_tests(&tokens("a #[cfg(test)] mod tests { b { c } } d #[cfg(test)] mod e;"));
    let texts: Vec<&str> = found.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts[..2], ["a", "d"]);
}
