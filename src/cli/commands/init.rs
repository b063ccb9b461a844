//! `init`: makes a home.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use libp2p::Multiaddr;
use p2pdb_protocol::{
    card::TableCard,
    id::NetworkId,
    network::{Network, NetworkFile},
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        node_config::make_node_key,
        output::{Answer, note, write_fields},
    },
    config::{
        EXAMPLE, Home, HomeError, Loader,
        home::{self, Overwrite},
    },
};

/// The price of work on a network for development: a few milliseconds.
const DEV_WORK_PRICE: u64 = 1 << 14;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Join the network of this network file or table card [default: p2pdb-main]
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    network: Option<PathBuf>,
    /// Use the network p2pdb-dev: work costs next to nothing, and nodes listen and meet on this machine only
    #[arg(long)]
    dev: bool,
    /// Address to listen on; may be repeated [default: TCP and QUIC on port 4711]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Multiaddr>,
    /// Which defaults to begin with: "server", or "home" for a machine behind a router
    #[arg(long, value_name = "PROFILE", value_parser = ["server", "home"], default_value = "server")]
    profile: String,
}

#[derive(Serialize)]
struct Made {
    home: PathBuf,
    network: String,
    network_id: NetworkId,
    peer_id: String,
}

impl Answer for Made {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(
            to,
            &[
                ("home", self.home.display().to_string()),
                ("network", format!("{} ({})", self.network, self.network_id)),
                ("peer id", self.peer_id.clone()),
            ],
        )
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let network = network(args)?;
    let config = config(args)?;
    // What cannot be used is noticed before anything is written.
    Loader::new().text(Path::new("--listen"), &config)?.load()?;
    let home = Home::create(&context.home_path()?)?;
    for path in [home.node_key(), home.network(), home.config()] {
        if path.exists() {
            return Err(HomeError::Exists { path })
                .hint("this home is made already; choose another with --home DIRECTORY");
        }
    }
    home::write_public(&home.config(), config.as_bytes(), Overwrite::No)?;
    home::write_public(&home.network(), network.to_toml().as_bytes(), Overwrite::No)?;
    let peer_id = make_node_key(&home)?.public().to_peer_id();
    context.output().print(&Made {
        home: home.root().to_owned(),
        network: network.network.name.clone(),
        network_id: network.network.id(),
        peer_id: peer_id.to_string(),
    })?;
    if network.bootstrap.is_empty() {
        note(
            "The network file names no node to begin with: add one to `bootstrap.peers` in config.toml, or to `bootstrap` in \
             network.toml, which goes with the table cards that you share; or pass --peer.",
        );
    }
    note("Next: `p2pdb key new NAME` to read, `p2pdb table new NAME` to post, `p2pdb run` to run a node.");
    Ok(Exit::Success)
}

/// The network to join: a table card has one as well.
fn network(args: &Args) -> Result<NetworkFile> {
    if args.dev {
        let network =
            Network { name: "p2pdb-dev".to_owned(), work_price: DEV_WORK_PRICE, ..Network::default() };
        return Ok(NetworkFile { network, bootstrap: Vec::new() });
    }
    let Some(path) = &args.network else { return Ok(NetworkFile::default()) };
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read the network file {shown}"))
        .hint("check the path")?;
    if let Ok(card) = TableCard::parse(&text) {
        return Ok(card.network);
    }
    NetworkFile::parse(&text)
        .with_context(|| format!("expected a network file or a table card in {shown}"))
        .hint("get the file anew from whoever runs the network")
}

/// The example configuration with the settings that differ from its defaults.
fn config(args: &Args) -> Result<String> {
    let mut settings = Vec::new();
    if args.profile != "server" {
        settings.push(("profile", toml::Value::from(args.profile.as_str())));
    }
    let listen: Vec<String> = match args.listen.as_slice() {
        [] if args.dev => {
            ["/ip4/127.0.0.1/tcp/4711", "/ip4/127.0.0.1/udp/4711/quic-v1"].map(str::to_owned).into()
        }
        listen => listen.iter().map(ToString::to_string).collect(),
    };
    if !listen.is_empty() {
        settings.push(("listen", listen.into()));
    }
    let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
    for (key, value) in settings {
        let line = lines.iter_mut().find(|line| line.starts_with(&format!("#{key} = ")));
        *line.with_context(|| format!("the example configuration has no line for `{key}`"))? =
            format!("{key} = {value}");
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dev: bool, profile: &str, listen: &[&str]) -> Args {
        let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
        Args { network: None, dev, listen, profile: profile.to_owned() }
    }

    #[test]
    fn what_is_asked_for_stands_in_the_configuration() {
        let load = |args: &Args| {
            Loader::new().text(Path::new("config.toml"), &config(args).unwrap()).unwrap().load().unwrap()
        };
        let plain = load(&args(false, "server", &[]));
        assert_eq!(plain, crate::config::Config::default());
        let dev = load(&args(true, "home", &[]));
        assert_eq!(dev.profile, crate::config::Profile::Home);
        assert!(dev.listen.iter().all(|address| address.to_string().starts_with("/ip4/127.0.0.1/")));
        let address = "/ip4/192.0.2.1/tcp/5000";
        assert_eq!(load(&args(true, "server", &[address])).listen, [address.parse().unwrap()]);
    }
}
