//! A machine whose power can be cut: a disk that keeps, beside the files as everybody sees them, what would be left of them.

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

use super::super::*;
use crate::store::{
    log::{Disk, DiskFile},
    migrate::STEPS,
};

/// A disk that keeps, beside the files as everybody sees them, what a power cut would leave of them.
#[derive(Debug, Default)]
pub(super) struct Power {
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// By inode.
    pub(super) files: HashMap<u64, Kept>,
    /// The names in each directory when it was synced, with their inodes.
    pub(super) names: HashMap<PathBuf, BTreeMap<OsString, u64>>,
    pub(super) changes: u64,
    /// After how many changes the power is cut, descending; where what is left is put, and whether any part of what was not
    /// synced is there, too.
    pub(super) cuts: Vec<(u64, PathBuf, bool)>,
    pub(super) acknowledged: u64,
    /// How many requests were acknowledged before each cut.
    pub(super) taken: Vec<(PathBuf, u64)>,
    root: PathBuf,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Kept {
    /// Open, so that no other file gets the inode.
    _file: File,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
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
    pub(super) fn kept(&mut self, path: &Path) -> u64 {
        let file = File::open(path).unwrap();
        let inode = file.metadata().unwrap().ino();
        self.files.entry(inode).or_insert_with(|| Kept {
            durable: fs::read(path).unwrap(),
            _file: file,
            pending: Vec::new(),
        });
        inode
    }

    pub(super) fn random(&mut self) -> u64 {
        self.seed += 1;
        u64::from_be_bytes(*Sha256::digest(self.seed.to_be_bytes()).first_chunk().unwrap())
    }

    /// What happens before anything changes.
    fn pass(&mut self) {
        self.changes += 1;
        if let Some((_, to, is_torn)) = self.cuts.pop_if(|(at, ..)| *at <= self.changes) {
            let root = self.root.clone();
            self.leave(&root, &to, is_torn);
            self.taken.push((to, self.acknowledged));
        }
    }

    pub(super) fn sync_directory(&mut self, directory: &Path) {
        self.names.insert(directory.to_owned(), listed(directory));
    }

    /// Puts what a power cut leaves of `directory` into `to`.
    pub(super) fn leave(&mut self, directory: &Path, to: &Path, is_torn: bool) {
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
    pub(super) fn on(root: &Path) -> Arc<Self> {
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
    pub(super) fn open(self: &Arc<Self>, path: &Path, mut settings: Settings, clock: &Clock) -> Store {
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
