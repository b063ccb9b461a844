//! Errors as people read them: what happened, why, what to do, and the exit code.

use std::{error::Error, fmt, io, process::ExitCode};

use crate::{
    client::ClientError,
    config::{ConfigError, HomeError},
    node::{NodeError, admin::AdminError},
    store::StoreError,
    swarm::RequestError,
};

/// How a command ended; scripts may rely on these codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Not done.
    Failure = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// No node could be reached.
    Unreachable = 3,
    /// The node, the store or an entry is not in order.
    Unhealthy = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error together with what to do about it.
#[derive(Debug)]
pub(super) struct Advised {
    error: anyhow::Error,
    hint: Option<String>,
    exit: Exit,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Advised {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds to an error what to do about it.
pub(super) trait Advise<T> {
    /// Ends with a `hint:` line.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
    /// Ends with this exit code and a `hint:` line.
    fn exit(self, exit: Exit, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Advise<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.exit(Exit::Failure, hint)
    }

    fn exit(self, exit: Exit, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Advised { error: error.into(), hint: Some(hint.into()), exit }.into())
    }
}

/// Writes the error to stderr and says how the program ends.
pub(super) fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        // The reader of stdout has seen enough.
        return Exit::Success;
    }
    // Nobody is left to tell if stderr is gone.
    let _ = write_report(&mut io::stderr().lock(), error);
    exit(error)
}

fn write_report(to: &mut dyn io::Write, error: &anyhow::Error) -> io::Result<()> {
    writeln!(to, "error: {error}")?;
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // An error that only passes another on says the same twice.
        if text != last {
            writeln!(to, "  because: {text}")?;
        }
        last = text;
    }
    hint(error).map_or(Ok(()), |hint| writeln!(to, "hint: {hint}"))
}

fn exit(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Advised>() {
        Some(advised) if advised.exit != Exit::Failure => advised.exit,
        Some(advised) => exit(&advised.error),
        None if error.chain().any(is_unreachable) => Exit::Unreachable,
        None => Exit::Failure,
    }
}

/// Whether it means that no node answers.
fn is_unreachable(cause: &(dyn Error + 'static)) -> bool {
    let request = |error: &RequestError| {
        matches!(error, RequestError::Unreachable { .. } | RequestError::Timeout | RequestError::Closed)
    };
    cause.downcast_ref().is_some_and(request)
        || match cause.downcast_ref() {
            Some(ClientError::Unreachable { .. } | ClientError::NoMirror { .. }) => true,
            // Errors that are passed on as they are have no cause of their own.
            Some(ClientError::Request(error)) => request(error),
            _ => false,
        }
        || matches!(cause.downcast_ref(), Some(AdminError::NotRunning))
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(advised) = error.downcast_ref::<Advised>() {
        return advised.hint.clone().or_else(|| hint(&advised.error));
    }
    error.chain().find_map(|cause| {
        (cause.downcast_ref::<HomeError>().map(HomeError::hint))
            .or_else(|| cause.downcast_ref::<ConfigError>().map(ConfigError::hint))
            .or_else(|| lower_hint(cause).map(str::to_owned))
    })
}

/// What to do about the errors of lower layers, which know nothing of commands.
fn lower_hint(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(AdminError::NotRunning) = cause.downcast_ref() {
        return Some("start one with `p2pdb run`");
    }
    let store = match cause.downcast_ref() {
        Some(NodeError::Store(store)) => Some(store),
        _ => cause.downcast_ref(),
    };
    match store {
        Some(StoreError::InUse { .. }) => {
            return Some("stop the node that runs on this home, or name another home with --home");
        }
        Some(StoreError::HorizonTooShort { .. }) => {
            return Some("correct `limits.horizon`: at least an epoch of the network, or \"none\"");
        }
        _ => {}
    }
    if let Some(ClientError::NoMirror { .. }) = cause.downcast_ref() {
        return Some("name a node that mirrors the table with --peer, or run one yourself");
    }
    is_unreachable(cause).then_some(
        "check the connection and the addresses; name a node that runs with --peer /ip4/../tcp/../p2p/PEERID",
    )
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    fn written(error: &anyhow::Error) -> String {
        let mut text = Vec::new();
        write_report(&mut text, error).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_a_hint() {
        let cause = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Err::<(), _>(cause).context("cannot read a.toml").hint("write one").unwrap_err();
        assert_eq!(written(&error), "error: cannot read a.toml\n  because: no such file\nhint: write one\n");
        assert_eq!(exit(&error), Exit::Failure);
    }

    #[test]
    fn lower_layers_give_hints_through_any_context() {
        let error = anyhow::Error::from(HomeError::Unknown).context("cannot open the home");
        assert!(written(&error).ends_with("hint: pass --home DIRECTORY or set P2PDB_HOME\n"), "{error:?}");
    }

    #[test]
    fn the_exit_code_goes_with_the_error() {
        let error = Err::<(), _>(anyhow!("nobody there")).exit(Exit::Unreachable, "try later").unwrap_err();
        assert_eq!(exit(&error), Exit::Unreachable);
        assert_eq!(exit(&anyhow!("plain")), Exit::Failure);
        for unreachable in [
            anyhow::Error::from(ClientError::Unreachable { tried: 3 }),
            ClientError::Request(RequestError::Timeout).into(),
            RequestError::Unreachable { why: "nobody is there".to_owned() }.into(),
            AdminError::NotRunning.into(),
        ] {
            let error = unreachable.context("cannot ask");
            assert_eq!(exit(&error), Exit::Unreachable, "{error:?}");
            assert!(written(&error).contains("\nhint: "), "{error:?}");
        }
    }
}
