//! Entries to measure with: sealed once, in parallel, and kept in files under `target/bench-data`.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use getrandom::SysRng;
use p2pdb::{
    clock::Clock,
    protocol::{
        bucket::{BucketSummary, bucket_of, digest},
        entry::{self, Entry, Header, WrappedKey, entry_id, signed_message},
        export::{Item, Reader, Writer},
        id::{EntryId, TableId},
        keys::{PrivateKey, PublicKey},
        network::{Network, NetworkFile},
        pow::Puzzle,
        seal::padme,
    },
};
use rand_core::{Rng as _, UnwrapErr};
use sha2::{Digest as _, Sha256};

use super::signer::Signer;

/// What a content of its own media type takes besides its data, and what encryption adds, in bytes (SPEC 4.4, 4.6).
const MEDIA_TYPE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
/// Entries are made as if posted evenly over this time before now: eight epochs.
const SPAN_SECONDS: u64 = 8 * 604_800;
/// Entries that a thread seals at a time.
const CHUNK: usize = 256;

/// Where cargo builds.
pub(crate) fn target_directory() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().unwrap_or(scratch).to_owned()
}

/// A network on which work is free.
pub(crate) fn network() -> NetworkFile {
    let network = Network { name: "bench".to_owned(), work_price: 1, work_puzzles: 1, ..Network::default() };
    NetworkFile { network, bootstrap: Vec::new() }
}

/// What the entries of a file are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// How many.
    pub(crate) entries: usize,
    /// Length of the table's key and of the readers', in bits.
    pub(crate) bits: usize,
    /// Length of a content, in bytes.
    pub(crate) content_bytes: usize,
    /// Readers; each entry has one of them, in turn.
    pub(crate) readers: usize,
}

impl Spec {
    /// Entries with contents of 1 KiB for one reader.
    pub(crate) const fn of(entries: usize, bits: usize) -> Self {
        Self { entries, bits, content_bytes: 1024, readers: 1 }
    }
}

/// A file of entries of one table, with the keys. What nodes cannot tell from random bytes, the wrapped keys and the bodies,
/// is random bytes.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) network: NetworkFile,
    pub(crate) table: Signer,
    pub(crate) readers: Vec<PublicKey>,
    /// An export file with all entries.
    pub(crate) file: PathBuf,
    pub(crate) spec: Spec,
}

impl Dataset {
    /// Finds the file of an earlier run, or makes it.
    pub(crate) fn new(spec: Spec) -> Result<Self> {
        let directory = directory()?;
        let table = Signer::new(spec.bits)?;
        let readers = (0..spec.readers)
            .map(|index| Ok(reader_key(index, spec.bits)?.public_key().clone()))
            .collect::<Result<Vec<_>>>()?;
        let Spec { entries, bits, content_bytes, readers: count } = spec;
        let file = directory.join(format!("{entries}x{content_bytes}-rsa{bits}-{count}readers.export"));
        let dataset = Self { network: network(), table, readers, file, spec };
        if !dataset.file.exists() {
            eprintln!("sealing {entries} entries of {content_bytes} bytes, RSA-{bits}, once");
            dataset.write().with_context(|| format!("cannot make {}", dataset.file.display()))?;
        }
        Ok(dataset)
    }

    fn write(&self) -> Result<()> {
        let partial = self.file.with_extension("partial");
        let mut file = Writer::new(BufWriter::with_capacity(1 << 20, File::create(&partial)?))?;
        file.table_key(self.table.public_key().der())?;
        let threads = thread::available_parallelism()?.get();
        let now = Clock::system().now();
        let next = std::sync::atomic::AtomicUsize::new(0);
        thread::scope(|scope| -> Result<()> {
            let (sender, sealed) = mpsc::sync_channel(4 * threads);
            for _ in 0..threads {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let start = next.fetch_add(CHUNK, std::sync::atomic::Ordering::Relaxed);
                        let end = self.spec.entries.min(start + CHUNK);
                        if start >= end {
                            return;
                        }
                        let chunk: Result<Vec<Entry>> =
                            (start..end).map(|index| self.seal(index, now)).collect();
                        if sender.send(chunk).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for chunk in sealed {
                chunk?.iter().try_for_each(|entry| file.entry(entry.encoded()))?;
            }
            Ok(())
        })?;
        file.finish()?.into_inner()?.sync_all()?;
        Ok(fs::rename(partial, &self.file)?)
    }

    /// Seals the entry of this place in the file.
    fn seal(&self, index: usize, now: u64) -> Result<Entry> {
        let ago = SPAN_SECONDS * (self.spec.entries - index) as u64 / self.spec.entries as u64;
        let reader = self.readers.get(index % self.readers.len()).context("no reader")?;
        self.seal_for(reader, now - ago)
    }

    /// Seals a further entry for one reader.
    pub(crate) fn seal_for(&self, reader: &PublicKey, created: u64) -> Result<Entry> {
        self.seal_until(reader, created, None)
    }

    /// Seals a further entry for one reader, which expires at some time.
    pub(crate) fn seal_until(&self, reader: &PublicKey, created: u64, expires: Option<u64>) -> Result<Entry> {
        let network = &self.network.network;
        let mut rng = UnwrapErr(SysRng);
        let mut wrapped = vec![0; self.spec.bits / 8];
        rng.fill_bytes(&mut wrapped);
        let mut body = vec![0; padme(self.spec.content_bytes + MEDIA_TYPE_BYTES) + TAG_BYTES];
        rng.fill_bytes(&mut body);
        let header = Header {
            table: self.table_id(),
            created,
            expires,
            recipients: vec![WrappedKey { recipient: reader.recipient_id(), wrapped }],
            body_hash: Sha256::digest(&body).into(),
            body_length: body.len() as u64,
        };
        let header = header.encode();
        let id = entry_id(&header, &body);
        let signature = self.table.sign(&mut rng, &signed_message(&id));
        // At the price of 1 any work will do.
        let puzzle = Puzzle::for_entry(network, &id, (header.len() + body.len()) as u64);
        let work = vec![0; puzzle.work_bytes()];
        Ok(Entry::from_trusted(entry::encode(&header, &body, &signature, &work), network)?)
    }

    /// The table.
    pub(crate) fn table_id(&self) -> TableId {
        self.table.table_id()
    }

    /// Reads the entries one by one.
    pub(crate) fn read(&self, mut each: impl FnMut(Entry)) -> Result<()> {
        let mut count = 0;
        for item in Reader::new(BufReader::with_capacity(1 << 20, File::open(&self.file)?))? {
            if let Item::Entry(encoded) = item? {
                each(Entry::from_trusted(encoded, &self.network.network)?);
                count += 1;
            }
        }
        ensure!(count == self.spec.entries, "{} has {count} entries", self.file.display());
        Ok(())
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.spec.entries);
        self.read(|entry| entries.push(entry))?;
        Ok(entries)
    }

    /// The ids of all entries, and the sum of their encoded lengths.
    pub(crate) fn ids(&self) -> Result<(Vec<EntryId>, u64)> {
        let (mut ids, mut bytes) = (Vec::with_capacity(self.spec.entries), 0);
        self.read(|entry| {
            ids.push(entry.id());
            bytes += entry.encoded().len() as u64;
        })?;
        Ok((ids, bytes))
    }
}

/// Sum of the lengths of encoded entries, in bytes.
pub(crate) fn total_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.encoded().len() as u64).sum()
}

/// The index that whoever holds just these entries has to give (SPEC 8.6).
pub(crate) fn index_of(ids: impl Iterator<Item = EntryId>, network: &Network) -> Vec<BucketSummary> {
    let mut ids: Vec<EntryId> = ids.collect();
    ids.sort_unstable();
    let summary = |ids: &[EntryId]| {
        let bucket = bucket_of(ids.first()?, network.bucket_bits);
        Some(BucketSummary { bucket, count: ids.len() as u64, digest: digest(ids.iter()) })
    };
    let bits = network.bucket_bits;
    ids.chunk_by(|a, b| bucket_of(a, bits) == bucket_of(b, bits)).filter_map(summary).collect()
}

/// The key of the table that entries of this length of key are in.
pub(crate) fn table_key(bits: usize) -> Result<PrivateKey> {
    key(&directory()?, "table", bits)
}

/// The key of one of the readers.
pub(crate) fn reader_key(index: usize, bits: usize) -> Result<PrivateKey> {
    key(&directory()?, &format!("reader{index}"), bits)
}

/// Where files are kept from run to run.
fn directory() -> Result<PathBuf> {
    let directory = target_directory().join("bench-data");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// A key of an earlier run, or a new one.
fn key(directory: &Path, name: &str, bits: usize) -> Result<PrivateKey> {
    let file = directory.join(format!("{name}-{bits}.pem"));
    if let Ok(text) = fs::read_to_string(&file) {
        return Ok(PrivateKey::from_pem(&text, None)?);
    }
    let key = PrivateKey::generate(&mut UnwrapErr(SysRng), bits)?;
    fs::write(&file, key.to_pem()?.as_bytes())?;
    Ok(key)
}
