//! How quantities are written in sentences for operators.

use std::time::Duration;

/// `12 KiB`, `96 MiB`, `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        let tenths = (u128::from(count) * 10) >> shift;
        if tenths >= 10 {
            let fraction = tenths % 10;
            let fraction = if fraction > 0 && tenths < 100 { format!(".{fraction}") } else { String::new() };
            return format!("{}{fraction} {unit}", tenths / 10);
        }
    }
    format!("{count} B")
}

/// Thousandths as whole percent.
pub fn percent(permille: u64) -> String {
    format!("{}%", permille.saturating_add(5) / 10)
}

/// `40 s`, `5 min`, `3 h`.
pub fn duration(of: Duration) -> String {
    match of.as_secs() {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// How many thousandths of the whole a part is; of nothing, none.
pub fn permille(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let permille = u128::from(part) * 1000 / u128::from(whole);
    u64::try_from(permille).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!([bytes(17), bytes(1 << 20), bytes(3 << 29)], ["17 B", "1 MiB", "1.5 GiB"]);
        assert_eq!(percent(974), "97%");
        assert_eq!(duration(Duration::from_secs(300)), "5 min");
    }
}
