//! Puts a [`Config`] together from flags, environment, file and defaults, and says where a mistake stands.
//!
//! The defaults, serialised, are the schema: a key that is not among them is unknown, and the type of a default says how
//! the text of a variable is read. Settings are laid over it one by one, so that an error belongs to one of them.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::settings::{Config, Nonsense, Profile};

/// Prefix of the environment variables that are configuration.
const PREFIX: &str = "P2PDB_";
/// Beginnings of variables with the prefix that are not keys of the configuration: of the command line, of apps that use the
/// daemon, of tests.
const NOT_KEYS: &[&str] = &["P2PDB_HOME", "P2PDB_GATEWAY_", "P2PDB_BIN", "P2PDB_TEST_"];
/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A flag of the command line, as typed: `--listen`.
    Flag(String),
    /// An environment variable: `P2PDB_LIMITS__MAX_DISK`.
    Variable(String),
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
    /// The defaults of the profile.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: expected TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A key that there is not.
    #[error("{origin}: unknown key `{key}`")]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The key in dotted form.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A value that is not what the key expects.
    #[error("{origin}: `{key}`: {reason}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// The key in dotted form.
        key: String,
        /// What was expected and what was found.
        reason: String,
    },
}

impl ConfigError {
    /// What to do about it, for a `hint:` line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "check that the file exists and that you may read it".to_owned(),
            Self::Syntax { .. } => "correct the line; a text needs quotation marks".to_owned(),
            Self::UnknownKey { suggestion: Some(key), .. } => format!("did you mean `{key}`?"),
            Self::UnknownKey { origin: Origin::Variable(_), .. } => {
                "sections are joined by two underscores, as in P2PDB_LIMITS__MAX_DISK; unset the variable if it is \
                 not meant for p2pdb"
                    .to_owned()
            }
            Self::UnknownKey { .. } => "remove it; deploy/config.example.toml lists every key".to_owned(),
            Self::Invalid { origin: Origin::Variable(name), .. } => {
                format!("correct or unset the variable {name}")
            }
            Self::Invalid { origin: Origin::File { .. }, key, .. } => {
                format!("correct the value of `{key}`, or remove the line for the default")
            }
            Self::Invalid { key, .. } => format!("correct the value of `{key}`"),
        }
    }
}

struct Setting {
    origin: Origin,
    key: String,
    value: Value,
}

/// Collects settings; [`load`](Loader::load) puts them together.
///
/// The order of the calls does not matter: a flag goes before a variable, a variable before the file, the file before the
/// defaults. A list replaces the list of a lower source.
#[derive(Default)]
pub struct Loader {
    file: Vec<Setting>,
    variables: Vec<Setting>,
    flags: Vec<Setting>,
}

impl Loader {
    /// Nothing but the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Read`], also if there is no such file, and [`ConfigError::Syntax`].
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let read = || {
            let length = std::fs::metadata(path)?.len();
            if length > MAX_FILE_BYTES {
                let reason = format!("expected at most {MAX_FILE_BYTES} bytes, got {length}");
                return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
            }
            std::fs::read_to_string(path)
        };
        let text = read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        self.text(path, &text)
    }

    /// Adds the text of a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`].
    pub fn text(mut self, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |e: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: e.to_string().trim_end().to_owned(),
        };
        let table = DeTable::parse(text).map_err(syntax)?;
        let mut leaves = Vec::new();
        flatten("", table.into_inner(), &mut leaves);
        for (key, at, value) in leaves {
            let line = text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
            let value = serde::Deserialize::deserialize(toml::de::ValueDeserializer::from(value));
            let origin = Origin::File { path: path.to_owned(), line };
            self.file.push(Setting { origin, key, value: value.map_err(syntax)? });
        }
        Ok(self)
    }

    /// Adds the variables that begin with `P2PDB_`; `P2PDB_LIMITS__MAX_DISK` is `limits.max_disk`.
    ///
    /// Lists are written with commas. Left alone are `P2PDB_HOME`, `P2PDB_GATEWAY_*`, which tell an app of its daemon,
    /// `P2PDB_BIN` and `P2PDB_TEST_*`.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if !NOT_KEYS.iter().any(|not| name.starts_with(not)) {
                let key = rest.to_lowercase().replace("__", ".");
                self.variables.push(Setting {
                    origin: Origin::Variable(name),
                    key,
                    value: Value::String(text),
                });
            }
        }
        // The environment has no order; errors should.
        self.variables.sort_by(|a, b| a.key.cmp(&b.key));
        self
    }

    /// Adds a flag as it was typed (`--listen`), the key that it sets, and its text, read like that of a variable.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, text: impl Into<String>) -> Self {
        let origin = Origin::Flag(flag.to_owned());
        self.flags.push(Setting { origin, key: key.to_owned(), value: Value::String(text.into()) });
        self
    }

    /// Lays flags over variables over the file over the defaults.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownKey`] and [`ConfigError::Invalid`] with the origin of the setting at fault.
    pub fn load(self) -> Result<Config, ConfigError> {
        let settings: Vec<Setting> = self.file.into_iter().chain(self.variables).chain(self.flags).collect();
        let mut config = Config::of(profile(&settings)?);
        let mut table = to_table(&config);
        let mut origins = BTreeMap::new();
        for Setting { origin, key, value } in settings {
            let Some(slot) = slot(&mut table, &key) else {
                let is_empty = value.as_table().is_some_and(Table::is_empty);
                if is_empty && is_section(&table, &key) {
                    continue;
                }
                let suggestion = suggest(&key, &keys(&to_table(&config)));
                return Err(ConfigError::UnknownKey { origin, key, suggestion });
            };
            let invalid = |reason| ConfigError::Invalid { origin: origin.clone(), key: key.clone(), reason };
            *slot = match origin {
                Origin::File { .. } => value,
                _ => read_as(slot, value).map_err(invalid)?,
            };
            config = table.clone().try_into().map_err(|e| invalid(reason(&e)))?;
            origins.insert(key, origin);
        }
        config.check().map_err(|Nonsense { key, reason }| ConfigError::Invalid {
            origin: origins.remove(key).unwrap_or(Origin::Default),
            key: key.to_owned(),
            reason,
        })?;
        Ok(config)
    }
}

/// The profile that the settings ask for: it decides on the defaults, so it is looked up first.
fn profile(settings: &[Setting]) -> Result<Profile, ConfigError> {
    let Some(setting) = settings.iter().rfind(|setting| setting.key == "profile") else {
        return Ok(Config::default().profile);
    };
    setting.value.clone().try_into().map_err(|e| ConfigError::Invalid {
        origin: setting.origin.clone(),
        key: setting.key.clone(),
        reason: reason(&e),
    })
}

/// The settings of a file with their byte offsets, in dotted form. Arrays and inline values are leaves.
fn flatten<'i>(prefix: &str, table: DeTable<'i>, leaves: &mut Vec<(String, usize, Spanned<DeValue<'i>>)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        let at = name.span().start;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(&key, inner, leaves),
            leaf => leaves.push((key, at, Spanned::new(span, leaf))),
        }
    }
}

/// A configuration as a table; a [`Config`] has nothing that TOML could not hold.
fn to_table(config: &Config) -> Table {
    Table::try_from(config).unwrap_or_default()
}

/// The place of a dotted key, if there is such a key and it is not a section.
fn slot<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Value> {
    match key.split_once('.') {
        Some((section, rest)) => slot(table.get_mut(section)?.as_table_mut()?, rest),
        None => table.get_mut(key).filter(|value| !value.is_table()),
    }
}

fn is_section(table: &Table, key: &str) -> bool {
    key.split('.').try_fold(table, |table, name| table.get(name)?.as_table()).is_some()
}

/// Every dotted key of a table.
pub(super) fn keys(table: &Table) -> Vec<String> {
    let of = |(name, value): (&String, &Value)| match value {
        Value::Table(inner) => keys(inner).iter().map(|key| format!("{name}.{key}")).collect(),
        _ => vec![name.clone()],
    };
    table.iter().flat_map(of).collect()
}

/// Reads the text of a variable or flag as the type that the default has.
fn read_as(default: &Value, given: Value) -> Result<Value, String> {
    let Value::String(text) = given else { return Ok(given) };
    let text = text.trim();
    Ok(match default {
        Value::Boolean(_) => Value::Boolean(match text {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => return Err(format!("expected true or false, got {text:?}")),
        }),
        Value::Integer(_) => {
            Value::Integer(text.parse().map_err(|_| format!("expected a whole number, got {text:?}"))?)
        }
        Value::Array(_) => Value::Array(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect(),
        ),
        _ => Value::String(text.to_owned()),
    })
}

/// The first line of a deserialisation error; the rest repeats the key.
fn reason(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

/// The known key nearest to an unknown one, if one is near: by spelling, or the same name in another section.
fn suggest(unknown: &str, known: &[String]) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let near = known.iter().map(|key| (distance(unknown, key), key)).min();
    near.filter(|(distance, key)| *distance <= key.len().max(3) / 3)
        .map(|(_, key)| key)
        .or_else(|| known.iter().find(|key| last(key) == last(unknown)))
        .cloned()
}

/// Edit distance (Levenshtein), in characters.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (diagonal + usize::from(x != y)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
