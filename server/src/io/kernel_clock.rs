//! What the Linux kernel says about its clock's error.

use std::time::Duration;

/// The state of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelClock {
    /// Something disciplines it, and true time is no further away than this.
    Synchronised { error: Duration },
    /// Nothing does, or not lately.
    Unsynchronised,
}

/// Asks `adjtimex(2)`, which needs no privilege as long as nothing is set.
#[allow(unsafe_code)]
pub fn ask() -> KernelClock {
    // SAFETY: a timex is plain numbers, for which all zeroes are valid; the kernel writes into it and keeps nothing of it.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    judge(state, timex.status, i128::from(timex.maxerror))
}

fn judge(state: libc::c_int, status: libc::c_int, max_error_us: i128) -> KernelClock {
    let failed = state < 0 || state == libc::TIME_ERROR || status & libc::STA_UNSYNC != 0;
    match u64::try_from(max_error_us) {
        Ok(micros) if !failed => KernelClock::Synchronised { error: Duration::from_micros(micros) },
        _ => KernelClock::Unsynchronised,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsynchronised_kernel_vouches_for_nothing() {
        assert_eq!(judge(libc::TIME_OK, 0, 1_500), KernelClock::Synchronised { error: Duration::from_micros(1_500) });
        assert_eq!(
            judge(libc::TIME_INS, libc::STA_PLL, 7),
            KernelClock::Synchronised { error: Duration::from_micros(7) }
        );
        assert_eq!(judge(libc::TIME_OK, libc::STA_UNSYNC, 1_500), KernelClock::Unsynchronised);
        assert_eq!(judge(libc::TIME_ERROR, 0, 1_500), KernelClock::Unsynchronised);
        assert_eq!(judge(-1, 0, 0), KernelClock::Unsynchronised);
    }

    #[test]
    fn the_kernel_answers() {
        // Either answer is right, as the machine is.
        if let KernelClock::Synchronised { error } = ask() {
            assert!(error < Duration::from_secs(60));
        }
    }
}
