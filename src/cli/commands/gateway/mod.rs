//! `gateway`: runs the local daemon for apps until it is told to stop; talks with it; keeps a user in one file.

mod ask;
mod backup;
mod link;
mod login;
mod restore;
mod token;
mod vault;

use std::{
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroUsize,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use libp2p::Multiaddr;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        keyring::{Keyring, PrivateHalf},
        node_config::store_options,
        output::{Answer, note},
        passphrase::PassphraseArgs,
        reach::known_nodes,
    },
    config::bootstrap::parse_address,
    gateway::{DEFAULT_LISTEN, Gateway, GatewayConfig, GatewayError, NamedKey},
};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let apps in: make, list and revoke their tokens at the daemon that runs
    #[command(subcommand)]
    Token(token::Command),
    /// Print a link that opens the page of the daemon that runs, once
    Link,
    /// Answer the login challenge of an app that runs somewhere else, to be handed to it
    Login(login::Args),
    /// Write the user to one encrypted file: keys, table cards, network file
    Backup(backup::Args),
    /// Make the user of such a file again, on this machine
    Restore(restore::Args),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Let other machines reach it, without encryption: whoever has a token reads and posts as you
    #[arg(long)]
    expose: bool,
    /// Answer to this Host header too, as in p2pdb.example:4780; may be repeated
    #[arg(long = "host", value_name = "HOST:PORT")]
    hosts: Vec<String>,
    /// Unlock this key and no other; may be repeated [default: every private key of the home]
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Threads that do proofs of work [default: one per core]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// Begin with this node and no other; may be repeated [default: the bootstrap lists]
    #[arg(long = "peer", value_name = "MULTIADDR", value_parser = parse_address)]
    peers: Vec<Multiaddr>,
    /// How many nodes to store entries at, and to read from
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
}

/// Told on stdout once it listens.
#[derive(Serialize)]
struct Running {
    url: String,
    token_file: String,
    /// Opens the page, once.
    page: String,
    /// The keys that it can read with.
    keys: Vec<String>,
}

impl Answer for Running {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "the daemon listens at {}", self.url)?;
        writeln!(to, "the owner's token of this start is in {}", self.token_file)?;
        writeln!(to, "to see it in a browser, open (once): {}", self.page)
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.command {
        None => serve(&args.run, context),
        Some(Command::Token(command)) => token::run(command, context),
        Some(Command::Link) => link::run(context),
        Some(Command::Login(args)) => login::run(args, context),
        Some(Command::Backup(args)) => backup::run(args, context),
        Some(Command::Restore(args)) => restore::run(args, context),
    }
}

fn serve(args: &RunArgs, context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let config = context.config()?;
    context.start_logging(&config.log)?;
    let network = context.network()?;
    let keys = keys(args, &Keyring::new(home.clone()))?;
    let token_file = home.root().join("gateway/token");
    let unlocked = keys.iter().filter(|key| key.private.is_some()).map(|key| key.name.to_string()).collect();
    context.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let bootstrap = if args.peers.is_empty() { known_nodes(context).await? } else { args.peers.clone() };
        let is_alone = bootstrap.is_empty();
        let mut gateway_config = GatewayConfig::new(home, network.network.clone());
        gateway_config.bootstrap = bootstrap;
        gateway_config.keys = keys;
        gateway_config.listen = args.listen;
        gateway_config.expose = args.expose;
        gateway_config.hosts.clone_from(&args.hosts);
        gateway_config.threads = args.threads.unwrap_or(gateway_config.threads);
        gateway_config.nodes = args.nodes.into();
        gateway_config.store = store_options(&config);
        let gateway = match Gateway::start(gateway_config).await {
            Ok(gateway) => gateway,
            Err(error @ GatewayError::NotLoopback { .. }) => {
                return Err(error).hint("listen on 127.0.0.1, or pass --expose if that is what you want");
            }
            Err(error @ GatewayError::Listen { .. }) => {
                return Err(error).hint("stop what listens there, or choose another port with --listen");
            }
            Err(error) => return Err(error).context("the daemon does not start"),
        };
        if args.expose {
            note(
                "other machines can reach this daemon, and read what it sends: put a proxy with TLS in front",
            );
        }
        if is_alone {
            note("no node is known: entries wait in the outbox until one is; name one with --peer MULTIADDR");
        }
        let told = context.output().print_line(&Running {
            url: format!("http://{}", gateway.address()),
            token_file: token_file.display().to_string(),
            page: gateway.page().to_owned(),
            keys: unlocked,
        });
        if told.is_ok() {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        gateway.stop().await;
        told.map(|()| Exit::Success)
    })
}

/// The keys of the home, the private ones unlocked.
fn keys(args: &RunArgs, keyring: &Keyring) -> Result<Vec<NamedKey>> {
    let wanted = args.keys.iter().map(|text| keyring.find(text)).collect::<Result<Vec<_>>>()?;
    let mut keys = Vec::new();
    for key in keyring.all()? {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|wanted| wanted.name == key.name);
        let private = if is_wanted && key.private != PrivateHalf::None {
            Some(keyring.unlock(&key, &args.passphrase)?)
        } else {
            None
        };
        keys.push(NamedKey { name: key.name, public: key.public, private });
    }
    Ok(keys)
}
