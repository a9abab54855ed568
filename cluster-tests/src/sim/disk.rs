//! A simulated disk: a log and an engine that forget what was not made durable, and now and then do worse.
//!
//! The log is one segment of the production format, read by the production code ([`server::raft::frame`]). What a process writes is at first
//! only in the operating system's memory: it outlives the process, but not a loss of power. Then each write that was not synced is there, or not,
//! or *torn*: each of its sectors by itself. A full disk takes in some of the bytes and then no more. Bits rot anywhere but in the last frame,
//! where damage could not be told from a torn tail.

use proto::codec;
use server::raft::frame::{self, EncodedFrame, FRAME_HEADER, SEGMENT_HEADER, SegmentContents};
use server::raft::{LogFrame, RecoveredLog};

use super::engine::SimEngine;
use super::rng::Rng;

/// What is written at once or not at all.
const SECTOR: usize = 512;
/// The log's only segment.
const SEGMENT: u64 = 1;

/// A write that the disk may still lose.
struct Unsynced {
    /// The last frame of the store that it holds.
    number: u64,
    at: usize,
    /// What was there before.
    before: Vec<u8>,
}

/// What outlives a process.
pub struct Disk {
    pub engine: SimEngine,
    /// The segment as the operating system shows it.
    log: Vec<u8>,
    /// Where each frame begins, and where the next one goes.
    frames: Vec<usize>,
    end: usize,
    unsynced: Vec<Unsynced>,
    /// Until when nothing more fits.
    pub full_until: u64,
    /// Whether bits were flipped that were synced.
    pub rotten: bool,
    pub planted: PlantedInDisk,
}

/// Mistakes of a log's recovery, to see whether the judges notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlantedInDisk {
    /// Frames are taken for good whatever their checksums say.
    pub checksums_ignored: bool,
    /// What was torn stays where it is, and new frames go behind it.
    pub tail_kept: bool,
    /// What a dead process had written counts as durable, though nobody has synced it.
    pub opened_without_sync: bool,
}

/// How much of what was not synced a loss of power leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A random prefix of the writes.
    Whole,
    /// Of the first write that is not whole, some sectors.
    Torn,
}

/// What a process finds when it starts.
pub struct Recovered {
    pub log: RecoveredLog,
    /// Whether a torn tail was cut off.
    pub torn: bool,
}

impl Disk {
    pub fn new(planted: PlantedInDisk) -> Disk {
        Disk {
            engine: SimEngine::default(),
            log: frame::new_segment(SEGMENT),
            frames: Vec::new(),
            end: SEGMENT_HEADER,
            unsynced: Vec::new(),
            full_until: 0,
            rotten: false,
            planted,
        }
    }

    /// Writes a frame, which is not durable yet. `number` is the last of the store's frames in it.
    pub fn write(&mut self, number: u64, frame: &LogFrame) {
        let EncodedFrame { bytes, step } = frame::encode(SEGMENT, frame).expect("simulated frames are short");
        self.put(number, &bytes);
        self.frames.push(self.end);
        self.end += step;
    }

    /// Writes as much of a frame as there is room for.
    pub fn write_until_full(&mut self, number: u64, frame: &LogFrame, rng: &mut Rng) {
        let EncodedFrame { bytes, .. } = frame::encode(SEGMENT, frame).expect("simulated frames are short");
        let fits = rng.below(bytes.len() as u64) as usize;
        self.put(number, &bytes[..fits]);
    }

    fn put(&mut self, number: u64, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if self.log.len() < end {
            self.log.resize(end.next_multiple_of(SECTOR), 0);
        }
        let before = self.log[self.end..end].to_vec();
        self.log[self.end..end].copy_from_slice(bytes);
        self.unsynced.push(Unsynced { number, at: self.end, before });
    }

    /// Everything up to a frame of the store is durable.
    pub fn synced(&mut self, number: u64) {
        self.unsynced.retain(|write| write.number > number);
    }

    /// The power is gone: of what was not synced something survives, of the engine what was flushed.
    pub fn lose_power(&mut self, loss: Loss, rng: &mut Rng) {
        let whole = rng.below(self.unsynced.len() as u64 + 1) as usize;
        let lost: Vec<Unsynced> = self.unsynced.drain(whole..).collect();
        for (n, write) in lost.iter().enumerate().rev() {
            self.undo(write, n == 0 && loss == Loss::Torn, rng);
        }
        self.unsynced.clear();
        self.engine.crash();
    }

    /// Takes a write back, or where it is torn each of its sectors with even odds.
    fn undo(&mut self, write: &Unsynced, torn: bool, rng: &mut Rng) {
        let mut from = write.at;
        let end = write.at + write.before.len();
        while from < end {
            let until = ((from / SECTOR + 1) * SECTOR).min(end);
            if !torn || rng.one_in(2) {
                self.log[from..until].copy_from_slice(&write.before[from - write.at..until - write.at]);
            }
            from = until;
        }
    }

    /// The process is gone; what it has written is still in the operating system's memory.
    pub fn lose_process(&mut self) {
        self.engine.crash();
    }

    /// What a process finds when it starts.
    ///
    /// # Errors
    /// A sentence, if what was synced is damaged.
    pub fn recover(&mut self) -> Result<Recovered, String> {
        let contents = if self.planted.checksums_ignored {
            read_trusting(&self.log)
        } else {
            frame::read_segment(SEGMENT, &self.log, true)?
        };
        let mut log = RecoveredLog::default();
        let torn = contents.torn;
        self.end = contents.end;
        self.frames.retain(|at| *at < contents.end);
        for frame in contents.frames {
            log.add(frame)?;
        }
        if torn {
            let header = self.log.len().min(self.end + FRAME_HEADER);
            if self.planted.tail_kept {
                self.end = self.log.len().next_multiple_of(8);
            } else {
                self.log[self.end..header].fill(0);
            }
        }
        if !self.planted.opened_without_sync {
            self.unsynced.clear();
        }
        Ok(Recovered { log: log.finish()?, torn })
    }

    /// Flips a bit of the log somewhere before the last frame. Says whether there was one.
    pub fn rot_log(&mut self, dice: u64) -> bool {
        let mut rng = Rng::new(dice, "rot");
        let Some(older) = self.frames.len().checked_sub(2).filter(|older| *older > 0) else { return false };
        let at = rng.below(older as u64) as usize;
        // Not in the padding behind the payload, which nobody reads: that is less than eight bytes.
        let length = self.frames[at + 1] - self.frames[at] - FRAME_HEADER;
        let byte = self.frames[at] + rng.below(length as u64) as usize;
        self.log[byte] ^= 1 << rng.below(8);
        self.rotten = true;
        true
    }
}

/// Reads a segment as somebody would who believes every byte.
fn read_trusting(bytes: &[u8]) -> SegmentContents {
    let mut contents = SegmentContents { end: SEGMENT_HEADER, ..SegmentContents::default() };
    while let Some(length) = bytes.get(contents.end..).and_then(|rest| rest.first_chunk()) {
        let begin = contents.end + FRAME_HEADER;
        let length = u32::from_le_bytes(*length) as usize;
        let Some(payload) = bytes.get(begin..begin + length).filter(|_| length > 0) else { break };
        let Ok(frame) = codec::decode("a log frame", payload) else { break };
        contents.frames.push(frame);
        contents.end = (begin + length).next_multiple_of(8);
    }
    contents
}

#[cfg(test)]
mod tests {
    use proto::Timestamp;

    use super::*;

    fn frame(ceiling: u64, padding: usize) -> LogFrame {
        let record = server::raft::GroupRecord {
            entries: vec![server::raft::record::LogEntry { index: 1, term: 1, kind: 0, data: vec![7; padding].into() }],
            ..Default::default()
        };
        LogFrame { groups: vec![record; usize::from(padding > 0)], ceiling: Some(Timestamp(ceiling)) }
    }

    fn ceiling(disk: &mut Disk) -> u64 {
        disk.recover().expect("nothing synced is damaged").log.ceiling.0
    }

    #[test]
    fn synced_frames_survive_and_others_may_be_torn() {
        let (mut torn, mut lost, mut kept) = (0, 0, 0);
        for seed in 0..200 {
            let mut rng = Rng::new(seed, "test");
            let mut disk = Disk::new(PlantedInDisk::default());
            disk.write(1, &frame(1, 10));
            disk.synced(1);
            disk.write(2, &frame(2, 2000));
            disk.lose_power(Loss::Torn, &mut rng);
            let recovered = disk.recover().expect("a torn tail is no damage");
            torn += u64::from(recovered.torn);
            match recovered.log.ceiling.0 {
                1 => lost += 1,
                2 => kept += 1,
                other => panic!("ceiling {other}"),
            }
            // What follows is found again.
            disk.write(3, &frame(3, 5));
            disk.synced(3);
            assert_eq!(ceiling(&mut disk), 3);
        }
        assert!(torn > 20 && lost > 20 && kept > 20, "{torn} torn, {lost} lost, {kept} kept");
    }

    #[test]
    fn a_dead_process_leaves_its_writes_to_the_operating_system() {
        for (planted, expected) in [(false, true), (true, false)] {
            let planted = PlantedInDisk { opened_without_sync: planted, ..PlantedInDisk::default() };
            let always = (0..50).all(|seed| {
                let mut disk = Disk::new(planted);
                disk.write(1, &frame(1, 0));
                disk.lose_process();
                assert_eq!(ceiling(&mut disk), 1);
                disk.lose_power(Loss::Whole, &mut Rng::new(seed, "test"));
                ceiling(&mut disk) == 1
            });
            assert_eq!(always, expected, "{planted:?}");
        }
    }

    #[test]
    fn rot_is_found() {
        for dice in 0..100 {
            let mut disk = Disk::new(PlantedInDisk::default());
            assert!(!disk.rot_log(dice), "there is nothing to rot");
            for number in 1..6 {
                disk.write(number, &frame(number, 300));
                disk.synced(number);
            }
            assert!(disk.rot_log(dice));
            assert!(disk.recover().is_err_and(|why| why.contains("damaged")));
        }
    }
}
