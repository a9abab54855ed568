//! The CRC-32C of any part of some bytes, without reading that part again.
//!
//! A CRC is linear: that of two strings after one another is that of the second, XORed with that of the first *shifted* past as many zeros as the second
//! has bytes; and to shift is to multiply with a matrix over GF(2), which squaring makes quick (Mark Adler, `crc32_combine` in zlib). So from the
//! CRCs of all beginnings that of a part follows.

/// A linear map of CRCs: what each bit becomes.
type Matrix = [u32; 32];

/// Lengths have fewer bits than this.
const POWERS: usize = 32;

/// See the module.
pub struct Sums<'a> {
    bytes: &'a [u8],
    /// The CRC of the bytes before each multiple of eight.
    before: Vec<u32>,
    /// How a CRC is shifted past 1, 2, 4, ... zeros.
    shifts: [Matrix; POWERS],
}

fn times(matrix: &Matrix, crc: u32) -> u32 {
    matrix.iter().enumerate().filter(|(bit, _)| crc >> bit & 1 == 1).fold(0, |sum, (_, column)| sum ^ column)
}

impl<'a> Sums<'a> {
    /// Reads all the bytes, once.
    pub fn of(bytes: &'a [u8]) -> Sums<'a> {
        let mut before = vec![0];
        before.extend(bytes.chunks(8).scan(0, |crc, chunk| {
            *crc = crc32c::crc32c_append(*crc, chunk);
            Some(*crc)
        }));
        let mut shifts = [[0; 32]; POWERS];
        shifts[0] = std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, 1));
        for power in 1..POWERS {
            let half = shifts[power - 1];
            shifts[power] = half.map(|column| times(&half, column));
        }
        Sums { bytes, before, shifts }
    }

    /// What [`crc32c::crc32c_append`] makes of `seed` and the bytes from `start`, a multiple of eight, to `end`.
    pub fn append(&self, seed: u32, start: usize, end: usize) -> u32 {
        let whole = end / 8;
        let at_end = crc32c::crc32c_append(self.before[whole], &self.bytes[whole * 8..end]);
        let length = end - start;
        let shifted = (0..POWERS)
            .filter(|power| length >> power & 1 == 1)
            .fold(seed ^ self.before[start / 8], |crc, power| times(&self.shifts[power], crc));
        at_end ^ shifted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_have_the_sums_that_reading_them_gives(
            bytes in prop::collection::vec(any::<u8>(), 0..400), seed: u32, start in 0usize..50, length in 0usize..400,
        ) {
            let start = (start * 8).min(bytes.len() / 8 * 8);
            let end = (start + length).min(bytes.len());
            let sums = Sums::of(&bytes);
            prop_assert_eq!(sums.append(seed, start, end), crc32c::crc32c_append(seed, &bytes[start..end]));
        }
    }
}
