//! The log: everything that was committed, in the order in which it was, in segments of bounded size.
//!
//! One frame is written per commit, with one `fdatasync` before anything is acknowledged. So at most the last frame can
//! be torn, and that one nobody was told of: opening leaves it where it is and goes on in a new segment. A segment says
//! in its header where the frames of the one before end, so that neither this nor a failed write leaves anything that
//! is read later.

mod ahead;
mod disk;
mod frame;
mod segment;
mod tail;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use redb::Error;

#[cfg(test)]
pub(super) use self::disk::DiskFile;
use self::frame::MOST_BYTES;
pub(super) use self::{
    ahead::Ahead,
    disk::{Disk, LocalDisk, on_disk, parent},
    frame::{Frame, FrameWriter, Item},
    segment::{Kind, SEGMENT_HEADER, Segment},
};
use super::{
    Settings, fault,
    record::Location,
    schema::{Position, damaged},
};

/// The open segments at one time.
pub(super) type Segments = Arc<BTreeMap<u32, Arc<Segment>>>;

/// The segments of a store.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    store: [u8; 8],
    segment_bytes: u64,
    segments: RwLock<Segments>,
    next: AtomicU32,
    /// Held as long as the log is open; other processes stay out.
    lock: Mutex<Option<Lock>>,
}

/// The directory of the segments beside the index file.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".log");
    directory.into()
}

/// What keeps others out of the directory, until it is dropped.
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file is not enough: a process that this program is just starting has it too, until it runs something else.
        let _ = self.0.unlock();
    }
}

/// Makes the directory and locks it; nothing if somebody else has.
pub(super) fn lock(path: &Path, disk: &dyn Disk) -> io::Result<Option<Lock>> {
    let directory = directory_of(path);
    match fs::create_dir(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        // Also if it was there: whoever made it may have been killed before this.
        _ => disk.sync_directory(parent(path))?,
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

impl Log {
    /// Opens every segment there is.
    pub(super) fn open(path: &Path, lock: Lock, settings: &Settings) -> Result<Self, Error> {
        let Settings { store_id: store, segment_bytes, ref disk, .. } = *settings;
        let directory = directory_of(path);
        let mut segments = BTreeMap::new();
        for found in fs::read_dir(&directory)? {
            let path = found?.path();
            let Some(number) = number_of(&path) else { continue };
            match Segment::open(disk.open(&path, false)?, store, number, &path)? {
                Some(segment) => drop(segments.insert(number, Arc::new(segment))),
                None => fs::remove_file(&path)?,
            }
        }
        let next = segments.last_key_value().map_or(1, |(number, _)| number + 1);
        Ok(Self {
            disk: Arc::clone(disk),
            directory,
            store,
            segment_bytes,
            segments: RwLock::new(Arc::new(segments)),
            next: AtomicU32::new(next),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// The open segments. Whoever reads a snapshot takes them before it: then what it names is open, whatever is
    /// deleted meanwhile, or younger than these.
    pub(super) fn segments(&self) -> Segments {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Hands every frame behind `from` to `each`, with the number of its segment; gives the end of the log, and whether
    /// its last segment ends there, too.
    ///
    /// What a torn frame left at the end is passed over. A bad frame that others follow is damage.
    pub(super) fn replay(
        &self,
        from: Position,
        mut each: impl FnMut(u32, Frame) -> Result<(), Error>,
    ) -> Result<(Position, bool), Error> {
        let segments = self.segments();
        let commits: Vec<_> = segments
            .values()
            .filter(|segment| segment.kind == Kind::Commits && segment.number >= from.segment)
            .collect();
        if from.segment > 0 && commits.first().is_none_or(|first| first.number != from.segment) {
            return Err(damaged(format!("segment {} of its log is missing", from.segment)));
        }
        // A process that was killed leaves what it wrote in memory, where it looks as if it were on the disk: nothing may
        // rely on it before it is.
        if let Some(last) = commits.last() {
            last.file.sync()?;
            self.disk.sync_directory(&self.directory)?;
        }
        let mut reached = from;
        for (index, segment) in commits.iter().enumerate() {
            let next = commits.get(index + 1).map(|next| next.previous);
            if reached.segment != segment.number {
                if segment.previous != reached {
                    return Err(damaged(format!(
                        "a segment of its log before {} is missing",
                        segment.number
                    )));
                }
                reached = Position { segment: segment.number, offset: SEGMENT_HEADER };
            }
            let limit = match next {
                Some(end) if end.segment == segment.number => end.offset,
                Some(_) => return Err(damaged(format!("a segment after {} is missing", segment.number))),
                None => segment.end(),
            };
            if reached.offset > limit || limit > segment.end() {
                return Err(damaged(format!(
                    "segment {} of its log ends at {}, expected at least {}",
                    segment.number,
                    limit.min(segment.end()),
                    reached.offset.max(limit)
                )));
            }
            while reached.offset < limit {
                match segment.frame(self.store, reached.offset, limit)? {
                    Some(frame) => {
                        reached.offset = frame.end();
                        each(segment.number, frame)?;
                    }
                    None if next.is_none() => {
                        tail::check(segment, self.store, reached.offset)?;
                        segment.set_end(reached.offset);
                        return Ok((reached, false));
                    }
                    None => return Err(damaged(format!("a frame of segment {} is damaged", segment.number))),
                }
            }
            segment.set_end(limit);
        }
        Ok((reached, true))
    }

    /// The start of the record at this place, with its recipients, without its entry.
    pub(super) fn facts(&self, location: &Location) -> Result<Vec<u8>, Error> {
        read_record(&self.segments(), location, location.record_length() - location.length as usize)
    }

    fn create(&self, kind: Kind, previous: Position) -> Result<Arc<Segment>, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path_of(number);
        let file = self.disk.open(&path, true)?;
        let made = fault::point(&self.directory, "segment")
            .and_then(|()| Segment::create(file, self.store, number, kind, previous))
            .and_then(|segment| self.disk.sync_directory(&self.directory).map(|()| Arc::new(segment)));
        let segment = made.inspect_err(|_| drop(fs::remove_file(&path)))?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut segments).insert(number, Arc::clone(&segment));
        Ok(segment)
    }

    /// Deletes a segment that nothing names any longer; readers that began before still have it.
    pub(super) fn delete(&self, number: u32) -> Result<(), Error> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut segments).remove(&number);
        drop(segments);
        Ok(fs::remove_file(self.path_of(number))?)
    }

    /// Length of all segments, and what they take on the disk, in bytes.
    pub(super) fn size(&self) -> io::Result<(u64, u64)> {
        let mut size = (0, 0);
        for segment in self.segments().values() {
            let metadata = segment.file.metadata()?;
            size = (size.0 + metadata.len(), size.1 + on_disk(&metadata));
        }
        Ok(size)
    }

    /// Lets others open it.
    pub(super) fn unlock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads the frames of a segment from the beginning up to `limit`, for who wants them all.
    pub(super) fn frames(
        &self,
        segment: &Segment,
        limit: u64,
        mut each: impl FnMut(Frame) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut offset = SEGMENT_HEADER;
        while offset < limit {
            let frame = segment.frame(self.store, offset, limit)?.ok_or_else(|| {
                damaged(format!("the frame at {offset} of segment {} is damaged", segment.number))
            })?;
            offset = frame.end();
            each(frame)?;
        }
        Ok(())
    }

    fn path_of(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:010}.seg"))
    }
}

/// The first `length` bytes of a record.
pub(super) fn read_record(segments: &Segments, location: &Location, length: usize) -> Result<Vec<u8>, Error> {
    segment_of(segments, location.segment)?.read(location.offset.into(), length)
}

fn segment_of(segments: &Segments, number: u32) -> Result<&Segment, Error> {
    let segment = segments.get(&number).map(|segment| &**segment);
    segment.ok_or_else(|| damaged(format!("segment {number} of its log is missing")))
}

fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (name.len() == 10).then(|| name.parse().ok())?
}

/// Appends frames to segments of one kind.
pub(super) struct Appender {
    kind: Kind,
    segment: Option<Arc<Segment>>,
    /// Behind the last frame that is durable.
    end: Position,
}

impl Appender {
    /// Goes on behind `end`, the end of the log: in a new segment unless the last one ends there.
    pub(super) fn resume(log: &Log, end: Position, is_whole: bool) -> Self {
        let segment = log.segments().get(&end.segment).cloned().filter(|_| is_whole);
        Self { kind: Kind::Commits, segment, end }
    }

    /// Begins a segment for records that are moved.
    pub(super) fn moving() -> Self {
        Self { kind: Kind::Moved, segment: None, end: Position::default() }
    }

    pub(super) const fn end(&self) -> Position {
        self.end
    }

    /// Writes a frame that is durable when this returns; gives its place.
    pub(super) fn append(&mut self, log: &Log, frame: FrameWriter) -> Result<Position, Error> {
        let length = frame.len() as u64;
        if length > MOST_BYTES {
            let reason = format!("{length} bytes were to be written at once, expected at most {MOST_BYTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason).into());
        }
        let room = log.segment_bytes.max(SEGMENT_HEADER + length).min(u32::MAX.into());
        let segment = match self.segment.take().filter(|_| self.end.offset + length <= room) {
            Some(segment) => segment,
            None => {
                let previous = if self.kind == Kind::Commits { self.end } else { Position::default() };
                let segment = log.create(self.kind, previous)?;
                self.end = Position { segment: segment.number, offset: SEGMENT_HEADER };
                segment
            }
        };
        let place = self.end;
        let end = place.offset + length;
        let bytes = frame.seal(log.store, place.segment, place.offset)?;
        let written = fault::point(&log.directory, "append")
            .and_then(|()| segment.file.write_all_at(&bytes, place.offset))
            .and_then(|()| fault::point(&log.directory, "sync"))
            .and_then(|()| segment.file.sync());
        if let Err(error) = written {
            // What became of it is unknown. The next frame goes to another segment, which says that this one ends here.
            let _ = segment.file.set_len(place.offset);
            return Err(error.into());
        }
        self.end.offset = end;
        segment.set_end(end);
        self.segment = Some(segment);
        Ok(place)
    }
}
