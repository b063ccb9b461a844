//! `work bench`: how fast this machine hashes, and what that means for one entry.

use std::{
    fs,
    io::{self, Write},
    num::NonZeroUsize,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use p2pdb_protocol::{
    network::{Network, NetworkFile},
    pow,
};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        format,
        output::{Answer, write_fields},
    },
    clock::monotonic,
    config::HomeError,
};

/// Hashes between two looks at the clock: some ten milliseconds.
const CHUNK: u64 = 1 << 17;
/// Priced bytes of an entry whose content is 1 KiB, for one recipient: padded body and header.
const PRICED_BYTES: u64 = 1088 + 16 + 512;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Seconds to measure, for one core and again for all
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Tell the price on the network of this file [default: that of the home, else p2pdb-main]
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.01..=600.0).contains(seconds))
        .ok_or_else(|| "expected 0.01 to 600 seconds".to_owned())
}

#[derive(Serialize)]
struct Rate {
    threads: usize,
    hashes_per_second: f64,
    seconds_per_entry: f64,
}

#[derive(Serialize)]
struct Bench {
    network: String,
    entry_bytes: u64,
    hashes_per_entry: u64,
    puzzles: u64,
    one_core: Rate,
    all_cores: Rate,
}

impl Answer for Bench {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        // The time of n puzzles of equal price varies by 1 / sqrt(n) of itself.
        let spread = 100.0 / (self.puzzles as f64).sqrt();
        let rate = |Rate { threads, hashes_per_second, seconds_per_entry }: &Rate| {
            let time = format::duration(Duration::from_secs_f64(*seconds_per_entry));
            let cores = if *threads == 1 { "1 core".to_owned() } else { format!("{threads} cores") };
            (cores, format!("{:.2} million hashes/s, {time} for an entry", hashes_per_second / 1e6))
        };
        let ((one, one_rate), (all, all_rate)) = (rate(&self.one_core), rate(&self.all_cores));
        let price = format!(
            "{} hashes for an entry of up to 1 KiB, in {} puzzles (times vary by {spread:.0} %)",
            format::count(self.hashes_per_entry),
            self.puzzles
        );
        write_fields(to, &[("network", self.network.clone()), ("price", price), (&one, one_rate)])?;
        if self.all_cores.threads > 1 { write_fields(to, &[(&all, all_rate)]) } else { Ok(()) }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let network = network(args, context)?;
    let hashes_per_entry = u64::try_from(pow::price(&network, PRICED_BYTES)).unwrap_or(u64::MAX);
    let length = Duration::from_secs_f64(args.seconds);
    let rate = |threads: NonZeroUsize| -> Result<Rate> {
        let hashes_per_second = measure(threads, length)?;
        let seconds_per_entry = hashes_per_entry as f64 / hashes_per_second;
        Ok(Rate { threads: threads.get(), hashes_per_second, seconds_per_entry })
    };
    let all = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    context.output().print(&Bench {
        network: network.name.clone(),
        entry_bytes: PRICED_BYTES,
        hashes_per_entry,
        puzzles: network.work_puzzles,
        one_core: rate(NonZeroUsize::MIN)?,
        all_cores: rate(all)?,
    })?;
    Ok(Exit::Success)
}

/// The network that was named, else that of the home, else the default one: a benchmark needs no home.
fn network(args: &Args, context: &Context) -> Result<Network> {
    if let Some(path) = &args.network {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the network file {}", path.display()))
            .hint("check the path")?;
        return Ok(NetworkFile::parse(&text)?.network);
    }
    match context.network() {
        Err(error) if matches!(error.downcast_ref(), Some(HomeError::Missing { .. })) => {
            Ok(Network::default())
        }
        network => Ok(network?.network),
    }
}

/// Hashes per second on so many threads.
fn measure(threads: NonZeroUsize, length: Duration) -> Result<f64> {
    let began = monotonic();
    let hashes = thread::scope(|scope| {
        let hash = || {
            // Once at least: a busy machine can let the thread begin when the time is over.
            let mut hashes = pow::benchmark(CHUNK);
            while monotonic() - began < length {
                hashes += pow::benchmark(CHUNK);
            }
            hashes
        };
        let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(hash)).collect();
        workers.into_iter().map(|worker| worker.join().ok()).sum::<Option<u64>>()
    });
    let hashes = hashes.ok_or_else(|| anyhow!("a thread of the benchmark failed"))?;
    Ok(hashes as f64 / (monotonic() - began).as_secs_f64())
}
