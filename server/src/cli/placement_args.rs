//! How the cluster looks after its ranges, as flags of `meridian start`. The same on all nodes: whichever leads the meta range decides.

use std::time::Duration;

use clap::Args;
use range_split::placement::Settings;
use range_split::policy::SplitLimits;

use super::args::parse_duration;
use crate::config::Knobs;

/// See the module.
#[derive(Clone, Debug, Args)]
pub struct PlacementArgs {
    /// After how long a silence the replicas of a node are replaced by others.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = parse_duration)]
    pub replace_after: Duration,
    /// A range that holds more than this is split.
    #[arg(long, default_value = "128MiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub range_bytes_max: u64,
    /// A range that is asked this often in a second, for a while, is split, if a key helps.
    #[arg(long, default_value_t = 2500, value_name = "REQUESTS")]
    pub range_load_max: u64,
    /// Neighbours that together have been small and little asked for so long are merged.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = parse_duration)]
    pub merge_after: Duration,
}

impl PlacementArgs {
    /// The limits with what was asked for.
    pub fn apply(&self, knobs: Knobs) -> Knobs {
        Knobs {
            placement: Settings { dead_after: self.replace_after, ..knobs.placement },
            splitting: SplitLimits {
                bytes_max: self.range_bytes_max.max(1),
                rate_max: self.range_load_max.max(1),
                merge_age_min: self.merge_after,
                ..knobs.splitting
            },
            ..knobs
        }
    }
}

/// A number of bytes as people write it: a number and B, KiB, MiB or GiB.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(format!("{text:?} is no size: write a number and B, KiB, MiB or GiB, such as 128MiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size: {number:?} is not a whole number"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("128MiB"), Ok(128 << 20));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for wrong in ["", "MiB", "1.5GiB", "3MB", "99999999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
