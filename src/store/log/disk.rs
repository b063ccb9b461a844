//! The disk below the log: files, and the directories that know their names.
//!
//! It is a trait so that tests can put one there that loses at a power cut what was not synced.

use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::Path,
};

/// Where the files of a store are.
pub(in crate::store) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing; makes it if it is to be new, and fails then if it is there already.
    fn open(&self, path: &Path, is_new: bool) -> io::Result<Box<dyn DiskFile>>;

    /// Makes the names in a directory durable: without that, a new file may be gone after a power cut.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// An open file. What was written is durable after the next [`DiskFile::sync`], and any part of it may be before.
pub(in crate::store) trait DiskFile: fmt::Debug + Send + Sync {
    fn metadata(&self) -> io::Result<Metadata>;
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn set_len(&self, length: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// The disk of the machine.
#[derive(Debug)]
pub(in crate::store) struct LocalDisk;

impl Disk for LocalDisk {
    fn open(&self, path: &Path, is_new: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create_new(is_new).open(path)?))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
    }
}

impl DiskFile for File {
    fn metadata(&self) -> io::Result<Metadata> {
        Self::metadata(self)
    }

    #[cfg(unix)]
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, offset)
    }

    #[cfg(unix)]
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(self, bytes, offset)?;
            bytes = bytes.get_mut(read..).filter(|_| read > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
            offset += read as u64;
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(self, bytes, offset)?;
            bytes = bytes.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
            offset += written as u64;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What a file takes on the disk, in bytes.
pub(in crate::store) fn on_disk(metadata: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    let on_disk = std::os::unix::fs::MetadataExt::blocks(metadata) * 512;
    #[cfg(not(unix))]
    let on_disk = metadata.len();
    on_disk
}

/// The directory that a path is in.
pub(in crate::store) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
