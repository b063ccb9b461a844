//! What every command starts from: the global flags, and what they lead to.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use getrandom::SysRng;
use p2pdb_protocol::network::NetworkFile;
use rand_core::UnwrapErr;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{
        args::Globals,
        failure::Advise as _,
        node_config::store_options,
        output::{Output, is_watched},
        passphrase,
    },
    clock::Clock,
    config::{Config, Home, Loader},
    node::store_file,
    store::Store,
};

/// The randomness of the operating system.
pub(super) type Rng = UnwrapErr<SysRng>;

/// The randomness of the operating system.
pub(super) const fn rng() -> Rng {
    UnwrapErr(SysRng)
}

/// The global flags of one run.
#[derive(Debug)]
pub(super) struct Context {
    globals: Globals,
}

impl Context {
    pub(super) const fn new(globals: Globals) -> Self {
        Self { globals }
    }

    pub(super) const fn output(&self) -> Output {
        Output::new(self.globals.json)
    }

    /// Whether progress is shown: a person watches and did not ask for quiet.
    pub(super) fn shows_progress(&self) -> bool {
        !self.globals.quiet && is_watched()
    }

    /// Starts to log to stderr; `usual` is the filter without `-v` and `-q`.
    pub(super) fn start_logging(&self, usual: &str) -> Result<()> {
        let filter = match (self.globals.quiet, self.globals.verbose) {
            (true, _) => "error",
            (false, 0) => usual,
            (false, 1) => "warn,p2pdb=info",
            (false, 2) => "info,p2pdb=debug",
            (false, _) => "debug,p2pdb=trace",
        };
        let filter = parse_filter(filter)?;
        let logger = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_watched());
        // Only tests could have started one before.
        let _ = logger.with_writer(std::io::stderr).try_init();
        Ok(())
    }

    /// Where the home is or will be.
    pub(super) fn home_path(&self) -> Result<PathBuf> {
        Ok(match &self.globals.home {
            Some(path) => path.clone(),
            None => Home::default_path(|name| env::var_os(name))?,
        })
    }

    /// The home, which must exist.
    pub(super) fn home(&self) -> Result<Home> {
        Ok(Home::open(&self.home_path()?)?)
    }

    /// The home with all its directories: one from a backup lacks that of the store.
    pub(super) fn whole_home(&self) -> Result<Home> {
        Ok(Home::create(self.home()?.root())?)
    }

    /// Where the configuration is.
    pub(super) fn config_path(&self) -> Result<PathBuf> {
        Ok(match &self.globals.config {
            Some(path) => path.clone(),
            None => self.home()?.config(),
        })
    }

    /// The file and the environment, for flags to be laid over.
    pub(super) fn config_loader(&self) -> Result<Loader> {
        let variables = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != passphrase::VARIABLE);
        let path = self.config_path()?;
        let loader = Loader::new().environment(variables);
        // A file that was named must be there; without one in the home the defaults hold.
        if self.globals.config.is_some() || path.exists() { Ok(loader.file(&path)?) } else { Ok(loader) }
    }

    /// The configuration.
    pub(super) fn config(&self) -> Result<Config> {
        Ok(self.config_loader()?.load()?)
    }

    /// Runs what waits for the network or the store.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::runtime::Runtime::new().context("cannot start threads")?.block_on(future)
    }

    /// The store of the home, which no node may have open; it must exist.
    pub(super) fn store(&self) -> Result<Store> {
        let path = store_file(&self.home()?.store());
        if !path.exists() {
            return Err(anyhow!("this home has no store yet: {} is missing", path.display()))
                .hint("run a node with `p2pdb run`, or take entries with `p2pdb import`");
        }
        self.new_store()
    }

    /// The store of the home, made if it is not there.
    pub(super) fn new_store(&self) -> Result<Store> {
        let (options, network) = (store_options(&self.config()?), self.network()?.network);
        Ok(Store::open(&store_file(&self.whole_home()?.store()), network, options, Clock::system())?)
    }

    /// The network of the home.
    pub(super) fn network(&self) -> Result<NetworkFile> {
        let path = self.home()?.network();
        match fs::read_to_string(&path) {
            Ok(text) => NetworkFile::parse(&text)
                .with_context(|| format!("cannot use the network file {}", path.display()))
                .hint("get the file anew from whoever runs the network"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(NetworkFile::default()),
            Err(error) => Err(error)
                .with_context(|| format!("cannot read {}", path.display()))
                .hint("check its permissions"),
        }
    }
}

/// What peers can have say things as often as they like, an error for each frame.
const QUIET: &str =
    "libp2p=off,yamux=off,quinn=off,soketto=off,multistream_select=off,rustls=off,hickory=off";

/// A log filter. What peers can have said goes to no log, unless the filter names libp2p, or asks for all that anybody has to say.
fn parse_filter(filter: &str) -> Result<EnvFilter> {
    let is_wide = filter.split(',').any(|part| matches!(part.trim(), "debug" | "trace"));
    let quiet = format!("{QUIET},{filter}");
    EnvFilter::try_new(if is_wide || filter.contains("libp2p") { filter } else { &quiet })
        .with_context(|| format!("expected a log filter such as \"info,p2pdb::sync=debug\", got {filter:?}"))
        .hint("correct `log` in config.toml, or remove it")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};

    use super::*;

    /// What of these events goes to the log.
    fn logged(filter: &str) -> String {
        let log = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&log);
        let logger = tracing_subscriber::fmt()
            .with_env_filter(parse_filter(filter).unwrap())
            .with_writer(move || Shared(Arc::clone(&to)));
        tracing::subscriber::with_default(logger.finish(), || {
            tracing::error!(target: "libp2p_kad::handler", "theirs");
            tracing::error!(target: "yamux::connection", "of a frame");
            tracing::warn!(target: "p2pdb::node", "ours");
        });
        let log = log.lock().unwrap();
        String::from_utf8(log.clone()).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_peers_can_have_said_as_often_as_they_like_is_not_logged_unless_it_is_asked_for() {
        let has = |log: &str| (log.contains("ours"), log.contains("theirs"));
        assert_eq!(has(&logged("info")), (true, false));
        assert!(!logged("info").contains("of a frame") && logged("trace").contains("of a frame"));
        assert_eq!(has(&logged("debug,p2pdb=trace")), (true, true));
        assert_eq!(has(&logged("info,libp2p_kad=warn")), (true, true));
        assert_eq!(has(&logged("error")), (false, false));
        assert_eq!(has(&logged("off")), (false, false));
    }
}
