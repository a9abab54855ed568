//! The operating system's clocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::clock::ClockDomain;
use proto::{NodeId, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use txn::clock::{HostTime, Reading, Voice};

use super::kernel_clock::{self, KernelClock};
use super::small_file;
use crate::env::ClockSource;

/// The wall clock. Before 1970 it reads zero.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The time since the machine was booted, suspended or not. Nobody steps it.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Names this boot of this machine, and the clock that processes here read: containers may have one of their own.
pub fn boot_name() -> String {
    // A system that does not say is taken to be alone.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.unwrap_or_else(|_| uuid::Uuid::new_v4().to_string());
    let clock = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    format!("{} {}", boot.trim(), clock.display())
}

/// The wall clock with a declared error.
pub struct FixedSource {
    pub error: Duration,
}

impl ClockSource for FixedSource {
    fn read(&self) -> Reading {
        Reading { monotonic: since_boot(), wall: wall(), error: self.error }
    }

    fn name(&self) -> &'static str {
        "fixed"
    }
}

/// The wall clock with the error that the kernel computes while something synchronises it (chrony, ntpd, PTP); else with a declared one.
pub struct KernelSource {
    declared: Duration,
    /// Microseconds since the boot when the kernel was last asked, and its answer; `UNSYNCHRONISED` for none.
    asked: AtomicU64,
    answer: AtomicU64,
}

const UNSYNCHRONISED: u64 = u64::MAX;
/// The kernel's estimate grows by half a millisecond a second: it need not be asked each time.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// By how much it grows until it is asked again.
const GROWTH: Duration = Duration::from_micros(50);

impl KernelSource {
    pub fn new(declared: Duration) -> KernelSource {
        let source = KernelSource { declared, asked: AtomicU64::new(0), answer: AtomicU64::new(UNSYNCHRONISED) };
        source.ask(since_boot());
        source
    }

    fn ask(&self, now: Duration) {
        let answer = match kernel_clock::ask() {
            KernelClock::Synchronised { error } => whole_micros(error + GROWTH),
            KernelClock::Unsynchronised => UNSYNCHRONISED,
        };
        self.answer.store(answer, Ordering::Relaxed);
        self.asked.store(whole_micros(now), Ordering::Relaxed);
    }
}

impl ClockSource for KernelSource {
    fn read(&self) -> Reading {
        let monotonic = since_boot();
        if whole_micros(monotonic) >= self.asked.load(Ordering::Relaxed) + whole_micros(ASK_EVERY) {
            self.ask(monotonic);
        }
        let error = match self.answer.load(Ordering::Relaxed) {
            UNSYNCHRONISED => self.declared,
            micros => Duration::from_micros(micros),
        };
        Reading { monotonic, wall: wall(), error }
    }

    fn name(&self) -> &'static str {
        match self.answer.load(Ordering::Relaxed) {
            UNSYNCHRONISED => "fixed (the kernel's clock is not synchronised)",
            _ => "kernel",
        }
    }
}

/// The clock that all processes of a host share: see [`HostTime`]. With a declared error until all members keep the same offset.
pub struct HostSource {
    time: Mutex<HostTime>,
    declared: Duration,
    path: PathBuf,
}

impl HostSource {
    /// `path` is where the offset is written down.
    ///
    /// # Errors
    /// A sentence, when the file cannot be read or written.
    pub fn open(path: PathBuf, declared: Duration, others: &BTreeMap<NodeId, Voice>) -> Result<HostSource, String> {
        let boot = boot_name();
        let noted = small_file::read(&path)?.and_then(|text| noted_offset(&text, &boot));
        let offset = match noted {
            Some(offset) => offset,
            None => {
                let offset = wall().micros().saturating_sub(whole_micros(since_boot()));
                small_file::write(&path, note(&boot, offset).as_bytes())?;
                offset
            }
        };
        let mut time = HostTime::new(boot, offset, []);
        time.set_others(others);
        Ok(HostSource { time: Mutex::new(time), declared, path })
    }

    fn time(&self) -> std::sync::MutexGuard<'_, HostTime> {
        self.time.lock().expect("no holder of this lock panics")
    }
}

/// What is written down: the offset in microseconds, and in which boot.
fn note(boot: &str, offset: u64) -> String {
    format!("{offset} {boot}\n")
}

fn noted_offset(text: &[u8], boot: &str) -> Option<u64> {
    let (offset, noted) = std::str::from_utf8(text).ok()?.trim_end().split_once(' ')?;
    if noted == boot { offset.parse().ok() } else { None }
}

/// Writes down the offset of the members that let this node in, before it reads a clock for the first time: it shall propose none itself.
///
/// # Errors
/// A sentence, when the file cannot be written.
pub fn begin_with_offset(path: &Path, boot: &str, offset: u64) -> Result<(), String> {
    small_file::write(path, note(boot, offset).as_bytes())
}

impl ClockSource for HostSource {
    fn read(&self) -> Reading {
        let time = self.time();
        let monotonic = since_boot();
        let error = if time.is_agreed() { Duration::ZERO } else { self.declared };
        Reading { monotonic, wall: time.wall(whole_micros(monotonic)), error }
    }

    fn name(&self) -> &'static str {
        if self.time().is_agreed() { "same host" } else { "same host (not yet agreed on)" }
    }

    fn domain(&self) -> ClockDomain {
        self.time().domain()
    }

    fn hear(&self, from: NodeId, domain: &ClockDomain) {
        let mut time = self.time();
        let Some(greater) = time.hear(from, domain) else { return };
        match small_file::write(&self.path, note(time.boot(), greater).as_bytes()) {
            Ok(()) => time.adopt(greater),
            // The offsets stay apart, and the error is the declared one.
            Err(error) => tracing::warn!(%error, "the clock's offset was not written down"),
        }
    }

    fn set_others(&self, others: &BTreeMap<NodeId, Voice>) {
        self.time().set_others(others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_counts_in_its_own_boot_only() {
        let text = note("boot a", 17);
        assert_eq!(noted_offset(text.as_bytes(), "boot a"), Some(17));
        assert_eq!(noted_offset(text.as_bytes(), "boot b"), None);
        assert_eq!(noted_offset(b"garbage", "boot a"), None);
    }

    #[test]
    fn a_lone_process_has_no_error_and_keeps_its_offset_over_a_restart() {
        let folder = std::env::temp_dir().join(format!("meridian-clock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary directory can be made");
        let path = folder.join("clock");
        let (alone, two) = (BTreeMap::new(), BTreeMap::from([(NodeId(2), Voice::Counted)]));
        let first = HostSource::open(path.clone(), Duration::from_millis(250), &alone).expect("it can be written");
        assert_eq!(first.read().error, Duration::ZERO);
        let again = HostSource::open(path.clone(), Duration::from_millis(250), &two).expect("it can be read");
        assert_eq!(first.time().offset(), again.time().offset());
        assert_eq!(again.read().error, Duration::from_millis(250));
        let greater = again.time().offset() + 5;
        again.hear(NodeId(2), &ClockDomain::Host { boot: boot_name(), offset: greater });
        assert_eq!(again.read().error, Duration::ZERO);
        let third = HostSource::open(path, Duration::ZERO, &alone).expect("it can be read");
        assert_eq!(third.time().offset(), again.time().offset());
        std::fs::remove_dir_all(folder).expect("it can be removed");
    }
}
