//! `run`: runs a node until it is told to stop.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use libp2p::Multiaddr;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        format,
        node_config::{node_config, read_node_key},
        output::{Answer, note},
        progress,
    },
    config::{Config, bootstrap::parse_address},
    node::{Node, admin},
    swarm::Event,
};

/// How often is looked how far the first sync is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Listening takes milliseconds; an address that is not there by then shows in the log.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);
/// Requests to the admin socket that are under way on shutdown have this long.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Address to listen on, instead of those of the configuration; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Multiaddr>,
    /// Node to begin with, instead of `bootstrap.peers`; may be repeated
    #[arg(long, value_name = "MULTIADDR", value_parser = parse_address)]
    bootstrap: Vec<Multiaddr>,
    /// Tables to mirror: "all", or ids with commas between them
    #[arg(long, value_name = "TABLES")]
    tables: Option<String>,
    /// Set any key of the configuration, as in limits.max_disk="50 GiB"; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Told on stdout once the node can be reached.
#[derive(Serialize)]
struct Running {
    peer: String,
    network: String,
    addresses: Vec<String>,
}

impl Answer for Running {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "node {} of the network {} runs at", self.peer, self.network)?;
        self.addresses.iter().try_for_each(|address| writeln!(to, "  {address}"))
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let home = context.whole_home()?;
    let config = config(args, context)?;
    context.start_logging(&config.log)?;
    let network = context.network()?;
    let key = read_node_key(&home)?;
    let node_config = node_config(&home, &config, &network)?;
    let socket = home.admin_socket();
    context.block_on(async {
        // From here on a signal stops the node cleanly, also while it starts.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let node = Node::start(key, node_config).await.context("the node does not start")?;
        let node = Arc::new(node);
        let stopped = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = show_first_sync(&node, context) => {}
            }
        };
        let served = serve(&node, &socket, config.listen.len(), context, stopped).await;
        owned(node).await?.stop().await.context("the node did not stop cleanly")?;
        served.map(|()| Exit::Success)
    })
}

/// Shows, to whoever watches, what the first round of reconciliation fetches; never ends.
async fn show_first_sync(node: &Node, context: &Context) {
    if context.shows_progress() {
        let bar = progress::fetched(context);
        loop {
            let totals = node.sync_totals();
            bar.set_position(totals.fetched);
            bar.set_message(format::bytes(totals.received_bytes));
            if totals.sessions > 0 && totals.running == 0 {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bar.finish_and_clear();
    }
    std::future::pending().await
}

/// Tells where the node is reached and answers on the admin socket, until `stopped`.
async fn serve(
    node: &Arc<Node>,
    socket: &Path,
    addresses: usize,
    context: &Context,
    stopped: impl Future<Output = ()>,
) -> Result<()> {
    // Whoever has the store open is the only node of this home, so that the socket is its own.
    let listener = admin::bind(socket)
        .with_context(|| format!("cannot open the admin socket {}", socket.display()))
        .hint("check the permissions of the home; the path of a socket has at most 107 bytes")?;
    let stop_admin = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(listener, Arc::clone(node), stop_admin.clone()));
    let told = async {
        let addresses = listening(node, addresses).await?;
        context.output().print_line(&Running {
            peer: node.peer().to_string(),
            network: node.swarm().network().name.clone(),
            addresses: addresses.iter().map(Multiaddr::to_string).collect(),
        })
    };
    let told = told.await;
    if told.is_ok() {
        stopped.await;
        if context.shows_progress() {
            note("stopping");
        }
    }
    stop_admin.cancel();
    // It fails only if it panicked, which the node outlives.
    let _ = admin.await;
    // Without it, who asks is told the same by the socket that nobody listens on.
    let _ = fs::remove_file(socket);
    told
}

/// The configuration with the flags over it.
fn config(args: &Args, context: &Context) -> Result<Config> {
    let mut loader = context.config_loader()?;
    let joined = |list: &[Multiaddr]| list.iter().map(Multiaddr::to_string).collect::<Vec<_>>().join(",");
    if !args.listen.is_empty() {
        loader = loader.flag("--listen", "listen", joined(&args.listen));
    }
    if !args.bootstrap.is_empty() {
        loader = loader.flag("--bootstrap", "bootstrap.peers", joined(&args.bootstrap));
    }
    if let Some(tables) = &args.tables {
        loader = loader.flag("--tables", "tables", tables);
    }
    for (key, value) in &args.set {
        loader = loader.flag("--set", key, value);
    }
    Ok(loader.load()?)
}

/// The addresses of the node, once it listens on as many as it should.
async fn listening(node: &Node, expected: usize) -> Result<Vec<Multiaddr>> {
    let mut events = node.swarm().events();
    let all = async {
        loop {
            let status = node.swarm().status().await?;
            if status.listening.len() >= expected {
                return anyhow::Ok(());
            }
            while !matches!(events.recv().await?, Event::Listening { .. }) {}
        }
    };
    if let Ok(listens) = tokio::time::timeout(LISTEN_DEADLINE, all).await {
        listens?;
    }
    Ok(node.addresses().await?)
}

/// The node itself, once the last request to the admin socket is answered.
async fn owned(mut node: Arc<Node>) -> Result<Node> {
    let wait = async {
        loop {
            match Arc::try_unwrap(node) {
                Ok(node) => return node,
                Err(shared) => node = shared,
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(ADMIN_DRAIN, wait)
        .await
        .map_err(|_| anyhow!("a request to the admin socket does not end"))
}
