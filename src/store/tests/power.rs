//! A power cut takes what was not synced, and nothing that was acknowledged.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::Mutex,
};

use redb::{StorageBackend, backends::FileBackend};

use super::{
    crash::{is_consistent, request, small_settings},
    tail::killed,
    *,
};
use crate::store::{
    log::{Disk, DiskFile},
    migrate::STEPS,
};

/// A disk that keeps, beside the files as everybody sees them, what a power cut would leave of them.
#[derive(Debug, Default)]
struct Power {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By inode.
    files: HashMap<u64, Kept>,
    /// The names in each directory when it was synced, with their inodes.
    names: HashMap<PathBuf, BTreeMap<OsString, u64>>,
    changes: u64,
    /// After how many changes the power is cut, descending, and where what is left is put.
    cuts: Vec<(u64, PathBuf)>,
    acknowledged: u64,
    /// How many requests were acknowledged before each cut.
    taken: Vec<(PathBuf, u64)>,
    root: PathBuf,
    seed: u64,
}

#[derive(Debug)]
struct Kept {
    /// Open, so that no other file gets the inode.
    _file: File,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length as usize, 0),
            Self::Write(offset, data) => {
                let (from, to) = (*offset as usize, *offset as usize + data.len());
                bytes.resize(bytes.len().max(to), 0);
                bytes[from..to].copy_from_slice(data);
            }
        }
    }

    /// The sectors of a write, each of which reaches the disk as a whole or not.
    fn sectors(&self) -> Vec<Self> {
        let Self::Write(offset, data) = self else { return vec![self.clone()] };
        let mut sectors = Vec::new();
        let mut from = 0;
        while from < data.len() {
            let at = *offset as usize + from;
            let to = data.len().min(from + 512 - at % 512);
            sectors.push(Self::Write(at as u64, data[from..to].to_vec()));
            from = to;
        }
        sectors
    }
}

impl State {
    fn kept(&mut self, path: &Path) -> u64 {
        let file = File::open(path).unwrap();
        let inode = file.metadata().unwrap().ino();
        self.files.entry(inode).or_insert_with(|| Kept {
            durable: fs::read(path).unwrap(),
            _file: file,
            pending: Vec::new(),
        });
        inode
    }

    fn random(&mut self) -> u64 {
        self.seed += 1;
        u64::from_be_bytes(*Sha256::digest(self.seed.to_be_bytes()).first_chunk().unwrap())
    }

    /// What happens before anything changes.
    fn pass(&mut self) {
        self.changes += 1;
        if let Some((_, to)) = self.cuts.pop_if(|(at, _)| *at <= self.changes) {
            // Every second time, a part of what was not synced is there all the same.
            let is_torn = self.taken.len() % 2 == 1;
            let root = self.root.clone();
            self.leave(&root, &to, is_torn);
            self.taken.push((to, self.acknowledged));
        }
    }

    fn sync_directory(&mut self, directory: &Path) {
        self.names.insert(directory.to_owned(), listed(directory));
    }

    /// Puts what a power cut leaves of `directory` into `to`.
    fn leave(&mut self, directory: &Path, to: &Path, is_torn: bool) {
        fs::create_dir(to).unwrap();
        let (durable, now) = (self.names.get(directory).cloned().unwrap_or_default(), listed(directory));
        let mut names = durable.clone();
        if is_torn {
            names.extend(now.clone());
            names.retain(|name, inode| {
                durable.get(name) == Some(inode) && now.get(name) == Some(inode) || self.random() % 2 == 1
            });
        }
        for (name, inode) in names {
            let (from, to) = (directory.join(&name), to.join(&name));
            if from.is_dir() {
                self.leave(&from, &to, is_torn);
                continue;
            }
            let Some(kept) = self.files.get(&inode) else {
                // The lock, which nobody reads.
                fs::write(to, []).unwrap();
                continue;
            };
            let (mut bytes, pending) = (kept.durable.clone(), kept.pending.clone());
            for sector in pending.iter().filter(|_| is_torn).flat_map(Change::sectors) {
                if self.random() % 2 == 1 {
                    sector.apply(&mut bytes);
                }
            }
            fs::write(to, bytes).unwrap();
        }
    }
}

fn listed(directory: &Path) -> BTreeMap<OsString, u64> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().ino())).collect()
}

impl Power {
    /// A machine that runs in `root`, where everything is durable that is there.
    fn on(root: &Path) -> Arc<Self> {
        let mut state = State { root: root.to_owned(), ..State::default() };
        state.sync_directory(root);
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn change(&self, inode: u64, change: Change, make: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.pass();
        make()?;
        state.files.get_mut(&inode).unwrap().pending.push(change);
        Ok(())
    }

    fn sync(&self, inode: u64) {
        let mut state = self.state.lock().unwrap();
        state.pass();
        let kept = state.files.get_mut(&inode).unwrap();
        let pending = std::mem::take(&mut kept.pending);
        pending.iter().for_each(|change| change.apply(&mut kept.durable));
    }

    /// A store on this machine.
    fn open(self: &Arc<Self>, path: &Path, mut settings: Settings, clock: &Clock) -> Store {
        let machine = Arc::clone(self);
        let opener = move |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let inode = machine.state.lock().unwrap().kept(path);
            let file = Index { file: FileBackend::new(file)?, inode, machine: Arc::clone(&machine) };
            redb::Builder::new().create_with_backend(file)
        };
        settings.disk = Arc::new(Machine(Arc::clone(self)));
        Store::open_with(path, settings, clock.clone(), Arc::new(opener), STEPS).unwrap()
    }
}

#[derive(Debug)]
struct Machine(Arc<Power>);

impl Disk for Machine {
    fn open(&self, path: &Path, is_new: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(is_new).open(path)?;
        let inode = self.0.state.lock().unwrap().kept(path);
        Ok(Box::new(Segment { file, inode, machine: Arc::clone(&self.0) }))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock().unwrap();
        state.pass();
        state.sync_directory(directory);
        Ok(())
    }
}

/// A file of the log.
#[derive(Debug)]
struct Segment {
    file: File,
    inode: u64,
    machine: Arc<Power>,
}

impl DiskFile for Segment {
    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let change = Change::Write(offset, bytes.to_vec());
        self.machine.change(self.inode, change, || FileExt::write_all_at(&self.file, bytes, offset))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.machine.change(self.inode, Change::Length(length), || self.file.set_len(length))
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.sync(self.inode);
        Ok(())
    }
}

/// The index file.
#[derive(Debug)]
struct Index {
    file: FileBackend,
    inode: u64,
    machine: Arc<Power>,
}

impl StorageBackend for Index {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.machine.change(self.inode, Change::Length(length), || self.file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.machine.sync(self.inode);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let change = Change::Write(offset, data.to_vec());
        self.machine.change(self.inode, change, || self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[tokio::test]
async fn a_power_cut_at_any_moment_takes_nothing_that_was_acknowledged() {
    let seed: u64 = std::env::var("P2PDB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("P2PDB_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("running");
    fs::create_dir(&root).unwrap();
    let machine = Power::on(&root);
    {
        // The first ones while the store is being made.
        let mut state = machine.state.lock().unwrap();
        state.seed = seed << 32;
        let mut at = 0;
        for cut in 0..24 {
            at += 1 + state.random() % if cut < 6 { 8 } else { 200 };
            state.cuts.insert(0, (at, directory.path().join(format!("cut{cut}"))));
        }
    }
    let clock = Clock::manual(START);
    let store = machine.open(&root.join("store"), small_settings(), &clock);
    for number in 0.. {
        if machine.state.lock().unwrap().cuts.is_empty() {
            break;
        }
        store.commit(request(number).iter().map(Draft::new_entry).collect()).await.unwrap();
        machine.state.lock().unwrap().acknowledged = number + 1;
        clock.set(START + number);
        match number % 16 {
            3 => drop(store.sweep().await.unwrap()),
            11 => store.merge().await.unwrap(),
            _ => {}
        }
    }
    store.close().await.unwrap();
    let taken = std::mem::take(&mut machine.state.lock().unwrap().taken);
    assert!(taken.last().unwrap().1 > 20, "{taken:?}: too few to be merged and rewritten");
    for (left, acknowledged) in taken {
        println!("{}: {acknowledged} acknowledged", left.display());
        let (path, clock) = (left.join("store"), Clock::manual(START + acknowledged));
        for next in [acknowledged, acknowledged + 1] {
            let store = crash::small(&path, &clock).unwrap();
            if next > 0 {
                is_consistent(&store, 0..=next - 1).await;
                verified(&store).await;
            }
            store.commit(request(next).iter().map(Draft::new_entry).collect()).await.unwrap();
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_killed_writer_left_in_memory_counts_when_it_is_durable() {
    for is_new_segment in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("running");
        fs::create_dir(&root).unwrap();
        let (path, segment, frames) = killed(&root, 4).await;
        let machine = Power::on(&root);
        {
            // It was killed right before it synced.
            let mut state = machine.state.lock().unwrap();
            let directory = log::directory_of(&path);
            state.sync_directory(&directory);
            if is_new_segment {
                state.names.insert(directory, BTreeMap::new());
            } else {
                let inode = state.kept(&segment);
                let kept = state.files.get_mut(&inode).unwrap();
                let last = kept.durable.split_off(frames[3]);
                kept.pending.push(Change::Write(frames[3] as u64, last));
            }
        }
        let clock = Clock::manual(START);
        let settings = Settings::new(network(), StoreOptions::default()).unwrap();
        let store = machine.open(&path, settings, &clock);
        // Who asks again is told that it is known, and it goes into the indexes.
        assert_eq!(store.commit(series(3, 1)).await.unwrap(), [Committed::Known]);
        store.merge().await.unwrap();
        let left = directory.path().join("left");
        machine.state.lock().unwrap().leave(&root, &left, false);
        store.close().await.unwrap();
        let store = open(&left.join("killed"), StoreOptions::default(), &clock).unwrap();
        assert_eq!(arrivals(&store).await, [1, 2, 3, 4]);
        assert_eq!(verified(&store).await.entries, 4);
    }
}
