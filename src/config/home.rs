//! The home directory: where a node or user keeps configuration, keys, tables and data.
//!
//! | Path | What | Mode |
//! |---|---|---|
//! | `config.toml` | the configuration | 0644 |
//! | `network.toml` | the network file (SPEC 2.4); absent: the default network | 0644 |
//! | `node.key` | the node's Ed25519 key | 0600 |
//! | `keys/NAME.pem` | RSA keys (SPEC 3.1) | 0600 |
//! | `tables/NAME.toml` | table cards (SPEC 12.1) | 0600 |
//! | `store/` | the database | 0700 |
//! | `routes.cbor` | node records of others | 0600 |
//! | `admin.sock` | the socket that `p2pdb status` asks | 0600 |
//!
//! The directory itself is 0700. Secrets that others could read are refused, not mended: they may have been read already.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use zeroize::Zeroizing;

/// Largest file that is read whole, in bytes: keys, cards and network files are a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Longest [`Name`], in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Why the home directory, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Neither `--home` nor `P2PDB_HOME` is given, and the user has no home directory.
    #[error("no home directory is known")]
    Unknown,
    /// The directory has not been made.
    #[error("no p2pdb home at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Other users of the machine can read a secret.
    #[error("{} is open to other users: expected mode {expected:04o}, got {got:04o}", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// The mode it must have at most.
        expected: u32,
        /// The mode it has.
        got: u32,
    },
    /// A file is there already and is not overwritten.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl HomeError {
    /// What to do about it, for a `hint:` line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown => "pass --home DIRECTORY or set P2PDB_HOME".to_owned(),
            Self::Missing { .. } => "make one with `p2pdb init`, or pass --home DIRECTORY".to_owned(),
            Self::Exposed { path, expected, .. } => {
                format!(
                    "run `chmod {expected:o} {}`; others may have read it, so consider new keys",
                    quoted(path)
                )
            }
            Self::Exists { .. } => "choose another name, or move the file away first".to_owned(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the name and the home directory".to_owned()
            }
            Self::Io { .. } => "check the owner, the permissions and the free space of the disk".to_owned(),
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    move |source| HomeError::Io { action, path: path.to_owned(), source }
}

/// What a user calls a key or table: 1-64 of `a-z A-Z 0-9 . _ -`, the first a letter or digit, so that it is safe as
/// a file name and never mistaken for a flag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a name of 1-{MAX_NAME_BYTES} of a-z A-Z 0-9 . _ - that begins with a letter or digit, got {got:?}"
)]
pub struct NameError {
    got: String,
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_good = text.len() <= MAX_NAME_BYTES
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if is_good { Ok(Self(text.to_owned())) } else { Err(NameError { got: text.to_owned() }) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A home directory that exists and that only its owner can enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Where the home is unless `--home` says otherwise: `P2PDB_HOME`, else `p2pdb` in the user's data directory
    /// (`XDG_DATA_HOME`, else `~/.local/share`). `variable` looks an environment variable up.
    ///
    /// # Errors
    ///
    /// [`HomeError::Unknown`].
    pub fn default_path(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf, HomeError> {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        path("P2PDB_HOME")
            .or_else(|| path("XDG_DATA_HOME").map(|data| data.join("p2pdb")))
            .or_else(|| path("HOME").map(|home| home.join(".local/share/p2pdb")))
            .ok_or(HomeError::Unknown)
    }

    /// Makes the directory and what belongs into it, as far as it is not there.
    ///
    /// # Errors
    ///
    /// [`HomeError::Exposed`] if it exists and others can enter it, [`HomeError::Io`].
    pub fn create(root: &Path) -> Result<Self, HomeError> {
        let make = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(io_error("make the directory", path))
        };
        make(root)?;
        let home = Self::open(root)?;
        make(&home.keys())?;
        make(&home.tables())?;
        make(&home.store())?;
        Ok(home)
    }

    /// Opens an existing home.
    ///
    /// # Errors
    ///
    /// [`HomeError::Missing`], [`HomeError::Exposed`], [`HomeError::Io`].
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        // An absolute path keeps its meaning whatever becomes of the working directory.
        let root = std::path::absolute(root).map_err(io_error("find", root))?;
        match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => check_mode(&root, &metadata, 0o700)?,
            Ok(_) => return Err(HomeError::Missing { path: root }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(HomeError::Missing { path: root }),
            Err(e) => return Err(io_error("open", &root)(e)),
        }
        Ok(Self { root })
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The network file.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.root.join("network.toml")
    }

    /// The node's Ed25519 key.
    #[must_use]
    pub fn node_key(&self) -> PathBuf {
        self.root.join("node.key")
    }

    /// The directory of RSA keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// One RSA key.
    #[must_use]
    pub fn key(&self, name: &Name) -> PathBuf {
        self.keys().join(format!("{name}.pem"))
    }

    /// The directory of table cards.
    #[must_use]
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// One table card.
    #[must_use]
    pub fn table(&self, name: &Name) -> PathBuf {
        self.tables().join(format!("{name}.toml"))
    }

    /// The directory of the database.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The node records of others.
    #[must_use]
    pub fn routes(&self) -> PathBuf {
        self.root.join("routes.cbor")
    }

    /// The socket that a running node answers its operator on.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    /// The names of all RSA keys, ascending.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn key_names(&self) -> Result<Vec<Name>, HomeError> {
        names(&self.keys(), "pem")
    }

    /// The names of all table cards, ascending.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn table_names(&self) -> Result<Vec<Name>, HomeError> {
        names(&self.tables(), "toml")
    }
}

/// The names in a directory that have the extension; other files are somebody else's.
fn names(directory: &Path, extension: &str) -> Result<Vec<Name>, HomeError> {
    let mut names = Vec::new();
    for item in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let path = item.map_err(io_error("list", directory))?.path();
        if path.extension().is_some_and(|e| e == extension) {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<Name>().ok()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn check_mode(path: &Path, metadata: &fs::Metadata, expected: u32) -> Result<(), HomeError> {
    let got = metadata.permissions().mode() & 0o777;
    if got & 0o077 == 0 { Ok(()) } else { Err(HomeError::Exposed { path: path.to_owned(), expected, got }) }
}

/// Reads a secret that only its owner can read; at most 1 MiB.
///
/// # Errors
///
/// [`HomeError::Exposed`] if others can read it, [`HomeError::Io`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let read = io_error("read", path);
    // The mode is that of the open file, so that it cannot be exchanged between look and read.
    let result = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (file, metadata) = match result {
        Ok(opened) => opened,
        Err(e) => return Err(read(e)),
    };
    check_mode(path, &metadata, 0o600)?;
    if metadata.len() > MAX_FILE_BYTES {
        let reason = format!("expected at most {MAX_FILE_BYTES} bytes, got {}", metadata.len());
        return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, reason)));
    }
    // With room for all of it from the start, no copy is left behind by a growing buffer.
    let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
    let mut secret = Zeroizing::new(Vec::with_capacity(room));
    match file.take(MAX_FILE_BYTES).read_to_end(&mut secret) {
        Ok(_) => Ok(secret),
        Err(e) => Err(read(e)),
    }
}

/// Whether a file that is there already is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Replace it.
    Yes,
    /// Leave it and fail with [`HomeError::Exists`]: keys are not made twice.
    No,
}

/// Writes a secret: mode 0600, all of it or nothing, on the disk when this returns.
///
/// # Errors
///
/// [`HomeError::Exists`], [`HomeError::Io`].
pub fn write_secret(path: &Path, secret: &[u8], overwrite: Overwrite) -> Result<(), HomeError> {
    write(path, secret, 0o600, overwrite)
}

/// Writes a file that others may read: mode 0644, all of it or nothing, on the disk when this returns.
///
/// # Errors
///
/// [`HomeError::Exists`], [`HomeError::Io`].
pub fn write_public(path: &Path, content: &[u8], overwrite: Overwrite) -> Result<(), HomeError> {
    write(path, content, 0o644, overwrite)
}

fn write(path: &Path, content: &[u8], mode: u32, overwrite: Overwrite) -> Result<(), HomeError> {
    // That of a bare name is empty, which is not the name of a directory.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    // Of one process and path there is one writer at a time; a leftover of a crash is in nobody's way.
    let temporary = parent.join(format!(".{file_name}.{}.tmp", std::process::id()));
    let place = || {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        match overwrite {
            Overwrite::Yes => fs::rename(&temporary, path)?,
            // Unlike a rename, a link fails if the name is taken.
            Overwrite::No => fs::hard_link(&temporary, path)?,
        }
        File::open(parent)?.sync_all()
    };
    let placed = place();
    let _ = fs::remove_file(&temporary);
    placed.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => HomeError::Exists { path: path.to_owned() },
        _ => io_error("write", path)(e),
    })
}

#[cfg(test)]
mod tests;
