//! The log's frames as bytes, and what the end of a segment means. Pure: the files are in `io`, and the simulated disk runs this too.
//!
//! ```text
//! segment   magic (8) · number (8) · frames, each at a multiple of 8 · zeros
//! frame     length (4) · CRC-32C of number, length and payload (4) · payload · zeros up to a multiple of 8
//! ```
//!
//! The segment's number goes into every checksum, so what a recycled file held before is never taken for new. A frame is written only after
//! the one before it was synced, and together with the zeros where the next one's header will be. So after a crash only the last frame
//! can be torn: it was never acknowledged, and is cut off. A bad frame with a good one behind it is no torn tail but damage.
//!
//! What this cannot tell apart: a torn last frame, and damage to the very last one that was synced. A running store covers it with the
//! next frame, within half a ceiling step even when idle; one that was stopped long ago does not.

use proto::codec;

use super::record::LogFrame;
use super::sums::Sums;

const MAGIC: [u8; 8] = *b"MRDNLOG1";

/// Bytes before the first frame.
pub const SEGMENT_HEADER: usize = 16;
/// Bytes before a frame's payload.
pub const FRAME_HEADER: usize = 8;

/// What a segment begins with: its header, and no frame yet.
pub fn new_segment(number: u64) -> Vec<u8> {
    let mut bytes = [MAGIC, number.to_le_bytes()].concat();
    bytes.resize(SEGMENT_HEADER + FRAME_HEADER, 0);
    bytes
}

/// Frames that are written as one: everything that became ready while the frame before was being synced.
pub fn merge(frames: impl IntoIterator<Item = LogFrame>) -> LogFrame {
    let mut merged = LogFrame::default();
    for frame in frames {
        merged.ceiling = merged.ceiling.max(frame.ceiling);
        merged.groups.extend(frame.groups);
    }
    merged
}

/// A frame ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedFrame {
    /// With the zeros of the next frame's header.
    pub bytes: Vec<u8>,
    /// How far behind this frame the next one goes.
    pub step: usize,
}

/// The checksum of what precedes a payload in its frame's.
fn seed(number: u64, length: usize) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &(length as u32).to_le_bytes())
}

fn checksum(number: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(seed(number, payload.len()), payload)
}

/// Encodes a frame for the segment of this number.
///
/// # Errors
/// A sentence, if it is too long for its length field.
pub fn encode(number: u64, frame: &LogFrame) -> Result<EncodedFrame, String> {
    let payload = codec::encode(frame);
    let length = u32::try_from(payload.len()).map_err(|_| "a log frame exceeds 4 GiB")?;
    let mut bytes = Vec::with_capacity(payload.len() + 3 * FRAME_HEADER);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(number, &payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let step = bytes.len().next_multiple_of(8);
    bytes.resize(step + FRAME_HEADER, 0);
    Ok(EncodedFrame { bytes, step })
}

/// Where the payload of a frame at an offset would end, and its checksum; none at zeros and where the segment ends before.
fn header_at(bytes: &[u8], at: usize) -> Option<(usize, u32)> {
    let header = bytes.get(at..at + FRAME_HEADER)?;
    let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
    let expected = u32::from_le_bytes(header[4..].try_into().expect("four bytes"));
    let end = at + FRAME_HEADER + length;
    (length > 0 && end <= bytes.len()).then_some((end, expected))
}

/// The payload of the frame at an offset, and where the next one goes; none at zeros, the segment's end, or bytes that are no frame.
fn payload_at(number: u64, bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (end, expected) = header_at(bytes, at)?;
    let payload = &bytes[at + FRAME_HEADER..end];
    (checksum(number, payload) == expected).then_some((payload, end.next_multiple_of(8)))
}

/// Whether there is a frame anywhere behind the first eight bytes. A recycled segment is full of what it held before, and four bytes at any place may seem
/// to be a length of megabytes: so no place's payload is read for itself.
fn holds_frame(number: u64, bytes: &[u8]) -> bool {
    let places = (8..bytes.len()).step_by(8).filter_map(|at| Some((at + FRAME_HEADER, header_at(bytes, at)?)));
    let mut places = places.peekable();
    if places.peek().is_none() {
        return false;
    }
    let sums = Sums::of(bytes);
    places.any(|(start, (end, expected))| sums.append(seed(number, end - start), start, end) == expected)
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentContents {
    pub frames: Vec<LogFrame>,
    /// Where the next frame goes.
    pub end: usize,
    /// Whether something is there that is no frame: a torn one, whose header is to be overwritten with zeros.
    pub torn: bool,
}

/// Reads a segment. `is_last` says that no later one exists: only there may the tail be torn.
///
/// # Errors
/// A sentence, if it is damaged.
pub fn read_segment(number: u64, bytes: &[u8], is_last: bool) -> Result<SegmentContents, String> {
    if bytes.get(..8) != Some(&MAGIC) || bytes.get(8..16) != Some(&number.to_le_bytes()) {
        return Err("it is not a log segment, or its header is damaged".into());
    }
    let mut contents = SegmentContents { end: SEGMENT_HEADER, ..SegmentContents::default() };
    while let Some((payload, next)) = payload_at(number, bytes, contents.end) {
        let frame = codec::decode("a log frame", payload).map_err(|e| format!("at byte {}: {e}", contents.end))?;
        contents.frames.push(frame);
        contents.end = next;
    }
    let end = contents.end;
    let rest = bytes.get(end..).unwrap_or_default();
    contents.torn = rest.iter().take(FRAME_HEADER).any(|byte| *byte != 0);
    if holds_frame(number, rest) || (contents.torn && !is_last) {
        return Err(format!(
            "it is damaged at byte {end}: the frame there is unreadable, but later ones are not. \
             Replace this node's store: it cannot be trusted"
        ));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use proto::Timestamp;

    use super::*;

    fn frame(ceiling: u64) -> LogFrame {
        LogFrame { groups: Vec::new(), ceiling: Some(Timestamp(ceiling)) }
    }

    /// Three frames, and where each begins.
    fn segment() -> (Vec<u8>, [usize; 3]) {
        let mut bytes = new_segment(7);
        let mut at = SEGMENT_HEADER;
        let begins = [1, 2, 3].map(|ceiling| {
            let encoded = encode(7, &frame(ceiling)).expect("it is short");
            bytes.truncate(at);
            bytes.extend(encoded.bytes);
            at += encoded.step;
            at - encoded.step
        });
        bytes.resize(4096, 0);
        (bytes, begins)
    }

    #[test]
    fn frames_come_back_in_order() {
        let (bytes, _) = segment();
        let contents = read_segment(7, &bytes, true).expect("it is sound");
        assert_eq!(contents.frames, [frame(1), frame(2), frame(3)]);
        assert!(!contents.torn);
        assert!(read_segment(8, &bytes, true).is_err(), "it is another segment");
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let (bytes, begins) = segment();
        let end = read_segment(7, &bytes, true).expect("it is sound").end;
        for at in SEGMENT_HEADER..end {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            match read_segment(7, &bytes, true) {
                // Padding does not matter.
                Ok(contents) if contents.frames.len() == 3 => assert_eq!(bytes[at], 0x10, "byte {at} was read"),
                Ok(contents) => assert!(at >= begins[2] && contents.frames == [frame(1), frame(2)], "byte {at}"),
                Err(why) => assert!(at < begins[2] && why.contains("damaged"), "byte {at}: {why}"),
            }
        }
    }

    #[test]
    fn frames_of_any_kind_are_found_behind_damage() {
        let group = |range| crate::raft::GroupRecord { range: proto::RangeId(range), ..Default::default() };
        let groups = |count| (0..count).map(group).collect();
        let ceiling = Some(Timestamp(7));
        let all = [
            LogFrame { groups: groups(0), ceiling },
            LogFrame { groups: groups(1), ceiling: None },
            LogFrame { groups: groups(30), ceiling },
            LogFrame { groups: groups(300), ceiling: None },
        ];
        for frame in all {
            let mut bytes = new_segment(7);
            bytes.truncate(SEGMENT_HEADER);
            // What is unreadable, and then a frame.
            bytes.extend([0xff; 24]);
            bytes.extend(encode(7, &frame).expect("it is short").bytes);
            bytes.resize(bytes.len() + 4096, 0);
            assert!(read_segment(7, &bytes, true).is_err_and(|why| why.contains("damaged at byte 16")), "{frame:?}");
        }
    }

    /// Of a segment that was recycled, nearly all is old: looking for frames in it must not take long. Each place here seems to begin one of megabytes.
    #[test]
    fn old_bytes_are_passed_over_quickly() {
        let mut bytes = new_segment(7);
        bytes.truncate(SEGMENT_HEADER);
        while bytes.len() < 8 << 20 {
            bytes.extend((3u32 << 20).to_le_bytes());
            bytes.extend([0x82, 0x61, 0x10, 0x00]);
        }
        let contents = read_segment(7, &bytes, true).expect("there is no frame");
        assert!(contents.frames.is_empty() && contents.torn);
    }

    #[test]
    fn a_torn_tail_is_cut_at_any_length() {
        let (bytes, begins) = segment();
        let end = read_segment(7, &bytes, true).expect("it is sound").end;
        for kept in begins[2]..end - 8 {
            let mut bytes = bytes.clone();
            bytes[kept..end].fill(0);
            let contents = read_segment(7, &bytes, true).expect("a torn tail is no damage");
            assert_eq!((contents.frames.len(), contents.end), (2, begins[2]), "{kept} bytes are left");
            assert_eq!(contents.torn, kept > begins[2]);
            assert_eq!(read_segment(7, &bytes, false).is_err(), contents.torn, "only the last segment may be torn");
        }
    }
}
