//! `/v1/get` by recipient with a cursor, page by page over one connection, beside the same pages of a bare redb snapshot.

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use getrandom::SysRng;
use p2pdb::{
    clock::{Clock, monotonic},
    config::{
        Home,
        home::{self, Overwrite},
    },
    gateway::{Gateway, GatewayConfig, NamedKey},
    protocol::{
        card::TableCard,
        entry::Entry,
        keys::PrivateKey,
        network::Network,
        seal::{Content, Draft},
    },
    store::{NewEntry, Store, StoreOptions},
};
use rand_core::{Rng as _, UnwrapErr};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::support::{
    bench::{Bench, Row},
    data::{network, reader_key, table_key},
    samples::Samples,
};

/// Entries in one page.
const PAGE: usize = 100;
/// Readers of the space, of which the daemon has one's key.
const READERS: usize = 2;
/// Length of all keys, in bits.
const BITS: usize = 2048;
/// Key: recipient and arrival. Value: the encoded entry.
const PLAIN: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("by_recipient");

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let count = bench.count(10_000, 200);
    let network = network();
    let (table, readers) = (table_key(BITS)?, [reader_key(0, BITS)?, reader_key(1, BITS)?]);
    let [me, _] = &readers;
    let entries = seal(&network.network, &table, &readers, count)?;
    let directory = bench.scratch()?;
    let mine = count.div_ceil(READERS);
    let pages = mine.div_ceil(PAGE.min(bench.pick(PAGE, 20)));
    let limit = mine.div_ceil(pages);
    let rounds = bench.pick(20, 2);
    let plain = plain(directory.path(), &entries, me, limit, rounds)?;
    bench.note("the daemon opens the entries");
    let card = TableCard {
        name: "bench".to_owned(),
        network,
        table_public: table.public_key().clone(),
        table_private: None,
        recipient_public: None,
        recipient_private: None,
    };
    let (cold, warm) =
        bench.runtime()?.block_on(daemon(directory.path(), &card, entries, me, limit, rounds))?;
    let row = |what: &str, samples: &Samples| {
        Row::new()
            .text("what", what)
            .count("pages", samples.len() as u64)
            .milliseconds("p50_ms", samples.median())
            .milliseconds("p99_ms", samples.percentile(99))
            .number("times_redb", samples.median().as_secs_f64() / plain.median().as_secs_f64())
    };
    let settings = format!(
        "{count} entries of 1 KiB in a space, every {READERS}nd for the daemon's key of {} bits; pages of {limit} of them, one \
         after the other over one connection; the answers have the contents in base64",
        me.public_key().bits()
    );
    bench.show(
        &settings,
        &[
            row("redb snapshot, entries sealed", &plain),
            row("/v1/get, opened before", &warm),
            row("/v1/get, first page while nothing is opened", &cold),
        ],
    );
    Ok(())
}

/// Entries of 1 KiB that their readers can open, one reader each, in turn.
fn seal(network: &Network, table: &PrivateKey, readers: &[PrivateKey], count: usize) -> Result<Vec<Entry>> {
    let (mut rng, now) = (UnwrapErr(SysRng), Clock::system().now());
    let entries = readers.iter().cycle().take(count).map(|reader| {
        let mut data = vec![0; 1024];
        rng.fill_bytes(&mut data);
        let draft = Draft {
            table,
            recipients: &[reader.public_key().clone()],
            created: now,
            expires: None,
            content: &Content { media_type: "application/octet-stream".to_owned(), data },
            author: None,
        };
        let sealed = draft.seal(&mut rng, network)?;
        // At the price of 1 any work will do.
        Ok(sealed.finish(&vec![0; sealed.puzzle(network).work_bytes()], network)?)
    });
    entries.collect()
}

/// The same pages of a plain database: a range of an index that has the entries in it.
fn plain(
    directory: &Path,
    entries: &[Entry],
    me: &PrivateKey,
    limit: usize,
    rounds: usize,
) -> Result<Samples> {
    let database = Database::create(directory.join("plain.redb"))?;
    let txn = database.begin_write()?;
    {
        let mut table = txn.open_table(PLAIN)?;
        for (arrival, entry) in entries.iter().enumerate() {
            for wrapped in &entry.header().recipients {
                table.insert((wrapped.recipient.as_bytes(), arrival as u64), &entry.encoded()[..])?;
            }
        }
    }
    txn.commit()?;
    let id = me.public_key().recipient_id();
    let mut samples = Samples::default();
    for round in 0..=rounds {
        let mut cursor = 0;
        loop {
            let began = monotonic();
            let snapshot = database.begin_read()?;
            let table = snapshot.open_table(PLAIN)?;
            let mut bytes = Vec::new();
            let mut next = None;
            for row in table.range((id.as_bytes(), cursor)..=(id.as_bytes(), u64::MAX))?.take(limit) {
                let (key, value) = row?;
                next = Some(key.value().1 + 1);
                bytes.push(value.value().to_vec());
            }
            let Some(next) = next else { break };
            // The first round fills caches.
            if round > 0 {
                samples.push(began.elapsed());
            }
            cursor = next;
        }
    }
    Ok(samples)
}

/// The first page right after the start, and all pages once the daemon has opened the entries.
async fn daemon(
    directory: &Path,
    card: &TableCard,
    entries: Vec<Entry>,
    me: &PrivateKey,
    limit: usize,
    rounds: usize,
) -> Result<(Samples, Samples)> {
    let home = Home::create(&directory.join("home"))?;
    let name = "bench".parse()?;
    home::write_secret(&home.table(&name), card.to_toml()?.as_bytes(), Overwrite::No)?;
    let (count, network) = (entries.len(), card.network.network.clone());
    fs::create_dir(home.root().join("gateway"))?;
    let mirror = home.root().join("gateway/mirror.redb");
    let store = Store::open(&mirror, network.clone(), StoreOptions::default(), Clock::system())?;
    let key = &card.table_public;
    for entries in entries.chunks(1024) {
        let new = entries.iter().map(|entry| NewEntry { entry: entry.clone(), key: key.clone() });
        store.commit(new.collect()).await?;
    }
    store.close().await?;
    let mut config = GatewayConfig::new(home, network);
    config.listen = "127.0.0.1:0".parse()?;
    config.threads = NonZeroUsize::MIN;
    let (public, private) = (me.public_key().clone(), Some(me.clone()));
    config.keys = vec![NamedKey { name: "me".parse()?, public, private }];
    let gateway = Gateway::start(config).await?;
    let mut http = Http::connect(&gateway).await?;
    let mine = count.div_ceil(READERS);
    let first = format!("/v1/get?space=bench&recipient=me&limit={limit}");
    let mut cold = Samples::default();
    cold.push(http.page(&first).await?.0);
    let opened = format!("p2pdb_gateway_opened_entries {mine}\n");
    let deadline = monotonic() + Duration::from_secs(120);
    while !http.get("/metrics").await?.contains(&opened) {
        ensure!(monotonic() < deadline, "the daemon does not open the entries");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut warm = Samples::default();
    for round in 0..=rounds {
        let (mut path, mut found) = (first.clone(), 0);
        while found < mine {
            let (time, entries, next) = http.page(&path).await?;
            ensure!(entries > 0, "{found} of {mine} entries were found");
            found += entries;
            if round > 0 {
                warm.push(time);
            }
            path = format!("{first}&cursor={next}");
        }
        ensure!(found == mine, "expected {mine} entries, got {found}");
    }
    gateway.stop().await;
    Ok((cold, warm))
}

/// A connection that is kept.
struct Http {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Http {
    async fn connect(gateway: &Gateway) -> Result<Self> {
        let stream = TcpStream::connect(gateway.address()).await?;
        stream.set_nodelay(true)?;
        let head = format!("Host: {}\r\nAuthorization: Bearer {}\r\n", gateway.address(), gateway.token());
        Ok(Self { stream: BufReader::new(stream), head })
    }

    /// The body of an answer.
    async fn get(&mut self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.head);
        self.stream.write_all(request.as_bytes()).await?;
        let mut length = 0;
        let mut status = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            if line == "\r\n" {
                break;
            }
            if let Some((_, value)) = line.split_once(": ").filter(|(name, _)| *name == "content-length") {
                length = value.trim().parse()?;
            }
            status.get_or_insert(line);
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        let status = status.ok_or_else(|| anyhow!("no answer"))?;
        ensure!(status.starts_with("HTTP/1.1 200"), "{path}: {status}{body}");
        Ok(body)
    }

    /// How long a page took, how many entries it has, all opened, and its cursor.
    async fn page(&mut self, path: &str) -> Result<(Duration, usize, String)> {
        let began: Instant = monotonic();
        let body = self.get(path).await?;
        let time = began.elapsed();
        let page: serde_json::Value = serde_json::from_str(&body)?;
        let entries = page.get("entries").and_then(|entries| entries.as_array()).context("no entries")?;
        ensure!(entries.iter().all(|entry| entry.get("content").is_some()), "an entry is not opened");
        let next = page.get("next").and_then(|next| next.as_str()).context("no cursor")?;
        Ok((time, entries.len(), next.to_owned()))
    }
}
