//! What the machine is, and what a process takes of it.

use std::{fs, io, path::Path, process::Command, sync::OnceLock, time::Duration};

use cpu_time::{ProcessTime, ThreadTime};

/// Ticks of `/proc/PID/stat` in a second: what Linux tells programs on every machine.
const TICKS: f64 = 100.0;

/// Program, machine and load, for a line beside each result.
pub(crate) fn describe() -> String {
    static FIXED: OnceLock<String> = OnceLock::new();
    let fixed = FIXED.get_or_init(|| {
        let profile = if cfg!(debug_assertions) { "NOT OPTIMIZED" } else { "release" };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let (version, commit, model) = (env!("CARGO_PKG_VERSION"), commit(), model());
        format!("p2pdb {version} ({commit}), {profile}; {model}, {cores} cores")
    });
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(2).collect::<Vec<_>>().join(" ");
    format!("{fixed}; load {load}")
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=9", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if changed { commit + ", changed" } else { commit }
}

fn model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    line.map_or("unknown processor", str::trim).to_owned()
}

/// The processor time that the calling thread has taken.
pub(crate) fn thread_cpu() -> Duration {
    ThreadTime::now().as_duration()
}

/// The processor time that this process has taken.
pub(crate) fn own_cpu() -> Duration {
    ProcessTime::now().as_duration()
}

/// The processor time that a process has taken, all its threads together; in steps of 10 ms.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    stat_times(pid, 11)
}

/// The processor time of the children that this process has waited for.
pub(crate) fn children_cpu() -> io::Result<Duration> {
    stat_times(std::process::id(), 13)
}

/// Two neighbouring fields of `/proc/PID/stat`, counted from the one behind the name.
fn stat_times(pid: u32, first: usize) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may have blanks.
    let fields = stat
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace())
        .ok_or(io::ErrorKind::InvalidData)?;
    let ticks: u64 = fields.skip(first).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// Bytes that a process has given to the kernel to be written. Not `write_bytes`: that counts a large folio of the page
/// cache as a whole when 4 KiB of it become dirty, which is several times what the disk gets.
pub(crate) fn written_by(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/io"), "wchar:").ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Bytes that the disk under a directory has been given, by whomever, if the kernel tells that of it.
pub(crate) fn written_to_disk_of(directory: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    /// Of the counters, whatever the sectors of the disk are.
    const SECTOR: u64 = 512;
    let device = fs::metadata(directory).ok()?.dev();
    // As the kernel packs them.
    let major = (device >> 8 & 0xfff | device >> 32 & 0xffff_f000).to_string();
    let minor = (device & 0xff | device >> 12 & 0xffff_ff00).to_string();
    let counters = fs::read_to_string("/proc/diskstats").ok()?;
    let mut disks = counters.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let disk = disks.find(|fields| fields.starts_with(&[&major, &minor]))?;
    Some(disk.get(9)?.parse::<u64>().ok()? * SECTOR)
}

/// Memory of a process that is its own and not a file's, in MiB.
pub(crate) fn memory_of(pid: u32) -> Option<f64> {
    field(&format!("/proc/{pid}/status"), "RssAnon:").map(|kibibytes| kibibytes as f64 / 1024.0)
}

fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What a file, or all files of a directory, take on the disk, in bytes.
pub(crate) fn disk_of(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    fs::read_dir(path)?.map(|entry| disk_of(&entry?.path())).sum()
}
