//! The Raft log on disk: segments of checksummed frames.
//!
//! A segment is a file of fixed size, filled with zeros when it is made and recycled when everything in it is truncated, so that
//! appending overwrites blocks in place and a sync moves no metadata. One append is one frame is one sync.
//! The bytes of a frame, and what a torn tail is, are told in [`crate::raft::frame`].
//!
//! Each segment begins with a frame that repeats what must not get lost with older segments: every group's hard state and
//! truncation, and the clock's ceiling.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proto::RangeId;

use crate::raft::frame::{self, EncodedFrame, FRAME_HEADER};
use crate::raft::record::LogPosition;
use crate::raft::{GroupRecord, LogFrame, RecoveredGroup, RecoveredLog};

const HEADER: u64 = frame::SEGMENT_HEADER as u64;

/// Bytes of a segment. A frame that is longer makes its segment longer.
pub const SEGMENT_BYTES: u64 = 16 << 20;

struct Segment {
    number: u64,
    path: PathBuf,
    /// The last entry of each group in it.
    last: BTreeMap<RangeId, u64>,
}

/// See the module.
pub struct LogFiles {
    folder: PathBuf,
    file: File,
    offset: u64,
    segments: VecDeque<Segment>,
    spares: Vec<PathBuf>,
    /// Every group without its entries.
    state: RecoveredLog,
    segment_bytes: u64,
}

fn file_name(number: u64) -> String {
    format!("{number:016x}.log")
}

impl LogFiles {
    /// Opens the log in a folder, creating it if need be, and reads what it holds.
    ///
    /// # Errors
    /// A sentence, when a file cannot be used or is damaged.
    pub fn open(folder: &Path) -> Result<(LogFiles, RecoveredLog), String> {
        LogFiles::open_with(folder, SEGMENT_BYTES)
    }

    /// [`LogFiles::open`] with segments of another size.
    ///
    /// # Errors
    /// A sentence, when a file cannot be used or is damaged.
    pub fn open_with(folder: &Path, segment_bytes: u64) -> Result<(LogFiles, RecoveredLog), String> {
        let fail = |e: io::Error| format!("the Raft log in {} cannot be used: {e}", folder.display());
        fs::create_dir_all(folder).map_err(fail)?;
        let (found, spares) = list(folder).map_err(fail)?;
        let mut recovered = RecoveredLog::default();
        let mut segments = VecDeque::new();
        let mut end = HEADER;
        let last = found.last().map(|(number, _)| *number);
        for (number, path) in found {
            let mut segment = Segment { number, path, last: BTreeMap::new() };
            end = read_segment(&mut segment, &mut recovered, last == Some(number))?;
            segments.push_back(segment);
        }
        let recovered =
            recovered.finish().map_err(|e| format!("the Raft log in {} is damaged: {e}", folder.display()))?;
        let state = without_entries(&recovered);
        let mut log = match segments.back() {
            Some(segment) => {
                let file = OpenOptions::new().read(true).write(true).open(&segment.path).map_err(fail)?;
                LogFiles { folder: folder.into(), file, offset: end, segments, spares, state, segment_bytes }
            }
            None => {
                let (file, segment) = make_segment(folder, 1, None, segment_bytes).map_err(fail)?;
                LogFiles {
                    folder: folder.into(),
                    file,
                    offset: HEADER,
                    segments: VecDeque::from([segment]),
                    spares,
                    state,
                    segment_bytes,
                }
            }
        };
        log.settle_tail().map_err(fail)?;
        Ok((log, recovered))
    }

    /// Reads what the log in a folder holds, and changes nothing.
    ///
    /// # Errors
    /// A sentence, when a file cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<RecoveredLog, String> {
        let (found, _) =
            list(folder).map_err(|e| format!("the Raft log in {} cannot be read: {e}", folder.display()))?;
        let last = found.last().map(|(number, _)| *number);
        let mut recovered = RecoveredLog::default();
        for (number, path) in found {
            let mut segment = Segment { number, path, last: BTreeMap::new() };
            read_segment(&mut segment, &mut recovered, last == Some(number))?;
        }
        recovered.finish().map_err(|e| format!("the Raft log in {} is damaged: {e}", folder.display()))
    }

    /// Overwrites what a torn frame left, so that it is never mistaken for anything; and syncs. The last frame may have been written by a
    /// process that died before its sync: then the operating system shows it to us, and the disk may not have it yet. Whatever was
    /// read is about to be acknowledged as durable, so it must be.
    fn settle_tail(&mut self) -> io::Result<()> {
        let mut head = [0; FRAME_HEADER];
        let read = self.file.read_at(&mut head, self.offset)?;
        if head[..read].iter().any(|b| *b != 0) {
            self.file.write_all_at(&[0; FRAME_HEADER], self.offset)?;
        }
        self.file.sync_all()
    }

    /// Appends frames as one, and syncs it.
    ///
    /// # Errors
    /// When the disk fails: then nobody may append any more, for what is on disk is unknown.
    pub fn append(&mut self, frames: Vec<LogFrame>) -> io::Result<()> {
        let merged = frame::merge(frames);
        let mut encoded = self.encode(&merged)?;
        // Only then may a segment have become obsolete: to look through thousands of groups is not for every frame.
        let mut look = merged.groups.iter().any(|record| record.truncated.is_some() || record.removed);
        if self.offset > HEADER && self.offset + encoded.bytes.len() as u64 > self.segment_bytes {
            self.rotate()?;
            look = true;
            // The segment's number is part of its checksum.
            encoded = self.encode(&merged)?;
        }
        self.remember(merged);
        self.write(&encoded)?;
        if look { self.drop_old_segments() } else { Ok(()) }
    }

    fn encode(&self, frame: &LogFrame) -> io::Result<EncodedFrame> {
        let number = self.segments.back().map_or(0, |s| s.number);
        frame::encode(number, frame).map_err(io::Error::other)
    }

    /// Writes a frame and syncs it.
    fn write(&mut self, frame: &EncodedFrame) -> io::Result<()> {
        self.file.write_all_at(&frame.bytes, self.offset)?;
        self.file.sync_data()?;
        self.offset += frame.step as u64;
        Ok(())
    }

    /// Takes note of what a frame says, without its entries.
    fn remember(&mut self, frame: LogFrame) {
        let current = &mut self.segments.back_mut().expect("there is a segment").last;
        for record in &frame.groups {
            if let Some(entry) = record.entries.last() {
                current.insert(record.range, entry.index);
            }
        }
        if let Some(ceiling) = frame.ceiling {
            self.state.ceiling = self.state.ceiling.max(ceiling);
        }
        for record in frame.groups {
            if record.removed {
                self.state.groups.remove(&record.range);
                continue;
            }
            let group = self.state.groups.entry(record.range).or_default();
            group.replica = group.replica.max(record.replica);
            if let Some(hard_state) = record.hard_state {
                group.hard_state = hard_state;
            }
            if record.reset {
                group.truncated = LogPosition::default();
            }
            group.truncated = group.truncated.max(record.truncated.unwrap_or_default());
        }
    }

    /// Goes on in a new segment.
    fn rotate(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(0, |s| s.number) + 1;
        let (file, segment) = make_segment(&self.folder, number, self.spares.pop(), self.segment_bytes)?;
        self.file = file;
        self.offset = HEADER;
        self.segments.push_back(segment);
        let groups: Vec<GroupRecord> = self.state.groups.iter().map(|(range, group)| group.to_record(*range)).collect();
        let encoded = self.encode(&LogFrame { groups, ceiling: Some(self.state.ceiling) })?;
        self.write(&encoded)
    }

    /// Keeps for reuse the oldest segments in which every entry is truncated.
    fn drop_old_segments(&mut self) -> io::Result<()> {
        /// Files kept for reuse.
        const SPARES_MAX: usize = 2;
        while self.segments.len() > 1 && self.is_obsolete(&self.segments[0]) {
            let Some(segment) = self.segments.pop_front() else { break };
            if self.spares.len() < SPARES_MAX {
                let spare = segment.path.with_extension("spare");
                fs::rename(&segment.path, &spare)?;
                self.spares.push(spare);
            } else {
                fs::remove_file(&segment.path)?;
            }
        }
        Ok(())
    }

    fn is_obsolete(&self, segment: &Segment) -> bool {
        segment
            .last
            .iter()
            .all(|(range, last)| self.state.groups.get(range).is_none_or(|group| group.truncated.index >= *last))
    }

    /// Segments in use.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }
}

fn without_entries(log: &RecoveredLog) -> RecoveredLog {
    let bare = |g: &RecoveredGroup| RecoveredGroup { entries: Vec::new(), ..*g };
    RecoveredLog { groups: log.groups.iter().map(|(id, g)| (*id, bare(g))).collect(), ceiling: log.ceiling }
}

/// The segments in a folder by number, and the spare files.
type Listing = (Vec<(u64, PathBuf)>, Vec<PathBuf>);

fn list(folder: &Path) -> io::Result<Listing> {
    let mut segments = Vec::new();
    let mut spares = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|s| s.to_str()).and_then(|s| u64::from_str_radix(s, 16).ok());
        match (path.extension().and_then(|e| e.to_str()), stem) {
            (Some("log"), Some(number)) => segments.push((number, path)),
            (Some("spare"), _) => spares.push(path),
            _ => {}
        }
    }
    segments.sort();
    Ok((segments, spares))
}

/// Reads a segment's frames; returns where the next one goes.
fn read_segment(segment: &mut Segment, log: &mut RecoveredLog, is_last: bool) -> Result<u64, String> {
    let name = segment.path.display().to_string();
    let bytes = fs::read(&segment.path).map_err(|e| format!("{name} cannot be read: {e}"))?;
    let contents =
        frame::read_segment(segment.number, &bytes, is_last).map_err(|e| format!("the log segment {name}: {e}"))?;
    for frame in contents.frames {
        for record in &frame.groups {
            if let Some(entry) = record.entries.last() {
                segment.last.insert(record.range, entry.index);
            }
        }
        log.add(frame).map_err(|e| format!("the log segment {name}: {e}"))?;
    }
    Ok(contents.end as u64)
}

/// Makes a segment, from a spare file if there is one.
fn make_segment(folder: &Path, number: u64, spare: Option<PathBuf>, bytes: u64) -> io::Result<(File, Segment)> {
    let path = folder.join(file_name(number));
    let working = folder.join("next.spare");
    match spare {
        Some(spare) => fs::rename(spare, &working)?,
        None => {
            let file = File::create(&working)?;
            let zeros = vec![0; 1 << 20];
            let mut at = 0;
            while at < bytes {
                let length = zeros.len().min((bytes - at) as usize);
                file.write_all_at(&zeros[..length], at)?;
                at += length as u64;
            }
        }
    }
    let file = OpenOptions::new().read(true).write(true).open(&working)?;
    file.write_all_at(&frame::new_segment(number), 0)?;
    file.sync_all()?;
    fs::rename(&working, &path)?;
    File::open(folder)?.sync_all()?;
    Ok((file, Segment { number, path, last: BTreeMap::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::record::LogEntry;

    fn frame(range: u64, index: u64, bytes: usize) -> LogFrame {
        let entry = LogEntry { index, term: 1, kind: 0, data: vec![7; bytes].into() };
        let record = GroupRecord { range: RangeId(range), entries: vec![entry], ..GroupRecord::default() };
        LogFrame { groups: vec![record], ceiling: None }
    }

    fn truncate(range: u64, index: u64) -> LogFrame {
        let truncated = Some(LogPosition { index, term: 1 });
        let record = GroupRecord { range: RangeId(range), truncated, ..GroupRecord::default() };
        LogFrame { groups: vec![record], ceiling: None }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("meridian-log-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_appended_is_read_back_across_segments() {
        let folder = Folder::new("segments");
        let (mut log, recovered) = LogFiles::open_with(&folder.0, 4096).unwrap();
        assert_eq!(recovered, RecoveredLog::default());
        for index in 1..=40 {
            log.append(vec![frame(1, index, 500)]).unwrap();
        }
        assert!(log.segments() > 3);
        drop(log);
        let (mut log, recovered) = LogFiles::open_with(&folder.0, 4096).unwrap();
        assert_eq!(recovered.groups[&RangeId(1)].entries.len(), 40);
        log.append(vec![truncate(1, 40)]).unwrap();
        assert_eq!(log.segments(), 1);
        for index in 41..=80 {
            log.append(vec![frame(1, index, 500)]).unwrap();
        }
        drop(log);
        let (_, recovered) = LogFiles::open_with(&folder.0, 4096).unwrap();
        let group = &recovered.groups[&RangeId(1)];
        assert_eq!((group.truncated.index, group.entries.len()), (40, 40));
    }

    #[test]
    fn a_torn_tail_is_ignored_and_damage_is_not() {
        let folder = Folder::new("torn");
        let (mut log, _) = LogFiles::open_with(&folder.0, 1 << 16).unwrap();
        log.append(vec![frame(1, 1, 100)]).unwrap();
        let first = log.offset;
        log.append(vec![frame(1, 2, 100)]).unwrap();
        let second = log.offset;
        log.append(vec![frame(1, 3, 100)]).unwrap();
        drop(log);
        let path = folder.0.join(file_name(1));
        let flip = |at: u64| {
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        };
        flip(second + 20);
        let (_, recovered) = LogFiles::open_with(&folder.0, 1 << 16).unwrap();
        assert_eq!(recovered.groups[&RangeId(1)].entries.len(), 2);
        flip(HEADER + 20);
        let error = LogFiles::open_with(&folder.0, 1 << 16).err().unwrap();
        assert!(error.contains("damaged at byte 16"), "{error}");
        flip(HEADER + 20);
        flip(first + 20);
        let (_, recovered) = LogFiles::open_with(&folder.0, 1 << 16).unwrap();
        assert_eq!(recovered.groups[&RangeId(1)].entries.len(), 1);
    }
}
